"""Where numbers come from: the machine, the versions, the commit, and the settings of TensorFlow and Keras in force."""

import importlib.metadata
import math
import os
import platform
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

from lab.evidence.schemas import SCHEMA, SWITCHES, Machine

ROOT = Path(__file__).resolve().parents[2]
CPUINFO = Path("/proc/cpuinfo")
OWN_GROUPS = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")
ABILITIES = {
    "avx512f": "AVX-512",
    "avx512_bf16": "AVX512-BF16",
    "avx512_fp16": "AVX512-FP16",
    "amx_bf16": "AMX-BF16",
    "amx_fp16": "AMX-FP16",
}
PARTED = "; "  # Between the commands of evidence that was measured in parts.
PACKAGES = ("tensorflow", "keras", "numpy", "scipy", "tensorflow-datasets", "keras-tuner", "tensorboard")


def machine() -> Machine:
    """CPU model, cores that this process may use, GPUs, memory in GiB, system, and its `abilities`."""
    named = re.search(r"model name\s*:\s*(.*)", CPUINFO.read_text()) if CPUINFO.exists() else None
    memory = None
    if hasattr(os, "sysconf"):
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return Machine(
        cpu=named[1].strip() if named else platform.processor() or platform.machine(),
        cores=cores(),
        gpus=[_details_of(gpu).get("device_name", gpu.name) for gpu in gpus()],
        memory_gib=memory,
        system=f"{platform.system()} {platform.machine()}",
        abilities=abilities(),
    )


def abilities() -> list[str]:
    """What of the machine decides whether 16-bit arithmetic is fast: vector instructions, and tensor cores of GPUs."""
    flags = CPUINFO.read_text().split() if CPUINFO.exists() else []
    found = [name for flag, name in ABILITIES.items() if flag in flags]
    return found + ["tensor cores"] * any(_details_of(gpu).get("compute_capability", (0,)) >= (7,) for gpu in gpus())


def gpus() -> list[Any]:
    """TensorFlow's GPUs, without starting any of them."""
    import tensorflow as tf

    return tf.config.list_physical_devices("GPU")


def _details_of(gpu: Any) -> dict[str, Any]:
    import tensorflow as tf

    return tf.config.experimental.get_device_details(gpu)


def cores() -> int:
    """CPU cores that this process may use: its affinity, and at most a container's quota, rounded up."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13.
        there = os.process_cpu_count() or 1
    else:
        there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(there, _quota())))


def _quota() -> float:
    """Cores' worth of CPU time that control groups (version 1 or 2) leave to this process; infinite without one."""
    quotas = [math.inf]
    for line in OWN_GROUPS.read_text().splitlines() if OWN_GROUPS.exists() else ():
        _, controllers, group = line.split(":", 2)
        roots = [GROUPS / controllers, GROUPS / "cpu"] if "cpu" in controllers.split(",") else []
        for root in roots if controllers else [GROUPS]:
            folder = root / group.lstrip("/")
            while folder.is_relative_to(root):  # The quota of a group is shared by the groups in it.
                quotas.append(_quota_of(folder))
                folder = folder.parent
    return min(quotas)


def _quota_of(folder: Path) -> float:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no number either.
        return math.inf


def versions() -> dict[str, str]:
    """Python's version and those of the packages that numbers depend on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)


def commit() -> str | None:
    """The commit that is checked out, with "+changes" where files differ from it; None outside a git checkout."""
    try:
        head = _git("rev-parse", "HEAD")
    except OSError:  # There is no git.
        return None
    changes = _git("status", "--porcelain", "--", "recipes", "lab", "pipelines").stdout.strip()
    return None if head.returncode else head.stdout.strip() + ("+changes" if changes else "")


def is_commit(name: str) -> bool:
    """Whether there is such a commit in this checkout; True where there is no checkout to look it up in."""
    if not re.fullmatch("[0-9a-f]{40}", name):  # Nor may it be a flag of git's.
        return False
    return commit() is None or _git("cat-file", "-e", f"{name}^{{commit}}").returncode == 0


def commands_of(command: str) -> list[str]:
    """The command of evidence, or the commands of its parts if it was joined."""
    return re.split(f"{PARTED}(?=python -m )", command)


def without_folder(command: str) -> str:
    """A command as anyone may give it: without where its logs went on the machine that it was given on."""
    if len(parts := commands_of(command)) > 1:
        return PARTED.join(map(without_folder, parts))
    words = shlex.split(command)
    behind = {number + 1 for number, word in enumerate(words) if word == "--logdir"}
    logs = ("--logdir", "--no-log", "--resume")  # None of them makes another number.
    return shlex.join(word for n, word in enumerate(words) if n not in behind and not word.startswith(logs))


def keras_settings() -> dict[str, str]:
    """The settings of Keras that numbers depend on, and that a file in the user's home may change."""
    import keras

    return {"floatx": keras.config.floatx(), "image_data_format": keras.config.image_data_format()}


def environment() -> dict[str, str]:
    """TensorFlow's switches that change bits, "1" or "0", as variables of the environment set them."""
    given = {name: os.environ.get(name) or usual for name, usual in SWITCHES.items()}
    return {name: "1" if value.lower() in ("1", "true") else "0" for name, value in given.items()}


def stamp() -> dict[str, Any]:
    """The fields of `Origin` that are the same for all that is measured here and now."""
    return {
        "schema": SCHEMA,
        "machine": machine(),
        "versions": versions(),
        "keras": keras_settings(),
        "environment": environment(),
        "commit": commit(),
    }
