"""`Invocation`: one recipe of a command, the folder that its runs go to, and what is found there again."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import filelock
import msgspec
import numpy as np

from lab.evidence import code_hash
from lab.evidence.provenance import gpus, stamp
from lab.evidence.records import EvidenceError, read, write_json
from lab.evidence.schemas import SWITCHES, Images, Origin, Record
from lab.execute import executor
from lab.execute.job import Job
from lab.execute.model_check import IMAGES, Checked, check_own_model
from lab.execute.own_images import look
from lab.experiment import Experiment
from lab.settings import Settings
from pipelines import sources
from pipelines.errors import UsageError


class CodeChangedError(EvidenceError):
    """The code was changed while the command ran: what it measured is of no one version."""


@dataclasses.dataclass
class Invocation:
    """What was asked of one recipe, and where its runs go."""

    experiment: Experiment
    settings: Settings
    config: Any
    folder: Path
    header: Origin
    model: Checked
    lock: filelock.BaseFileLock | None = None
    started: float = dataclasses.field(default_factory=time.perf_counter)
    took_over: bool = False  # Runs that other commands have finished.
    elsewhere: dict[str, list[int]] = dataclasses.field(default_factory=dict)  # See Evidence.

    @classmethod
    def begin(cls, experiment: Experiment, settings: Settings, config: Any, command: str) -> "Invocation":
        """Check the data and the reader's model, and open a new folder, or to resume the newest one of the same
        settings; lock it. Its `config` may have a smaller batch size, or fewer images, than the recipe's.

        Raises:
            UsageError: the model will not do, there is nothing to resume, it is being worked on, or `--save` names
                models of other classes.
            DataError: the data are missing or broken.
        """
        data = sources.verify(settings.data)
        config, own = (config, None) if settings.data.is_cifar10 else look(experiment, settings, config, data)
        check_with_images(experiment, settings, config)
        model = _checked(settings, data) if settings.model else Checked()
        if settings.save:
            write_classes(Path(settings.save), data.classes)
        sweep = experiment.sweep if settings.action == "tune" else None
        header = Origin(
            **stamp(),
            recipe=experiment.name,
            kind="tuning" if sweep else "comparison",
            budget=settings.budget,
            config={} if sweep and experiment.table else dataclasses.asdict(config),
            data=Images(**dataclasses.asdict(settings.data) | {"skip_bad": settings.data.skip_bad or msgspec.UNSET}),
            data_digest=data.digest,
            test_images=len(data.test),
            classes=len(data.classes),
            code=experiment.code,
            parts=experiment.parts,
            command=command,
            model=f"{settings.model} {model.digest}" if settings.model else "",
            table=experiment.table.digest(experiment.name) if experiment.table and not sweep else "",
            own=own,
            tuned={variant: dict(fields) for variant, fields in settings.tuned.items()},
        )
        home = settings.home / experiment.name
        folder = _find(home, header) if settings.resume else new_folder(home)
        lock = locked(folder)
        if not settings.resume:
            write_json(folder / "invocation.json", header)
        return cls(experiment, settings, config, folder, header, model, lock)

    def end(self) -> None:
        """Give the folder free."""
        if self.lock:
            self.lock.release()

    @property
    def variants(self) -> tuple[str, ...]:
        """The chosen variants, in the recipe's order."""
        return self.settings.variants

    @property
    def alone(self) -> bool:
        """Whether any of its runs have the machine to themselves, since they measure times.

        Those of a sweep are not timed, unless it looks for what is fastest.
        """
        experiment, tuning = self.experiment, self.experiment.tuning
        if self.settings.action != "tune":
            return experiment.compare is not None
        sought = [tuning.objective_of(name).metric for name in tuning.grids] if tuning else []
        return any(metric in experiment.timed for metric in sought)

    def job(self, variants: tuple[str, ...], seed: int, fields: dict[str, Any], folder: Path) -> Job:
        """One job of this invocation, with some fields of the config replaced."""
        return Job(
            module=self.experiment.module,
            variants=variants,
            seed=seed,
            config={**self.header.config, **fields},
            data=self.settings.data,
            folder=str(folder),
            code=self.experiment.code,
            data_digest=self.header.data_digest,
            model=self.settings.model,
            model_files=self.model.files,
            model_digest=self.model.digest,
            logging=self.settings.log and folder == self.folder,
            profile=self.settings.profile,
            save=self.settings.save,
            alone=self.alone and not all(map(self.experiment.runs_apart, variants)),
            log=str(self.folder / "workers.log"),
        )

    def plan(self, variants: Sequence[str], seeds: Sequence[int]) -> list[Job]:
        """The jobs of a comparison."""
        apart = [name for name in variants if self.experiment.runs_apart(name)]
        groups = [*((name,) for name in apart), tuple(name for name in variants if name not in apart)]
        tuned = self.header.tuned
        return [
            self.job(group, seed, tuned.get(group[0], {}), self.folder) for seed in seeds for group in groups if group
        ]

    def title(self) -> str:
        seeds = len(self.settings.seeds)
        size = f"{len(self.variants)} variants × {seeds} seed{'s' if seeds > 1 else ''} at {self.settings.budget}."
        return f"{self.experiment.question}\n{size}"

    def tuned_otherwise(self, record: Record) -> bool:
        """Whether a run had other tuned settings than the recipe has now."""
        now = self.experiment.settings(record.variant)
        return record.settings != json.loads(json.dumps(now))

    def elapsed(self) -> float | None:
        """Seconds since the command began; None where it took runs over."""
        partly = self.settings.resume or self.took_over
        return None if partly else round(time.perf_counter() - self.started, 1)

    def check_code(self) -> None:
        """Compare the files on disk with the code that this process and its workers imported.

        Raises:
            CodeChangedError: they are not as they were when the command began.
        """
        experiment = self.experiment
        now = code_hash.parts_on_disk(experiment.command, experiment.module, experiment.tuned)
        if self.header.code != code_hash.hash_of(now):
            raise CodeChangedError(
                f"The code of {self.experiment.name} is not the one that the command began with, so no evidence is "
                f"written: run it again. The runs are in {self.folder}."
            )


def check_with_images(experiment: Experiment, settings: Settings, config: Any) -> None:
    """Check a request against its images.

    Raises:
        UsageError: it can't be done.
    """
    data = sources.load(settings.data)
    images, batch_size = len(data.train), getattr(config, "batch_size", 1)
    if experiment.trains_on_batches:
        if (config.images or 0) > images:
            raise UsageError(
                f"There are {images:,} training images, and --images {config.images} would take more: add --images "
                f"{images}."
            )
        images = min(images, config.images or images)
    if batch_size > images:
        fits = 2 ** (images.bit_length() - 1)
        raise UsageError(
            f"There are {images:,} training images, fewer than a batch of {batch_size:,}: add --batch-size {fits}."
        )


def _checked(settings: Settings, data: sources.Data) -> Checked:
    """The reader's model, looked at in a process of its own.

    Raises:
        UsageError: it will not do, or it ended the process.
    """
    images = data.train.take(np.arange(min(IMAGES, len(data.train)))).images[:]
    arguments = settings.model, images, len(data.classes), bool(settings.save)
    return executor.apart(f"--model {settings.model!r}", check_own_model, *arguments, gpus=len(gpus()))


def write_classes(folder: Path, classes: Sequence[str]) -> None:
    """Write the names of the classes, in the order of a model's outputs, beside the models that are saved there.

    Raises:
        UsageError: models of other classes are there already.
    """
    path, content = folder / "classes.json", json.dumps(list(classes), ensure_ascii=False, indent=1) + "\n"
    if any(folder.glob("*.keras")) and path.exists() and path.read_text(encoding="utf-8") != content:
        raise UsageError(
            f"--save {folder} holds models of other classes, as its classes.json says: name another folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


# What must be the same where runs are to be taken over.
SAME = ("kind", "budget", "config", "data", "data_digest", "code", "model", "table", "tuned")
SAME_PLACE = ("machine", "versions", "keras", "environment")


def same(one: Origin, other: Origin, names: Sequence[str]) -> bool:
    """Whether two measurements have the same values of some fields, as files hold them."""
    return all(msgspec.json.encode(getattr(one, name)) == msgspec.json.encode(getattr(other, name)) for name in names)


def _find(home: Path, header: Origin) -> Path:
    for folder in sorted(home.glob("*/"), reverse=True):
        try:
            found = read(folder / "invocation.json", Origin)
        except EvidenceError:  # Of an invocation that did not get far; another may do.
            continue
        if same(found, header, SAME + SAME_PLACE):
            return folder
    raise UsageError(
        f"There is nothing to resume under {home}: no invocation with the same settings, code, data, machine, "
        f"versions and {', '.join(SWITCHES)}; run without --resume."
    )


def new_folder(home: Path) -> Path:
    """A folder named after this second, or the next that is free: the newest is the last by name."""
    home.mkdir(parents=True, exist_ok=True)
    when = datetime.now()
    while True:
        folder = home / when.strftime("%Y%m%d-%H%M%S")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
        when += timedelta(seconds=1)


def locked(folder: Path) -> filelock.BaseFileLock:
    """Hold the folder until this process ends, however it ends, or gives it free.

    Raises:
        UsageError: another process holds it.
    """
    lock = filelock.FileLock(folder / "lock", blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise UsageError(f"Another command is working in {folder}: wait for it, or end it.") from error
    except (OSError, NotImplementedError):  # Some file systems have no locks.
        pass
    return lock
