"""How do you use a trained network for classes that it has never seen?

Not measured yet: frozen features, fine-tuning and training from scratch, with 10, 40 and 160 images of
each new class.

Run       python -m recipes.transfer_learning      pretrains on six classes, and learns the other four
Copy      train and fine_tune, with a base of pretrain's or of keras.applications
Careful   keep BatchNorm layers frozen, also while you fine-tune the base
Numbers   results/transfer_learning/README.md
Papers    arXiv:1411.1792 (how transferable features are)
"""

import keras
from keras import layers, optimizers


def build_base(shape):
    """Map images (batch, *shape) with values 0 to 255 to features (batch, 64)."""
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0..255 becomes -2..2.
    for filters, strides in ((32, 2), (64, 1), (64, 1)):
        x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
        # Momentum 0.8, not 0.99: a few hundred steps are too few to forget the initial statistics.
        x = layers.BatchNormalization(momentum=0.8)(x)
        x = layers.ReLU()(x)
        x = layers.MaxPooling2D(2, padding="same")(x)
    return keras.Model(images, layers.GlobalAveragePooling2D()(x), name="base")


def imagenet_base(shape):
    """The same of keras.applications, trained on ImageNet. It downloads 4 MB the first time."""
    return keras.applications.MobileNetV3Small(  # It takes values from 0 to 255.
        input_shape=shape, include_top=False, pooling="avg", weights="imagenet", name="base"
    )


def fit(model, train_set, validation_set, rate, epochs, callbacks):
    """Compile the model and train it with Adam and cosine decay to zero."""
    model.compile(  # Anew whenever `trainable` has changed, which counts from then on.
        optimizer=optimizers.Adam(optimizers.schedules.CosineDecay(rate, epochs * len(train_set))),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(train_set, validation_data=validation_set, epochs=epochs, callbacks=list(callbacks), verbose=0)


def pretrain(
    train_set, validation_set, classes, *, rate=0.005, epochs=5, build_base=build_base, callbacks=()
):  # fmt: skip
    """Train a base and a head from scratch and return the model. Its layer "base" is for `train`.

    The sets hold batches of images with values 0 to 255 and integer labels, as
    `keras.utils.image_dataset_from_directory` returns them.
    """
    shape = train_set.element_spec[0].shape[1:]
    images = keras.Input(shape)
    model = keras.Model(images, layers.Dense(classes)(build_base(shape)(images)))
    fit(model, train_set, validation_set, rate, epochs, callbacks)
    return model


def train(train_set, validation_set, classes, base, *, rate=0.01, epochs=60, callbacks=()):
    """Train a new head on a frozen base and return the model.

    The sets are as those of `pretrain`, with other classes. `base` maps their images to features.
    """
    base.trainable = False  # BatchNorm layers that are frozen use the statistics that they have.
    images = keras.Input(train_set.element_spec[0].shape[1:])
    model = keras.Model(images, layers.Dense(classes)(base(images)))
    fit(model, train_set, validation_set, rate, epochs, callbacks)
    return model


def fine_tune(model, train_set, validation_set, *, rate=0.001, epochs=30, callbacks=()):
    """Train all weights of a model that `train` returned, the base's included, at a lower rate.

    The default rate is for the small base of `build_base`. For one of keras.applications, begin with 1e-5 to
    1e-4.
    """
    unfreeze(model)
    fit(model, train_set, validation_set, rate, epochs, callbacks)


def unfreeze(model):
    """Make all weights trainable but those of BatchNorm layers, so that these keep their statistics.

    Keras's guide calls the base with `training=False` instead. In Keras 3.15 `fit` overrides that.
    """
    for layer in model.layers:  # `model.trainable = True` changes nothing where it is true already.
        layer.trainable = not isinstance(layer, layers.BatchNormalization)
        if isinstance(layer, keras.Model):
            unfreeze(layer)


if __name__ == "__main__":
    from lab import main

    main("transfer_learning")
