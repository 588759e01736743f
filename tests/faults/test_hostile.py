"""Files from strangers: read and shown, never run, and nothing outside of what was named is read or written."""

import ast
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from lab.cli import commands
from lab.evidence import provenance
from lab.experiments import load
from pipelines import folders, sources
from pipelines.errors import RequestError
from pipelines.sources import Request
from tests.conftest import ROOT
from tests.faults.kills import MARK, marked

# What runs what it reads. A model file of the reader's own (`--model`) is run, by `exec_module`, and said to be.
RUNS = {"eval", "exec", "compile", "system", "popen", "pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
RUNS |= {"enable_unsafe_deserialization", "unsafe_load", "run_path", "run_module"}
HARMLESS = {"compile", "eval", "system", "popen"}  # As methods of Keras, `re` and `platform`.
OF_OS = {"os.system", "os.popen"}
SWITCHES = {("shell", True), ("allow_pickle", True), ("safe_mode", False)}
RUN_ON_PURPOSE = {"pipelines/tf_import.py", "lab/execute/own_model.py"}


def of(path: Path) -> list[str]:
    """What a file of ours says that would run something which it was given."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RUNS:
            found.append(node.func.id)
        if isinstance(node, ast.Attribute) and (node.attr in RUNS - HARMLESS or ast.unparse(node) in OF_OS):
            found.append(node.attr)
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [name for name in names if name.split(".")[0] in RUNS]
        if isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
            found += [node.arg or "" for switch in SWITCHES if switch == (node.arg, node.value.value)]
        if isinstance(node, ast.Attribute) and node.attr == "exec_module":
            found += [] if str(path.relative_to(ROOT)) in RUN_ON_PURPOSE else ["exec_module"]
    return found


@pytest.mark.parametrize("package", ["pipelines", "recipes", "lab"])
def test_nothing_that_is_read_is_run(package):
    wrong = {str(path): of(path) for path in (ROOT / package).rglob("*.py")}
    assert {path: found for path, found in wrong.items() if found} == {}


@pytest.mark.parametrize(
    "text", ["eval(x)", "import pickle", "np.load(x, allow_pickle=True)", "os.system(x)", "spec.loader.exec_module(x)"]
)
def test_what_would_run_it_is_found(monkeypatch, tmp_path, text):
    (tmp_path / "module.py").write_text(text)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert of(tmp_path / "module.py")


@pytest.mark.parametrize("name", ["HEAD", "main", "--help", "--output=x", "", "a" * 40 + "\n", "0" * 40])
def test_a_commit_in_evidence_is_no_flag_and_no_name(name, tmp_path, monkeypatch):
    """Asked in a checkout of its own: the tests may run where there is none, and there any commit may be."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "There is one"], check=True)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert provenance.is_commit(head)
    assert not provenance.is_commit(name)


# Folders of images


@pytest.fixture
def images(tmp_path) -> Path:
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(30):
            Image.new("RGB", (9, 9), (number, 0, 0)).save(tmp_path / "images" / name / f"{number:02}.png")
    return tmp_path / "images"


@pytest.mark.parametrize("what", ["file", "class", "part"])
def test_no_link_leads_out_of_a_folder(images, tmp_path, what):
    secret = tmp_path / "private"
    for name in ("c", "d"):
        (secret / name).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(secret / name / "secret.png")
    if what == "file":
        (images / "a" / "holiday.png").symlink_to(secret / "c" / "secret.png")
    elif what == "class":
        (images / "c").symlink_to(secret / "c")
    else:
        for part in ("train", "test"):
            (images / part).symlink_to(secret)
    with pytest.raises(RequestError) as error:
        folders.listing(images)
    assert str(secret) in str(error.value)


def test_links_inside_a_folder_and_to_it_are_followed(images, tmp_path):
    (images / "a" / "again.png").symlink_to(images / "a" / "00.png")
    (tmp_path / "link").symlink_to(images)
    assert len(folders.listing(tmp_path / "link").parts["train"]) == 61


def test_a_small_file_with_a_large_image_is_refused(images):
    Image.new("L", (10_000, 10_000)).save(images / "a" / "bomb.png")
    assert (images / "a" / "bomb.png").stat().st_size < 200_000
    with pytest.raises(RequestError, match=r"bomb\.png"):
        sources.load(Request(f"folder:{images}"))
    Image.new("L", (14_000, 14_000)).save(images / "a" / "bomb.png")  # Pillow's own limit.
    with pytest.raises(RequestError, match=r"bomb\.png"):
        sources.load(Request(f"folder:{images}"))


def test_of_other_formats_no_program_is_started(monkeypatch, images, tmp_path):
    """Pillow would hand PostScript to Ghostscript, whatever the file is called."""
    from PIL import EpsImagePlugin

    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    header = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    (images / "a" / "program.png").write_bytes(header + b"showpage\n" * 20)
    with pytest.raises(RequestError, match=r"program\.png"):
        sources.load(Request(f"folder:{images}"))
    assert not (tmp_path / "started").exists()


@pytest.mark.processes
def test_names_of_files_and_classes_do_nothing_on_pages(tmp_path):
    """HTML, Markdown, links and what Matplotlib would take for formulas."""
    evil = ["<img src=x onerror=alert(1)>", "[a](javascript:b)", "$\\frac{$", "x..", "a|b`c", "-rf"]
    colors = np.random.default_rng(0)
    for name in evil:
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(60):
            pixels = colors.integers(0, 256, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"<b>{number}.png")
    flags = ["--budget", "smoke", "--epochs", "1", "--data", f"folder:{tmp_path / 'images'}", "--batch-size", "32"]
    assert commands.run(load("shuffling"), [*flags, "--variants", "shuffled", "--logdir", str(tmp_path / "logs")]) == 0
    written = [path for path in (tmp_path / "logs").rglob("*") if path.is_file()]
    assert len(written) > 5
    pages = [path for path in written if path.suffix != ".json"]  # Data, which no browser and no viewer renders.
    assert [str(path) for path in pages if b"<img src=x" in path.read_bytes()] == []
    assert {".md", ".html"} & {path.suffix for path in pages}
    assert sources.load(Request(f"folder:{tmp_path / 'images'}")).classes == tuple(sorted(evil))


# Sockets


def listening(mark: str) -> Iterator[str]:
    """The addresses at which processes of a command listen, from any machine's point of view."""
    for process in marked(mark):
        try:
            sockets = process.net_connections(kind="inet")
        except psutil.Error:
            continue
        yield from (found.laddr.ip.removeprefix("::ffff:") for found in sockets if found.status == psutil.CONN_LISTEN)


def watched(command: list[str], printed: Path, until: str = "") -> tuple[set[str], str]:
    """The addresses that a command has listened at, and what it printed; with `until`, it is ended when it says so."""
    mark, found = f"sockets-{os.getpid()}-{time.monotonic()}", set()
    with printed.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, MARK: mark}, stdout=file, stderr=file)
    deadline = time.monotonic() + 200
    try:
        while process.poll() is None and time.monotonic() < deadline:
            found |= set(listening(mark))
            if until and found and until in printed.read_text():
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=30)
            time.sleep(0.1)
    finally:
        for left in marked(mark):
            left.kill()
        process.wait()
    return found, printed.read_text()


@pytest.mark.processes
def test_a_plain_run_listens_nowhere_and_leaves_nothing(monkeypatch, tmp_path):
    with tempfile.TemporaryDirectory(prefix="own-") as own:  # A short name: sockets in it have long ones.
        monkeypatch.setenv("TMPDIR", own)
        flags = ["--budget", "smoke", "--variants", "linear", "--logdir", str(tmp_path)]
        found, said = watched([sys.executable, "-m", "recipes.sequential", *flags], tmp_path / "said")
        assert "Evidence" in said
        assert found == set()
        assert list(Path(own).iterdir()) == []


@pytest.mark.processes
def test_tensorboard_listens_on_this_machine_alone(tmp_path):
    found, said = watched(
        [sys.executable, "-m", "recipes", "board", "optimizers", "--reference"], tmp_path / "said", "until Ctrl-C"
    )
    assert found == {"127.0.0.1"}
    assert "on this machine alone" in said


@pytest.mark.clusters
def test_what_listens_everywhere_says_so_first(tmp_path):
    flags = ["--budget", "smoke", "--variants", "workers_2", "--no-log", "--logdir", str(tmp_path)]
    sentence = "TensorFlow's servers listen on all addresses of this machine"
    found, said = watched([sys.executable, "-m", "recipes.distributed", *flags], tmp_path / "said", until=sentence)
    assert found & {"0.0.0.0", "::"}  # If not, TensorFlow can be told, and SECURITY.md can say so.
    assert sentence in said.splitlines()[0]
