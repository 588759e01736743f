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
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from lab.tensorboard import comparison, events
from pipelines.errors import MachineError
from pipelines.terminal import Ended

HOST = "127.0.0.1"
MOST_PINNED = 4


def newest(logs: Path, name: str) -> dict[str, Path]:
    """A recipe's newest folders with TensorBoard files, as far as there are any.

    "compared" has the variants of a finished invocation, "runs" the runs of seeds, "search" the trials of a search.
    """
    folders = [*(logs / name).glob("*/"), *logs.glob(f"*/{name}/*/")]  # A search's are in a folder of the search.
    found = {}
    for folder in sorted(folders, key=lambda path: path.name):
        if next(folder.rglob(events.FILES), None) is None:
            continue
        found["search" if next(folder.glob("*-trials"), None) else "runs"] = folder
        if (folder / comparison.FOLDER).is_dir():
            found["compared"] = folder / comparison.FOLDER
    return found


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


def serve_newest(names: Iterable[str], logs: Path, say: Callable, *, reference: bool = False, port: int = 0) -> str:
    """Serve the newest comparisons and, with `reference`, what is published, then the runs of seeds and the searches.

    Without `names`, those of all recipes that have any. Says where each is served, and returns the first address.

    Raises:
        MachineError: there is nothing to show, or nothing of a recipe that was named; the port is another program's.
    """
    from lab.experiments import NAMES

    found = {name: newest(logs, name) for name in names or NAMES}
    published = published_curves(found) if reference else {}
    shown = {name for name, folders in found.items() if folders} | {name.split("/")[0] for name in published}
    if missing := [name for name in found if name not in shown] if names or not shown else []:
        raise MachineError(
            f"{logs} has no TensorBoard files of {', '.join(missing)}: run `python -m recipes.{missing[0]}` without "
            "--no-log, or add --reference for the published curves. Tuning sweeps leave none."
        )
    folders = {kind: {n: of[kind] for n, of in found.items() if kind in of} for kind in ("compared", "runs", "search")}
    addresses: list[str] = []
    for words, several, page in (
        (
            "The variants, mean over seeds",
            {f"{name}/here": folder for name, folder in folders["compared"].items()} | published,
            f"?{query()}#timeseries",
        ),
        ("The runs of each seed, with histograms and steps", folders["runs"], ""),
        ("The trials of searches", folders["search"], "#hparams"),
    ):
        if several:
            addresses.append(start(several, 0 if addresses else port) + page)
            say(f"{words}: {addresses[-1]}")
            for folder in several.values():
                say(f"  {folder}")
    return addresses[0]


def published_curves(names: Iterable[str]) -> dict[str, Path]:
    """Write the curves of published evidence to a temporary folder: "optimizers/published" and the like -> folder.

    What was measured with an earlier version of a recipe is called so.
    """
    from lab.experiments import load
    from lab.report.published import STALE, Published
    from lab.report.report import Report

    found: dict[str, Path] = {}
    for name in names:
        experiment = load(name)
        published = Published.read(experiment)
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
