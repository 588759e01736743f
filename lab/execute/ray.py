"""Does jobs on a Ray cluster: the one that RAY_ADDRESS names, or a local one."""

import logging
import os
import secrets
import socket
from collections.abc import Generator
from typing import Any

from lab.execute.executor import RUNS_PER_WORKER, Outcome, Started
from lab.execute.job import Job, failed, run_job
from pipelines.errors import MachineError, UsageError

REACHES = 5.0  # Seconds, within which a cluster must answer.


def on_ray(work: list[Job], workers: int, gpus: int, started: Started) -> Generator[Outcome, None, None]:
    """Do `work` on the cluster that RAY_ADDRESS names, or on a local one of so many workers.

    Ray's servers listen on all of the machine's addresses and can't be told otherwise, so the local one takes orders
    only from who knows a token that is made for it.

    Raises:
        UsageError: Ray is not installed, or RAY_ADDRESS is no address.
        MachineError: nobody answers at that address.
    """
    ray = _begin(workers)
    remote = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0, max_retries=0, max_calls=RUNS_PER_WORKER)(run_job)
    waiting = {}
    try:
        for job in work:
            started(job)
            waiting[remote.remote(job)] = job
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            job = waiting.pop(done)
            try:
                yield job, ray.get(done)
            except ray.exceptions.RayError as error:
                yield job, failed(job, f"its worker died ({type(error).__name__})")
    finally:
        ray.shutdown()


def starts_a_cluster() -> bool:
    """Whether `on_ray` starts one of its own: no other is named."""
    return os.environ.get("RAY_ADDRESS", "local") in ("", "local")


def _begin(workers: int) -> Any:
    """Connect to the cluster, and return Ray."""
    address = os.environ.get("RAY_ADDRESS", "local")
    local: dict[str, Any] = {}
    if starts_a_cluster():
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        local = {"num_cpus": workers, "_node_ip_address": "127.0.0.1"}
    elif address != "auto":
        _check_reached(address)
    try:
        import ray
    except ImportError as error:
        raise UsageError("--backend ray needs Ray: install the extra with `pip install -e '.[ray]'`.") from error
    if not ray.is_initialized():
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **local)
        except ConnectionError as error:
            raise MachineError(f"No Ray cluster answers at RAY_ADDRESS={address}: start it, or unset that.") from error
    return ray


def _check_reached(address: str) -> None:
    """Ray itself would try for two minutes before it says that nobody answers."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    host = host.strip("[]")
    if not (host and port.isdecimal() and int(port) < 65536):
        raise UsageError(f"RAY_ADDRESS must be HOST:PORT, ray://HOST:PORT, auto or local, not {address!r}.")
    try:
        socket.create_connection((host, int(port)), timeout=REACHES).close()
    except (OSError, UnicodeError) as error:  # Some names can't be any host's.
        raise MachineError(
            f"No Ray cluster answers at RAY_ADDRESS={address} ({error}): start it, or unset that variable."
        ) from error
