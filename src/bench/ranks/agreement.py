"""Do all ranks see the same data? Asked before anything is computed."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.errors import BenchError
from bench.ranks.communicator import Ranks

WHOLE = 1 << 26  # bytes up to which a file is read whole
SAMPLES, SAMPLE = 64, 1 << 16  # of a larger one: so many stretches, of so many bytes


def file_facts(paths: Iterable[Path]) -> dict[str, str]:
    """Of each file its size and a hash of it: of all, or of its first and last bytes and stretches between them."""
    return {str(path): _fact(path) for path in paths}


def _fact(path: Path) -> str:
    try:
        size = path.stat().st_size
        digest = hashlib.sha256()
        with path.open("rb") as file:
            if size <= WHOLE:
                digest.update(file.read())
            else:
                for i in range(SAMPLES):
                    file.seek(i * (size - SAMPLE) // (SAMPLES - 1))
                    digest.update(file.read(SAMPLE))
    except OSError as error:
        return f"unreadable: {error.strerror}"
    return f"{size} bytes, sha256 {digest.hexdigest()[:12]}"


def agree(ranks: Ranks, facts: Mapping[str, str]) -> None:
    """BenchError, on every rank, unless all ranks have the same facts."""
    everybody = ranks.gather((socket.gethostname(), dict(facts)))
    host, wanted = everybody[0]
    for rank, (other, found) in enumerate(everybody):
        for name in wanted | found:
            if found.get(name) != wanted.get(name):
                raise BenchError(
                    f"the ranks disagree: {name} is ({wanted.get(name, 'not read')}) to rank 0 on {host}, and "
                    f"({found.get(name, 'not read')}) to rank {rank} on {other}; all must see the same files and run "
                    "the same command and version"
                )
