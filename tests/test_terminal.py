"""What a command finds around it: its output, signals, proxies, a home and a system that lack something."""

import concurrent.futures
import http.server
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import grpc
import pytest
import requests

from lab.cli.cookbook import listing
from pipelines import terminal
from tests.conftest import ROOT

RUN = "-m tests.toys.guess --seeds 1 --no-log"
processes = pytest.mark.processes


def shell(command: str, **variables: str) -> subprocess.CompletedProcess:
    """A command line of bash's, in which $P is this Python."""
    everything = {**os.environ, "P": sys.executable, **variables}
    words = ["bash", "-c", command]
    return subprocess.run(words, cwd=ROOT, env=everything, capture_output=True, text=True, timeout=300)


@processes
@pytest.mark.parametrize("what", ["-m recipes list", RUN])
def test_whoever_reads_a_pipe_may_stop_reading(what, tmp_path):
    done = shell(f"$P {what} {f'--logdir {tmp_path}' if what == RUN else ''} | head -1")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1


@processes
@pytest.mark.parametrize("what", ["-m recipes list", RUN])
def test_a_full_disk_is_a_sentence(what, tmp_path):
    done = shell(f"$P {what} {f'--logdir {tmp_path}' if what == RUN else ''} > /dev/full")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


@processes
def test_what_a_terminal_can_not_show_is_replaced():
    done = shell("$P -m recipes list", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "optimizers" in done.stdout


@processes
def test_ctrl_c_where_nothing_waits_for_it_yet_is_a_word():
    heeding = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  What runs in the background does not.
    code = "import sys; sys.argv[0] = '-m'; import recipes, time; print('begun', flush=True); time.sleep(60)"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, preexec_fn=heeding, **pipes)
    assert started.stdout.readline() == "begun\n"
    started.send_signal(signal.SIGINT)
    _, complained = started.communicate(timeout=60)
    assert (started.returncode, complained) == (130, "\nStopped.\n")


@processes
def test_a_home_that_cannot_be_written_to_is_not_needed(tmp_path):
    """Matplotlib then makes a temporary folder in each process, also in the one that workers are forked from."""
    done = shell(f"$P -m recipes.sequential --budget smoke --variants linear --logdir {tmp_path}", HOME="/proc/nohome")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["recipes", "recipes.sequential --budget smoke"])
def test_a_working_folder_that_was_deleted(tmp_path, command):
    done = shell(
        f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone; $P -m {command}", PYTHONPATH=str(ROOT)
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "The working folder has been deleted: change to one that is there.\n"


@processes
def test_keras_2_is_not_used_and_that_is_said():
    done = shell("$P -m recipes.sequential --help", TF_USE_LEGACY_KERAS="1")
    assert done.returncode == 0
    (sentence,) = done.stderr.splitlines()
    assert "TF_USE_LEGACY_KERAS" in sentence


# Proxies


@pytest.fixture
def server():
    """A server on loopback, and the address at which nobody listens that is set as everybody's proxy."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_address[1]}/"
        serving.shutdown()


@pytest.fixture
def proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_a_proxy_does_not_touch_loopback(proxy, server):
    with pytest.raises(requests.ConnectionError):  # Else the next lines would show nothing.
        requests.get(server, timeout=5)
    terminal.keep_loopback_direct()
    assert requests.get(server, timeout=5).status_code == 204
    with urllib.request.urlopen(server, timeout=5) as answer:
        assert answer.status == 204


def test_a_proxy_does_not_touch_grpc_on_loopback(proxy):
    terminal.keep_loopback_direct()
    serving = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    port = serving.add_insecure_port("127.0.0.1:0")
    serving.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
    serving.stop(None)


@pytest.mark.parametrize(
    ("given", "then"),
    [
        ({"no_proxy": "intern.example"}, "intern.example,127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "a, b"}, "a,b,127.0.0.1,localhost,::1"),
        ({"no_proxy": "localhost"}, "localhost,127.0.0.1,::1"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_what_a_user_has_exempted_stays_exempted(monkeypatch, proxy, given, then):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        terminal.keep_loopback_direct()
    assert {os.environ[name] for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy")} == {then}


# Windows

WITHOUT = """
import importlib.abc, os, signal, sys
class Refuses(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource", "grp", "pwd", "termios"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
for name in ("fcntl", "resource", "grp", "pwd", "termios"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Refuses())
for name in ("sched_getaffinity", "sysconf", "getuid", "geteuid", "posix_fallocate"):
    delattr(os, name)
for name in ("SIGHUP", "SIGKILL", "SIGSTOP"):
    delattr(signal, name)
"""


@processes
def test_what_windows_lacks_is_not_needed_to_import():
    code = f"{WITHOUT}\nsys.argv[0] = '-m'\nimport recipes.sequential, lab.measurement, lab.cli.commands"
    start = [sys.executable, "-W", "ignore:only soft file lock", "-c", code]  # filelock has another way on Windows.
    done = subprocess.run(start, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")


BEYOND_ALL = f'{{"claims": [], "stale": false, "quick_seconds": {10**400}}}'


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"claims": 5}', "", BEYOND_ALL])
def test_a_summary_that_is_broken_takes_only_its_own_row(monkeypatch, content):
    broken = ROOT / "results" / "optimizers" / "summary.json"
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: content.encode() if path == broken else read(path))
    cells = list(listing(["optimizers", "sequential"]).columns[2].cells)
    assert cells[0] == "its summary is broken: git checkout results/optimizers/summary.json"
    assert re.match(r"\d+ (supported|with an earlier version)", cells[1])
