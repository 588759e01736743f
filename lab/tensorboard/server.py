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
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from lab.evidence.provenance import ROOT
from lab.evidence.records import EvidenceError, read_json
from lab.tensorboard import comparison
from pipelines.errors import MachineError
from pipelines.terminal import Ended

HOST = "127.0.0.1"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
REFERENCE = ROOT / "logs" / "reference"


def newest(logs: Path, name: str) -> Path | None:
    """The newest invocation of a recipe that has a comparison's log."""
    found = sorted(path.parent for path in (logs / name).glob(f"*/{comparison.FOLDER}") if path.is_dir())
    return found[-1] if found else None


def pins(folder: Path) -> list[str]:
    """The curves of a comparison's log that are to be seen first."""
    try:
        found = read_json(folder / comparison.PINS)
    except EvidenceError:
        return []
    return [tag for tag in found if isinstance(tag, str)] if isinstance(found, list) else []


def query(tags: Sequence[str], several: bool) -> str:
    """What TensorBoard reads from its address: cards to pin, no smoothing, and where logs are `several` the same color
    for a variant in each."""
    wanted = {
        "pinnedCards": json.dumps([{"plugin": "scalars", "tag": tag} for tag in tags], separators=(",", ":")),
        "smoothing": "0",
    }
    if several:
        wanted["runColorGroup"] = "regex:([^/]+)$"
    return urllib.parse.urlencode(wanted)


class PortTakenError(MachineError):
    """The port that was asked for is another program's."""


class NoPictureError(MachineError):
    """There is nothing to take a picture with."""


def start(folders: Mapping[str, Path], port: int = 0) -> str:
    """Start TensorBoard on folders by name, for as long as this process lives; return its URL.

    Names are "RECIPE/here" and the like; where they are all of one recipe, the second part alone is shown.

    Raises:
        PortTakenError: the port is another program's.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from tensorboard import default, program

    (logdir, *others) = folders.values()
    if others:
        logdir = _linked(folders)
    server = program.TensorBoard(default.get_plugins())
    server.configure(("tensorboard", "--logdir", str(logdir), "--host", HOST, "--port", str(port)))
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # It says how it reads files.
            url: str = server.launch()
    except program.TensorBoardServerException as error:
        raise PortTakenError(f"TensorBoard can't listen on port {port}: {error.msg} Leave --port out.") from error
    return url


def _linked(folders: Mapping[str, Path]) -> Path:
    """One folder with a link to each, until this process ends."""
    links = Path(tempfile.mkdtemp(prefix="board-"))
    atexit.register(shutil.rmtree, links, ignore_errors=True)
    one_recipe = len({name.split("/")[0] for name in folders}) == 1
    for name, folder in folders.items():
        link = links / (name.rpartition("/")[2] if one_recipe else name)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(folder.resolve(), target_is_directory=True)
    return links


def serve(folders: Mapping[str, Path], seeds: Mapping[str, Path], say: Callable[[str], None], port: int = 0) -> str:
    """Start TensorBoard on comparisons, and one more on the runs of single seeds; say where they are.

    Returns:
        The address of the comparisons.
    """
    tags = list(dict.fromkeys(tag for folder in folders.values() for tag in pins(folder)))
    address = f"{start(folders, port)}?{query(tags, len(folders) > 1)}#timeseries"
    say(f"The variants, mean over seeds: {address}")
    if seeds:
        say(f"The runs of each seed, with histograms and steps: {start(seeds)}")
    sys.stdout.flush()  # Runs follow, and where this is no terminal the address would be seen when they are done.
    return address


def serve_invocations(folders: Mapping[str, Path], say: Callable[[str], None], *, reference: bool) -> None:
    """The same of invocations by their recipe's name, which may have just begun, and with `reference` of what is
    published."""
    for folder in folders.values():
        if not (folder / comparison.FOLDER).exists():
            comparison.write_progress(folder, "Runs have begun.")
    shown = {f"{name}/here": folder / comparison.FOLDER for name, folder in folders.items()}
    serve(shown | (references(folders) if reference else {}), folders, say)


def references(names: Iterable[str]) -> dict[str, Path]:
    """The published curves of recipes, of those that have any."""
    return {f"{name}/published": REFERENCE / name for name in names if (REFERENCE / name).is_dir()}


def take_picture(address: str, path: Path) -> None:
    """Save what a browser without a window shows of an address, once it shows no more, as a PNG.

    Raises:
        NoPictureError: there is no browser.
    """
    browser, driver = (next(filter(None, map(shutil.which, names)), None) for names in (BROWSERS, ("chromedriver",)))
    try:
        from selenium import webdriver
    except ImportError:
        browser = None
    if browser is None or driver is None:
        raise NoPictureError(
            "--picture needs a browser: install Debian's packages chromium and chromium-driver, and the extra dev with "
            "`pip install -c constraints.txt -e '.[dev]'`."
        )
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in ("headless", "no-sandbox", "disable-gpu", "hide-scrollbars", "window-size=1400,1080"):
        options.add_argument(f"--{flag}")
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as page:
        page.get(address)
        before = b""
        for _ in range(20):
            time.sleep(3)
            now = page.get_screenshot_as_png()
            if now == before:
                break
            before = now
    path.write_bytes(now)


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
