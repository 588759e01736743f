"""How much faster does everything together train a convnet on a CPU?

Not measured yet. The plain training is AdamW at a constant rate, in float32 and batches of 64, from
files that are decoded in every epoch. The fast one changes all of that.

Run       python -m recipes.speedrun      each technique added, alone, and left out
Copy      train, with recipes/strong_baseline.py and the recipes that it imports
Careful   tune the learning rate again whenever you change the batch size or the optimizer
Numbers   results/speedrun/README.md
Papers    arXiv:2404.00498 (airbench), Jordan 2024 (Muon), fast.ai 2018 (progressive resizing)
"""

import keras
from keras import layers, optimizers

from recipes.mixed_precision import dtype_policy
from recipes.regularization import SmoothedCrossentropy
from recipes.schedules import build_rate
from recipes.strong_baseline import FlipAveraged, GramMuon, build_model, whitening

# Seven steps to a faster training, each with the recipe or the measurement behind it:
#
# 1. Profile. recipes/monitoring.py tells whether a training waits for its input or computes. Speed up
#    only what takes the time.
# 2. Precision. Ask fastest_policy in recipes/mixed_precision.py what your machine is fastest with.
# 3. Batch size and data loading. Use the largest batch that still learns as well, and tune the rate
#    again. Cache, map in parallel and prefetch, as recipes/input_pipeline.py does.
# 4. Distributed training. recipes/distributed.py is for several GPUs or machines. TensorFlow uses all
#    cores of one processor without it.
# 5. Memory. bfloat16 makes room for a larger batch, and gradient_accumulation_steps replaces one
#    (recipes/custom_loop.py).
# 6. Utilization. `python -m benchmarks.strong_layers` counts each layer's arithmetic and compares its
#    speed with the machine's peak. Replace what runs at a tenth of it.
# 7. Monitor and adjust. Compare the time to an accuracy, and not the time of a step:
#    `python -m recipes.speedrun`.


DECAYS = {"muon": 0.2, "adamw": 0.05}  # The best of five trials each on the strong baseline.


def build_optimizer(muon, rate, decay, steps, averaged, head="head"):
    """Muon with linear decay to zero, or AdamW at a constant rate. An average is of a tenth of the steps."""
    average = {"use_ema": True, "ema_momentum": 1 - 1 / (1 + 0.1 * steps)} if averaged else {}
    if decay is None:
        decay = DECAYS["muon" if muon else "adamw"]
    if not muon:
        return optimizers.AdamW(rate, weight_decay=decay, **average)
    schedule = build_rate("linear", rate, steps, warmup=0.2)
    decays = {"weight_decay": decay, "adam_weight_decay": decay}
    return GramMuon(schedule, momentum=0.9, exclude_layers=[head], **decays, **average)


def view(net, shape, side, shift, averaged):
    """A model that shows augmented images to `net`, at `side` pixels in height and width."""
    share = (shift + 0.5) / side
    prepare = [] if side == shape[0] else [layers.Resizing(side, side, dtype="float32")]
    prepare.append(layers.RandomFlip("horizontal"))
    prepare.append(layers.RandomTranslation(share, share, "reflect", "nearest", dtype="float32"))
    return keras.Sequential([keras.Input(shape), *prepare, FlipAveraged(net) if averaged else net])


def train(
    train_set, validation_set, classes, *, policy="mixed_bfloat16", muon=True, small=24, averaged=True,
    rate=0.02, decay=None, shift=2, epochs=3, build_model=build_model, callbacks=(),
):  # fmt: skip
    """Train on sets as `keras.utils.image_dataset_from_directory` returns them, and return the model.

    They hold square images with values 0 to 255 and integer labels, in batches of 250. Half of the epochs,
    rounded down, see images of `small` × `small` pixels; None: none. `averaged` weights take the place of
    the last ones, and answers are averaged over an image and its mirror image.
    """
    shape, steps = train_set.element_spec[0].shape[1:], epochs * len(train_set)
    with dtype_policy(policy):
        net = build_model((None, None, shape[-1]), classes)  # For any height and width.
    if "whitening" in [layer.name for layer in net.layers]:  # A model of your own has none.
        net.get_layer("whitening").kernel.assign(whitening(train_set.take(20)))
    optimizer = build_optimizer(muon, rate, decay, steps, averaged, head=net.layers[-1].name)
    swap = [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if averaged else []
    begun = epochs // 2 if small else 0
    stages = [(small, 0, begun), (shape[0], begun, epochs)] if begun else [(shape[0], 0, epochs)]
    for side, first, last in stages:
        model = view(net, shape, side, shift, averaged)
        loss = SmoothedCrossentropy(from_logits=True, label_smoothing=0.2)
        model.compile(optimizer, loss, metrics=["accuracy"])
        fit = {"initial_epoch": first, "epochs": last, "callbacks": [*swap, *callbacks], "verbose": 0}
        model.fit(train_set, validation_data=validation_set, **fit)
    return model


if __name__ == "__main__":
    from lab import main

    main("speedrun")
