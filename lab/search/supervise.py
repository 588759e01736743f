"""Run a KerasTuner script as one chief and several workers on this machine, and see to it that all of them end.

python -m lab.search.supervise --workers 2 my_search.py

KerasTuner's chief ends when every worker has told it that the search is over, so one worker that dies keeps it waiting
for ever; and workers wait an hour for a chief that has died. Here a worker that dies is started again under its old
name (the chief then gives it its old trial), and whatever does not end by itself is ended.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from pipelines.terminal import ENDED, INTERRUPTED, Ended

GRACE = 45  # Seconds for the chief to end after the workers have: it looks every 20.


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code: 0, 1 if the search did not end well, 2 for usage."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.search.supervise",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workers", type=int, default=2, help="how many; default: 2")
    parser.add_argument("--restarts", type=int, default=3, help="how often workers may be started again; default: 3")
    parser.add_argument("--timeout", type=float, default=86400, help="seconds after which all is ended; default: a day")
    parser.add_argument("script", help="a Python script that builds a tuner and calls its search()")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="arguments of the script")
    options = parser.parse_args(arguments)
    if options.workers < 1 or options.restarts < 0 or options.timeout <= 0:
        parser.error("--workers must be at least 1, --restarts at least 0 and --timeout more than 0")
    if not Path(options.script).is_file():
        parser.error(f"there is no script {options.script}")
    command = [sys.executable, options.script, *options.rest]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that `finally` ends the children.
    try:
        complaint = supervise(command, options.workers, options.restarts, options.timeout)
    except KeyboardInterrupt as interruption:
        return ENDED if isinstance(interruption, Ended) else INTERRUPTED
    if complaint:
        print(complaint, file=sys.stderr)
    return 1 if complaint else 0


def supervise(command: list[str], workers: int, restarts: int = 3, timeout: float = 86400) -> str:
    """Run `command` once as chief and `workers` times as worker; return what went wrong, or an empty string."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(port)}
    running: dict[str, subprocess.Popen] = {}

    def start(name: str) -> None:
        running[name] = subprocess.Popen(command, env={**os.environ, **where, "KERASTUNER_TUNER_ID": name})

    deadline = time.monotonic() + timeout
    try:
        start("chief")
        for number in range(workers):
            start(f"worker-{number}")
        while True:
            codes = {name: process.poll() for name, process in running.items()}
            chief = codes.pop("chief")
            over = chief == 0 or all(code == 0 for code in codes.values())
            if chief:
                return "The chief died. What was finished is kept in the project's folder: run it again to go on."
            if over:
                break
            for name in [name for name, code in codes.items() if code]:
                if not restarts:
                    return f"{name} died (exit code {codes[name]}), and workers were started again often enough."
                print(f"{name} died (exit code {codes[name]}) and is started again.", file=sys.stderr)
                restarts -= 1
                start(name)
            if time.monotonic() > deadline:
                return f"The search took longer than {timeout:g} s and was ended. Run it again to go on."
            time.sleep(0.2)
        # For the chief or for all workers the search is over. Whoever waits for one that is gone is ended.
        latest = time.monotonic() + GRACE
        while any(process.poll() is None for process in running.values()) and time.monotonic() < latest:
            time.sleep(0.2)
        code = running["chief"].poll()
        if code is None:
            print("The chief waited for a worker that is gone, and was ended.", file=sys.stderr)
        return f"The search is over, but the chief failed after it (exit code {code})." if code else ""
    finally:
        for process in running.values():
            process.kill()
        for process in running.values():
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
