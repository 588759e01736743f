"""What is frozen stays, what is fine-tuned moves, and known and new classes are kept apart."""

import dataclasses
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab.core.run import Run
from lab.execute.job import Job, run_job
from lab.experiments import transfer_learning as experiment
from pipelines import batches, sources, splits
from recipes import transfer_learning as recipe

DATA = sources.load(sources.Request(train_images=1000))
SHAPE = (32, 32, 3)


def few(images=40, batch=20) -> tf.data.Dataset:
    chosen = DATA.train.take(np.arange(images))
    return tf.data.Dataset.from_tensor_slices((chosen.images, chosen.labels)).batch(batch)


def copies(weights) -> list[np.ndarray]:
    return [np.array(weight) for weight in weights]


def moved(before, after) -> list[bool]:
    return [not np.array_equal(one, other) for one, other in zip(before, after, strict=True)]


def statistics_of(base) -> list[np.ndarray]:
    return copies(weight for weight in base.weights if "moving" in weight.path)


# The recipe


def test_it_learns_from_few_images_of_classes_that_the_base_does_not_know():
    """Ten images of each of four new classes, whose share is a quarter."""
    keras.utils.set_random_seed(1)
    known, new = experiment.divided(DATA, seed=1)
    model = recipe.pretrain(batches.training(known.train, 50, seed=1), None, 6, epochs=3)
    learned = experiment.few(new.train, 10, seed=1)
    train_set = batches.training(learned, 20, seed=1)
    found = recipe.train(train_set, None, 4, model.get_layer("base"), epochs=20)
    assert found.evaluate(batches.evaluation(new.validation), verbose=0, return_dict=True)["accuracy"] > 0.4


def test_a_frozen_base_stays_and_the_head_moves():
    base = recipe.build_base(SHAPE)
    before = copies(base.weights)
    model = recipe.train(few(), None, 10, base, epochs=2)
    assert not any(moved(before, base.weights))
    assert len(model.trainable_variables) == 2
    assert model.optimizer.iterations == 4


def test_fine_tuning_moves_all_weights_but_batchnorms():
    base = recipe.build_base(SHAPE)
    model = recipe.train(few(), None, 10, base, epochs=1)
    before = copies(model.weights)
    recipe.fine_tune(model, few(), None, rate=0.01, epochs=1)
    kinds = ["batch_normalization" in weight.path for weight in model.weights]
    assert sum(kinds) == 12
    assert moved(before, model.weights) == [not of_norm for of_norm in kinds]


def test_keras_still_ignores_a_models_trainable_that_is_true_already():
    """If this fails, `fine_tune` can do without its loop."""
    base = recipe.build_base(SHAPE)
    model = recipe.train(few(), None, 10, base, epochs=1)
    model.trainable = True
    assert not base.trainable


def test_keras_still_overrides_training_false():
    """If this fails, `unfreeze` can do without its exception, and the sentence on the guide is wrong."""
    assert not experiment.training_false_holds()


@pytest.mark.processes
def test_from_scratch_batchnorms_statistics_move_too():
    model = recipe.pretrain(few(), None, 10, epochs=1)
    base = model.get_layer("base")
    assert all(moved(statistics_of(recipe.build_base(SHAPE)), statistics_of(base)))


def test_rates_fall_to_zero_over_all_steps(monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: None)
    model = recipe.train(few(), None, 10, recipe.build_base(SHAPE), rate=0.02, epochs=5)
    rates = []
    for step in (0, 5, 10):
        model.optimizer.iterations.assign(step)
        rates.append(float(model.optimizer.learning_rate))
    assert rates == pytest.approx([0.02, 0.01, 0.0])


@pytest.mark.processes
def test_a_base_of_keras_applications_takes_pixels_and_gives_features(monkeypatch):
    """With random weights, as nothing is downloaded in tests."""
    real, asked = keras.applications.MobileNetV3Small, []

    def without_weights(**how):
        asked.append(how.pop("weights"))
        return real(**how, weights=None)

    monkeypatch.setattr(keras.applications, "MobileNetV3Small", without_weights)
    base = recipe.imagenet_base((64, 64, 3))
    assert asked == ["imagenet"]
    assert base.output_shape == (None, 576)
    assert [layer for layer in base.layers if isinstance(layer, keras.layers.Rescaling)]
    images = tf.random.uniform((20, 64, 64, 3), 0, 255)
    model = recipe.train(tf.data.Dataset.from_tensor_slices((images, [0, 1] * 10)).batch(10), None, 2, base, epochs=1)
    assert model.output_shape == (None, 2)


# The experiment


def test_known_and_new_classes_share_no_image_and_all_are_there():
    known, new = experiment.divided(DATA, seed=1)
    assert (len(known.classes), len(new.classes)) == (6, 4)
    assert set(known.classes) | set(new.classes) == set(DATA.classes)
    for part in ("train", "validation"):
        parts = getattr(known, part), getattr(new, part)
        assert set(parts[0].ids) | set(parts[1].ids) == set(getattr(DATA, part).ids)
        assert not set(parts[0].ids) & set(parts[1].ids)
        whole = dict(zip(getattr(DATA, part).ids, getattr(DATA, part).labels, strict=True))
        for found, classes in zip(parts, (known.classes, new.classes), strict=True):
            assert [DATA.classes[whole[name]] for name in found.ids] == [classes[label] for label in found.labels]
            assert found.labels.dtype == getattr(DATA, part).labels.dtype
    with pytest.raises(ValueError, match="at least five"):
        experiment.divided(dataclasses.replace(DATA, classes=DATA.classes[:3]), seed=1)


def test_each_seed_draws_its_own_classes():
    drawn = [experiment.divided(DATA, seed)[0].classes for seed in (1, 2, 3, 1)]
    assert len(set(drawn)) == 3
    assert drawn[0] == drawn[3]


def test_the_test_images_of_new_classes_are_only_read_when_they_are_asked_for():
    with sources.test_set(closed=True):
        _, new = experiment.divided(sources.load(sources.Request(train_images=1000)), seed=1)
        with pytest.raises(Exception, match="test"):
            new.test  # noqa: B018
    assert set(new.test.labels) == {0, 1, 2, 3}
    assert len(new.test) == 1600


@pytest.mark.parametrize("labels", [10, 40])
def test_few_images_are_as_many_of_each_class_and_others_for_each_seed(labels):
    found = [experiment.few(DATA.train, labels, seed) for seed in (1, 2, 1)]
    for one in found:
        assert np.bincount(one.labels).tolist() == [labels] * 10
    assert set(found[0].ids) == set(found[2].ids) != set(found[1].ids)


def test_a_variants_name_says_how_many_images_of_each_class_it_has():
    assert experiment.labels_of("frozen_40") == 40
    assert experiment.labels_of("fine_tuned_160_at_the_highest_rate") == 160
    assert {experiment.labels_of(name) for name in experiment.VARIANTS} == set(experiment.LABELS)


def test_every_training_has_at_least_500_steps_and_no_more_than_it_needs():
    for labels in experiment.LABELS:
        feed = batches.training(DATA.train.take(np.arange(4 * labels)), 20, seed=1)
        steps = experiment.EPOCHS * len(experiment.often(feed))
        assert 500 <= steps < 500 + experiment.EPOCHS * len(feed)


@pytest.fixture
def trained(monkeypatch):
    """Trainings, which train nothing: rate, steps, how many variables, and whether BatchNorm would keep its values."""
    calls = []

    def fit(model, train_set, validation_set, rate, epochs, callbacks):
        before = statistics_of(model)
        model(np.full((2, *SHAPE), 200.0), training=True)
        kept = not any(moved(before, statistics_of(model)))
        calls.append((rate, epochs * len(train_set), len(model.trainable_variables), kept))

    monkeypatch.setattr(recipe, "fit", fit)
    return calls


HEADS = {"head_rate": 0.2}


@pytest.mark.parametrize(
    ("way", "given", "wanted"),
    [
        ("frozen", {}, [(0.3, 120, 2, True)]),
        ("fine_tuned", HEADS, [(0.2, 60, 2, True), (0.3, 60, 5, True)]),
        ("brief", HEADS, [(0.2, 60, 2, True), (0.3, 50, 5, True)]),
        ("scratch", {}, [(0.3, 120, 11, False)]),
        ("random", {}, [(0.3, 120, 2, True)]),
        ("batchnorm_trains", HEADS | {"momentum": 0.9}, [(0.2, 60, 2, True), (0.3, 50, 11, False)]),
        ("guess", {}, []),
    ],
)
def test_each_way_trains_what_its_name_says_for_as_many_steps(trained, way, given, wanted):
    """Of two batches an epoch."""
    base = recipe.build_base(SHAPE)
    before = statistics_of(base)
    call = experiment.VARIANTS[f"{way}_10"].func
    rate = {} if way == "guess" else {"rate": 0.3}
    model = call(few(), None, 4, base, **rate, **given, callbacks=[])
    assert trained == wanted
    assert any(layer is base for layer in model.layers) == (way not in ("scratch", "guess"))
    if way == "random":
        assert all(moved(before, statistics_of(base)))


def test_rates_and_momenta_are_those_of_the_names():
    head = experiment.RATES["frozen_10"]
    arguments = {name: variant.keywords for name, variant in experiment.VARIANTS.items()}
    assert set(experiment.RATES) == set(experiment.EXPERIMENT.tuning.grids)
    assert {name for name in arguments if name not in experiment.RATES} == {
        "guess_10", *(f"fine_tuned_160_at_the_{how}_rate" for how in experiment.FORGETTING)
    }  # fmt: skip
    for name, rate in experiment.RATES.items():
        assert arguments[name]["rate"] == rate
    for name in ("brief_10", "fine_tuned_10"):
        assert arguments[name] == {"rate": experiment.RATES[name], "head_rate": head}
    assert [arguments[f"batchnorm_{how}_10"]["momentum"] for how in ("trains", "adapts")] == [0.99, 0.8]
    assert arguments["batchnorm_trains_40"]["momentum"] == 0.99


@pytest.mark.usefixtures("trained")
def test_batchnorms_statistics_follow_as_slowly_as_the_momentum_says():
    """The step of a training is the only one that they follow: the head's leaves them."""
    found = []
    for momentum in (0.8, 0.99):
        keras.utils.set_random_seed(1)
        base = recipe.build_base(SHAPE)
        experiment.with_batchnorm_in_training(
            few(), None, 4, base, rate=0.1, head_rate=0.1, momentum=momentum, callbacks=[]
        )
        found.append(np.abs(statistics_of(base)[0]).mean())  # They begin at zero.
    assert found[0] == pytest.approx(20 * found[1], rel=1e-3)


def test_a_guess_is_always_the_same_class():
    model = experiment.guessing(few(), None, 4, recipe.build_base(SHAPE), callbacks=[])
    assert model.predict(DATA.train.images[:50], verbose=0).tolist() == [[0.0] * 4] * 50


def test_the_rates_that_forget_are_four_decades():
    arms = [experiment.VARIANTS[f"fine_tuned_160_at_the_{how}_rate"].keywords for how in experiment.FORGETTING]
    assert [arm["rate"] for arm in arms] == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2, 1e-1])
    assert {arm["head_rate"] for arm in arms} == {experiment.RATES["frozen_160"]}


def opened(diverged=False):
    return types.SimpleNamespace(open_test_set=lambda data: data.test, diverged=diverged, seed=1)


def test_a_probe_tells_what_is_left_of_the_features():
    """A base that sees nothing knows no class; one that sees colors knows some."""
    known, _ = experiment.divided(DATA, seed=1)
    blind = recipe.build_base(SHAPE)
    blind.set_weights([np.zeros(weight.shape) for weight in blind.weights])
    assert experiment.probed(blind, known, 250, opened()) == pytest.approx(1 / 6, abs=0.02)
    assert experiment.probed(recipe.build_base(SHAPE), known, 250, opened()) > 0.3


@pytest.mark.parametrize(("diverged", "after"), [(False, 0.5), (True, 1 / 6)])
def test_what_is_kept_is_a_share_of_what_pretraining_gave(monkeypatch, diverged, after):
    """The base knew 0.8 before and knows 0.5 now; one that was never trained, though it has seen images, knows 0.4."""
    known, _ = experiment.divided(DATA, seed=1)
    base = recipe.build_base(SHAPE)
    before = [np.full(weight.shape, 2.0) for weight in base.weights]
    base.set_weights([np.full(weight.shape, 3.0) for weight in base.weights])

    def probed(base, *_):
        first = float(np.ravel(base.weights[0])[0])
        if first not in (2.0, 3.0):
            assert all(moved(statistics_of(recipe.build_base(SHAPE)), statistics_of(base)))
        return {2.0: 0.8, 3.0: 0.5}.get(first, 0.4)

    monkeypatch.setattr(experiment, "probed", probed)
    found = experiment.remembered(base, before, known, 250, opened(diverged))
    assert found == {"known_accuracy": pytest.approx(after), "kept": pytest.approx((after - 0.4) / 0.4)}
    assert experiment.remembered(base, None, known, 250, opened()) == {"known_accuracy": 0.8}


def test_what_is_held_is_weights_what_adam_keeps_of_them_and_the_batch():
    kernels, norms, head = 9 * (3 * 32 + 32 * 64 + 64 * 64), 4 * (32 + 64 + 64), 64 * 4 + 4
    for frozen, trains in ((True, head), (False, head + kernels)):
        numbers = kernels + norms + head + 2 * trains + 5 * 32 * 32 * 3
        # Besides: the optimizer's own two numbers.
        assert experiment.held(frozen, list(SHAPE), 5) == pytest.approx(4 * numbers / 2**20, abs=1e-4)


class Fake:
    seed, diverged, correct = 301, False, "bits"

    def __init__(self, variant, folder, request=None):
        self.variant, self.folder, self.data = variant, folder, request or sources.Request()
        self.asked = {}

    def bound(self, *sets, callbacks):
        self.asked["trained"] = sets
        return "model"

    def callbacks(self, data):
        return []

    def scores(self, model, data):
        self.asked["scored"] = data
        (self.folder / "predicted.npy").touch()
        return {"test_accuracy": 0.5, "train_accuracy": 0.7}


@pytest.fixture
def pretraining(monkeypatch):
    """Pretrainings, which train nothing: number of classes, epochs, and the seed that the weights are drawn by."""
    calls = []

    def pretrain(train_set, validation_set, classes, rate, epochs):
        calls.append((classes, epochs, len(train_set)))
        base = recipe.build_base(SHAPE)
        base.set_weights([np.full(weight.shape, 2.0) for weight in base.weights])
        return types.SimpleNamespace(get_layer=lambda name: {"base": base}[name])

    monkeypatch.setattr(recipe, "pretrain", pretrain)
    experiment.pretrained.cache_clear()
    yield calls
    experiment.pretrained.cache_clear()


def test_a_run_is_scored_on_the_new_classes_and_leaves_no_pictures_of_all(monkeypatch, tmp_path, pretraining):
    monkeypatch.setattr(experiment, "memory_of", lambda step, frozen, *_: 100.0 if frozen else 400.0)
    monkeypatch.setattr(experiment, "held", lambda frozen, *_: 10.0 if frozen else 20.0)
    monkeypatch.setattr(experiment, "remembered", lambda base, before, *_: {"kept": float(before[0].mean())})
    run = Fake("frozen_160", tmp_path)
    found = experiment.train("frozen_160", experiment.EXPERIMENT.config(), run)
    assert found == {
        "new_accuracy": 0.5, "train_accuracy": 0.7, "kept": 2.0, "memory": 110.0,
        "log_memory": pytest.approx(np.log(110)),
    }  # fmt: skip
    assert pretraining == [(6, 15, 4800 // 64)]
    train_set, _, classes, base = run.asked["trained"]
    assert (len(train_set), classes) == (640 // 20, 4)
    assert all((weight == 2.0).all() for weight in base.get_weights())
    assert np.bincount(run.asked["scored"].train.labels).tolist() == [160] * 4
    assert run.asked["scored"].classes == experiment.divided(sources.load(), 301)[1].classes
    assert run.correct is None
    assert not (tmp_path / "predicted.npy").exists()
    bare = experiment.train("frozen_160", experiment.EXPERIMENT.config(memory=0), Fake("frozen_160", tmp_path))
    assert set(bare) == {"new_accuracy", "train_accuracy"}
    tuned = experiment.train("fine_tuned_160", experiment.EXPERIMENT.config(), Fake("fine_tuned_160", tmp_path))
    assert tuned["memory"] == 420.0


@pytest.mark.parametrize("variant", ["scratch_160", "random_160", "guess_10"])
def test_what_needs_no_pretrained_base_has_none(monkeypatch, tmp_path, pretraining, variant):
    monkeypatch.setattr(experiment, "probed", lambda *_: 0.4)
    run = Fake(variant, tmp_path)
    found = experiment.train(variant, experiment.EXPERIMENT.config(), run)
    assert pretraining == []
    assert not (run.asked["trained"][3].get_weights()[0] == 2.0).all()
    known = {"known_accuracy": 0.4} if variant == "random_160" else {}
    assert found == {"new_accuracy": 0.5, "train_accuracy": 0.7, **known}


@pytest.mark.usefixtures("pretraining")
def test_a_run_that_diverged_is_probed_as_a_guess(monkeypatch, tmp_path):
    monkeypatch.setattr(experiment, "probed", lambda base, *_: 0.8 if (base.weights[0].numpy() == 2).all() else 0.4)
    variant = "fine_tuned_160_at_the_highest_rate"
    run = Fake(variant, tmp_path, sources.Request(train_images=1000))
    run.diverged = True
    assert experiment.train(variant, experiment.EXPERIMENT.config(), run)["known_accuracy"] == pytest.approx(1 / 6)


@pytest.mark.processes
def test_what_a_record_says_is_true_of_its_model(monkeypatch, tmp_path):
    """Of new test images alone, whose classes are drawn and counted here once more."""
    made, scores = [], Run.scores
    monkeypatch.setattr(Run, "scores", lambda run, model, data: made.append(model) or scores(run, model, data))
    monkeypatch.setattr(experiment, "LEAST_STEPS", 1)
    request = sources.Request(train_images=500)
    config = dataclasses.asdict(experiment.EXPERIMENT.config(known_epochs=1, epochs=4, memory=0))
    module = experiment.EXPERIMENT.module
    (record,) = run_job(Job(module, ("frozen_10",), 301, config, request, str(tmp_path), logging=False, alone=True))
    assert (record.status, record.cause, record.correct) == ("finished", None, None)
    data = sources.load(splits.with_split_seed(request, 301))
    new = sorted(np.random.default_rng(301).permutation(10)[6:].tolist())
    for part, metric in ((data.test, "new_accuracy"), (data.validation, "validation_accuracy")):
        chosen = np.isin(part.labels, new)
        said = made[0].predict(part.images[chosen], verbose=0).argmax(axis=1)
        right = [new[label] for label in said] == part.labels[chosen]
        assert record.metrics[metric] == pytest.approx(right.mean(), abs=2e-3)
        assert record.metrics[metric] > 0.3
    assert "test_accuracy" not in record.metrics
    experiment.pretrained.cache_clear()


@pytest.mark.processes
def test_a_seed_is_pretrained_once_and_its_runs_are_the_same_whether_or_not(monkeypatch, tmp_path):
    """Bit for bit, with little of everything."""
    monkeypatch.setattr(experiment, "LEAST_STEPS", 1)
    experiment.pretrained.cache_clear()
    request, config = sources.Request(train_images=500), experiment.EXPERIMENT.config(known_epochs=1, memory=0)
    digests = []
    for variant in ("fine_tuned_10", "frozen_10", "fine_tuned_10"):
        call = experiment.VARIANTS[variant]

        class Real(Fake):
            def bound(self, *sets, callbacks, call=call):
                return call(*sets, epochs=2, callbacks=callbacks)

            def scores(self, model, data):
                self.model = model
                return {"test_accuracy": 0.5}

        run = Real(variant, tmp_path, request)
        keras.utils.set_random_seed(301)
        experiment.train(variant, config, run)
        digests.append(np.concatenate([np.ravel(weight) for weight in run.model.get_weights()]))
    assert np.array_equal(digests[0], digests[2])
    assert not np.array_equal(digests[0], digests[1])
    assert experiment.pretrained.cache_info()[:2] == (2, 1)
    experiment.pretrained.cache_clear()
