"""TensorBoard, served: what its first screens show without a click, in a real browser, and what its server answers."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import keras
import numpy as np
import pytest
from PIL import Image

from lab.experiments import sequential
from lab.tensorboard import events
from tests import test_comparison
from tests.browser import opened
from tests.conftest import ROOT
from tests.toys import made_up

# All text of a page, also in shadow roots and frames, where TensorBoard keeps most of it.
TEXT = """
function text(node) {
  if (node.nodeType === Node.TEXT_NODE) return node.textContent;
  if (['SCRIPT', 'STYLE'].includes(node.tagName)) return '';
  const inner = node.tagName === 'IFRAME' ? [node.contentDocument.body] : [];
  return [node.shadowRoot, ...inner, ...node.childNodes].filter(Boolean).map(text).join(' ');
}
return text(document.body);
"""
# Of each row of the list of runs its name and the color of its lines.
RUNS = """
const rows = [...document.querySelectorAll('tb-data-table-content-row')];
return rows.filter(row => row.querySelector('.run-color-swatch')).map(row => [
  row.innerText.trim().split(/[\\n\\t]/)[0], getComputedStyle(row.querySelector('.run-color-swatch')).backgroundColor
]).filter(([name, color]) => name);
"""
VARIANTS = ("red", "green", "blue", "cyan", "black", "white")


def invocation(folder, seeds: int, more: float = 0.0) -> None:
    """What an invocation of six variants leaves."""
    model = keras.Sequential([keras.Input((2,), name="numbers"), keras.layers.Dense(2, name="head")], name="one")
    records = []
    for place, name in enumerate(VARIANTS):
        for seed in range(seeds):
            end = 0.3 + 0.1 * place + 0.01 * seed + more
            curves = {"accuracy": [end - 0.1, end - 0.05, end], "val_accuracy": [end - 0.2, end - 0.08, end]}
            curves |= {"loss": [3 - end, 2 - end, 1 - end], "val_loss": [3.1 - end, 2.2 - end, 1.3 - end]}
            config, metrics = {"epochs": 3, "rate": end}, {"test_accuracy": end - more}
            record = made_up.record(name, seed, curves=curves, config=config, metrics=metrics)
            if not more:
                (test_comparison.leave_run(folder, record) / events.MODEL).write_text(model.to_json())
                test_comparison.leave_rates(folder, name, seed, [[0, 0.1], [30, 0.1 * end]])
            records.append(record)
    samples = {name: np.full((6, 8, 8, 3), 40 * place, np.uint8) for place, name in enumerate(VARIANTS)}
    test_comparison.finish(folder, records, ("cat", "dog"), samples)


def served(*arguments: str) -> tuple[subprocess.Popen, list[str]]:
    """`python -m recipes board`, and the addresses that it prints."""
    command = [sys.executable, "-u", "-m", "recipes", "board", *arguments]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
    assert server.stdout is not None
    found = []
    for line in server.stdout:
        found += re.findall(r"http://127.0.0.1.*", line)
        if "until Ctrl-C" in line:
            return server, found
    raise AssertionError("no address was printed")


def stop(server: subprocess.Popen) -> None:
    server.send_signal(signal.SIGINT)
    assert server.wait(timeout=30) == 0


@pytest.fixture(scope="module", params=[1, 10], ids=["6 runs", "60 runs"])
def board(request, tmp_path_factory):
    """The folder of an invocation, and where its comparison and the runs of its seeds are served."""
    logs = tmp_path_factory.mktemp("logs")
    folder = logs / "sequential" / "20260101-000000"
    invocation(folder, request.param)
    server, addresses = served("sequential", "--logdir", str(logs))
    yield folder, *addresses
    stop(server)


@pytest.fixture(scope="module")
def browser():
    """A newcomer's tests pass without a browser; where everything must be tested, its absence is a failure."""
    driver = shutil.which("chromedriver")
    if driver is None:
        sentence = "This test needs a browser: install Debian's packages chromium and chromium-driver."
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(sentence)
    with opened() as browser:
        yield browser


def missing(wanted: list[str], text: str) -> list[str]:
    """What is not there, whatever elements its words are in."""
    return [words for words in wanted if "".join(words.split()) not in "".join(text.split())]


def shown(browser, address: str, page: str, wanted: list[str], until=lambda: True) -> str:
    """The text of a page once all that is wanted is there; a page that is in error fails."""
    browser.get("about:blank")  # A new address after the # alone would not load the page anew.
    browser.get(f"{address.partition('#')[0]}#{page}")
    deadline, text = time.monotonic() + 90, ""
    while time.monotonic() < deadline and (missing(wanted, text) or not until()):
        time.sleep(0.5)
        text = browser.execute_script(TEXT)
    assert missing(wanted, text) == []
    for complaint in ("No dashboards are active", "No scalar data was found", "Failed to fetch", "Error:", "Malformed"):
        assert complaint not in text
    severe = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert [line for line in severe if "font" not in line.lower() and "favicon" not in line] == []
    return text


def pixels(browser, left: int, right: int) -> dict[tuple[int, ...], int]:
    """How many pixels of each color there are between two columns of the screen, gray ones left out."""
    picture = np.asarray(Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB"))[70:, left:right]
    colored = picture[np.ptp(picture.astype(int), axis=2) > 30]
    colors, counts = np.unique(colored, axis=0, return_counts=True)
    return {tuple(color): int(count) for color, count in zip(colors.tolist(), counts, strict=True)}


def colors_of(browser) -> dict[str, tuple[int, ...]]:
    """run -> the color of its lines, from the list of runs."""
    rows = browser.execute_script(RUNS)
    return {name: tuple(map(int, re.findall(r"\d+", color)[:3])) for name, color in rows}


@pytest.mark.browser
def test_time_series_show_each_variant_by_name_and_by_a_drawn_line(board, browser):
    _, address, _ = board
    first = ["accuracy/validation", "loss/training", "gap/training minus validation accuracy", "Pinned"]
    lines = lambda: all(pixels(browser, 300, 1180).get(colors_of(browser).get(v, ()), 0) > 50 for v in VARIANTS)  # noqa: E731
    shown(browser, address, "timeseries", [*VARIANTS, *first], lines)
    assert lines()


@pytest.mark.browser
def test_custom_scalars_show_each_variant_by_name_and_drawn(board, browser):
    _, address, _ = board
    lines = lambda: sum(count > 50 for count in pixels(browser, 360, 1500).values()) >= len(VARIANTS)  # noqa: E731
    shown(browser, address, "custom_scalars", [*VARIANTS, "Mean over seeds", f"Matches ({len(VARIANTS)})"], lines)
    assert lines()


def asked(url: str, content: dict) -> dict:
    request = urllib.request.Request(url, json.dumps(content).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


@pytest.mark.processes
def test_hparams_has_a_row_for_each_variant_and_each_run_and_no_empty_column(board):
    folder, *addresses = board
    runs = len(list(folder.glob("*/seed-*")))
    for address, count in zip(addresses, (len(VARIANTS), len(VARIANTS) + runs), strict=True):
        root = f"{address.partition('?')[0]}data/plugin/hparams"
        every = {"allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]}
        wanted = {"experimentName": "", **every, "colParams": [], "startIndex": 0, "sliceSize": 100}
        rows: list = []
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(rows) < count:
            rows = asked(f"{root}/session_groups", wanted)["sessionGroups"]
            time.sleep(0.3)
        assert len(rows) == count
        assert {row["hparams"]["variant"] for row in rows} == set(VARIANTS)
        for row in rows:
            assert [metric["name"]["tag"] for metric in row["metricValues"]] == ["final/test_accuracy"]
        for info in asked(f"{root}/experiment", {"experimentName": ""})["hparamInfos"]:
            assert any(row["hparams"].get(info["name"]) is not None for row in rows), info["name"]


@pytest.mark.browser
def test_the_hparams_page_shows_settings_and_metrics(board, browser):
    _, address, _ = board
    shown(browser, address, "hparams", [*VARIANTS, "rate", "final/test_accuracy"])


@pytest.mark.browser
@pytest.mark.parametrize(
    ("page", "wanted"),
    [
        ("images", [*VARIANTS, "confusion matrix, all seeds", "trained on, a sample"]),
        ("text", ["answer", "Mean ± standard deviation over seeds.", "A card", *VARIANTS]),
        ("graphs", ["numbers", "head"]),
    ],
)
def test_a_page_has_what_it_is_for(board, browser, page, wanted):
    _, address, _ = board
    shown(browser, address, page, wanted)


def scalars(address: str, run: str, tag: str) -> list[list[float]]:
    wanted = urllib.parse.urlencode({"run": run, "tag": tag})
    with urllib.request.urlopen(
        f"{address.partition('?')[0]}data/plugin/scalars/scalars?{wanted}", timeout=10
    ) as answer:
        return [[step, value] for _, step, value in json.loads(answer.read())]


@pytest.mark.processes
def test_what_is_written_anew_takes_the_place_of_what_was_shown(board):
    folder, address, _ = board
    seeds = len(list((folder / "red").glob("seed-*")))
    mean = 0.3 + 0.01 * (seeds - 1) / 2
    assert scalars(address, "red", "accuracy/validation")[-1] == pytest.approx([3, mean])
    invocation(folder, seeds, more=0.05)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = scalars(address, "red", "accuracy/validation")
        if found[-1] == pytest.approx([3, mean + 0.05]):
            break
        time.sleep(0.5)
    assert found == pytest.approx(np.array([[1, mean - 0.15], [2, mean - 0.03], [3, mean + 0.05]]))


@pytest.mark.browser
def test_published_curves_have_the_same_colors_as_ones_own(tmp_path, browser):
    folder = tmp_path / "sequential" / "20260101-000000"
    invocation(folder, 1)
    first, second = list(sequential.VARIANTS)[:2]
    for name, of_ours in ((first, "red"), (second, "blue")):
        (folder / "compare" / of_ours).rename(folder / "compare" / name)
    server, (address, *_) = served("sequential", "--reference", "--logdir", str(tmp_path))
    try:
        shown(browser, address, "timeseries", [f"here/{first}"], lambda: f"here/{first}" in colors_of(browser))
        colors = colors_of(browser)
        named = re.compile(f"published[^/]*/{first}")  # And not its row of means.
        (published,) = filter(named.fullmatch, colors)
        assert colors[f"here/{first}"] == colors[published]
        assert colors[f"here/{first}"] != colors[f"here/{second}"]
    finally:
        stop(server)
