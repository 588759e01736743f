"""A training without `fit`, logged as fully as one with: the same callbacks, driven by one call an epoch."""

from collections.abc import Iterable, Iterator, Mapping

import keras


class Loop:
    """The epochs of a hand-written loop, 0 to `count` - 1; fewer where a callback stops the training.

    Each epoch's steps are one call to the callbacks, from where the loop's body begins to `end_epoch`: an infinite
    loss is noticed there, and not within the epoch.
    """

    def __init__(self, model: keras.Model, callbacks: list[keras.callbacks.Callback], count: int) -> None:
        if getattr(model, "optimizer", None) is None:
            raise RuntimeError("the model of a loop must be compiled: callbacks ask it for its optimizer and its loss")
        self.model, self.count = model, count
        self.callbacks = keras.callbacks.CallbackList(callbacks, model=model, epochs=count)
        self._open: int | None = None  # The epoch that has begun.

    def __iter__(self) -> Iterator[int]:
        self.model.stop_training = False
        self.callbacks.on_train_begin()
        try:
            for epoch in range(self.count):
                self._open = epoch
                self.callbacks.on_epoch_begin(epoch)
                self.callbacks.on_train_batch_begin(0)
                yield epoch
                if self._open is not None:
                    raise RuntimeError("each epoch of a loop must end with run.epoch(loss=..., accuracy=...)")
                if self.model.stop_training:
                    break
        finally:
            self.callbacks.on_train_end()

    def end_epoch(self, metrics: Mapping[str, float], validation: Iterable | None) -> None:
        """Tell the callbacks what the epoch's training and validation came to."""
        if self._open is None:
            raise RuntimeError("run.epoch was called twice in an epoch, or before the first")
        logs = {name: float(value) for name, value in metrics.items()}
        self.callbacks.on_train_batch_end(0, dict(logs))
        if validation is not None:
            found = self.model.evaluate(validation, callbacks=self.callbacks, verbose=0, return_dict=True)
            logs |= {f"val_{name}": value for name, value in found.items()}
        epoch, self._open = self._open, None
        self.callbacks.on_epoch_end(epoch, logs)
