"""The flags that all recipes have."""

import dataclasses
from pathlib import Path
from typing import Literal

from lab.experiment import BudgetName
from lab.settings import LOGS


@dataclasses.dataclass(frozen=True)
class Options:
    budget: BudgetName = "quick"
    """smoke: seconds, for tests. quick: the bundled subset. full: all of CIFAR-10."""
    seeds: int | None = None
    """How many seeds, up to 10,000 of them. Default: 1 at smoke, 3 at quick, 5 at full."""
    first_seed: int | None = None
    """Where the seeds begin. Default: where the published ones do."""
    variants: tuple[str, ...] = ()
    """Which variants, or all. Default: all but those that a recipe leaves out of a plain run."""
    data: str | None = None
    """Where images come from: subset, full, folder:PATH (a folder for each class) or tfds:NAME. Default: as the budget
    says."""
    image_size: int | None = None
    """Height and width that images of a folder or of tfds are resized to. Default: 32."""
    train_images: int | None = None
    """How many training images, the same number of each class. Default: as the budget says."""
    split_seed: int | None = None
    """Which split of the training images into a training and a validation part."""
    model: str = ""
    """A function of your own in the place of the recipe's build_model, as FILE.py:FUNCTION. The file is run."""
    jobs: int | None = None
    """Runs at a time. Default: one a GPU, or one a core."""
    backend: Literal["local", "ray"] = "local"
    """Where runs go: processes on this machine, or a Ray cluster (RAY_ADDRESS; without it, one that is started here,
    and whose servers listen on all addresses to whoever has its token)."""
    start: Literal["fork", "spawn"] | None = None
    """How worker processes come to be. Default: forked on Linux without a GPU, spawned elsewhere."""
    logdir: Path = LOGS
    """Where TensorBoard's files and the evidence go."""
    save: str = ""
    """A folder for the trained models, one .keras file a run."""
    until_decided: int | None = None
    """Measure what the published verdicts leave open: go on from the published seeds, and where a comparison is open
    add seeds, look by look (10, 20, 40, 80), up to so many."""
    resume: bool = False
    """Go on with the newest invocation of the same settings: keep its finished runs, do the rest."""
    profile: bool = False
    """Profile some early steps of each training, for TensorBoard's Profile page."""
    tune: bool = False
    """Search for each variant's settings instead of comparing the variants."""
    log: bool = True
    """Write TensorBoard files."""
    board: bool = False
    """Start TensorBoard on them, on this machine alone, and keep it until Ctrl-C."""
    reference: bool = False
    """With --board: the published curves beside these."""


@dataclasses.dataclass(frozen=True)
class Searching:
    search: Literal["grid", "random", "bayesian", "hyperband"] | None = None
    """Search for each variant's settings with KerasTuner, by validation accuracy, instead of comparing the variants."""
    trials: int = 12
    """How many trials of a search; Hyperband gets about as many epochs, one round of its own at least."""
