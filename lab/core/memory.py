"""Peak memory of this process above what it held when the measurement began."""

import importlib
import sys
from pathlib import Path


class PeakMemory:
    """Counts resident memory from its creation on; without /proc, the peak of the whole process.

    A worker that has done runs before keeps some freed memory, so only its first run tells the whole need.
    """

    def __init__(self) -> None:
        self.start = 0.0
        try:
            Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak so far.
            self.start = _status("VmRSS")
        except OSError:
            pass

    def mib(self) -> float:
        """The peak so far, in MiB."""
        try:
            return round(_status("VmHWM") - self.start, 1)
        except OSError:
            import resource

            unit = 2**20 if sys.platform == "darwin" else 2**10
            return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def peak_of(module: str, name: str, arguments: list) -> float:
    """MiB that the call of what a module's function returns, given its arguments, takes at most."""
    call = getattr(importlib.import_module(module), name)(*arguments)
    peak = PeakMemory()
    call()
    return peak.mib()


def _status(key: str) -> float:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[key].split()[0]) / 1024
