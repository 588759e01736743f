"""Which of two settings is best?

A toy with a table, which is measured once and which runs look results up in.
"""

import sys
from dataclasses import dataclass

import keras

from lab import Claim, Experiment, Run, Table, main
from pipelines import batches, sources
from tests.toys import tiny


@dataclass(frozen=True)
class Config:
    trials: int = 2


def measure(setting: dict, run: Run) -> dict[str, float]:
    """One entry of the table: validation accuracy after each epoch."""
    data = sources.load(run.data)
    model = tiny.build_model("hidden" if setting["hidden"] else "linear", data)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(setting["rate"]), loss, metrics=["accuracy"])
    feed, validation = batches.training(data.train, 50, seed=run.seed), batches.evaluation(data.validation)
    history = model.fit(feed, epochs=2, validation_data=validation, shuffle=False, verbose=0).history
    return {f"epoch_{number}": accuracy for number, accuracy in enumerate(history["val_accuracy"], 1)}


TABLE = Table(measure, fields={"hidden": (0, 1), "rate": (0.003,)}, seeds=(1,))
VARIANTS = ("first", "best")


def train(variant: str, config: Config, run: Run) -> dict[str, float]:
    scores = [float(rows[0][-1]) for rows in TABLE.read("tiny_table").values()]
    return {"test_accuracy": scores[0] if variant == "first" else max(scores)}


CLAIMS = [Claim("T3", "Choosing helps", "us", "test_accuracy", higher="best", than="first")]
EXPERIMENT = Experiment(sys.modules[__name__], VARIANTS, CLAIMS, Config, train=train, table=TABLE, first_seed=1)

if __name__ == "__main__":
    main("tests.toys.tiny_table")
