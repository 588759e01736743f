"""The flags of a recipe's command line: four subcommands, each with the flags that it can use."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from lab.cli import validate
from lab.experiment import BUDGETS, BudgetName, Experiment
from lab.settings import LOGS, Backend, Settings, Start, Tuner, images_of
from lab.tuning import Tuning
from pipelines.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Common:
    jobs: int | None = None
    """Runs at a time. Default: one per GPU, or one per core."""
    backend: Backend = "local"
    """Where runs go: processes on this machine, or a Ray cluster (RAY_ADDRESS; without it, one that is started here and
    whose servers listen on all addresses to whoever has its token)."""
    start: Start | None = None
    """How worker processes begin. Default: forked on Linux without a GPU, spawned elsewhere."""
    logdir: Path = LOGS
    """Where TensorBoard's files and the evidence go."""
    resume: bool = False
    """Go on with the newest invocation of the same settings: keep its finished runs, do the rest."""


@dataclass(frozen=True, kw_only=True)
class OnImages(Common):
    budget: BudgetName = "quick"
    """smoke: seconds, for tests. quick: the bundled subset. full: all of CIFAR-10."""
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
    """Your own function in place of the recipe's build_model, as FILE.py:FUNCTION. The file is run."""


@dataclass(frozen=True, kw_only=True)
class Run(OnImages):
    seeds: int | None = None
    """How many seeds, up to 10,000. Default: 1 at smoke, 3 at quick, 5 at full."""
    first_seed: int | None = None
    """The first seed. Default: that of the published runs."""
    save: str = ""
    """A folder for the trained models, one .keras file per run."""
    profile: bool = False
    """Profile some early steps of each training, for TensorBoard's Profile page."""
    log: bool = True
    """Write TensorBoard files."""
    board: bool = False
    """Start TensorBoard on these runs, on this machine alone, until Ctrl-C."""
    reference: bool = False
    """With --board: show the published curves as well."""


@dataclass(frozen=True, kw_only=True)
class Tune(OnImages):
    pass


@dataclass(frozen=True, kw_only=True)
class Search(OnImages):
    tuner: tyro.conf.Positional[Tuner]
    """Which tuner."""
    trials: int = 12
    """How many trials. Hyperband gets about as many epochs, and at least one full round."""
    log: bool = True
    """Write TensorBoard files."""


@dataclass(frozen=True, kw_only=True)
class Extend(Common):
    to: int = 40
    """How many seeds at most: 10, 20, 40 or 80."""
    log: bool = True
    """Write TensorBoard files."""


# Not docstrings, because Python can be told to drop those.
ABOUT = {
    Run: "Compare the variants. This is what happens without a subcommand.",
    Tune: "Find each variant's settings by validation, as the published ones were found.",
    Search: "Find each variant's settings with a KerasTuner search, by validation accuracy.",
    Extend: "Add seeds to the published ones where a verdict is undecided.",
}
ACTIONS: dict[str, type[Common]] = {"run": Run, "tune": Tune, "search": Search, "extend": Extend}
OLD = {"--tune": "tune", "--search": "search TUNER --trials N", "--until-decided": "extend --to N"}


def parse(experiment: Experiment, arguments: Sequence[str]) -> tuple[Settings, Any]:
    """A command line as `Settings` and the recipe's own `Config`.

    Raises:
        UsageError: a value that can't be, or a subcommand that the recipe lacks.
        SystemExit: tyro found an unknown flag or a value of the wrong type (2), or printed the help (0).
    """
    arguments = with_action(arguments)
    check_spelling(experiment, arguments)
    budget: Any = given(arguments, "--budget", "quick")
    images = images_of(budget if budget in BUDGETS else "quick", given(arguments, "--data", ""))
    config = validate.default_config(experiment, budget, images)
    subcommands: dict[str, Any] = {
        name: _with_config(flags, config, experiment) for name, flags in _possible(experiment).items()
    }
    parsed: Any = tyro.extras.subcommand_cli_from_dict(
        subcommands,
        prog=f"python -m {experiment.command}",
        description=experiment.question,
        args=arguments,
        use_underscores=False,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.SuppressFixed),
    )
    if hasattr(parsed, "config"):
        config = experiment.config(**vars(parsed.config))
    settings = _settings(experiment, arguments[0], parsed.flags)
    validate.check(experiment, settings, config)
    return settings, config


def with_action(arguments: Sequence[str]) -> list[str]:
    """The arguments with `run` put before them where they begin with no subcommand."""
    known = arguments[:1] and (arguments[0] in ACTIONS or arguments[0] in ("-h", "--help"))
    return list(arguments) if known else ["run", *arguments]


def check_spelling(experiment: Experiment, arguments: Sequence[str]) -> None:
    """Raise UsageError for a flag that is a subcommand now, or a subcommand that the recipe has no use for."""
    for argument in arguments:
        if now := OLD.get(argument.partition("=")[0]):
            raise UsageError(f"There is no flag {argument}: write `python -m {experiment.command} {now}`.")
    action = arguments[0]
    if action in ACTIONS and action not in _possible(experiment):
        can = ", ".join(_possible(experiment))
        raise UsageError(f"The recipe {experiment.name} has no subcommand {action!r}: use one of {can}.")


def given(arguments: Sequence[str], flag: str, default: str) -> str:
    """The value of a flag before all flags are parsed, because the defaults of others depend on it."""
    value = next((after for name, after in itertools.pairwise(arguments) if name == flag), default)
    return next((word.split("=", 1)[1] for word in arguments if word.startswith(f"{flag}=")), value)


def _possible(experiment: Experiment) -> dict[str, type[Common]]:
    """The subcommands of a recipe. More seeds decide nothing where results are looked up in a table."""
    without = {"tune": not experiment.sweep, "search": not experiment.searched, "extend": bool(experiment.table)}
    return {name: flags for name, flags in ACTIONS.items() if not without.get(name)}


def _with_config(flags: type[Common], config: Any, experiment: Experiment) -> type:
    """A dataclass of a subcommand's flags and, where it can use them, the recipe's own."""
    parts: list[Any] = [("flags", flags)]
    if flags is not Extend and not (flags is Tune and experiment.table):  # These two have settings of their own.
        config = _fixed(config, _chosen(flags, experiment))
        parts.append(("config", type(config), dataclasses.field(default=config)))
    made = dataclasses.make_dataclass(flags.__name__, parts, frozen=True)
    made.__doc__ = ABOUT[flags]
    return made


def _chosen(flags: type[Common], experiment: Experiment) -> set[str]:
    """The fields of a recipe's `Config` that a sweep or a search sets."""
    if flags is Tune and isinstance(experiment.sweep, Tuning):
        return {experiment.sweep.swept, *(name for name, _ in experiment.sweep.second.values())}
    if flags is Search:
        return {name for variant in experiment.searched for name in experiment.space_of(variant)}
    return set()


def _fixed(config: Any, names: Iterable[str]) -> Any:
    """The same config, of a type of which some fields are no flags."""
    hints = type(config).__annotations__
    body = {"__annotations__": {name: Annotated[hints[name], tyro.conf.Fixed] for name in names}}
    made: Any = dataclass(frozen=True)(type("Config", (type(config),), body))
    return made(**vars(config))


def _settings(experiment: Experiment, action: Any, flags: Any) -> Settings:
    values = {name: value for name, value in vars(flags).items() if name in Settings.__dataclass_fields__}
    budget = values.setdefault("budget", "quick")
    source = values.pop("data", None)
    images = {name: getattr(flags, name, None) for name in ("train_images", "split_seed", "image_size")}
    possible = {"tune": experiment.swept_at(budget), "search": experiment.searched}.get(action)
    values["variants"] = validate.variants_of(experiment, budget, values.get("variants", ()), possible)
    values["seeds"] = ()
    if action == "run":
        values["seeds"] = validate.seeds_of(experiment, budget, flags.seeds, flags.first_seed)
        values["save"] = str(Path(flags.save).expanduser()) if flags.save else ""
    values["logdir"] = flags.logdir.expanduser()  # No shell does it behind an equals sign.
    return Settings(action=action, data=images_of(budget, source, **images), **values)
