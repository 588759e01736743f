"""`Settings`: what is asked of an experiment beside its own `Config`, on a command line or by `measure`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from lab.experiment import BudgetName, Experiment
from pipelines import sources

LOGS = Path("logs")
FITTING = ("batch_size", "images")  # See `Settings.fits`.
Action = Literal["run", "tune", "search", "extend"]
Backend = Literal["local", "ray"]
Tuner = Literal["grid", "random", "bayesian", "hyperband"]


@dataclass(frozen=True)
class Settings:
    """One request. What it holds was checked by `lab.cli.validate`.

    Args:
        seeds, variants: which, in order.
        data: which images.
        logdir: where the folders of experiments are.
        action: compare the variants, or tune, search or extend.
        jobs: runs at a time; None means one a GPU, or one a core.
        backend: processes on this machine, or a Ray cluster.
        model: the reader's own `build_model`, as "FILE.py:FUNCTION", or "".
        save: a folder for the trained models, or "".
        resume: keep the finished runs of the newest invocation with the same settings.
        profile: profile some early steps of each training.
        log: write TensorBoard files.
        tuner, trials: which tuner a search has, and how many trials.
        to: how many seeds `extend` goes up to.
        tuned: variant -> fields of `Config` that its runs have, as `tune` found them.
        fits: which of `batch_size` and `images` were not given, so that they may be made to fit the reader's images.
    """

    budget: BudgetName
    seeds: tuple[int, ...]
    variants: tuple[str, ...]
    data: sources.Request
    logdir: Path = LOGS
    action: Action = "run"
    jobs: int | None = None
    backend: Backend = "local"
    model: str = ""
    save: str = ""
    resume: bool = False
    profile: bool = False
    log: bool = True
    tuner: Tuner = "random"
    trials: int = 12
    to: int = 40
    tuned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fits: tuple[str, ...] = ()

    @property
    def home(self) -> Path:
        """The folder that holds those of the experiments: a search has one of its own, such as logs/random-12."""
        return self.logdir / f"{self.tuner}-{self.trials}" if self.action == "search" else self.logdir

    @property
    def is_own(self) -> bool:
        """Whether the images or the model are the reader's own, so that no published number is about them."""
        return not self.data.is_cifar10 or bool(self.model)


def images_of(
    budget: BudgetName,
    experiment: Experiment,
    source: str | None = None,
    train_images: int | None = None,
    split_seed: int | None = None,
    image_size: int | None = None,
    skip_bad: bool = False,
) -> sources.Request:
    """The images of a budget, but for what was asked for; of another source than the budget's, all of them."""
    usual = experiment.budget(budget)
    source = usual.source if source is None else source
    if train_images is None and source == usual.source:
        train_images = usual.train_images
    return sources.Request(source, train_images, split_seed, image_size, skip_bad)


def default_config(experiment: Experiment, budget: str, data: sources.Request) -> Any:
    """The recipe's Config at a budget, without the target that was set for CIFAR-10 where images are others."""
    config = experiment.config_at(budget)
    return config if data.is_cifar10 or not hasattr(config, "target") else replace(config, target=None)


def flag(name: str) -> str:
    """The flag of a field."""
    return f"--{name.replace('_', '-')}"
