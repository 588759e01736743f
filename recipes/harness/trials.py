"""What KerasTuner's trials need to be seen in TensorBoard and to survive a kill."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import keras_tuner as kt
import tensorflow as tf

from recipes.harness.board import build_early


class TrialBoard(keras.callbacks.TensorBoard):
    """Loss and accuracy of one trial of a search, and its line in HParams: `settings`, name -> bool, number or text.

    KerasTuner writes such lines, too, where it is given a callback that is called TensorBoard; but it names trials by
    their numbers, and so the page shows the first trials of all searches as one.
    """

    def __init__(self, folder: str, settings: Mapping[str, Any]) -> None:
        super().__init__(folder, write_graph=False)
        self.folder, self.settings = folder, dict(settings)

    def on_train_begin(self, logs: Any = None) -> None:
        from tensorboard.plugins.hparams import api

        super().on_train_begin(logs)
        build_early(self.model)
        writer = tf.summary.create_file_writer(self.folder)
        with writer.as_default():
            # Such as "random/seed-1-trials/0 20261122-104448": the page cuts long names, and takes equal ones for one.
            parts = Path(self.folder).parts
            api.hparams(self.settings, trial_id=" ".join(["/".join(parts[-3:]), *parts[-4:-3]]))
        writer.close()


class ResumableGridSearch(kt.GridSearch):
    """KerasTuner's grid search, which on its own forgets how far it was when it is loaded again, and fails."""

    def reload(self) -> None:
        super().reload()
        for name in self.oracle.start_order:
            self.oracle._ordered_ids.insert(name)
        self.oracle._populate_next = list(self.oracle.start_order)
