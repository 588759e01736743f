"""Write the images that benchmarks/strong_torch.py trains on: FOLDER/train.npz and FOLDER/test.npz.

python -m benchmarks.strong_images FOLDER            all of CIFAR-10, downloaded once
python -m benchmarks.strong_images FOLDER subset     the bundled part of it
"""

import sys
from pathlib import Path

import numpy as np

from pipelines import sources
from pipelines.errors import DataError, RequestError


def write(folder: Path, source: str = "full") -> None:
    """All training images, those for validation included, and the test images: uint8 (n, 32, 32, 3), labels (n,)."""
    data = sources.load(sources.Request(source))
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"train": [data.train, data.validation], "test": [data.test]}
    for name, splits in parts.items():
        images, labels = (np.concatenate([getattr(split, field) for split in splits]) for field in ("images", "labels"))
        np.savez(folder / f"{name}.npz", images=images, labels=labels)


def main(arguments: list[str]) -> int:
    if len(arguments) not in (1, 2):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        write(Path(arguments[0]), *arguments[1:])
    except RequestError as error:
        print(error, file=sys.stderr)
        return 2
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{arguments[0]} can't be written to ({error.strerror}): name another folder.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
