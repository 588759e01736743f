"""What each file of evidence holds, as types. `lab.evidence.records.read` checks a file against its type."""

from collections.abc import Collection
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

SCHEMA = 3
LOOKS = (10, 20, 40, 80)  # Numbers of seeds at which verdicts are looked at.
# TensorFlow's switches that change bits, and what they are where nobody sets them.
SWITCHES = {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_DETERMINISTIC_OPS": "0", "TF_USE_LEGACY_KERAS": "0"}
LARGEST = 3.5e38  # Just above the largest float32, which the loss of a diverging training comes near.

Number = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | Annotated[float, Meta(gt=-LARGEST, lt=LARGEST)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Name = Annotated[str, Meta(min_length=1)]
Config = dict[str, Any]
Status = Literal["finished", "diverged", "failed"]
Budget = Literal["smoke", "quick", "full"]


class Fields(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all of them have in common: they are frozen, and a file lacks the fields that have their default."""


class Block(Fields, frozen=True, kw_only=True):
    """One timed block of steps: the share of the processor that others took, and how often it was repeated."""

    variant: str
    others: Number
    again: Count


class Trial(Fields, frozen=True, kw_only=True):
    """What a tuning sweep keeps of a run."""

    variant: Name
    seed: Count
    config: Config
    status: Status
    cause: str | None
    metrics: dict[str, Number]

    def __post_init__(self) -> None:
        for name, value in self.metrics.items():
            if name.endswith("accuracy") and not 0 <= value <= 1:
                raise ValueError(f"`{name}` of `metrics` is {value:g}, and should be a share")


class Record(Trial, frozen=True, kw_only=True):
    """One variant at one seed: `record.json`. `settings` were tuned, `correct` is of `pack_bits`, `weights` a hash.

    `began` is the minute at which it began, in UTC (2026-11-29T04:10), and `host` a hash of the machine's name: see
    `lab.evidence.occasions`.
    """

    curves: dict[str, list[Number | None]]
    correct: bytes | None
    seconds: dict[str, Number]
    peak_memory_mib: Number | None
    settings: Config
    weights: str | None
    blocks: list[Block]
    began: str = ""
    host: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.status != "failed" and "total" not in self.seconds:
            raise ValueError("`seconds` lacks `total`")

    def check_bits(self, test_images: int) -> None:
        """Raise a ValueError unless `correct` is of so many images and gives the test accuracy."""
        accuracy, of = self.metrics.get("test_accuracy"), f"of {self.variant} seed {self.seed}, "
        if self.correct is None or accuracy is None:
            return
        if len(self.correct) != -(-test_images // 8):
            raise ValueError(f"{of}`correct` is not of {test_images:,} images")
        counted = float(unpack_bits(self.correct, test_images).mean())
        if abs(counted - accuracy) >= 1e-6:
            raise ValueError(f"{of}`test_accuracy` is {accuracy:.4f}, and `correct` gives {counted:.4f}")


class Machine(Fields, frozen=True, kw_only=True):
    """Memory is in GiB. `abilities` are what makes 16-bit arithmetic fast."""

    cpu: str
    cores: Count
    gpus: list[str]
    memory_gib: Number | None
    system: str
    abilities: list[str] = []

    @property
    def kind(self) -> str:
        """In words: the processor, or the GPUs, and what it can do."""
        return f"{', '.join(self.gpus) or self.cpu} ({', '.join(self.abilities) or 'abilities unknown'})"


class Images(Fields, frozen=True, kw_only=True, omit_defaults=False):
    """Which images were trained on and scored: see `pipelines.sources.Request`."""

    source: str
    train_images: Count | None
    split_seed: Count | None
    image_size: Count | None = None
    skip_bad: bool | msgspec.UnsetType = msgspec.UNSET  # Evidence from before there was this choice stays as it is.


class Own(Fields, frozen=True, kw_only=True):
    """What is kept of images other than CIFAR-10: the names of the classes, the labels of the test images as uint16
    (little-endian), what makes numbers on them mislead, and the report on what was read and what was not.
    """

    names: list[str]
    labels: bytes
    remarks: list[str] = []
    report: str = ""

    @property
    def truth(self) -> np.ndarray:
        """The labels of the test images, uint16 (n,)."""
        return np.frombuffer(self.labels, "<u2")


class Origin(Fields, frozen=True, kw_only=True):
    """What was asked for, of which code, and where it was done.

    `code` is a hash of the hashes in `parts`. `carried` is the commit up to which the evidence was carried over (see
    `lineage`); no file holds it. `own` is there for images other than CIFAR-10. `tuned` are each variant's own
    fields of the config, where they were read from a sweep.
    """

    schema: Literal[3]
    recipe: str
    machine: Machine
    versions: dict[str, str]
    keras: dict[str, str]
    environment: dict[str, str] = msgspec.field(default_factory=SWITCHES.copy)
    commit: str | None
    kind: Literal["comparison", "tuning"]
    budget: Budget
    config: Config
    data: Images
    data_digest: str
    test_images: Count
    classes: Annotated[int, Meta(ge=2)]
    code: str
    command: str
    parts: dict[str, str] = {}
    model: str = ""
    table: str = ""
    until_decided: Count | None = None
    carried: str | None = None
    own: Own | None = None
    tuned: dict[str, Config] = {}

    def __post_init__(self) -> None:
        if self.own is None:
            return
        if len(self.own.names) != self.classes:
            raise ValueError(f"`names` of `own` should be of {self.classes:,} classes")
        if self.test_images == 0 or len(self.own.labels) != 2 * self.test_images:
            raise ValueError(f"`labels` of `own` should be of {self.test_images:,} images")
        if self.own.truth.max() >= self.classes:
            raise ValueError(f"`labels` of `own` has one that is none of {self.classes:,} classes")


class Evidence(Origin, frozen=True, kw_only=True):
    """`evidence.json`: all runs of a finished comparison. `elapsed_seconds` is None where only a part of it was run.

    `elsewhere` are the seeds that other machines than `machine` measured, by their kind.
    """

    variants: list[str]
    seeds: list[Count]
    elapsed_seconds: Number | None
    records: list[Record]
    elsewhere: dict[str, list[Count]] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("variants", "seeds"):
            if len(set(getattr(self, name))) != len(getattr(self, name)):
                raise ValueError(f"`{name}` names one twice")
        for record in self.records:
            record.check_bits(self.test_images)
        first = min(self.seeds, default=1)
        # Variants that are not timed have no more than the first occasion's ten.
        whole, said = [sorted(self.seeds), sorted(self.seeds)[:10]], "one record for each seed, or for the first ten"
        if self.until_decided is not None:
            whole, said = [list(range(first, first + look)) for look in LOOKS], "10, 20, 40 or 80 seeds"
        for variant in sorted({*self.variants, *(record.variant for record in self.records)}):
            seeds = sorted(record.seed for record in self.records if record.variant == variant)
            if variant not in self.variants or seeds not in whole:
                raise ValueError(f"`records` should have {said} of {variant}, which `variants` should name")

    @property
    def places(self) -> dict[str, list[int]]:
        """A kind of machine -> the seeds that were measured there."""
        here = set(self.seeds) - {seed for seeds in self.elsewhere.values() for seed in seeds}
        return {self.machine.kind: sorted(here), **self.elsewhere}


class TuningSweep(Origin, frozen=True, kw_only=True):
    """`tuning.json`: a tuning sweep or a table. `curve` is the sensitivity to the swept setting."""

    kind: Literal["tuning"]
    variants: list[str]
    worker_seconds: Number
    winners: dict[str, dict[str, Number | None]]
    search: list[Trial]
    curve: list[Trial]

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(isinstance(value, (list, dict)) for one in (*self.search, *self.curve) for value in one.config.values()):
            raise ValueError("`config` of a trial should have single values")


class Effect(Fields, frozen=True, kw_only=True):
    """A comparison as pages show it, with the interval that decides: A minus B in the claim's unit, or A / B.

    `spread` is the standard deviation of the differences; a ratio has none.
    """

    a: str
    b: str
    mean: Number | None
    low: Number | None = None
    high: Number | None = None
    spread: Number | None = None
    seeds: Count
    verdict: str


class Finding(Fields, frozen=True, kw_only=True):
    """What runs say of a claim: those of its experiment, or of the strong baseline.

    A verdict on times or memory names the kind of `machine`. `few` seeds decide nothing. Intervals are `over` seeds, or
    occasions where runs of one hour are not independent. Of many `effects` the first is the one that supports the claim
    least. `level` is that of their intervals, and `smallest` the smallest effect that matters.
    """

    budget: Literal["quick", "strong"]
    verdict: str
    note: str = ""
    few: bool = False
    over: str = "seed"
    stale: bool = False
    machine: str | None = None
    level: Number = 1.0
    smallest: Number | None = None
    effects: list[Effect] = []


class ClaimSummary(Fields, frozen=True, kw_only=True):
    """A claim, how its effects are shown, and what was found: first by its experiment, then on the strong baseline."""

    id: str
    text: str
    source: str
    said: str = ""
    about: list[str] = []
    check: bool = False
    measure: str
    unit: str
    digits: Count = 0
    findings: Annotated[list[Finding], Meta(min_length=1)]

    @property
    def strongest(self) -> Finding:
        """What counts as its verdict: on the strong baseline, if it has seeds enough there."""
        return next((one for one in reversed(self.findings) if not one.few), self.findings[0])


class Summary(Fields, frozen=True, kw_only=True):
    """`summary.json`: what the front page, the ledger and the list of recipes show.

    `rests_on` are ids of claims, with "not " before those whose contrary the answer says, and `expected_false` is how
    many verdicts are wrong at most, on average. `images` is how many a training has, where the experiment leaves some
    out.
    """

    question: str
    answer: str
    seeds: Count
    images: Count | None = None
    quick_seconds: Number | None
    stale: bool
    rests_on: list[str] = []
    expected_false: Number = 0.0
    claims: list[ClaimSummary]

    @property
    def resting(self) -> dict[str, bool]:
        """Id of a claim that the answer rests on -> whether on what it says; if not, then on its contrary."""
        return {one.removeprefix("not "): not one.startswith("not ") for one in self.rests_on}


class Link(Fields, frozen=True, kw_only=True):
    """One entry of `attested.json`: evidence of the code `before` is evidence of the code `after`, but for `dropped`.

    It was `audited` if the published runs themselves stood for those of the old code.
    """

    before: str = msgspec.field(name="from")
    after: str = msgspec.field(name="to")
    config: Config
    commit: str
    from_commit: str
    dropped: list[str]
    seeds: list[Count] = []
    runs: Count
    audited: bool
    machine: Machine
    versions: dict[str, str]


class Floor(Fields, frozen=True, kw_only=True):
    """The distribution of a variant's metric at smoke, and the floor or ceiling that the convergence test holds."""

    values: list[Number]
    mean: Number
    standard_deviation: Number
    floor: Number | None = None
    ceiling: Number | None = None

    def __post_init__(self) -> None:
        if (self.floor is None) == (self.ceiling is None):
            raise ValueError("it should have one of `floor` and `ceiling`")


class Floors(Fields, frozen=True, kw_only=True):
    """`floors.json`."""

    command: str
    commit: str | None
    machine: Machine
    versions: dict[str, str]
    config: Config
    data: Images
    data_digest: str
    floors: dict[str, Floor]


class SearchTrial(Fields, frozen=True, kw_only=True, omit_defaults=False):
    """One setting that a search tried, and the validation accuracy that it reached; `epochs` is Hyperband's."""

    trial: str
    settings: Config
    epochs: Count | None
    score: Number | None
    status: str


class Search(Origin, frozen=True, kw_only=True):
    """`search.json`: variant -> its trials, the best one first, those without a score last."""

    tuner: str
    found: dict[str, list[SearchTrial]]


def check_recipe(found: Origin, recipe: str, variants: Collection[str] = ()) -> str:
    """What is wrong with a measurement as one of a recipe that has `variants`; empty if nothing is."""
    unknown = [name for name in getattr(found, "variants", ()) if variants and name not in variants]
    if found.recipe != recipe:
        return f"it is of recipe {found.recipe!r}"
    return f"the recipe has no variant {unknown[0]!r}" if unknown else ""


def recall_of(correct: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """The share of each class that was classified correctly, (classes,); NaN of one without an image.

    `correct` is bool (n,), and `labels` are the true ones.
    """
    counts = np.bincount(labels, minlength=classes)
    return np.divide(np.bincount(labels, correct, classes), counts, out=np.full(classes, np.nan), where=counts > 0)


def pack_bits(bits: np.ndarray) -> bytes:
    """Bool (n,), eight to a byte. JSON holds it as base64."""
    return np.packbits(bits).tobytes()


def unpack_bits(packed: bytes, n: int) -> np.ndarray:
    """The bool (n,) that `pack_bits` packed."""
    return np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=n).astype(bool)
