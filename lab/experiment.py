"""`Experiment`: variants × seeds under a budget; what a module ends with. Data only: others carry it out."""

import ast
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from lab import variants as of_variants
from lab.claims import Claim
from lab.evidence import code_hash
from lab.panels import Lines, Panel
from lab.table import Table
from lab.tuning import Range, Space, Tuning

BudgetName = Literal["smoke", "quick", "full"]


@dataclass(frozen=True)
class Budget:
    """How much to spend: where images come from, how many train (None: all), and how many seeds."""

    source: Literal["subset", "full"]
    train_images: int | None
    seeds: int


BUDGETS: dict[str, Budget] = {
    "smoke": Budget("subset", 2_000, 1),
    "quick": Budget("subset", None, 3),
    "full": Budget("full", None, 5),
}


@dataclass(frozen=True)
class Unit:
    """How a metric is shown: its name in words, the factor from its own unit to the shown one, and that one's name.

    What is `timed`, or memory, is another number in every run, even of the same code at the same seed.
    """

    words: str
    scale: float = 1.0
    name: str = ""
    digits: int = 2
    timed: bool = False

    def show(self, value: float, sign: bool = False) -> str:
        """The value as shown, without its unit's name."""
        return f"{value * self.scale:{'+' if sign else ''},.{self.digits}f}"


UNITS = {
    "test_accuracy": Unit("test accuracy", 100, "points"),
    "balanced_accuracy": Unit("balanced accuracy", 100, "points"),
    "strong_accuracy": Unit("test accuracy", 100, "points"),
    "val_accuracy": Unit("validation accuracy", 100, "points"),
    "validation_accuracy": Unit("validation accuracy", 100, "points"),
    "train_accuracy": Unit("training accuracy", 100, "points"),
    "generalization_gap": Unit("train minus test accuracy", 100, "points"),
    "epochs_to_target": Unit("epochs to target", 1, "epochs"),
    "seconds_to_target": Unit("seconds to target", 1, "s", 1, timed=True),
    "images_per_second": Unit("images/s", 1, "images/s", 0, timed=True),
    "good_decades": Unit("width of the good range of rates", 1, "decades"),
}


@dataclass(frozen=True)
class Experiment:
    """A question, its variants and its claims, in one of three forms.

    Most have `variants` that are partial functions of the recipe's `train(train_set, validation_set, classes, …)`. The
    laboratory calls each of them with batches of a run's images and scores the model that it returns. With
    `train(variant, config, run)`, that does one run and returns its metrics. In both forms runs go side by side.
    `compare(config, runs)` does all variants of one seed in one process, with nothing beside it, and returns each
    variant's metrics: for times, memory, and models that variants share. `runs` maps variant names to `Run`s. Those
    `apart` are done as in the other forms, each as the only one of its `runs`.

    Args:
        recipe: the module in `recipes` whose advice is tested.
        variants: name -> partial function; for the other two forms any collection of names will do.
        claims: the advice to be measured.
        apart: variants that only train. `compare` gets each of them alone, and they run side by side.
        config: a frozen dataclass of what can be set by flags, all with defaults. Without one it is made of `flags` and
            of those arguments of the variants' functions that are numbers. A field `target` is an accuracy that was set
            for CIFAR-10, and is left out (None) for other images.
        flags: settings of the experiment that are no arguments of the recipe's, with their defaults. For partial
            functions there are always `batch_size`, `images` (a run trains on so many), `flip` and `shift`.
        own_flags: variant -> flags that it has other defaults of, such as fewer images.
        images: where they come from at `quick`; at `smoke` it is always the bundled subset.
        augment: whether training images are mirrored, and shifted by up to two pixels.
        prepare, output: for several inputs or outputs what a model takes and answers, (images, labels) -> two dicts,
            and which of the outputs has the logits.
        callbacks: (run, data) -> Keras callbacks that `train` is given besides the laboratory's.
        extra: (model, run, data) -> metrics beyond the scores, of diverged runs too; `run.curves` is the history.
        answer, advice: what a reader should know and do, with placeholders for numbers: see `lab/report/advice.py`.
        rests_on: the ids of the claims that the answer rests on, with "not " before those whose contrary it says.
        about: a name of Keras, such as "global_clipnorm=" -> the ids of claims about it that do not spell it; the
            ledger's index lists them.
        model: the recipe's `build_model(shape, classes)`, if `--model` may put another function in its place; partial
            functions say so themselves, by an argument `build_model` that a variant does not bind.
        feed: (variant, data, config) -> batches of images uint8 (batch, height, width, channels) and labels, of which
            TensorBoard shows a sample.
        smoke, full: fields of `config` that differ at that budget.
        least: the smallest values of fields of `config`, over and above the usual ones.
        tuning: how `tune` finds each variant's settings.
        space: fields of `config` that `search` chooses, beside those that `tuning` sweeps.
        table: what the recipe looks results up in, and `tune` measures; a recipe has this or `tuning`, if any.
        floor: the metric that the convergence test looks at.
        left_out: variants that a plain run leaves out to answer sooner, but not at smoke. What is published has them.
        opens: variants that a plain run leaves out since they open servers on all of the machine's addresses.
        fails: variants whose point is that they fail: the convergence test has a ceiling for them.
        units: how the recipe's own metrics and curves are shown; its metrics get a column each in the closing table.
        panels: what the figure shows, from left to right.
        first_seed: where its seeds begin.

    Raises:
        ValueError: not exactly one form, or a claim about a variant that does not exist.
    """

    recipe: ModuleType
    variants: Iterable[str]
    claims: Sequence[Claim]
    config: Any = None
    train: Callable[[str, Any, Any], dict[str, float]] | None = None
    compare: Callable[[Any, Mapping[str, Any]], dict[str, dict[str, float]]] | None = None
    apart: Sequence[str] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)
    own_flags: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    images: Literal["subset", "full"] = "subset"
    augment: bool = False
    prepare: Callable[[Any, Any], tuple[Any, Any]] | None = None
    output: str = ""
    callbacks: Callable[[Any, Any], list[Any]] | None = None
    extra: Callable[[Any, Any, Any], dict[str, float]] | None = None
    answer: str = ""
    advice: Sequence[str] = ()
    rests_on: Sequence[str] = ()
    about: Mapping[str, Sequence[str]] = field(default_factory=dict)
    model: Callable[..., Any] | None = None
    feed: Callable[[str, Any, Any], Any] | None = None
    smoke: Mapping[str, Any] = field(default_factory=dict)
    full: Mapping[str, Any] = field(default_factory=dict)
    least: Mapping[str, float] = field(default_factory=dict)
    tuning: Tuning | None = None
    space: Space = field(default_factory=dict)
    table: Table | None = None
    floor: str = "test_accuracy"
    left_out: Sequence[str] = ()
    opens: Sequence[str] = ()
    fails: Sequence[str] = ()
    units: Mapping[str, Unit] = field(default_factory=dict)
    panels: Sequence[Panel] = (Lines("val_accuracy"),)
    first_seed: int = 301

    def __post_init__(self) -> None:
        if bool(self.train or self.partials) == bool(self.compare):
            raise ValueError("An experiment has either partial functions, or train, or compare.")
        if "all" in self.names:
            raise ValueError("A variant can't be called all: `--variants all` means every one.")
        for variant in self.partials.values():
            of_variants.described(variant)
        if self.config is None:
            object.__setattr__(self, "config", of_variants.config_of(self.partials, self._flags()))
        if unknown_claims := {one for ids in self.about.values() for one in ids} - {claim.id for claim in self.claims}:
            raise ValueError(f"`about` names {', '.join(sorted(unknown_claims))}: no such claim.")
        named = {f"Claim {claim.id}": claim.variants for claim in self.claims}
        of_some = ("apart", "fails", "left_out", "opens", "own_flags")
        named |= {f"`{name}`": set(getattr(self, name)) for name in of_some}
        for where, variants in named.items():
            if unknown := variants - set(self.names):
                raise ValueError(f"{where} names {', '.join(sorted(unknown))}: no such variant.")

    @property
    def partials(self) -> of_variants.Variants:
        """The variants' functions, where they have some and no other way to train."""
        return {} if self.compare else of_variants.partials(self.variants)

    @property
    def trains_on_batches(self) -> bool:
        """Whether the laboratory makes the batches and calls the variants' functions itself."""
        return bool(self.partials) and self.train is None

    def _flags(self) -> dict[str, Any]:
        if not self.trains_on_batches:
            return dict(self.flags)
        mirrored, shifted = ("yes", 2) if self.augment else ("no", 0)
        return {"batch_size": 128, "images": None, "flip": mirrored, "shift": shifted, **self.flags}

    def budget(self, name: str) -> Budget:
        """How much it spends at a budget."""
        return replace(BUDGETS[name], source=self.images) if name == "quick" else BUDGETS[name]

    def bound(self, variant: str, config: Any) -> partial[Any]:
        """A variant's function with its arguments, and what `config` says in the place of its own."""
        return of_variants.with_given(self.partials[variant], config)

    def config_of(self, variant: str, config: Any) -> Any:
        """`config` with a variant's own flags where nothing else was set."""
        usual = self.config()
        own = self.own_flags.get(variant, {}).items()
        kept = {name: value for name, value in own if getattr(config, name) == getattr(usual, name)}
        return replace(config, **kept) if kept else config

    def runs_apart(self, variant: str) -> bool:
        """Whether its runs need no others of the same seed in their process, and may have company on the machine."""
        return self.compare is None or variant in self.apart

    def takes_model(self, variant: str) -> bool:
        """Whether `--model` can put a reader's `build_model` in the place of the recipe's."""
        return self.model is not None or (variant in self.partials and of_variants.takes_model(self.partials[variant]))

    @property
    def names(self) -> tuple[str, ...]:
        """The variants' names, in the recipe's order."""
        return tuple(self.variants)

    def usual(self, budget: str) -> tuple[str, ...]:
        """The variants of a plain run."""
        without = {*self.opens, *(() if budget == "smoke" else self.left_out)}
        return tuple(name for name in self.names if name not in without)

    @property
    def swept(self) -> tuple[str, ...]:
        """The variants that `tune` is about: those that have a grid."""
        return tuple(name for name in self.names if self.tuning is None or name in self.tuning.grids)

    def space_of(self, variant: str) -> Space:
        """What `search` chooses from for a variant: its grid, or what is between the ends of it, and `space`."""
        found: dict[str, Range | tuple[Any, ...]] = {}
        if self.tuning and variant in self.tuning.grids:
            grid = tuple(sorted(self.tuning.grids[variant]))
            found[self.tuning.swept] = Range(grid[0], grid[-1], grid) if 0 < grid[0] < grid[-1] else grid
            if variant in self.tuning.second:
                name, values = self.tuning.second[variant]
                found[name] = tuple(sorted({*values, self.tuning.fixed_of(variant)[name]}))
        return {**found, **self.space}

    @property
    def searched(self) -> tuple[str, ...]:
        """The variants that `search` is about: those whose settings win by validation accuracy."""
        objectives = {name: self.tuning.objective_of(name) for name in self.tuning.grids} if self.tuning else {}
        by_others = {name for name, objective in objectives.items() if objective.metric != "validation_accuracy"}
        return tuple(name for name in self.names if self.space_of(name) and name not in by_others)

    @property
    def measure_again(self) -> str:
        """The command that measures what is published, as far as the first look."""
        return self.measure_seeds(10)

    def measure_seeds(self, count: int) -> str:
        """The command that measures all variants at so many seeds."""
        every = " --variants all" if self.left_out or self.opens else ""
        return f"python -m {self.command}{every} --seeds {count}"

    @property
    def sweep(self) -> Tuning | Table | None:
        """What `tune` does."""
        return self.tuning or self.table

    @property
    def command(self) -> str:
        """The module that runs the comparison, as in `python -m recipes.optimizers`."""
        spec = self.recipe.__spec__  # A module that runs as a script is called __main__.
        return spec.name if spec else self.recipe.__name__

    @property
    def module(self) -> str:
        """The module that declares it: one of `lab.experiments`, or for a recipe of your own the recipe's own."""
        return f"lab.experiments.{self.name}" if self.command == f"recipes.{self.name}" else self.command

    @property
    def code(self) -> str:
        """A hash of the code that makes the numbers, without what was tuned, which is recorded with each run."""
        return code_hash.hash_of(self.parts)

    @property
    def parts(self) -> dict[str, str]:
        """What it is a hash of: each function, class and constant, and its own hash."""
        return code_hash.parts(self.command, self.module, self.tuned)

    @property
    def tuned(self) -> tuple[str, ...]:
        """The tables of the recipe and its experiment that hold what was tuned: no code, but recorded with each run."""
        found = self.tuning.found if self.tuning else ()
        return tuple(name for name in found if any(hasattr(module, name) for module in self._modules))

    @property
    def _modules(self) -> tuple[ModuleType, ...]:
        return (self.recipe, importlib.import_module(self.module)) if self.module != "__main__" else (self.recipe,)

    def settings(self, variant: str) -> dict[str, Any]:
        """What a variant is: its function and arguments, and what was tuned for it, by the tables' names."""
        found = of_variants.described(self.partials[variant]) if variant in self.partials else {}
        found |= self.own_flags.get(variant, {})
        keys = [variant, *(value for value in found.values() if isinstance(value, str))]
        for name in self.tuned:
            table = next(getattr(module, name) for module in self._modules if hasattr(module, name))
            # Where functions of the experiment look it up by other names, all of it may count.
            other = None if variant in self.partials else table
            found[name] = (
                next((table[key] for key in keys if key in table), other) if isinstance(table, dict) else table
            )
        return found

    @property
    def name(self) -> str:
        return self.command.rsplit(".", 1)[-1]

    @property
    def docstring(self) -> str:
        if self.recipe.__doc__ is None and self.recipe.__file__:  # Python was told to drop docstrings.
            return ast.get_docstring(ast.parse(Path(self.recipe.__file__).read_text(encoding="utf-8"))) or ""
        return self.recipe.__doc__ or ""

    @property
    def question(self) -> str:
        """The first line of the module's docstring."""
        return (self.docstring.strip() or self.name).splitlines()[0]

    def config_at(self, budget: str) -> Any:
        """The recipe's `Config` as it is at a budget."""
        return self.config(**{"smoke": self.smoke, "full": self.full}.get(budget, {}))

    @property
    def timed(self) -> set[str]:
        """The metrics that are times or memory."""
        return {name for name, unit in {**UNITS, **self.units}.items() if unit.timed}

    def unit(self, metric: str) -> Unit:
        return {**UNITS, **self.units}.get(metric, Unit(metric.replace("_", " ")))
