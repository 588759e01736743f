"""What KerasTuner's trials need to be seen in TensorBoard and to survive a kill."""

from pathlib import Path
from typing import Any

import keras
import keras_tuner as kt
import tensorflow as tf

from lab.core.callbacks import build_early
from lab.search.kills import survive_kills

survive_kills()


class TrialBoard(keras.callbacks.TensorBoard):
    """Loss and accuracy of each trial of a search, and its line in HParams.

    KerasTuner writes such lines, too, where it is given a callback that is called TensorBoard; but it names trials by
    their numbers, and so the page shows the first trials of all searches as one.
    """

    def __init__(self, folder: Path | str, tuner: kt.Tuner) -> None:
        super().__init__(str(folder), write_graph=False)
        self.folder, self.tuner = Path(folder), tuner

    def __deepcopy__(self, memo: Any) -> "TrialBoard":  # KerasTuner makes a copy for each trial.
        return TrialBoard(self.folder, self.tuner)

    def set_model(self, model: keras.Model) -> None:
        self.trial = next(t for t in self.tuner.oracle.trials.values() if t.status == "RUNNING")
        self.log_dir = str(self.folder / self.trial.trial_id)
        super().set_model(model)

    def on_train_begin(self, logs: Any = None) -> None:
        from tensorboard.plugins.hparams import api

        super().on_train_begin(logs)
        build_early(self.model)
        settings = {k: v for k, v in self.trial.hyperparameters.values.items() if not k.startswith("tuner/")}
        writer = tf.summary.create_file_writer(self.log_dir)
        with writer.as_default():
            # Such as "random/seed-1-trials/0 20261122-104448": the page cuts long names, and takes equal ones for one.
            parts = Path(self.log_dir).parts
            api.hparams(settings, trial_id=" ".join(["/".join(parts[-3:]), *parts[-4:-3]]))
        writer.close()


class ResumableGridSearch(kt.GridSearch):
    """KerasTuner's grid search, which on its own forgets how far it was when it is loaded again, and fails."""

    def reload(self) -> None:
        super().reload()
        order_again(self.oracle)


def order_again(oracle: kt.Oracle) -> None:
    """Tell a grid search's oracle, after it was loaded again, in which order it had gone about."""
    if isinstance(oracle, kt.oracles.GridSearchOracle):
        for name in oracle.start_order:
            oracle._ordered_ids.insert(name)
        oracle._populate_next = list(oracle.start_order)
