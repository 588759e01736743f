"""A reader's own model file: each works, is refused in one sentence before training, or has a remark made about it."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from lab.cli import commands
from lab.core.state import known_state
from lab.execute import executor, model_check
from lab.execute import own_model as own_model_module
from lab.execute.own_model import model_digest, own_model
from lab.experiments import load
from lab.report.report import Report
from lab.tensorboard import comparison
from pipelines.errors import UsageError
from tests.conftest import ROOT, evidence_in

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
IMAGES[0, 0, 0] = 0, 128, 255
BEGINS = """
import keras, numpy as np, tensorflow as tf
from keras import layers

def build(shape, classes):
    images = keras.Input(shape)
    x = layers.Flatten()(layers.Rescaling(1 / 255)(images))
"""
GOOD = f"{BEGINS}    return keras.Model(images, layers.Dense(classes)(x))\n"
OTHERS = "import keras, numpy as np, tensorflow as tf\nfrom keras import layers\n\ndef build(shape, classes):\n"


@pytest.fixture(autouse=True)
def as_before(monkeypatch, tmp_path):
    """What a file does to this process, which otherwise is one of its own, ends with the test."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in own_model_module._imported_from(tmp_path / "models"):
        del sys.modules[name]
    with known_state():
        pass


@pytest.fixture
def model(tmp_path):
    """Write a file; return what `--model` calls it."""

    def write(content, name="mine.py", **beside):
        for file, text in {name: content, **beside}.items():
            path = tmp_path / "models" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return f"{tmp_path / 'models' / name}:build"

    return write


def as_id(case):
    return case.replace(",", "").replace(" ", "_")


def check(where, save=False):
    return model_check.check_own_model(where, IMAGES, 3, save)


def sequential(*layers):
    return f"{OTHERS}    return keras.Sequential([keras.Input(shape), {', '.join(layers)}])\n"


SCALED = "layers.Rescaling(1 / 255)"
FLAT = "layers.Flatten(), layers.Dense(classes)"
INNER = "keras.Sequential([layers.Flatten(), layers.Dense(classes, activation='softmax')])"
CALL = "self.out(self.flat(self.scale(x)))"
SUBCLASSED = f"""
import keras, tensorflow as tf
from keras import layers

class Net(keras.Model):
    def __init__(self, classes):
        super().__init__()
        self.scale, self.flat, self.out = layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(classes)
    def call(self, x):
        return {CALL}

def build(shape, classes):
    return Net(classes)
"""
POSITIONS = """
import keras, tensorflow as tf
from keras import layers

class Positions(layers.Layer):
    def __init__(self):
        super().__init__()
        self.table = layers.Embedding(4, 8)
    def call(self, x):
        return x + self.table(tf.range(4))

def build(shape, classes):
    images = keras.Input(shape)
    x = layers.Conv2D(8, shape[0] // 2, shape[0] // 2)(layers.Rescaling(1 / 255)(images))
    x = Positions()(layers.Reshape((4, 8))(x))
    return keras.Model(images, layers.Dense(classes)(layers.Flatten()(x)))
"""

# What works as it is, and nothing needs to be said of.
FINE = {
    "plain": GOOD,
    "a class that is called": SUBCLASSED.replace("self, classes)", "self, shape, classes)") + "\nbuild = Net\n",
    "subclassed": SUBCLASSED,
    "positions": POSITIONS,
    "batch normalization first": sequential("layers.BatchNormalization()", FLAT),
    "batch normalization second": sequential("layers.Conv2D(4, 3)", "layers.BatchNormalization()", FLAT),
    "scaled as the recipes do": sequential("layers.Rescaling(1 / 64, offset=-2)", FLAT),
    "logarithms of probabilities": sequential(SCALED, "layers.Flatten()", "layers.Dense(classes, 'log_softmax')"),
    "logits that add up": sequential(SCALED, FLAT, "layers.Lambda(lambda x: x - tf.reduce_mean(x, 1, True) + 1 / 3)"),
    "a hidden activation": sequential(SCALED, "layers.Flatten()", "layers.Dense(8, 'relu')", "layers.Dense(classes)"),
    "compiled": GOOD.replace("return keras", "m = keras") + "    m.compile('adam', 'mse')\n    return m\n",
    "a seed": GOOD.replace("def build", "keras.utils.set_random_seed(1)\n\ndef build"),
    "another folder": f"import os\nos.chdir('/')\n{GOOD}",
    "a file beside it": f"from pathlib import Path\nPath(__file__).with_name('mine.py').read_bytes()\n{GOOD}",
    "pixels looked up": f"{OTHERS}    images = keras.Input(shape, dtype='int32')\n"
    "    x = layers.Flatten()(layers.Embedding(256, 2)(images))\n"
    "    return keras.Model(images, layers.Dense(classes)(x))\n",
}


@pytest.mark.parametrize("case", FINE, ids=as_id)
def test_a_model_that_is_fine(case, model):
    assert check(model(FINE[case])).remarks == ()


# What is refused, and what of the sentence says why.
REFUSED = {
    "dict": (f"{BEGINS}    return keras.Model(images, {{'a': x, 'b': x}})\n", "output is a dict of a, b"),
    "list": (f"{BEGINS}    return keras.Model(images, [x, x])\n", "output is a list of 2"),
    "array": (f"{OTHERS}    return np.zeros((1, classes))\n", "returned a numpy.ndarray, and should return a keras.M"),
    "text": (f"{OTHERS}    return 'a model'\n", "returned a str"),
    "Keras 2": (
        "class Functional: __module__ = 'tf_keras.src.engine'\ndef build(shape, classes): return Functional()\n",
        "returned a tf_keras.Functional",
    ),
    "two inputs": (
        f"{BEGINS}    return keras.Model([images, keras.Input((2,))], layers.Dense(classes)(x))\n",
        "has 2 inputs",
    ),
    "one unit": (
        sequential(SCALED, "layers.Flatten()", "layers.Dense(1, 'sigmoid')"),
        "(4, 1), and should have (4, 3)",
    ),
    "a last axis": (sequential(SCALED, FLAT, "layers.Reshape((classes, 1))"), "(4, 3, 1), and should have (4, 3)"),
    "other images": (sequential(FLAT).replace("Input(shape)", "Input((7, 7, 1))"), "built for images (8, 8, 3)"),
    "whole numbers": (
        sequential(SCALED, FLAT, "layers.Lambda(lambda x: tf.cast(x, 'int32'), output_shape=(3,))"),
        "output is int32",
    ),
    "nothing to train": (
        GOOD.replace("return keras", "m = keras") + "    m.trainable = False\n    return m\n",
        "no wei",
    ),
    "an error": (f"{OTHERS}    return 1 / 0\n", "ZeroDivisionError: division by zero"),
    "an end": (f"import sys\n{OTHERS}    sys.exit(0)\n", "SystemExit: 0"),
    "flags of its own": (
        f"import argparse\np = argparse.ArgumentParser()\np.add_argument('--needed', required=True)\n"
        f"p.parse_args([])\n{GOOD}",
        "ends the process when it is run, as argparse does",
    ),
    "an error without words": (
        f"class Mute(Exception):\n    def __str__(self): raise ValueError\n{OTHERS}    raise Mute\n",
        "(Mute)",
    ),
    "pixels divided": (SUBCLASSED.replace(CALL, "self.out(self.flat(x / 255.0))"), "begin with layers.Rescaling"),
    "no graph, but numpy": (
        SUBCLASSED.replace(CALL, f"{CALL} * float(x.numpy().mean() > -1)"),
        "not in a graph, as `fit` calls it",
    ),
    "layers made outside": (
        f"import keras\nfrom keras import layers\nbody = keras.Sequential([keras.Input((8, 8, 3)), {SCALED}, "
        "layers.Flatten(), layers.Dense(4)])\n"
        "def build(shape, classes): return keras.Sequential([body, layers.Dense(classes)])\n",
        "share 2 of their 4 weights. Make all layers inside the function",
    ),
    "no graph": (
        SUBCLASSED.replace(CALL, f"{CALL} if tf.reduce_mean(self.scale(x)) > 0 else None"),
        "OperatorNotAllowedInGraphError",
    ),
    "the same model": (
        f"{GOOD}MODEL = build((8, 8, 3), 3)\ndef build(shape, classes): return MODEL\n",
        "the same model",
    ),
    "a model": (f"{GOOD}build = build((8, 8, 3), 3)\n", "it is a model, and should be a function"),
    "the test images": (
        f"from pipelines import sources\n{OTHERS}    return sources.load().test\n",
        "the test set is read by `run.scores` alone",
    ),
    "training": (f"{GOOD}m = build((8, 8, 3), 3)\nm.compile('sgd', 'mse')\nm.fit(1)\n", "it calls fit"),
    "no function": ("build = 1\n", "there is no function 'build'"),
    "no Python": ("def (", "SyntaxError"),
    "what is not there": ("import nowhere_to_be_found\n", "No module named 'nowhere_to_be_found'"),
}


@pytest.mark.parametrize("case", REFUSED, ids=as_id)
def test_a_model_that_is_refused(case, model):
    content, words = REFUSED[case]
    where = model(content)
    with pytest.raises(UsageError) as error:
        check(where)
    assert str(error.value).startswith(f"--model {where!r}: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


SOFTMAX, CENTERED = "outputs are probabilities", "layers.Rescaling(1 / 127.5, offset=-1)"
POLICY = "import keras\nkeras.config.set_dtype_policy('mixed_bfloat16')\n"
GETS = "layer with weights, Dense 'dense', gets values from"
# What is trained, and is likely a mistake.
REMARKED = {
    "softmax": (sequential(SCALED, "layers.Flatten()", "layers.Dense(classes, 'softmax')"), SOFTMAX),
    "softmax, a layer": (sequential(SCALED, FLAT, "layers.Softmax()"), SOFTMAX),
    "softmax within": (sequential(SCALED, INNER), SOFTMAX),
    "softmax of a function": (SUBCLASSED.replace(CALL, f"tf.nn.softmax({CALL})"), SOFTMAX),
    "sigmoid": (sequential(SCALED, "layers.Flatten()", "layers.Dense(classes, 'sigmoid')"), "the activation sigmoid"),
    "ReLU": (sequential(SCALED, FLAT, "layers.ReLU()"), "the activation relu"),
    "float16": (sequential(SCALED, FLAT[:-1] + ", dtype='float16')"), "its output is float16"),
    "NaN": (sequential(SCALED, FLAT, "layers.Rescaling(np.nan)"), "is not finite"),
    "not scaled": (sequential(FLAT), f"{GETS} 0 to 255 for pixels from 0 to 255"),
    "not scaled, and normalized late": (
        sequential("layers.Flatten()", "layers.Dense(8)", "layers.Dense(8), layers.BatchNormalization()", FLAT),
        f"{GETS} 0 to 255",
    ),
    "scaled twice": (sequential(SCALED, SCALED, FLAT), f"{GETS} 0 to 0.00392 for pixels"),
    "scaled twice with an offset": (sequential(*2 * [CENTERED], FLAT), f"{GETS} -1.01 to"),
    "scaled twice before batch normalization": (
        sequential(SCALED, SCALED, "layers.BatchNormalization()", FLAT),
        "BatchNormalization 'batch_normalization', gets values from 0 to 0.00392",
    ),
    "not adapted": (sequential("layers.Normalization()", FLAT), f"{GETS} 0 to 255"),
    "not scaled, subclassed": (SUBCLASSED.replace("1 / 255", "1"), f"{GETS} 0 to 255"),
    "a seed within": (GOOD.replace("    x =", "    keras.utils.set_random_seed(1)\n    x ="), "the same weights"),
    "a policy": (POLICY + GOOD, "policy to mixed_bfloat16"),
    "a float type": (f"import keras\nkeras.config.set_floatx('float64')\n{GOOD}", "float type to float64"),
    "eager": (f"import tensorflow as tf\ntf.config.run_functions_eagerly(True)\n{GOOD}", "eagerly to True"),
}


@pytest.mark.parametrize("case", REMARKED, ids=as_id)
def test_a_model_that_is_remarked_upon(case, model):
    content, words = REMARKED[case]
    remarks = check(model(content)).remarks
    assert words in " ".join(remarks)
    assert len(remarks) == (2 if case in ("a policy", "a float type") and "output is" in " ".join(remarks) else 1)
    assert all(remark.endswith(".") for remark in remarks)


def test_dark_images_are_not_said_to_be_scaled_twice(model):
    assert model_check.check_own_model(model(GOOD), IMAGES // 100, 3).remarks == ()


LAMBDA = sequential(SCALED, "layers.Lambda(lambda x: 2 * x)", FLAT)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (GOOD, ""),
        (SUBCLASSED, "it can't be saved"),
        (POSITIONS, "can't be loaded again (TypeError"),
        (LAMBDA, "can't be loaded again (ValueError"),
    ],
)
def test_what_save_would_leave_is_said_before(content, words, model):
    where = model(content)
    assert check(where).remarks == ()
    remarks = check(where, save=True).remarks
    assert [words in remark for remark in remarks] == ([True] if words else [])


@pytest.mark.parametrize(
    "name", ["numpy.py", "keras.py", "queue.py", "recipes.py", "lab.py", "sys.py", "mein Modell für 2.py", "v1.2.py"]
)
def test_a_file_may_be_called_like_a_module(name, model):
    before = dict(sys.modules)
    assert check(model(GOOD, name)).remarks == ()
    assert {module: sys.modules.get(module) for module in before} == before


def test_a_layer_of_the_file_is_saved_under_the_name_of_the_file(model):
    """So that whoever imports it can load the model."""
    own_model(model(SUBCLASSED, "net_of_mine.py"))
    assert sys.modules["net_of_mine"].Net.__module__ == "net_of_mine"


HELPERS = {
    "helper.py": "from parts import conv\nUNITS = 4\n",
    "parts/__init__.py": "",
    "parts/conv.py": "from . import sizes\n",
    "parts/sizes.py": "SIDE = 3\n",
    "plain/late.py": "LATE = 1\n",
    "wave.py": "raise RuntimeError('this is not the module that was asked for')\n",
}
WITH_HELPERS = "import wave\nimport helper\n" + GOOD.replace("    images", "    from plain import late\n    images", 1)


def test_helpers_beside_a_file_are_found_and_are_part_of_it(model, monkeypatch):
    monkeypatch.delitem(sys.modules, "wave", raising=False)  # Python's own, which nobody has imported yet.
    where = model(WITH_HELPERS, **HELPERS)
    folder = Path(where.rpartition(":")[0]).parent
    checked = check(where)
    used = {"mine.py", *HELPERS} - {"wave.py"}
    assert {str(Path(file).relative_to(folder)) for file in checked.files} == used
    assert checked.digest == check(where).digest == model_digest(checked.files)
    for name in used:
        before = (folder / name).read_text()
        (folder / name).write_text(f"{before}\n# changed")
        assert model_digest(checked.files) != checked.digest
        (folder / name).write_text(before)
    assert model_digest(checked.files) == checked.digest


def test_a_helper_is_run_anew_with_each_run(model):
    """What it sets for the process, each run begins without."""
    where = model(
        f"import helper\n{GOOD}", **{"helper.py": "import keras\nkeras.config.set_dtype_policy('mixed_bfloat16')\n"}
    )
    for _ in range(2):
        assert any("policy to mixed_bfloat16" in remark for remark in check(where).remarks)


def test_of_the_checkout_only_what_the_file_imports_is_part_of_it(monkeypatch):
    path = ROOT / "model_beside_the_recipes.py"
    path.write_text(f"from recipes.optimizers import build_optimizer\n{GOOD}")
    try:
        assert check(f"{path}:build").files == (str(path),)
        assert "recipes.optimizers" in sys.modules
    finally:
        path.unlink()


# A whole command

SHORT = ["--budget", "smoke", "--train-images", "200", "--variants", "momentum", "--rate", "0.01", "--seeds", "1"]


def run(where, folder, *flags):
    return commands.run(
        load("optimizers"), [*SHORT, "--epochs", "1", "--model", where, "--logdir", str(folder), *flags]
    )


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("nowhere.py:f", "there is no file 'nowhere.py'."),
        ("mine.py", "names no function in a file"),
        ("pyproject.toml:f", "does not end in .py"),
        ("syntax.py:f", "SyntaxError"),
        ("a:b c", "names no function in a file"),
    ],
)
def test_a_file_that_is_none(started, where, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "syntax.py").write_text("def (")
    assert run(where, tmp_path / "logs") == 2
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    assert sentence.startswith(f"--model {where!r}")
    assert words in sentence
    assert not (tmp_path / "logs").exists()


def test_a_model_that_is_refused_leaves_no_folder(started, model, tmp_path, capsys):
    where = model(f"{OTHERS}    return 1 / 0\n")
    assert run(where, tmp_path / "logs") == 2
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    assert "ZeroDivisionError" in sentence
    assert not started
    assert not (tmp_path / "logs").exists()


@pytest.mark.processes
def test_remarks_are_printed_and_by_products_that_fail_are_noted(started, model, tmp_path, capsys, monkeypatch):
    def broken(*_, **__):
        raise ValueError("there is no figure of this")

    monkeypatch.setattr(Report, "write_figure", broken)
    monkeypatch.setattr(comparison, "write_finished", broken)
    (tmp_path / "save").mkdir()
    (tmp_path / "save" / "momentum-seed-301.keras").write_text("of an earlier command")
    where = model(
        POSITIONS.replace("1 / 255", "1")
        .replace("def __init__(self)", "def __init__(self, units)")
        .replace("Positions()", "Positions(object())")
    )
    assert run(where, tmp_path / "logs", "--save", str(tmp_path / "save")) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"--model {where!r}: its first layer with weights" in printed
    assert f"--model {where!r}: it can't be saved" in printed
    assert "Left out No saved model momentum-seed-301.keras: NotImplementedError" in printed
    assert "Left out No figure: ValueError: there is no figure of this" in printed
    assert "Left out No comparison for TensorBoard: ValueError" in printed
    assert "Models " not in printed
    assert "Figure " not in printed
    assert [path.name for path in (tmp_path / "save").iterdir()] == ["classes.json"]
    assert "No gradients" not in printed  # Those of the embedding are of the rows that were looked up.
    (record,) = evidence_in(tmp_path / "logs")["records"]
    assert record["status"] == "finished"
    assert record["metrics"]["test_accuracy"] > 0


@pytest.mark.processes
def test_a_changed_helper_is_another_model(started, model, tmp_path, capsys):
    where = model(WITH_HELPERS, **HELPERS)
    helper = Path(where.rpartition(":")[0]).with_name("helper.py")
    assert run(where, tmp_path / "logs", "--no-log") == 0
    assert run(where, tmp_path / "logs", "--no-log", "--resume") == 0
    helper.write_text(f"{helper.read_text()}\nUNITS = 55\n")
    assert run(where, tmp_path / "logs", "--no-log", "--resume") == 2
    assert "nothing to resume" in capsys.readouterr().err
    assert len(started) == 1


def test_a_helper_that_changes_meanwhile_fails_the_run(started, model, tmp_path, monkeypatch):
    where = model(WITH_HELPERS, **HELPERS)
    late = Path(where.rpartition(":")[0]).parent / "plain" / "late.py"
    apart = executor.apart

    def then_changed(*arguments, **named):
        found = apart(*arguments, **named)
        late.write_text("LATE = 22\n")
        return found

    monkeypatch.setattr(executor, "apart", then_changed)
    assert run(where, tmp_path / "logs", "--no-log") == 1
    (record,) = evidence_in(tmp_path / "logs")["records"]
    assert "the file of --model, or one that it imports, is not the one" in record["cause"]


@pytest.mark.processes
def test_what_a_file_does_to_its_process_does_not_reach_the_command(model, tmp_path, capfd):
    """Not even where it ends it; and what it prints is not shown among the results."""
    for code, said in ((3, 3), (0, 1)):
        assert run(model(f"import os\nos._exit({code})\n"), tmp_path / "logs") == 2
        assert f"the process that tried it ended (exit code {said})" in capfd.readouterr().err
    loud = f"import os, keras\nprint('hello')\nos.chdir('/')\nkeras.config.set_dtype_policy('mixed_bfloat16')\n{GOOD}"
    assert run(model(loud), tmp_path / "logs", "--no-log") == 0
    assert "hello" not in capfd.readouterr().out
    assert keras.config.dtype_policy().name == "float32"
    assert str(tmp_path / "models") not in sys.path
    (log,) = tmp_path.rglob("workers.log")
    assert "hello" in log.read_text()
