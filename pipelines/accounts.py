"""The report on images of the reader's own: classes in order, images a class and part, and how they were divided."""

from collections.abc import Mapping, Sequence

import numpy as np

SHOWN = 20  # Classes with a row of their own.


def report(
    source: str,
    size: int,
    classes: Sequence[str],
    labels: Mapping[str, np.ndarray],
    notes: Sequence[str],
) -> str:
    """Lines on images that were read and divided; `labels` are those of each part, `notes` sentences for below."""
    counts = {part: np.bincount(of, minlength=len(classes)) for part, of in labels.items()}
    total = sum(len(of) for of in labels.values())
    places = len(str(len(classes) - 1)) + 2
    width = max(len("class"), *(len(name) for name in classes[:SHOWN]))
    rows = [
        f"{'':{places}}  {'class':{width}}" + "".join(f"{part:>12}" for part in counts),
        *(
            f"{number:{places}}  {name:{width}}" + "".join(f"{of[number]:12,}" for of in counts.values())
            for number, name in enumerate(classes[:SHOWN])
        ),
    ]
    if len(classes) > SHOWN:
        said = ", ".join(f"{of[SHOWN:].min():,} to {of[SHOWN:].max():,} {part}" for part, of in counts.items())
        rows.append(f"{'':{places}}  and {len(classes) - SHOWN:,} more classes, with {said} images each")
    rows.append(f"{'':{places}}  {'all':{width}}" + "".join(f"{of.sum():12,}" for of in counts.values()))
    head = f"Images of {source}: {total:,} in {len(classes):,} classes, resized to {size} × {size}."
    return "\n".join([head, *rows, *notes])


def on_the_split(made: Sequence[str], split_seed: int | None, kept: int, available: int) -> list[str]:
    """Sentences on the parts that were `made` since the source has none, and on training images that are not kept."""
    said = []
    if "test" in made:
        said.append("There is no test part, so a fifth of each class is held out for it, the same for all seeds.")
    if "validation" in made:
        which = "another one for each seed" if split_seed is None else f"chosen by the split seed {split_seed}"
        rest = "the other images" if "test" in made else "the training images"
        said.append(f"There is no validation part, so a fifth of {rest} of each class is used for it, {which}.")
    if kept < available:
        said.append(f"Of {available:,} training images {kept:,} are used, as was asked for.")
    return said
