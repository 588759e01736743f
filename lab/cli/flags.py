"""The flags of a recipe's command line: four subcommands, each with the flags that it can use."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from lab.cli import validate
from lab.experiment import BUDGETS, BudgetName, Experiment
from lab.settings import FITTING, LOGS, Backend, Settings, Tuner, default_config, flag, images_of
from lab.tuning import Tuning
from pipelines.errors import UsageError

# Name -> type, default and help.
FLAGS: dict[str, tuple[Any, Any, str]] = {
    "tuner": (tyro.conf.Positional[Tuner], dataclasses.MISSING, "Which tuner."),  # type: ignore[misc]
    "budget": (BudgetName, "quick", "smoke: seconds, for tests. quick: the bundled subset. full: all of CIFAR-10."),
    "seeds": (int | None, None, "How many seeds, up to 10,000. Default: 1 at smoke, 3 at quick, 5 at full."),
    "first_seed": (int | None, None, "The first seed. Default: that of the published runs."),
    "variants": (tuple[str, ...], (), "Which variants, or all. Default: all but those that a plain run leaves out."),
    "trials": (int, 12, "How many trials. Hyperband gets the epochs of as many, and at least one round."),
    "to": (int, 40, "How many seeds at most: 10, 20, 40 or 80."),
    "data": (
        str | None,
        None,
        "The images: subset, full, folder:PATH (a folder for each class), csv:FILE or tfds:NAME.",
    ),
    "image_size": (int | None, None, "Height and width that your images are resized to. Default: 32."),
    "skip_bad": (bool, False, "Leave out files that can't be used as images. They are listed."),
    "train_images": (int | None, None, "How many training images, the same number of each class."),
    "split_seed": (int | None, None, "Which split of the training images into a training and a validation part."),
    "model": (str, "", "Your own function in place of the recipe's build_model, as FILE.py:FUNCTION. The file is run."),
    "tuned": (Path | None, None, "A tuning.json that `tune` wrote: each variant runs with its own winning settings."),
    "save": (str, "", "A folder for the trained models, one .keras file per run, and their classes in classes.json."),
    "profile": (bool, False, "Profile some early steps of each training, for TensorBoard's Profile page."),
    "log": (bool, True, "Write TensorBoard files."),
    "jobs": (int | None, None, "Runs at a time. Default: one per GPU, or one per core."),
    "backend": (
        Backend,
        "local",
        "Processes on this machine, or Ray: the cluster of RAY_ADDRESS, else a local one.",
    ),
    "logdir": (Path, LOGS, "Where TensorBoard's files and the evidence go."),
    "resume": (bool, False, "Keep the finished runs of the newest invocation with the same settings, and do the rest."),
}
METAVARS = {name: "INT" for name, (kind, _, _) in FLAGS.items() if kind == int | None}  # Not "{None}|INT".
METAVARS |= {"variants": "NAME ...", "tuned": "FILE", "data": "SOURCE", "model": "FILE.py:FUNCTION", "save": "FOLDER"}
IMAGES = {"budget", "variants", "data", "image_size", "skip_bad", "train_images", "split_seed", "model"}
EVERYWHERE = {"jobs", "backend", "logdir", "resume"}
ACTIONS = {
    "run": IMAGES | {"seeds", "first_seed", "tuned", "save", "profile", "log"} | EVERYWHERE,
    "tune": IMAGES | EVERYWHERE,
    "search": IMAGES | {"tuner", "trials", "log"} | EVERYWHERE,
    "extend": {"to", "log"} | EVERYWHERE,
}
ABOUT = {
    "run": "Compare the variants. This is what happens without a subcommand.",
    "tune": "Find each variant's settings by validation, as the published ones were found.",
    "search": "Find each variant's settings with a KerasTuner search, by validation accuracy.",
    "extend": "Add seeds where a published verdict is undecided. If claims are about times, add one occasion of ten "
    "seeds.",
}

OLD = {"--tune": "tune", "--search": "search TUNER --trials N", "--until-decided": "extend --to N"}  # On older cards.


def parse(experiment: Experiment, arguments: Sequence[str]) -> tuple[Settings, Any]:
    """A command line as `Settings` and the recipe's own `Config`.

    Raises:
        UsageError: a value that can't be, or a subcommand that the recipe lacks.
        SystemExit: tyro found an unknown flag or a value of the wrong type (2), or printed the help (0).
    """
    known = arguments[:1] and (arguments[0] in ACTIONS or arguments[0] in ("-h", "--help"))
    arguments = list(arguments) if known else ["run", *arguments]
    for argument in arguments:
        if now := OLD.get(argument.partition("=")[0]):
            raise UsageError(f"There is no flag {argument}: write `python -m {experiment.command} {now}`.")
    budget: Any = given(arguments, "--budget", "quick")
    images = images_of(budget if budget in BUDGETS else "quick", experiment, given(arguments, "--data", "") or None)
    usual = config = default_config(experiment, budget, images)
    # More seeds decide nothing where all results are looked up in a table.
    looked_up = bool(experiment.table) and not experiment.compare
    without = {"tune": not experiment.sweep, "search": not experiment.searched, "extend": looked_up}
    possible = [action for action in ACTIONS if not without.get(action)]
    if arguments[0] in ACTIONS and arguments[0] not in possible:
        raise UsageError(f"{experiment.name} has no subcommand {arguments[0]!r}: use one of {', '.join(possible)}.")
    subcommands: dict[str, Any] = {action: _flags_of(action, experiment, config) for action in possible}
    parsed: Any = tyro.extras.subcommand_cli_from_dict(
        subcommands,
        prog=f"python -m {experiment.command}",
        description=experiment.question,
        args=arguments,
        use_underscores=False,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    if hasattr(parsed, "config"):
        config = parsed.config
    if given_away := [
        name for name in _chosen(arguments[0], experiment) if getattr(config, name) != getattr(usual, name)
    ]:
        raise UsageError(f"`{arguments[0]}` chooses {flag(given_away[0])} itself: leave it out.")
    settings = _settings(experiment, arguments[0], vars(parsed))
    named = {argument.partition("=")[0].replace("_", "-") for argument in arguments}
    settings = dataclasses.replace(settings, fits=tuple(name for name in FITTING if flag(name) not in named))
    if tuned := getattr(parsed, "tuned", None):
        settings = validate.with_tuned(experiment, settings, tuned, bool(parsed.variants), named)
    validate.check(experiment, settings, config)
    return settings, config


def given(arguments: Sequence[str], name: str, default: str) -> str:
    """The value of a flag before all flags are parsed, because the defaults of others depend on it."""
    value = next((after for word, after in itertools.pairwise(arguments) if word == name), default)
    return next((word.split("=", 1)[1] for word in arguments if word.startswith(f"{name}=")), value)


def _flags_of(action: str, experiment: Experiment, config: Any) -> type:
    """A dataclass of a subcommand's flags and, where it can use them, of the recipe's own."""
    fields: list[Any] = []
    for name, (kind, default, about) in FLAGS.items():
        if name in ACTIONS[action]:
            empty = default in (None, (), "")
            of_none: dict[str, Any] = {"help_behavior_hint": "", "metavar": METAVARS.get(name)} if empty else {}
            names = f" Names: {', '.join(experiment.names)}." if name == "variants" else ""
            about_it = tyro.conf.arg(help=about + names, **of_none)
            fields.append((name, Annotated[kind, about_it], dataclasses.field(default=default)))
    if action != "extend" and not (action == "tune" and experiment.table):  # These two have settings of their own.
        fields.append(("config", type(config), dataclasses.field(default=config)))
    made = dataclasses.make_dataclass(action, fields, frozen=True)
    made.__doc__ = ABOUT[action]
    return made


def _chosen(action: str, experiment: Experiment) -> set[str]:
    """The fields of a recipe's `Config` that a sweep or a search sets."""
    if action == "tune" and isinstance(experiment.sweep, Tuning):
        return experiment.sweep.chosen
    if action == "search":
        return {name for variant in experiment.searched for name in experiment.space_of(variant)}
    return set()


def _settings(experiment: Experiment, action: Any, flags: dict[str, Any]) -> Settings:
    values = {name: value for name, value in flags.items() if name in Settings.__dataclass_fields__}
    values.pop("tuned", None)  # The name of a file; `validate.with_tuned` reads it.
    budget = values.setdefault("budget", "quick")
    images = {name: flags.get(name) for name in ("train_images", "split_seed", "image_size")}
    values["data"] = images_of(budget, experiment, flags.get("data"), **images, skip_bad=flags.get("skip_bad", False))
    possible = {"tune": experiment.swept, "search": experiment.searched}.get(action)
    values["variants"] = validate.variants_of(
        experiment, budget, flags.get("variants", ()), possible, bool(flags.get("model"))
    )
    values["seeds"] = ()
    if action == "run":
        values["seeds"] = validate.seeds_of(experiment, budget, flags["seeds"], flags["first_seed"])
    if flags.get("save"):
        values["save"] = str(Path(flags["save"]).expanduser())
    values["logdir"] = flags["logdir"].expanduser()  # No shell does it behind an equals sign.
    return Settings(action=action, **values)
