"""A large file from the net: what has come is kept when the connection breaks, and checked when it is whole."""

import fcntl
import hashlib
import sys
from pathlib import Path
from typing import IO
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
    host, part = urlparse(url).hostname, path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with part.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{path} is being downloaded by another process: wait for it, then run again.") from error
        except OSError:  # A file system without locks: two at once would spoil the file, and its sum would tell.
            pass
        if path.exists():  # Another process has just been through.
            part.unlink(missing_ok=True)
            return
        have = file.tell()
        print(f"Downloading {url} to {path}{f', from byte {have:,} on' if have else ''}.", file=sys.stderr)
        _receive(url, file, have)
        file.flush()
        if _sum(part) != sha256:
            part.unlink()
            raise DataError(
                f"What {host} sent is not the file that was published (its SHA-256 differs), and was deleted: run "
                "again."
            )
        part.replace(path)


def _receive(url: str, file: IO[bytes], have: int) -> None:
    """Add to a file what it lacks.

    Raises:
        DataError: not all of it came.
    """
    import requests

    host = urlparse(url).hostname
    wanted = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        with requests.get(url, headers=wanted, stream=True, timeout=(ANSWERS, SILENCE)) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                return  # All of it is here.
            answer.raise_for_status()
            if answer.status_code != requests.codes.partial_content:
                file.truncate(0)
                file.seek(0)
            begins = file.tell()
            for piece in answer.iter_content(PIECE):
                file.write(piece)
            length = int(answer.headers.get("Content-Length", file.tell() - begins))
            if file.tell() - begins < length:
                raise requests.ConnectionError("cut off")
    except requests.HTTPError as error:
        raise DataError(f"{host} does not send {url} ({error}).") from error
    except requests.RequestException as error:
        cause = f"nothing came for {SILENCE:g} s" if "timed out" in str(error) else "the connection was lost"
        raise DataError(
            f"The download from {host} broke off after {file.tell():,} bytes ({cause}): run again to go on from there."
        ) from error


def _sum(path: Path) -> str:
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            whole.update(piece)
    return whole.hexdigest()
