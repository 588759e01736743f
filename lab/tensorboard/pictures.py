"""Pictures of what a model takes for what: its confusions, and some of the images that it got wrong."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MOST_NUMBERED = 30  # Classes whose confusions are written as numbers, too.
MOST_DRAWN = 100  # Classes of a confusion matrix: of 2,000, drawing took longer than training.
SHOWN = 12  # Images.
COLUMNS = 6
SIDE = 128  # Pixels that a small image is enlarged to, about.
CAPTION = 34  # Pixels below an image, for two lines.


def confusion(labels: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> bytes:
    """The confusion matrix of class indices (n,) as a PNG, a row for each true class."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

    numbered = len(names) <= MOST_NUMBERED
    counts = confusion_matrix(labels, predicted, labels=range(len(names)))
    side = 2 + (0.45 if numbered else 0.12) * len(names)
    canvas = FigureCanvasAgg(Figure((side, side), layout="constrained"))
    axes = canvas.figure.add_subplot()
    shown = ConfusionMatrixDisplay(counts, display_labels=[name[:20] for name in names])
    shown.plot(ax=axes, include_values=numbered, cmap="Blues", colorbar=False, xticks_rotation="vertical")
    axes.tick_params(labelsize=9 if numbered else 5)
    return _png(canvas.print_png)


def tiles(images: np.ndarray, titles: Sequence[str] = ()) -> bytes:
    """Up to twelve images uint8 (n, height, width, 1 or 3), enlarged, as one PNG, with a title below each."""
    images = images[:SHOWN]
    times = max(1, SIDE // images.shape[1])
    images = np.broadcast_to(images, (*images.shape[:3], 3)).repeat(times, axis=1).repeat(times, axis=2)
    height, width = images.shape[1] + (CAPTION if titles else 0), images.shape[2] + (6 if titles else 0)
    picture = Image.new("RGB", (width * min(COLUMNS, len(images)), height * -(-len(images) // COLUMNS)), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=12)
    for place, image in enumerate(images):
        left, top = width * (place % COLUMNS), height * (place // COLUMNS)
        picture.paste(Image.fromarray(image), (left, top))
        if titles:
            draw.multiline_text((left, top + images.shape[1] + 1), titles[place], fill="black", font=font, spacing=1)
    return _png(lambda file: picture.save(file, "png"))


def _png(write) -> bytes:
    found = io.BytesIO()
    write(found)
    return found.getvalue()
