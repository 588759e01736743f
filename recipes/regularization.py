"""What keeps a convnet from memorizing a small training set?

Mirror and shift the images. With 1,000 of them that gains 4.2 points, and every weight penalty ends
below it. Dropout gains 2.4 points.

Run       python -m recipes.regularization      eleven trainings, three seeds
Copy      augmentation, or one argument of train and the lines that read it
Careful   mirror only images whose mirror image has the same class: no digits, no arrows;
          import SmoothedCrossentropy before you load its models
Numbers   results/regularization/README.md
Papers    JMLR 15 (dropout), arXiv:1711.05101 (weight decay), arXiv:1512.00567 (label smoothing),
          arXiv:1708.04552 (cutout), arXiv:1803.05407 (averaged weights)
"""

import keras
from keras import layers, losses, ops, optimizers, regularizers


def augmentation(mirror=True, translate=0.1, cutout=0.0):
    """Layers that change each image in training, anew in each epoch, and do nothing at inference.

    `translate` is the largest shift as a share of the image's size, and `cutout` the share of the
    image's area that a gray rectangle at a random place covers.
    """
    found = [layers.RandomFlip("horizontal")] if mirror else []
    how = {"dtype": "float32"}  # In mixed precision, too: float16 is too coarse to count pixels.
    if translate:
        found.append(layers.RandomTranslation(translate, translate, fill_mode="reflect", **how))
    if cutout:  # The first pair is the probability: 1.0 alone would erase half of the images.
        found.append(layers.RandomErasing((1.0, 1.0), scale=(cutout, cutout), fill_value=128, **how))
    return found


@keras.saving.register_keras_serializable("recipes")
class SmoothedCrossentropy(losses.CategoricalCrossentropy):
    """Label smoothing for integer labels (batch,). Keras's own is for one-hot labels only."""

    def call(self, y_true, y_pred):
        labels = ops.reshape(ops.cast(y_true, "int32"), (-1,))
        return super().call(ops.one_hot(labels, y_pred.shape[-1]), y_pred)


def build_model(shape, classes, *, dropout=0.0, l1=0.0, l2=0.0):
    """Map images (batch, *shape) with values 0 to 255 to logits (batch, classes)."""
    penalty = {"kernel_regularizer": regularizers.L1L2(l1, l2)} if l1 or l2 else {}
    model = keras.Sequential([keras.Input(shape), layers.Rescaling(1 / 64, offset=-2)])  # -2 to 2.
    for filters, strides in ((32, 2), (64, 1)):
        model.add(layers.Conv2D(filters, 3, strides, "same", activation="relu", **penalty))
        model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dropout(dropout))
    model.add(layers.Dense(128, activation="relu", **penalty))
    model.add(layers.Dropout(dropout))
    model.add(layers.Dense(classes, **penalty))
    return model


def train(
    train_set, validation_set, classes, *, mirror=False, translate=0.0, cutout=0.0, dropout=0.0,
    l1=0.0, l2=0.0, weight_decay=0.0, label_smoothing=0.0, average=0.0, stop_on="", patience=5,
    rate=1e-3, epochs=30, build_model=build_model, callbacks=(),
):  # fmt: skip
    """Train a convnet with the techniques whose arguments are set, and return it.

    The sets are what `keras.utils.image_dataset_from_directory` returns: batches of images with
    values 0 to 255 and integer labels.

    Args:
        weight_decay: decoupled, times the learning rate.
        average: the momentum of a moving average of the weights, which takes their place.
        stop_on: stop when this, such as "val_accuracy", has not improved for `patience` epochs, and
            put back the weights of the best epoch. A patience of all epochs keeps the best of all.
    """
    if average and stop_on:
        raise ValueError("set average or stop_on, not both: early stopping drops the average")
    shape = train_set.element_spec[0].shape[1:]
    inside = {"dropout": dropout, "l1": l1, "l2": l2}  # A model of your own may know none of these.
    model = build_model(shape, classes, **{name: value for name, value in inside.items() if value})
    if augment := augmentation(mirror, translate, cutout):
        model = keras.Sequential([keras.Input(shape), *augment, model])
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    if label_smoothing:
        loss = SmoothedCrossentropy(from_logits=True, label_smoothing=label_smoothing)
    averaging = {"use_ema": True, "ema_momentum": average} if average else {}
    model.compile(
        optimizer=optimizers.AdamW(rate, weight_decay=weight_decay, **averaging),  # Without: Adam.
        loss=loss,
        metrics=["accuracy"],
        steps_per_execution=16,  # 15 % faster here. Leave it out under tf.distribute: it fails there.
    )
    chosen = []
    if average:  # Without this, validation uses the weights before averaging.
        chosen.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    if stop_on:
        stop = keras.callbacks.EarlyStopping
        chosen.append(stop(stop_on, patience=patience, restore_best_weights=True))
    model.fit(
        train_set, validation_data=validation_set, epochs=epochs, callbacks=[*chosen, *callbacks],
        verbose=0,
    )  # fmt: skip
    return model


if __name__ == "__main__":
    from lab import main

    main("regularization")
