"""A large file from the net: what has come is kept when the connection breaks, and checked when it is whole."""

import fcntl
import hashlib
import sys
from pathlib import Path
from urllib.parse import urlparse

from pipelines.errors import DataError

ANSWERS = 5.0  # Seconds within which a server must answer.
SILENCE = 20.0  # Seconds without a byte after which a connection is given up.
PIECE = 2**16  # Bytes.


def fetch(url: str, path: Path, sha256: str) -> None:
    """Download `url` to `path`, which is there when it is whole; go on where an earlier call has stopped.

    Raises:
        DataError: the server does not answer, falls silent, or sends another file; or another process downloads it.
    """
    import requests

    host, part = urlparse(url).hostname, path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with part.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{path} is being downloaded by another process: wait for it, then run again.") from error
        except OSError:  # A file system without locks: two at once would spoil the file, and its sum would tell.
            pass
        have = file.tell()
        print(f"Downloading {url} to {path}{f', from byte {have:,} on' if have else ''}.", file=sys.stderr)
        wanted = {"Range": f"bytes={have}-"} if have else {}
        try:
            with requests.get(url, headers=wanted, stream=True, timeout=(ANSWERS, SILENCE)) as answer:
                if answer.status_code != requests.codes.requested_range_not_satisfiable:  # Else all of it is here.
                    answer.raise_for_status()
                    if answer.status_code != requests.codes.partial_content:
                        file.truncate(0)
                    for piece in answer.iter_content(PIECE):
                        file.write(piece)
        except requests.RequestException as error:
            file.flush()
            raise DataError(
                f"The download from {host} broke off after {part.stat().st_size:,} bytes ({_cause(error)}): run again "
                "to go on from there."
            ) from error
    if _sum(part) != sha256:
        part.unlink()
        raise DataError(
            f"What {host} sent is not the file that was published (its SHA-256 differs), and was deleted: run again."
        )
    part.replace(path)


def _cause(error: Exception) -> str:
    import requests

    if isinstance(error, requests.HTTPError):
        return str(error)
    if "timed out" in str(error):
        return f"nothing came for {SILENCE:g} s"
    return "the connection was lost"


def _sum(path: Path) -> str:
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            whole.update(piece)
    return whole.hexdigest()
