"""A recipe's command line: flags, progress, the closing table."""

import contextlib
import dataclasses
import errno
import itertools
import math
import shlex
import statistics
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipelines import cifar10
from pipelines.errors import DataError, RequestError
from recipes.harness import card, evidence, runner
from recipes.harness.recipe import BUDGETS, UNITS, BudgetName, Recipe
from recipes.harness.run import Task, read_progress

LOGS = Path("logs")
INTERRUPTED = 130
# The smallest values of the recipes' own flags; of all others it is 0.
LEAST = {"epochs": 1, "batch_size": 1, "replays": 1, "most": 4, "images": 1, "passes": 1}


class UsageError(Exception):
    """What was asked for can't be done as asked. The sentence is printed, and the exit code is 2."""


@dataclasses.dataclass(frozen=True)
class Options:
    budget: BudgetName = "quick"
    """smoke: seconds, for tests. quick: the bundled subset. full: all of CIFAR-10."""
    seeds: int | None = None
    """Number of seeds, 1 to N. Default: 1 at smoke, 3 at quick, 5 at full."""
    variants: tuple[str, ...] = ()
    """Which variants. Default: all."""
    data: Literal["subset", "full"] | None = None
    """Where images come from. Default: as the budget says."""
    train_images: int | None = None
    """How many training images, the same number of each class. Default: as the budget says."""
    split_seed: int = 0
    """Which split of the training images into a training and a validation part."""
    jobs: int | None = None
    """Runs at a time. Default: one a GPU, or one a core."""
    backend: Literal["local", "ray"] = "local"
    """Where runs go: processes on this machine, or a Ray cluster (RAY_ADDRESS; without it, a local one)."""
    logdir: Path = LOGS
    """Where TensorBoard's files and the evidence go."""
    resume: bool = False
    """Go on with the newest invocation of the same settings: keep its finished runs, do the rest."""
    profile: bool = False
    """Profile ten steps of each training, for TensorBoard's Profile page."""
    tune: bool = False
    """Search for each variant's settings instead of comparing the variants."""
    log: bool = True
    """Write TensorBoard files."""


def main(recipe: Recipe, arguments: Sequence[str] | None = None) -> int:
    """Parse flags, measure, print; return the exit code: 0, 1 for a failed or diverged run, 2 for usage, 130 for ^C."""
    return _run([recipe], list(sys.argv[1:] if arguments is None else arguments))


def main_of_all(recipes: Sequence[Recipe], arguments: Sequence[str]) -> int:
    """Do several recipes with the same flags; return the worst exit code.

    At smoke, where no time counts, all their runs go side by side in the same workers. At other budgets one recipe
    follows the other, for what takes time is part of their evidence. A recipe that can't go on stops no other.
    """
    arguments = list(arguments)
    if _budget(arguments) == "smoke" and "--tune" not in arguments:
        return _run(recipes, arguments)
    worst = 0
    for recipe in recipes:
        worst = max(worst, main(recipe, arguments))
        if worst == INTERRUPTED:
            break
    return worst


def _run(recipes: Sequence[Recipe], arguments: list[str]) -> int:
    terminal = sys.stdout.isatty()  # Notebooks and CI ask for colors where there is no cursor to move.
    width = None if terminal else 120
    console = Console(highlight=False, markup=False, soft_wrap=True, width=width, force_terminal=terminal)
    together = len(recipes) > 1
    what = ["recipes", *(recipe.name for recipe in recipes), "--all"] if together else [recipes[0].module]
    command = shlex.join(["python", "-m", *what, *(argument for argument in arguments if argument != "--resume")])
    codes: list[int] = []
    begun: list[Invocation] = []  # And not yet reported.
    todo: list[Work] = []
    try:
        for recipe in recipes:
            with _explained(codes):
                begun.append(Invocation.begin(recipe, *parse(recipe, arguments), command, together=together))
        for invocation in list(begun):
            with _explained(codes, [invocation], console):
                if invocation.options.tune:
                    codes.append(tune(invocation, console))
                else:
                    todo.append(Work.of(invocation, invocation.plan(console), console))
        begun[:] = [work.invocation for work in todo]  # The others have had their say.
        with _explained(codes, begun, console), contextlib.closing(carry_out(todo, console)) as complete:
            for work in complete:
                with _explained(codes, [work.invocation], console):
                    codes.append(report(work.invocation, work.records(), console))
                    begun.remove(work.invocation)
    except KeyboardInterrupt:
        _say_where(begun, console)
        return INTERRUPTED
    return max(codes, default=0)


@contextlib.contextmanager
def _explained(
    codes: list[int], concerned: "Sequence[Invocation]" = (), console: Console | None = None
) -> Generator[None, None, None]:
    """Turn what goes wrong into a sentence and an exit code, and say where the finished runs of those concerned are."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        code, sentence = _explanation(error)
        if sentence:
            print(sentence, file=sys.stderr)
        if console is not None:
            _say_where(concerned, console)
        if code is None:  # A mistake of ours: its traceback is what helps.
            raise
        codes.append(code)


def _explanation(error: BaseException) -> tuple[int | None, str]:
    """Exit code and sentence for what a user can mend; no code for anything else."""
    if isinstance(error, SystemExit):  # Of tyro, which has said why.
        return int(error.code or 0), ""
    if isinstance(error, (UsageError, RequestError)):
        return 2, str(error)
    if isinstance(error, (DataError, evidence.EvidenceError)):
        return 1, str(error)
    if isinstance(error, OSError):
        full = " The disk is full: free some space, then add --resume." if error.errno == errno.ENOSPC else ""
        return 1, f"{error.filename or 'A file'} could not be written or read: {error.strerror}.{full}"
    return None, ""


def _say_where(invocations: "Sequence[Invocation]", console: Console) -> None:
    """After an interruption: nothing is lost, and how to go on."""
    for invocation in invocations:
        done = len(list(invocation.folder.rglob("record.json")))
        console.print(f"\nStopped. {done} finished runs are kept in {invocation.folder}.")
    for command in dict.fromkeys(invocation.header["command"] for invocation in invocations):
        console.print(f"Go on with\n  {command} --resume")


def _budget(arguments: list[str]) -> str:
    budget = next((b for a, b in itertools.pairwise(arguments) if a == "--budget"), "quick")
    return next((a.split("=", 1)[1] for a in arguments if a.startswith("--budget=")), budget)


def parse(recipe: Recipe, arguments: list[str]) -> tuple[Options, Any]:
    """Flags as `Options` and the recipe's own `Config`.

    Raises:
        UsageError: a value that can't be.
        SystemExit: tyro found an unknown flag or a value of the wrong type (2), or printed the help (0).
    """
    budget = _budget(arguments)
    flags = dataclasses.make_dataclass(
        "Flags",
        [
            ("options", tyro.conf.OmitArgPrefixes[Options], dataclasses.field(default=Options())),
            (
                "config",
                tyro.conf.OmitArgPrefixes[recipe.config],  # type: ignore[name-defined, misc]
                dataclasses.field(default=recipe.config_at(budget)),
            ),
        ],
    )
    parsed: Any = tyro.cli(
        flags, prog=f"python -m {recipe.module}", description=recipe.question, args=arguments, use_underscores=False
    )
    options, config = parsed.options, parsed.config
    if unknown := [name for name in options.variants if name not in recipe.names]:
        raise UsageError(f"There is no variant {unknown[0]!r}: use any of {', '.join(recipe.names)}.")
    for name in ("seeds", "jobs"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name} must be at least 1, not {value}.")
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        least = LEAST.get(field.name, 0)
        if isinstance(value, (int, float)) and not (math.isfinite(value) and value >= least):
            raise UsageError(f"--{field.name.replace('_', '-')} must be at least {least} and finite, not {value}.")
    if options.tune and recipe.sweep is None:
        raise UsageError(f"The recipe {recipe.name} has nothing to tune: leave --tune out.")
    if options.logdir.exists() and not options.logdir.is_dir():
        raise UsageError(f"--logdir {options.logdir} is a file: name a folder.")
    return options, config


@dataclasses.dataclass
class Invocation:
    """One recipe of a command: what was asked of it, and the folder that its runs go to."""

    recipe: Recipe
    options: Options
    config: Any
    folder: Path
    header: dict[str, Any]
    together: bool = False  # With other recipes.
    start: float = dataclasses.field(default_factory=time.perf_counter)

    @classmethod
    def begin(
        cls, recipe: Recipe, options: Options, config: Any, command: str, *, together: bool = False
    ) -> "Invocation":
        """Check the data and open a new folder, or with --resume the newest one of the same settings.

        Raises:
            UsageError: nothing to resume.
            DataError: the data are missing or broken.
        """
        budget = BUDGETS[options.budget]
        source = options.data or budget.source
        train_images = budget.train_images if source == budget.source else None
        if options.train_images is not None:
            train_images = options.train_images
        data = cifar10.Request(source, train_images, options.split_seed)
        cifar10.verify(data)
        sweep = recipe.sweep if options.tune else None
        header: dict[str, Any] = {
            "kind": "tuning" if sweep else "comparison",
            "budget": options.budget,
            "config": {} if sweep and recipe.table else dataclasses.asdict(config),
            "data": dataclasses.asdict(data),
            "code": sweep.code(recipe.module) if sweep else evidence.code_hash(recipe.module),
        }
        if recipe.table and not sweep:
            header["table"] = recipe.table.digest(recipe.name)
        if together:
            header["together"] = True
        header = evidence.stamp(recipe.module, header)
        home = options.logdir / recipe.name
        if options.resume:
            folder = cls._find(home, header)
        else:
            folder = home / datetime.now().strftime("%Y%m%d-%H%M%S")
            while folder.exists():
                folder = folder.with_name(folder.name + "b")
        header = {**header, "command": command}
        folder.mkdir(parents=True, exist_ok=True)
        if not options.resume:
            evidence.write_json(folder / "invocation.json", header)
        return cls(recipe, options, config, folder, header, together)

    @staticmethod
    def _find(home: Path, header: dict[str, Any]) -> Path:
        for folder in sorted(home.glob("*/"), reverse=True):
            if not (folder / "invocation.json").exists():
                continue
            found = evidence.read_json(folder / "invocation.json")
            keys = ("kind", "budget", "config", "data", "code", "table", "together", "machine", "versions")
            if all(found.get(key) == header.get(key) for key in keys):
                return folder
        raise UsageError(
            f"There is nothing to resume under {home}: no invocation with the same settings, code, machine and "
            "versions; run without --resume."
        )

    @property
    def variants(self) -> tuple[str, ...]:
        """The chosen variants, in the recipe's order."""
        return tuple(name for name in self.recipe.names if name in (self.options.variants or self.recipe.names))

    @property
    def seeds(self) -> range:
        return range(1, 1 + (self.options.seeds or BUDGETS[self.options.budget].seeds))

    @property
    def alone(self) -> bool:
        """Whether its runs have the machine to themselves, since they measure times."""
        return self.recipe.compare is not None and not self.together

    def task(self, variants: tuple[str, ...], seed: int, fields: dict[str, Any], folder: Path) -> Task:
        return Task(
            module=self.recipe.module,
            variants=variants,
            seed=seed,
            config={**self.header["config"], **fields},
            data=cifar10.Request(**self.header["data"]),
            folder=str(folder),
            logging=self.options.log and folder == self.folder,
            profile=self.options.profile,
            intra_op_threads=None if self.alone else 1,
            log=str(self.folder / "workers.log"),
        )

    def plan(self, console: Console) -> list[Task]:
        """The tasks of a comparison; TensorBoard learns what will be compared."""
        recipe, names, seeds = self.recipe, self.variants, self.seeds
        if not self.together:
            console.print(self.title())
        if self.options.log:
            from recipes.harness import board

            looked_up = recipe.table.fields if recipe.table else ()
            columns = [*self.header["config"], *looked_up]
            board.write_overview(self.folder, names, seeds, columns, metrics_of(recipe))
        groups = [(name,) for name in names] if recipe.train else [names]
        return [self.task(group, seed, {}, self.folder) for seed in seeds for group in groups]

    def title(self) -> str:
        size = f"{len(self.variants)} variants × {len(self.seeds)} seeds at {self.options.budget}."
        return f"{self.recipe.question}\n{size}"

    def elapsed(self) -> float | None:
        """Seconds since the command began; None for a resumed one, which took only part of the time that it needs, and
        for recipes together, which share theirs."""
        return None if self.options.resume or self.together else round(time.perf_counter() - self.start, 1)


def metrics_of(recipe: Recipe) -> list[str]:
    """The names of a recipe's metrics: those of its published evidence and its own; all, before it has any."""
    published = card.Published.read(recipe)
    records = published.evidence.get("records", []) if published else []
    found = [name for record in records for name in record["metrics"]] or list(UNITS)
    curves = {name for record in records for name in record["curves"]}
    return list(dict.fromkeys([*found, *(name for name in recipe.units if name not in curves)]))


def _record_path(folder: str, variant: str, seed: int) -> Path:
    return Path(folder) / variant / f"seed-{seed}" / "record.json"


@dataclasses.dataclass
class Work:
    """The tasks of an invocation, those of them that are to be done, and the records that there are."""

    invocation: Invocation
    tasks: list[Task]
    todo: set[Task]
    found: dict[tuple[str, str, int], evidence.Record]

    @classmethod
    def of(cls, invocation: Invocation, tasks: list[Task], console: Console) -> "Work":
        """Keep what an earlier invocation has finished.

        Raises:
            EvidenceError: a record that is broken.
        """
        work = cls(invocation, tasks, set(), {})
        for task in tasks:
            paths = [_record_path(task.folder, variant, task.seed) for variant in task.variants]
            kept = [evidence.read_json(path) for path in paths if path.exists()]
            if len(kept) == len(paths) and all(record["status"] != "failed" for record in kept):
                work.found |= {(task.folder, record["variant"], task.seed): record for record in kept}
            else:
                work.todo.add(task)
        if len(tasks) > len(work.todo) and invocation.options.resume:
            console.print(f"Kept {len(tasks) - len(work.todo)} finished runs of {invocation.folder}.")
        return work

    def finish(self, task: Task, records: list[evidence.Record]) -> None:
        """Save the records of a task at once."""
        for record in records:
            evidence.write_json(_record_path(task.folder, record["variant"], task.seed), record)
            self.found[task.folder, record["variant"], task.seed] = record
        self.todo.remove(task)

    def records(self) -> list[evidence.Record]:
        """The records of all tasks, in their order."""
        return [self.found[task.folder, variant, task.seed] for task in self.tasks for variant in task.variants]


def carry_out(works: Sequence[Work], console: Console) -> Generator[Work, None, None]:
    """Do what is to be done, and yield each work as soon as nothing of it is left to do."""
    yield from (work for work in works if not work.todo)
    owners = {task: work for work in works for task in work.tasks if task in work.todo}
    ordered = sorted(owners, key=lambda task: -len(task.variants))  # Tasks of many variants take longest.
    if not ordered:
        return
    gpus = len(evidence.gpus())
    options = works[0].invocation.options
    jobs = options.jobs or gpus or evidence.cores()
    if any(work.invocation.alone for work in works):
        jobs = 1  # Times are measured with nothing beside them.
    with _view(console, ordered, jobs) as view:
        if options.backend == "ray":
            outcomes = _on_ray(ordered, jobs, gpus, view.started)
        else:
            outcomes = runner.side_by_side(ordered, min(jobs, gpus or jobs), gpus, view.started)
        with contextlib.closing(outcomes):  # Whatever happens here, the workers end.
            for task, records in outcomes:
                owners[task].finish(task, records)
                view.finished(task, records)
                if not owners[task].todo:
                    yield owners[task]


def _on_ray(
    tasks: list[Task], jobs: int, gpus: int, started: Callable[[Task], None]
) -> Generator[runner.Outcome, None, None]:
    try:
        yield from runner.on_ray(tasks, jobs, gpus, started)
    except ImportError as error:
        raise UsageError("--backend ray needs Ray: install the extra with `pip install -e '.[ray]'`.") from error


def report(invocation: Invocation, records: list[evidence.Record], console: Console) -> int:
    """Write the evidence, the card and the figure, print the closing table and the verdicts."""
    recipe, folder = invocation.recipe, invocation.folder
    found = {
        **invocation.header,
        "variants": list(invocation.variants),
        "seeds": list(invocation.seeds),
        "elapsed_seconds": invocation.elapsed(),
        "records": records,
    }
    evidence.write_json(folder / "evidence.json", found)
    published = card.Published.read(recipe)
    tuning = published.tuning if published else None
    made = card.Report(recipe, found, tuning)
    figure = folder / "figure.png"
    made.write_figure(figure)
    (folder / "card.md").write_text(made.markdown(), encoding="utf-8")
    if invocation.options.log:
        from recipes.harness import board

        board.write_text(folder, "card", made.markdown(with_figure=False))
    if invocation.together:
        console.print(f"\n{invocation.title()}")
    console.print(_closing_table(made))
    for line in made.verdict_lines(published):
        console.print(line)
    console.print(f"\nFigure       {figure}\nEvidence     {folder / 'evidence.json'}")
    if invocation.options.log:
        console.print(f"TensorBoard  tensorboard --logdir {shlex.quote(str(folder))} --host 127.0.0.1")
    return _exit_code(records, console)


def tune(invocation: Invocation, console: Console) -> int:
    """Do the recipe's tuning sweep, write it, and print each variant's winning settings."""
    recipe, sweep = invocation.recipe, invocation.recipe.sweep
    assert sweep is not None

    def trials(wanted: list[tuple[str, int, dict[str, Any]]]) -> list[evidence.Record]:
        tasks = []
        for variant, seed, fields in wanted:
            name = ",".join(f"{key}={value:g}" for key, value in fields.items())
            tasks.append(invocation.task((variant,), seed, fields, invocation.folder / name))
        (work,) = carry_out([Work.of(invocation, tasks, console)], console)
        return work.records()

    search, curve = sweep.carry_out(invocation.variants, trials)
    defaults = {} if recipe.table else dataclasses.asdict(recipe.config())

    def brief(record: evidence.Record) -> evidence.Record:
        config = {key: value for key, value in record["config"].items() if value != defaults.get(key)}
        kept = {key: record[key] for key in ("variant", "seed", "status", "cause")}
        # Times of runs that shared the machine with a sweep would tell nobody anything.
        metrics = {key: value for key, value in record["metrics"].items() if "second" not in key}
        return {**kept, "metrics": metrics, "config": config}

    found = {
        **invocation.header,
        "variants": list(invocation.variants),
        "worker_seconds": round(sum(record["seconds"]["total"] for record in (*search, *curve)), 1),
        "winners": sweep.winners(search),
        "search": [brief(record) for record in search],
        "curve": [brief(record) for record in curve],
    }
    evidence.write_json(invocation.folder / "tuning.json", found)
    for variant, objectives in found["winners"].items():
        for objective, settings in objectives.items():
            shown = ", ".join(f"{key} {value:g}" for key, value in settings.items() if value is not None)
            console.print(f"{variant:>12}  {objective:<10} {shown}")
    console.print(f"Evidence     {invocation.folder / 'tuning.json'}")
    failures = [record for record in (*search, *curve) if record["status"] == "failed"]
    return _exit_code(failures, console)


def _exit_code(records: list[evidence.Record], console: Console) -> int:
    bad = [record for record in records if record["status"] != "finished"]
    for record in bad:
        console.print(Text(f"{record['variant']} seed {record['seed']} {record['status']}: {record['cause']}", "red"))
    return 1 if bad else 0


def _closing_table(report: "card.Report") -> Table:
    header, rows = report.table()
    table = Table(title=None)
    for i, column in enumerate(header):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=i == 0)
    for row in rows:
        table.add_row(*row)
    return table


class _View:
    """Runs done and to come, the accuracy of each in flight, and the time left."""

    def __init__(self, console: Console, tasks: list[Task], jobs: int) -> None:
        self.console, self.tasks, self.jobs = console, tasks, jobs
        self.flying: dict[Task, float] = {}
        self.durations: list[float] = []
        self.several = len({task.module for task in tasks}) > 1
        self.lock = threading.Lock()

    def started(self, task: Task) -> None:
        with self.lock:
            self.flying[task] = time.perf_counter()

    def finished(self, task: Task, records: list[evidence.Record]) -> None:
        with self.lock:
            self.durations.append(time.perf_counter() - self.flying.pop(task))
        if not self.console.is_terminal:
            for record in records:
                self.console.print(self.line(task, record))

    def line(self, task: Task, record: evidence.Record) -> str:
        """One plain line that says how a run ended."""
        accuracy = record["metrics"].get("test_accuracy")
        metric, value = next(iter(record["metrics"].items()), ("", 0.0))
        ending = f"test accuracy {accuracy:.1%}" if accuracy is not None else f"{metric.replace('_', ' ')} {value:.4g}"
        if record["status"] != "finished":
            ending = f"{record['status']}: {record['cause']}"
        place = f"{len(self.durations)}/{len(self.tasks)}"
        folder = Path(task.folder).name
        setting = f" {folder}" if "=" in folder else ""  # A trial's folder is named after its settings.
        name = self.name(task, record["variant"])
        return f"{place:>7}  {name}{setting}: {ending}, {self.left()}"

    def name(self, task: Task, variant: str) -> str:
        """Variant and seed, after the recipe's name where there are several."""
        recipe = f"{task.module.rsplit('.', 1)[-1]} " if self.several else ""
        return f"{recipe}{variant} seed {task.seed}"

    def left(self) -> str:
        """Time left, from the median run so far."""
        if not self.durations:
            return "time left: to be seen"
        rounds = math.ceil((len(self.tasks) - len(self.durations)) / self.jobs)
        seconds = rounds * statistics.median(self.durations)
        return f"about {seconds / 60:.0f} min left" if seconds > 90 else f"about {seconds:.0f} s left"

    def __rich__(self) -> Table:
        table = Table.grid(padding=(0, 2))
        with self.lock:
            done, flying = len(self.durations), dict(self.flying)
        table.add_row(f"{done} of {len(self.tasks)} runs done", f"{len(flying)} in flight", self.left())
        for task in flying:
            for variant in task.variants:
                said = read_progress(Path(task.folder), variant, task.seed)
                accuracy = said.get("accuracy")
                epoch = f"{said.get('part', '')} epoch {said['epoch']} of {said['epochs']}" if said else "starting"
                shown = f"accuracy {accuracy:.1%}" if accuracy is not None else ""
                table.add_row(f"  {self.name(task, variant)}", epoch, shown)
        return table


@contextlib.contextmanager
def _view(console: Console, tasks: list[Task], jobs: int) -> Iterator[_View]:
    view = _View(console, tasks, jobs)
    if not console.is_terminal:
        yield view
        return
    with Live(view, console=console, refresh_per_second=2, transient=True):
        yield view
