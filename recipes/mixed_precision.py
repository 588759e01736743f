"""Does 16-bit arithmetic train faster on your machine, in less memory and as well?

Provisional (timed on 1 of 4 occasions). With AVX512-BF16, the larger of two convnets trains 42 %
faster in bfloat16 than in float32, and a batch of 1,024 images takes 46 % less memory. On other
hardware, call `fastest_policy`.

Run       python -m recipes.mixed_precision      three policies, two models, three seeds
Copy      set_dtype_policy as below, build_model's float32 head; fastest_policy, POLICIES and dtype_policy
Careful   load a float16 model by load_trained: otherwise Keras 3.15 drops its loss scaling and its momentum,
          and only warns; a loop of your own must scale the loss, as recipes/custom_loop.py does
Numbers   results/mixed_precision/README.md
Papers    arXiv:1710.03740 (float16 and loss scaling), arXiv:1905.12322 (bfloat16)
"""

import contextlib
import statistics
import time

import keras
from keras import layers, losses, optimizers

# One line switches all layers made after it to 16 bits; weights stay in float32:
#
#     keras.config.set_dtype_policy("mixed_bfloat16")
#
# bfloat16 has float32's range and 8 bits of precision: GPUs since NVIDIA's Ampere, TPUs, and CPUs with
# AVX512-BF16 or AMX. float16 has 11 bits and a short range, so `compile` scales the loss: any GPU with
# tensor cores. Hardware that has neither converts each number back and forth, which is slow.
POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")


@contextlib.contextmanager
def dtype_policy(name):
    """Set the policy for what is built in a `with` block. None changes nothing."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name or before)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build_model(shape, classes, filters=32):
    """Map images (batch, *shape) with values 0 to 255 to logits float32 (batch, classes)."""
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0..255 becomes -2..2.
    for count in (filters, 2 * filters):
        x = layers.Conv2D(count, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    # The last layer stays in float32: 16 bits would round small differences of logits away.
    logits = layers.Dense(classes, dtype="float32")(layers.Flatten()(x))
    return keras.Model(images, logits)


def compile_model(model, rate):
    """`compile` scales the loss on its own if the model was built under mixed_float16."""
    model.compile(
        optimizer=optimizers.SGD(rate, momentum=0.9),
        loss=losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def train(
    train_set, validation_set, classes, policy=None, *, rate=0.028, epochs=3,
    build_model=build_model, callbacks=(),
):  # fmt: skip
    """Train under a policy, or None for the one that is set, and return the model.

    The sets hold batches of images with values 0 to 255 and integer labels, as
    `keras.utils.image_dataset_from_directory` returns them. `rate` may be a schedule.
    """
    if isinstance(rate, float):
        rate = optimizers.schedules.CosineDecay(rate, decay_steps=epochs * len(train_set))
    with dtype_policy(policy):
        model = compile_model(build_model(train_set.element_spec[0].shape[1:], classes), rate)
    model.fit(train_set, validation_data=validation_set, epochs=epochs, callbacks=list(callbacks), verbose=0)
    return model


def load_trained(path, policy):
    """Load a model with its optimizer as it was saved. Keras needs the policy for that."""
    with dtype_policy(policy):
        return keras.saving.load_model(path)


def fastest_policy(build_compiled, images, labels, seconds=1.0):
    """The policy under which a model trains fastest on a batch. `build_compiled()` makes the model.

    All policies take turns for so many seconds, at least five steps each, so that whatever else
    runs slows all alike. 16 bits must be 5 % faster to be worth it.
    """
    models: dict = {}
    taken: dict = {policy: [] for policy in POLICIES}
    for policy in POLICIES:
        with dtype_policy(policy):
            models[policy] = build_compiled()
        for _ in range(3):  # The first steps compile.
            models[policy].train_on_batch(images, labels)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken["float32"]) < 5:
        for policy, model in models.items():
            start = time.perf_counter()
            model.train_on_batch(images, labels)
            taken[policy].append(time.perf_counter() - start)
    pace = {policy: statistics.median(steps) for policy, steps in taken.items()}
    best = min(pace, key=lambda policy: pace[policy])
    return best if pace[best] < 0.95 * pace["float32"] else "float32"


if __name__ == "__main__":
    from lab import main

    main("mixed_precision")
