"""Run a KerasTuner script as a chief and workers on this machine, and end them all: --workers 2 my_search.py

A chief waits for ever for a worker that died, and workers wait an hour for a chief that died. Here a dead worker starts
again under its name, so that the chief hands it its trial again.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time

RESTARTS, GRACE = 3, 45  # Of all workers; seconds for the chief to end after them, since it looks every 20.


def main() -> None:
    """Exit with 0, 1 if the search did not end well, 2 for usage, 130 for Ctrl-C, 143 for SIGTERM."""
    parser = argparse.ArgumentParser("python -m lab.search.supervise", description=__doc__)
    parser.add_argument("--workers", type=int, choices=range(1, 1000), metavar="N", default=2, help="default: 2")
    parser.add_argument("script", type=argparse.FileType(), help="makes a KerasTuner tuner and calls its search()")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="the script's own arguments")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # `finally` then ends the processes.
    try:
        sys.exit(supervise([sys.executable, options.script.name, *options.rest], options.workers))
    except KeyboardInterrupt:
        sys.exit(130)


def supervise(command: list[str], workers: int) -> str | None:
    """Run `command` once as the chief and `workers` times as a worker. Return what went wrong, if anything did."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        shared = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(free.getsockname()[1])}
    direct = os.environ.get("no_grpc_proxy", os.environ.get("no_proxy", ""))  # noqa: SIM112
    shared["no_grpc_proxy"] = f"{direct},127.0.0.1"  # Else gRPC asks a proxy for the chief.
    start = lambda name: subprocess.Popen(command, env={**os.environ, **shared, "KERASTUNER_TUNER_ID": name})  # noqa: E731
    running, restarts, deadline = dict[str, subprocess.Popen](), RESTARTS, 0.0
    try:
        for name in ["chief", *(f"worker-{number}" for number in range(workers))]:
            running[name] = start(name)
        while not deadline or (time.monotonic() < deadline and any(one.poll() is None for one in running.values())):
            time.sleep(0.2)
            codes = {name: process.poll() for name, process in running.items()}
            chief = codes.pop("chief")
            if chief == 0 or set(codes.values()) == {0}:  # Whoever is left waits for one that is gone.
                deadline = deadline or time.monotonic() + GRACE
            elif chief:
                break
            for name in [name for name, code in codes.items() if code and not deadline]:
                if not restarts:
                    return f"{name} ended with exit code {codes[name]}, after {RESTARTS} restarts."
                print(f"{name} ended with exit code {codes[name]} and starts again.", file=sys.stderr)
                restarts, running[name] = restarts - 1, start(name)
        code = running["chief"].poll()
        return f"The chief ended with exit code {code}. Run this again to go on with its search." if code else None
    finally:
        for process in running.values():
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
