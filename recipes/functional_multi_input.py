"""What does a second input add to a model, and a second output?

The Functional API joins branches of any kind. Here one sees a gray thumbnail of an image, which
has its shapes and none of its colours; the other six numbers, the mean and the spread of each
colour channel, which have its colours and no shapes. Neither says the class. The feed computes
both from the same image, and names them in a dictionary, by which `fit` and `predict` find the
model's inputs.

In "both_shuffled" each image comes with the numbers of another one: the same parameters, and
nothing to be learned from them. "colour" sees the whole image. "two_heads" says from the same
layers also whether there is an animal or a vehicle, with a loss of its own; the class says that
already, so this second task can add emphasis and no information.

Answer         Six numbers of colour gave a gray picture 3.4 points; a second output gave nothing.
In practice    A second input pays by what it says that the first one can't: six numbers took a gray
               thumbnail to 57.8 %, 3.4 points up. Numbers that say nothing gained nothing (53.7 %).
               A quarter of the pixels, gray, and six numbers are no whole image (62.9 %). The
               second head was right in 90.8 %, and left the first one where it was (57.7 %) at a
               weight of 0.3: add one where its answer is wanted, not in the hope of help. Adam's
               best rates lay between 0.0018 and 0.0057; all of this is about 8,000 images and ten
               epochs.
Use it when    an example has parts of different kinds, such as a picture and a table's row.
It hurts when  one branch can be left out at no loss: it costs parameters, time and a feed. Where
               branches learn at very different speeds, the faster one may leave the other untrained.
Sources        Chollet 2021, Deep Learning with Python, chapter 7; Caruana 1997, Machine Learning 28
"""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import layers, losses, optimizers

from lab import Run
from pipelines import batches, sources


@dataclass(frozen=True)
class Config:
    epochs: int = 10
    batch_size: int = 128
    rate: float | None = None  # None: the variant's own below.
    kind_weight: float = 0.3  # Of the second head's loss, where there is one.


# The inputs that a variant's model takes.
VARIANTS = {
    "image": ("image",),
    "numbers": ("numbers",),
    "both": ("image", "numbers"),
    "both_shuffled": ("image", "numbers"),
    "colour": ("colour",),
    "two_heads": ("image", "numbers"),
}
# Adam's rates that won on validation: `python -m recipes.functional_multi_input tune`.
RATES = {
    "image": 0.0032,
    "numbers": 0.0057,
    "both": 0.0057,
    "both_shuffled": 0.0032,
    "colour": 0.0018,
    "two_heads": 0.0057,
}
VEHICLES = {"airplane", "automobile", "ship", "truck"}  # Whatever is none of them is an animal.


def thumbnail(images):
    """Gray, at half the size: uint8 (batch, height, width, 3) to float32 (batch, …/2, …/2, 1)."""
    gray = tf.reduce_mean(tf.cast(images, tf.float32), axis=3, keepdims=True)
    return tf.nn.avg_pool2d(gray, ksize=2, strides=2, padding="VALID")


def colour_numbers(images):
    """Each channel's mean and standard deviation over an image: float32 (batch, 6)."""
    mean, variance = tf.nn.moments(tf.cast(images, tf.float32), axes=[1, 2])
    return tf.concat([mean, tf.sqrt(variance)], axis=1)


def preparation(variant: str, data: sources.Data):
    """A function from a batch of images and labels to the named inputs and targets of a model."""
    raw = [colour_numbers(images).numpy() for images, _ in batches.evaluation(data.train)]
    # Of the training images alone: what is validated or tested has no say in it.
    mean, spread = np.mean(np.concatenate(raw), axis=0), np.std(np.concatenate(raw), axis=0)
    is_animal = tf.constant([int(name not in VEHICLES) for name in data.classes])

    def prepare(images, labels):
        numbers = (colour_numbers(images) - mean) / spread
        if variant == "both_shuffled":
            numbers = tf.roll(numbers, shift=1, axis=0)  # Each image gets its neighbour's.
        every = {"image": thumbnail(images), "numbers": numbers, "colour": images}
        inputs = {name: every[name] for name in VARIANTS[variant]}
        targets = {"class": labels}
        if variant == "two_heads":
            targets["kind"] = tf.gather(is_animal, labels)
        return inputs, targets

    return prepare


def picture_branch(images):
    """Features (batch, 64) of pictures (batch, height, width, channels), 0 to 255."""
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0 to 255 becomes -2 to 2.
    for filters in (32, 64):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    return layers.Dense(64, activation="relu")(layers.Flatten()(x))


def build_model(variant: str, data: sources.Data) -> keras.Model:
    """Map named inputs to named logits: "class" (batch, len(data.classes)), "kind" (batch, 2)."""
    height, width, _ = data.shape
    shapes = {"image": (height // 2, width // 2, 1), "numbers": (6,), "colour": data.shape}
    inputs = {name: keras.Input(shapes[name], name=name) for name in VARIANTS[variant]}
    branches = [picture_branch(inputs[name]) for name in ("image", "colour") if name in inputs]
    if "numbers" in inputs:
        branches.append(layers.Dense(64, activation="relu")(inputs["numbers"]))
    merged = layers.Concatenate()(branches) if len(branches) > 1 else branches[0]
    x = layers.Dense(64, activation="relu")(merged)
    outputs = {"class": layers.Dense(len(data.classes), name="class")(x)}
    if variant == "two_heads":
        outputs["kind"] = layers.Dense(2, name="kind")(x)
    return keras.Model(inputs, outputs)


def compile_model(model: keras.Model, rate: float, steps: int, kind_weight: float) -> None:
    """A loss for each output; what is minimized is their sum, each times its weight.

    A weight says how much the shared layers listen to a head. Losses differ in size (a guess costs
    ln 10 = 2.3 among ten classes and ln 2 = 0.7 between two), so equal weights are no neutral choice.
    """
    names = list(model.output)
    weights = {"class": 1.0, "kind": kind_weight}
    model.compile(
        optimizer=optimizers.Adam(optimizers.schedules.CosineDecay(rate, steps)),
        loss={name: losses.SparseCategoricalCrossentropy(from_logits=True) for name in names},
        loss_weights={name: weights[name] for name in names},
        metrics={name: ["accuracy"] for name in names},
        steps_per_execution=16,  # Python looks in every 16 steps.
    )


def train(variant: str, config: Config, run: Run) -> dict[str, float]:
    data = sources.load(run.data)
    prepare = preparation(variant, data)
    feed = batches.training(data.train, config.batch_size, seed=run.seed)
    model = build_model(variant, data)
    rate = RATES[variant] if config.rate is None else config.rate
    compile_model(model, rate, config.epochs * len(feed), config.kind_weight)
    model.fit(
        feed.map(prepare),
        epochs=config.epochs,
        validation_data=batches.evaluation(data.validation).map(prepare).cache(),
        callbacks=run.callbacks(data, prepare=prepare, output="class"),
        shuffle=False,  # The feed shuffles, anew each epoch; without this, Keras warns.
        verbose=0,
    )
    scores = run.scores(model, data, prepare=prepare, output="class")
    if variant == "two_heads":
        test = batches.evaluation(run.open_test_set(data)).map(prepare)
        kinds = np.concatenate([targets["kind"] for _, targets in test])
        predicted = model.predict(test, verbose=0)["kind"].argmax(axis=1)  # By the output's name.
        scores["kind_accuracy"] = float(np.mean(predicted == kinds))
    return scores


if __name__ == "__main__":
    from lab import main

    main("functional_multi_input")
