"""How much faster does everything together train a convnet on a CPU?

Not measured yet. The plain training is AdamW at a constant rate, in float32 and batches of 64, from
files that are decoded in every epoch. The fast one changes all of that.

Run       python -m recipes.speedrun      each technique added, alone, and left out
Copy      train, with recipes/strong_baseline.py and the recipes that it imports
Careful   tune rate and decay again whenever you change the batch size or the optimizer; a callback that stops
          early leaves weights that are not averaged
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


def build_optimizer(muon, rate, decay, epochs, steps, averaged, head="head"):
    """Muon with linear decay to zero, or AdamW at a constant rate, for epochs of so many steps.

    The moving average of the weights is over a seventh of an epoch.
    """
    average = {"use_ema": True, "ema_momentum": 1 - 1 / (1 + steps / 7)} if averaged else {}
    if not muon:
        return optimizers.AdamW(rate, weight_decay=decay, **average)
    schedule = build_rate("linear", rate, epochs * steps, warmup=0.2)
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
    train_set, validation_set, classes, *, policy="mixed_bfloat16", muon=True, small: float | None = 0.75,
    averaged=True, rate=0.02, decay=0.2, shift=2, epochs=3, build_model=build_model, callbacks=(),
):  # fmt: skip
    """Train on sets as `keras.utils.image_dataset_from_directory` returns them, and return the model.

    They hold square images with values 0 to 255 and integer labels, in batches of 250. Half of the epochs,
    rounded down, see images whose sides are the share `small` of what they were; None: none do. `averaged`
    weights take the place of the last ones, and answers are averaged over an image and its mirror image.
    """
    shape = train_set.element_spec[0].shape[1:]
    with dtype_policy(policy):
        net = build_model((None, None, shape[-1]) if small else shape, classes)  # For any height and width.
    if "whitening" in [layer.name for layer in net.layers]:  # A model of your own has none.
        net.get_layer("whitening").kernel.assign(whitening(train_set.take(20)))
    optimizer = build_optimizer(muon, rate, decay, epochs, len(train_set), averaged, net.layers[-1].name)
    optimizer.build(net.trainable_variables)
    begun, side = (epochs // 2, round(small * shape[0])) if small else (0, shape[0])
    stages = [(side, 0, begun), (shape[0], begun, epochs)] if begun else [(shape[0], 0, epochs)]
    for side, first, last in stages:
        swap = []
        # When `fit` ends, averages take the weights' place. So only the last one has any.
        optimizer.use_ema = averaged and last == epochs
        if optimizer.use_ema:
            swap = [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]
            averages = optimizer._model_variables_moving_average
            for average, weight in zip(averages, net.trainable_variables, strict=True):
                average.assign(weight)
        with dtype_policy(policy):  # Under mixed_float16, the optimizer scales its loss if the model says so.
            model = view(net, shape, side, shift, averaged)
        loss = SmoothedCrossentropy(from_logits=True, label_smoothing=0.2)
        model.compile(optimizer, loss, metrics=["accuracy"])
        fit = {"initial_epoch": first, "epochs": last, "callbacks": [*swap, *callbacks], "verbose": 0}
        model.fit(train_set, validation_data=validation_set, **fit)
    return model


if __name__ == "__main__":
    from lab import main

    main("speedrun")
