"""TensorBoard, started on this machine alone, at an address whose first screen is the answer."""

import atexit
import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from lab.tensorboard import comparison
from pipelines.errors import MachineError
from pipelines.terminal import Ended

HOST = "127.0.0.1"
EVENTS, TRIALS = "events.out.tfevents.*", "*-trials"
MOST_NAMED, MOST_PINNED = 6, 4


def newest(logs: Path, name: str) -> list[Path]:
    """A recipe's newest invocation that compares variants and its newest search, of those that left TensorBoard files.

    Where no comparison was written yet, the newest runs.
    """
    folders = [*(logs / name).glob("*/"), *logs.glob(f"*/{name}/*/")]  # A search's are in a folder of the search.
    left = sorted((path for path in folders if next(path.rglob(EVENTS), None)), key=lambda path: path.name)
    searches = [path for path in left if _is_search(path)]
    runs = [path for path in left if path not in searches]
    compared = [path for path in runs if (path / comparison.FOLDER).is_dir()]
    return (compared or runs)[-1:] + searches[-1:]


def _is_search(folder: Path) -> bool:
    return next(folder.glob(TRIALS), None) is not None


def describe(folder: Path) -> str:
    """What there is in an invocation's folder, such as "3 variants compared: adam, sgd, muon"."""
    trials = []
    for path in sorted(folder.glob(TRIALS)):
        logged = [trial for trial in path.iterdir() if next(trial.rglob(EVENTS), None)]
        trials.append(f"{len(logged)} of {path.name.removesuffix('-trials')}")
    if trials:
        return f"a search's trials: {', '.join(trials)}"
    compared = sorted(path.name for path in (folder / comparison.FOLDER).glob("*/"))
    compared = [name for name in compared if name not in (comparison.ANSWER, comparison.MEANS)]
    if not compared:
        return f"{len(list(folder.glob('*/seed-*')))} runs, none of which has ended"
    named = ", ".join(compared[:MOST_NAMED]) + (" and more" if len(compared) > MOST_NAMED else "")
    return f"{len(compared)} variants compared: {named}"


def query() -> str:
    """What TensorBoard reads from its address: the cards to pin, no smoothing, one color for a variant in all logs."""
    cards = [{"plugin": "scalars", "tag": tag} for tag in list(comparison.TAGS.values())[:MOST_PINNED]]
    pinned = json.dumps(cards, separators=(",", ":"))
    return urllib.parse.urlencode({"pinnedCards": pinned, "smoothing": "0", "runColorGroup": "regex:([^/]+)$"})


def start(folders: Mapping[str, Path], port: int = 0) -> str:
    """Start TensorBoard on folders by name, for as long as this process lives; return its URL.

    Names are such as "optimizers/here"; where they are all of one recipe, the second part alone is shown, and of one
    folder none.

    Raises:
        MachineError: the port is another program's.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from tensorboard import default, program

    (logdir, *others) = folders.values()
    if others or "published" in next(iter(folders)):
        logdir = _temporary()
        one_recipe = len({name.split("/")[0] for name in folders}) == 1
        for name, folder in folders.items():
            link = logdir / (name.rpartition("/")[2] if one_recipe else name)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(folder.resolve(), target_is_directory=True)
    server = program.TensorBoard(default.get_plugins())
    server.configure(("tensorboard", "--logdir", str(logdir), "--host", HOST, "--port", str(port)))
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # It says how it reads files.
            url: str = server.launch()
    except program.TensorBoardServerException as error:
        raise MachineError(f"TensorBoard can't listen on port {port}: {error.msg} Leave --port out.") from error
    return url


def _temporary() -> Path:
    """A folder that is deleted when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="board-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def serve(invocations: Mapping[str, Sequence[Path]], references: Mapping[str, Path], say: Callable, port: int) -> str:
    """Start TensorBoard on comparisons, one more on the runs of single seeds, and one on searches; say where they are.

    Args:
        invocations: folders by the recipe's name.
        references: published curves, such as {"optimizers/published": folder}.

    Returns:
        The address to open first.
    """
    folders = [(name, folder) for name, several in invocations.items() for folder in several]
    for name, folder in folders:
        say(f"{name}, {folder.name}: {describe(folder)}")
    searches = {name: folder for name, folder in folders if _is_search(folder)}
    runs = {name: folder for name, folder in folders if searches.get(name) != folder}
    compared = {f"{name}/here": folder / comparison.FOLDER for name, folder in runs.items()}
    shown = {name: folder for name, folder in compared.items() if folder.is_dir()} | dict(references)
    addresses: list[str] = []
    for words, several, page in (
        ("The variants, mean over seeds", shown, f"?{query()}#timeseries"),
        ("The runs of each seed, with histograms and steps", runs, ""),
        ("The trials of searches", searches, "#hparams"),
    ):
        if several:
            addresses.append(start(several, 0 if addresses else port) + page)
            say(f"{words}: {addresses[-1]}")
    sys.stdout.flush()  # Runs follow, and where this is no terminal the address would be seen when they are done.
    return addresses[0]


def serve_newest(names: Iterable[str], logs: Path, say: Callable, *, reference: bool = False, port: int = 0) -> str:
    """Serve the newest invocations of recipes and, with `reference`, what is published of them; return the address.

    Without `names`, of all recipes that have any.

    Raises:
        MachineError: there is nothing to show, or nothing of a recipe that was named; the port is another program's.
    """
    from lab.experiments import NAMES

    found = {name: newest(logs, name) for name in names or NAMES}
    published = published_curves(found) if reference else {}
    shown = {name for name, folders in found.items() if folders} | {name.split("/")[0] for name in published}
    if missing := [name for name in found if name not in shown] if names or not shown else []:
        there = [f"{name}: {len(list((logs / name).glob('*/')))} invocations" for name in missing]
        raise MachineError(
            f"There are no TensorBoard files under {logs} ({', '.join(there)}): run `python -m recipes.{missing[0]}` "
            "without --no-log, or add --reference for the published curves. Tuning sweeps leave none."
        )
    return serve({name: folders for name, folders in found.items() if folders}, published, say, port)


def serve_invocations(folders: Mapping[str, Path], say: Callable[[str], None], *, reference: bool) -> None:
    """Serve invocations, which may have just begun, by their recipe's name; with `reference` what is published, too."""
    for folder in folders.values():
        if not (folder / comparison.FOLDER).exists() and not _is_search(folder):
            comparison.write_progress(folder)
    several = {name: [folder] for name, folder in folders.items()}
    serve(several, published_curves(folders) if reference else {}, say, 0)


def published_curves(names: Iterable[str]) -> dict[str, Path]:
    """Write the curves of published evidence to a temporary folder: "optimizers/published" and the like -> folder.

    What was measured with an earlier version of a recipe is called so.
    """
    from lab.experiments import NAMES, load
    from lab.report.published import STALE, Published
    from lab.report.report import Report

    found: dict[str, Path] = {}
    for name in set(names) & set(NAMES):
        experiment = load(name)
        quick, full = (Published.read(experiment, budget=budget) for budget in ("quick", "full"))
        published = quick if quick.evidence else full
        if published.evidence:
            label = "published, earlier version" if published.stale else "published"
            folder, report = _temporary(), Report(experiment, published.evidence, published.tuning)
            comparison.write_finished(folder, report, f"This was {STALE}." if published.stale else "")
            found[f"{name}/{label}"] = folder / comparison.FOLDER
    return found


def wait(say: Callable[[str], None]) -> None:
    """Return when Ctrl-C is pressed."""
    say("TensorBoard listens on this machine alone, until Ctrl-C.")
    sys.stdout.flush()
    try:
        threading.Event().wait()
    except Ended:  # Told to end, and not by Ctrl-C.
        raise
    except KeyboardInterrupt:
        pass
