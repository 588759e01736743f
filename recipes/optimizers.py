"""Which optimizer takes a small convnet furthest, and which gets it going fastest, in the same number of steps?

Nesterov momentum averages recent steps and looks ahead; RMSprop and Adam rescale each weight's step by its recent
gradients, AdamW keeps weight decay out of that, and Muon orthogonalizes the update of a whole matrix of weights.

Each run trains twice from the same weights, at separately tuned rates: a race, at a constant rate until validation
accuracy reaches the target, and a distance, with a warm-up and a decay to zero, for the final accuracy.

Use it when    a model trains too slowly or ends too low, and you can afford a few trial runs to set the rate.
It hurts when  a learning rate is copied from one optimizer to another: each has its own scale (see the figure).
Sources        Kingma and Ba 2015, arXiv:1412.6980; Loshchilov and Hutter 2019, arXiv:1711.05101; Jordan 2024 (Muon)
"""

from dataclasses import dataclass

import keras
import tensorflow as tf
from keras import layers, ops, optimizers

from pipelines import batches, cifar10
from recipes.harness import Claim, Objective, Recipe, Run, Tuning, half_decades


@dataclass(frozen=True)
class Config:
    epochs: int = 5
    race_epochs: int = 4  # At most; 0 leaves the race out.
    target: float = 0.5  # Validation accuracy that ends the race, fixed on seed 0.
    batch_size: int = 128
    rate: float | None = None  # None takes the tuned rates below.
    weight_decay: float | None = None  # None takes the tuned one below, for AdamW and Muon.


class KernelMuon(optimizers.Muon):
    """Keras's Muon (Jordan 2024) for convolutions too: it takes a kernel (height, width, in, out) as a matrix.

    Keras's own class gives every kernel that is not 2-D to AdamW, and in a convnet that is nearly all of them.
    """

    def _should_use_adamw(self, variable):
        return len(variable.shape) != 4 and super()._should_use_adamw(variable)

    def zeropower_via_newtonschulz5(self, x, steps):
        return ops.reshape(super().zeropower_via_newtonschulz5(as_matrix(x), steps), x.shape)

    def lr_adjust(self, x):
        return ops.reshape(super().lr_adjust(as_matrix(x)), x.shape)


def as_matrix(kernel):
    return ops.reshape(kernel, (-1, kernel.shape[-1]))


VARIANTS = {
    "sgd": lambda rate, decay: optimizers.SGD(rate),
    "momentum": lambda rate, decay: optimizers.SGD(rate, momentum=0.9, nesterov=True),
    "rmsprop": lambda rate, decay: optimizers.RMSprop(rate),
    "adam": lambda rate, decay: optimizers.Adam(rate),
    "adamw": lambda rate, decay: optimizers.AdamW(rate, weight_decay=decay),
    # The head maps features to classes, not to features, so it stays with Muon's built-in AdamW.
    "muon": lambda rate, decay: KernelMuon(rate, weight_decay=decay, adam_weight_decay=decay, exclude_layers=["head"]),
}

# What `python -m recipes.optimizers --tune` finds, on seed 0 and by validation.
TUNED = {
    "sgd": {"race": 0.1, "distance": 1.0},
    "momentum": {"race": 0.057, "distance": 0.32},
    "rmsprop": {"race": 0.0057, "distance": 0.01},
    "adam": {"race": 0.018, "distance": 0.018},
    "adamw": {"race": 0.01, "distance": 0.032, "weight_decay": 0.04},
    "muon": {"race": 0.0056, "distance": 0.018, "weight_decay": 0.004},
}


class RaceThenDistance(optimizers.schedules.LearningRateSchedule):
    """A constant rate, or once `racing` is off: up to the peak in a fifth of the steps, then a cosine down to zero."""

    def __init__(self, race, peak, steps):
        self.race, self.racing = race, tf.Variable(True, trainable=False)
        warm_up = steps // 5  # Keras counts the decay from the end of the warm-up.
        self.distance = optimizers.schedules.CosineDecay(0.0, steps - warm_up, warmup_target=peak, warmup_steps=warm_up)

    def __call__(self, step):
        return tf.where(self.racing, self.race, self.distance(step))


def build_model(mean, std) -> keras.Model:
    """Map images uint8 (batch, 32, 32, 3) to logits float32 (batch, 10), by 24,898 trained weights."""
    images = keras.Input((32, 32, 3), dtype="uint8", name="images")
    x = layers.Normalization(mean=mean, variance=std**2, name="standardize")(images)
    for number, (filters, strides) in enumerate([(24, 2), (64, 1)], start=1):
        x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False, name=f"convolution_{number}")(x)
        x = layers.MaxPooling2D(name=f"pool_{number}")(x)
        # Keras's default momentum of 0.99 would still remember the initial statistics when this short training ends.
        x = layers.BatchNormalization(momentum=0.8, name=f"normalize_{number}")(x)
        x = layers.ReLU(name=f"relu_{number}")(x)
    return keras.Model(images, layers.Dense(10, name="head")(layers.Flatten(name="flatten")(x)))


def train(variant: str, config: Config, run: Run) -> dict[str, float]:
    data = cifar10.load(run.data)
    validation = batches.evaluation(data.validation)
    given = {"race": config.rate, "distance": config.rate, "weight_decay": config.weight_decay}
    chosen = TUNED[variant] | {name: value for name, value in given.items() if value is not None}
    steps = config.epochs * (len(data.train) // config.batch_size)
    schedule = RaceThenDistance(chosen["race"], chosen["distance"], steps)

    keras.utils.set_random_seed(run.seed)
    model = build_model(data.mean, data.std)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(VARIANTS[variant](schedule, chosen.get("weight_decay")), loss, metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    initial = [variable.numpy() for variable in model.variables + model.optimizer.variables]

    def fit(epochs: int, callbacks: list) -> keras.callbacks.History:
        # Both trainings start from the same point, and share what compiling costs.
        for variable, value in zip(model.variables + model.optimizer.variables, initial, strict=True):
            variable.assign(value)
        feed = batches.training(data.train, config.batch_size, seed=run.seed)
        return model.fit(feed, epochs=epochs, validation_data=validation, callbacks=callbacks, shuffle=False, verbose=0)

    scores = {}
    if config.race_epochs:
        race = fit(config.race_epochs, run.callbacks("race", until=config.target))
        scores = run.time_to_target(race, config.target, config.race_epochs)
    schedule.racing.assign(False)
    history = fit(config.epochs, run.callbacks(probe=data.train))
    return scores | run.scores(model, history, data)


CLAIMS = [
    Claim("O1", "Adam converges in fewer epochs than SGD, with momentum or without", source="TF, DL",
          metric="epochs_to_target", lower="adam", than=("sgd", "momentum"), by=0.25),
    Claim("O2", "SGD with momentum ends with a smaller train-test gap than Adam", source="TF",
          metric="generalization_gap", lower="momentum", than="adam", by=0.01),
    Claim("O3", "SGD needs its learning rate tuned more carefully than Adam", source="TF",
          metric="good_decades", lower=("sgd", "momentum"), than="adam", by=0.25, from_tuning=True),
    Claim("O4", "RMSprop, without momentum, ends below Adam", source="TF",
          metric="test_accuracy", lower="rmsprop", than="adam", by=0.005),
    Claim("O5", "Once each is tuned, the differences between adaptive optimizers are within seed noise",
          source="Schmidt et al. 2021", metric="test_accuracy", equal=("rmsprop", "adam", "adamw"), by=0.01),
    Claim("O6", "Muon reaches the target in fewer steps than Adam or SGD", source="Jordan 2024",
          metric="epochs_to_target", lower="muon", than=("adam", "sgd", "momentum"), by=0.25),
]  # fmt: skip

TUNING = Tuning(
    swept="rate",
    grids={"sgd": half_decades(1e-2, 1e1), "momentum": half_decades(1e-3, 1e0)}
    | dict.fromkeys(("rmsprop", "adam", "adamw", "muon"), half_decades(1e-4, 1e-1)),
    objectives={"race": Objective("epochs_to_target", lower=True), "distance": Objective("validation_accuracy")},
    fixed={"weight_decay": 0.004},
    second=dict.fromkeys(("adamw", "muon"), ("weight_decay", (0.0, 0.04))),
    second_for="distance",
    curve={"race_epochs": 0},
)

RECIPE = Recipe(train, VARIANTS, CLAIMS, Config, smoke={"race_epochs": 1, "batch_size": 64}, tuning=TUNING)

if __name__ == "__main__":
    RECIPE.main()
