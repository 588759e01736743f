"""How fast the net of `optimizers` trains here, beside other ways to train the same net on the same images.

python -m recipes benchmark                       images/s on one core: ours, plain Keras, PyTorch if installed
python -m recipes benchmark --torch PYTHON        with the PyTorch of another environment's interpreter
python -m recipes benchmark --against CHECKOUT    whole commands here and in another checkout, in turn:
                                                  before and after a change, and where the time goes

Each contestant is a process on one core with one thread. They train an epoch each, in turn and in a new order each
round, with nothing beside them: what slows the machine for a while slows all alike.
"""

import contextlib
import json
import os
import random
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from pipelines.errors import MachineError, UsageError

ROOT = Path(__file__).parents[1]
BATCH = 128
Epoch = Callable[[], None]


# What each contestant does: a function that trains for one epoch.


def ours() -> Epoch:
    """The recipe's model and its feed, with a schedule and validation left out."""
    import keras

    from pipelines import batches, sources
    from recipes import optimizers

    data = sources.load()
    model = optimizers.build_model(data.train.images.shape[1:], len(data.classes))
    optimizer = optimizers.build_optimizer("momentum", 0.1, None)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], steps_per_execution=16)
    feed = batches.training(data.train, BATCH, seed=1)
    return lambda: model.fit(feed, epochs=1, shuffle=False, verbose=0)


def keras_map() -> Epoch:
    """What a user would write: the same model, shifts and flips image by image in a parallel map."""
    import tensorflow as tf

    def augment(image, label):
        image = tf.pad(image, [[2, 2], [2, 2], [0, 0]], "REFLECT")
        return tf.image.random_flip_left_right(tf.image.random_crop(image, (32, 32, 3))), label

    model, train = _plain_keras()
    feed = tf.data.Dataset.from_tensor_slices((train.images, train.labels)).shuffle(len(train))
    feed = feed.map(augment, tf.data.AUTOTUNE).batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    return lambda: model.fit(feed, epochs=1, verbose=0)


def _plain_keras():
    import keras

    from pipelines import sources
    from recipes import optimizers

    data = sources.load()
    model = optimizers.build_model(data.train.images.shape[1:], len(data.classes))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True), loss, metrics=["accuracy"])
    return model, data.train


def torch_eager() -> Epoch:
    """The same net and augmentation in PyTorch, from arrays in memory; needs no package of ours."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    folder = Path(os.environ["BENCHMARK_IMAGES"])
    images = torch.from_numpy(np.load(folder / "images.npy")).permute(0, 3, 1, 2).contiguous()
    labels = torch.from_numpy(np.load(folder / "labels.npy")).long()
    padded = nn.functional.pad(images.float(), (2, 2, 2, 2), mode="reflect").to(torch.uint8)

    def block(inside: int, filters: int, strides: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inside, filters, 3, strides, padding=1, bias=False)
        return [convolution, nn.MaxPool2d(2), nn.BatchNorm2d(filters, momentum=0.2), nn.ReLU()]

    model: nn.Module = nn.Sequential(*block(3, 24, 2), *block(24, 64, 1), nn.Flatten(), nn.Linear(1024, 10))
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)

    def epoch() -> None:
        order = torch.randperm(len(labels))
        for start in range(0, len(labels) - BATCH + 1, BATCH):
            index = order[start : start + BATCH]
            down, right = torch.randint(0, 5, (2, BATCH, 1))
            rows, columns = (
                (down + torch.arange(32))[:, :, None],
                (right + torch.arange(32))[:, None, :],
            )
            batch = padded[index[:, None, None], :, rows, columns].permute(0, 3, 1, 2)
            batch = torch.where((torch.rand(BATCH) < 0.5)[:, None, None, None], batch.flip(3), batch)
            logits = model((batch.float() / 64 - 2).contiguous(memory_format=torch.channels_last))
            loss = nn.functional.cross_entropy(logits, labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


KERAS = {"ours": ours, "plain Keras": keras_map}
TORCH = {"PyTorch": torch_eager}


def contestant(name: str) -> None:
    """Be one contestant: train an epoch for each line that is read, and answer with its seconds."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if name in KERAS:
        import tensorflow as tf

        import pipelines  # noqa: F401  Quiets TensorFlow.

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    epoch = (KERAS | TORCH)[name]()
    epoch()  # Traces, compiles.
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        epoch()
        print(time.perf_counter() - start, flush=True)


@contextlib.contextmanager
def processes(names: dict[str, str]) -> Iterator[dict[str, subprocess.Popen]]:
    """A process for each contestant, name -> interpreter.

    Raises:
        MachineError: one did not start.
    """
    running: dict[str, subprocess.Popen] = {}
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        _write_images(Path(folder))
        try:
            for name, interpreter in names.items():
                errors = Path(folder, f"{name}.txt")
                start = [interpreter, str(Path(__file__)), "--contestant", name]
                variables = {
                    **os.environ,
                    **threads,
                    "BENCHMARK_IMAGES": folder,
                    "PYTHONPATH": str(ROOT),
                }
                with errors.open("w") as stderr:
                    process = subprocess.Popen(
                        start, env=variables, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
                    )
                if process.stdout and process.stdout.readline() == "ready\n":
                    running[name] = process
                else:
                    process.wait()
                    why = (errors.read_text(errors="replace").strip() or f"exit code {process.returncode}").splitlines()
                    raise MachineError(f"{name} did not start: {why[-1]}")
            yield running
        finally:
            for process in running.values():
                process.kill()
                process.wait()


def _write_images(folder: Path) -> None:
    from pipelines import sources

    train = sources.load().train
    np.save(folder / "images.npy", train.images)
    np.save(folder / "labels.npy", train.labels)


def race(rounds: int, torch_python: str) -> dict[str, list[float]]:
    """Seconds of each round's epoch by contestant."""
    names = dict.fromkeys(KERAS, sys.executable)
    if shutil.which(torch_python) is None:
        raise UsageError(f"--torch: {torch_python} is no Python interpreter.")
    if subprocess.run([torch_python, "-c", "import torch"], capture_output=True).returncode == 0:
        names |= dict.fromkeys(TORCH, torch_python)
    else:
        print(f"PyTorch is left out: {torch_python} can't import torch. Name another interpreter with --torch.")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with processes(names) as running:
        for _ in range(rounds):
            for name, process in random.sample(list(running.items()), len(running)):
                assert process.stdin is not None
                assert process.stdout is not None
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write("\n")
                    process.stdin.flush()
                if not (answer := process.stdout.readline()):
                    raise MachineError(f"{name} ended in the middle: start the benchmark again.")
                seconds[name].append(float(answer))
    return {name: times for name, times in seconds.items() if times}


def report_race(seconds: dict[str, list[float]]) -> None:
    images = 8000 // BATCH * BATCH
    for name, times in seconds.items():
        ratios = [theirs / mine for mine, theirs in zip(seconds["ours"], times, strict=True)]
        beside = f", ours is {statistics.median(ratios):.2f} times as fast" if name != "ours" else ""
        spread = f"{images / max(times):,.0f} to {images / min(times):,.0f}"
        print(f"{name:>20}: {images / statistics.median(times):>8,.0f} images/s ({spread}){beside}")


def compare(checkout: Path, flags: str, rounds: int) -> int:
    """Run the same command in both checkouts in turn; print how long each takes, and what for."""
    found: dict[str, list[dict]] = {"ours": [], "theirs": []}
    for number in range(rounds):
        turns = [("ours", ROOT), ("theirs", checkout)]
        for who, folder in turns if number % 2 == 0 else reversed(turns):
            evidence = _run_in(folder, flags)
            if evidence is None:
                return 1
            found[who].append(evidence)
            print(f"round {number + 1}: {who:>6} {evidence['whole']:6.1f} s, {_speed(evidence):,.0f} images/s")
    pairs = list(zip(found["ours"], found["theirs"], strict=True))
    for name, value in (("time", lambda one: one["whole"]), ("images/s", _speed)):
        ratios = [value(mine) / value(other) for mine, other in pairs]
        print(f"{name}, ours over theirs: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    for who, evidences in found.items():
        print(f"of the workers' time, {who}: {shares(evidences)}")
    weights = [[record["weights"] for record in evidence["records"]] for evidence in pairs[0]]
    print(f"the same weights: {'yes' if weights[0] == weights[1] else 'no'}")
    return 0


def _run_in(folder: Path, flags: str) -> dict | None:
    """The evidence of `recipes.optimizers` of a checkout, and how long the whole command took."""
    with tempfile.TemporaryDirectory() as logs:
        command = [sys.executable, "-m", "recipes.optimizers", *shlex.split(flags), "--logdir", logs]
        start = time.perf_counter()
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True
        )
        elapsed = time.perf_counter() - start
        paths = list(Path(logs).rglob("evidence.json"))
        if done.returncode != 0 or not paths:
            print(f"{shlex.join(command)} in {folder} failed:\n{done.stdout}{done.stderr}", file=sys.stderr)
            return None
        return json.loads(paths[0].read_text()) | {"whole": elapsed}


def _speed(found: dict) -> float:
    return statistics.median(record["metrics"]["images_per_second"] for record in found["records"])


def shares(evidences: list[dict]) -> str:
    """What workers spent their time on."""
    total: dict[str, float] = {}
    for record in (record for found in evidences for record in found["records"]):
        for name, seconds in record["seconds"].items():
            total[name] = total.get(name, 0.0) + seconds
    whole = total.pop("total")
    total["unaccounted"] = whole - sum(total.values())
    return ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in sorted(total.items(), key=lambda x: -x[1]))


FLAGS = "--variants sgd momentum rmsprop adam adamw muon --epochs 5 --seeds 2"


def benchmark(
    rounds: int | None = None,
    torch: str = sys.executable,
    against: Path | None = None,
    flags: str = FLAGS,
) -> int:
    """Images/s through training, paired with other ways to do it.

    Args:
        rounds: by default 11 epochs, or 3 whole commands.
        torch: a Python interpreter that has PyTorch.
        against: another checkout, such as one before a change: whole commands are timed there and here, in turn.
        flags: those of recipes.optimizers, with --against, as in --flags='--seeds 2'.
    """
    if rounds is not None and rounds < 1:
        raise UsageError(f"--rounds must be at least 1, not {rounds}.")
    if against is None:
        report_race(race(rounds or 11, torch))
        return 0
    if not (against / "recipes" / "optimizers.py").is_file():
        raise UsageError(f"--against: {against} is no checkout of this project, since it has no recipes/optimizers.py.")
    return compare(against.resolve(), flags, rounds or 3)


if __name__ == "__main__":
    contestant(sys.argv[sys.argv.index("--contestant") + 1])
