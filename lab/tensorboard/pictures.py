"""Pictures of what a model takes for what: all of its confusions, and some of the images that it got wrong."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipelines import sources

MOST_NUMBERED = 30  # Classes whose confusions are written as numbers, too.
SHOWN_IMAGES = 12
COLUMNS = 6
SHOWN_SIDE = 128  # Pixels that a small image is enlarged to, about.
CAPTION = 34  # Pixels below an image, for two lines.


def confusion(labels: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The confusion matrix of class indices (n,) as a picture uint8 (height, width, 3), a row for each true class.

    With more than 30 classes it is a picture of shades alone, a few pixels a cell.
    """
    counts = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(counts, (labels, predicted), 1)
    numbered = len(names) <= MOST_NUMBERED
    cell, margin = (36, 80) if numbered else (max(2, 600 // len(names)), 24)
    side = margin + cell * len(names)
    picture = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(picture)
    font, small = (ImageFont.load_default(size=size) for size in (13, 10))
    draw.text((4, 4), "true \\ predicted", fill="black", font=small)
    for i, name in enumerate(names):
        middle = margin + cell * i + cell // 2
        if numbered:
            draw.text((margin - 6, middle), name[:12], fill="black", font=font, anchor="rm")
            draw.text((middle, margin - 6 - 14 * (i % 2)), name[:8], fill="black", font=small, anchor="mb")
        for j in range(len(names)):
            share = counts[i, j] / max(1, counts[i].sum())
            left, top = margin + cell * j, margin + cell * i
            fill = tuple(round(255 + (dark - 255) * share) for dark in (8, 48, 107))
            draw.rectangle((left, top, left + cell - 1, top + cell - 1), fill=fill)
            if numbered:
                ink = "white" if share > 0.5 else "black"
                draw.text((left + cell // 2, top + cell // 2), str(counts[i, j]), fill=ink, font=font, anchor="mm")
    return np.asarray(picture)


def misclassified(test: sources.Split, predicted: np.ndarray, names: Sequence[str]) -> np.ndarray | None:
    """Some misclassified test images with what they are and what they were taken for, uint8 (height, width, 3).

    `predicted` are class indices (n,). None where no image was misclassified.
    """
    wrong = np.flatnonzero(predicted != test.labels)[:SHOWN_IMAGES]
    if not len(wrong):
        return None
    enlarged = enlarge(test.images[wrong])
    height, width = enlarged.shape[1] + CAPTION, enlarged.shape[2] + 6
    rows = -(-len(wrong) // COLUMNS)
    picture = Image.new("RGB", (width * min(COLUMNS, len(wrong)), height * rows), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=12)
    for place, (i, image) in enumerate(zip(wrong, enlarged, strict=True)):
        left, top = width * (place % COLUMNS), height * (place // COLUMNS)
        picture.paste(Image.fromarray(image), (left, top))
        words = f"{names[test.labels[i]][:20]}\nnot {names[predicted[i]][:16]}"
        draw.multiline_text((left, top + enlarged.shape[1] + 1), words, fill="black", font=font, spacing=1)
    return np.asarray(picture)


def tiled(images: np.ndarray) -> np.ndarray:
    """Images uint8 (n, height, width, 3) beside and below one another, as one picture; gray ones, too."""
    shown = enlarge(images[:SHOWN_IMAGES])
    shown = np.broadcast_to(shown, (*shown.shape[:3], 3))
    rows = [list(shown[first : first + COLUMNS]) for first in range(0, len(shown), COLUMNS)]
    rows[-1] += [np.full_like(shown[0], 255)] * (len(rows[0]) - len(rows[-1]))
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def enlarge(images: np.ndarray) -> np.ndarray:
    """Small images uint8 (n, height, width, 3), each pixel some pixels wide."""
    times = max(1, SHOWN_SIDE // images.shape[1])
    return images.repeat(times, axis=1).repeat(times, axis=2)


def png(picture: np.ndarray) -> bytes:
    """A picture uint8 (height, width, 3) in PNG's format."""
    found = io.BytesIO()
    Image.fromarray(picture).save(found, "png")
    return found.getvalue()
