"""Peak memory of this process above what it held when the measurement began."""

import importlib
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


class PeakMemory:
    """Counts from its creation. Resident memory, in MiB; on systems without /proc the peak of the whole process so far.

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
        if STATUS.exists():
            return round(_status("VmHWM") - self.start, 1)
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
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key + ":"))
    return int(line.split()[1]) / 1024
