"""Rows of a .bed file, read and not mapped: a mapped file that somebody shortens kills the process, a read says so.

Reads begin at whole pages of the file and of the buffer: 256 MB from the page cache then take 26 ms, 100 ms where the
two are 3 bytes apart as the header makes them (Zen 4). The page cache is left to the system, which takes it back when
it needs memory and counts it to nobody's resident set: what is still there at the next pass is not read again.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.errors import BenchError

PIECE = 8 << 20  # bytes of one call: an interrupt waits for no more
HUGE_PAGE = 2 << 20

State = tuple[int, int, int]


def state_of(found: os.stat_result) -> State:
    """What tells a file from the one that stands at its place later."""
    return found.st_size, found.st_mtime_ns, found.st_ino


@dataclass(frozen=True)
class BedFile:
    """SNPs of `stride` bytes each, from byte `offset` of the file `path` on. state: of the file at first."""

    path: Path
    offset: int
    stride: int
    state: State

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor for one pass. BenchError: the file cannot be opened, or is not what it was at first."""
        try:
            file = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise BenchError(f"{self.path}: cannot be read ({error.strerror})") from None
        try:
            if state_of(os.fstat(file)) != self.state:
                raise BenchError(f"{self.path}: it was changed since it was opened; open it again")
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            yield file
        finally:
            os.close(file)

    def read(self, file: int, snps: slice, buffer: mmap.mmap) -> np.ndarray:
        """(SNPs, stride) bytes, in `buffer`, of `buffer_bytes` at the least. BenchError: they cannot be read."""
        begin = self.offset + snps.start * self.stride
        size = (snps.stop - snps.start) * self.stride
        first = begin // mmap.PAGESIZE * mmap.PAGESIZE
        room, done = memoryview(buffer)[: begin - first + size], 0
        while done < len(room):
            try:
                got = os.preadv(file, [room[done : done + PIECE]], first + done)
            except OSError as error:
                raise BenchError(f"{self.path}: cannot be read at byte {first + done} ({error.strerror})") from None
            if not got:
                raise BenchError(
                    f"{self.path}: it ends at byte {os.fstat(file).st_size}, and had {self.state[0]} when it was "
                    "opened: somebody shortened it"
                )
            done += got
        return np.frombuffer(room, np.uint8, size, begin - first).reshape(-1, self.stride)


def buffer_bytes(snps: int, stride: int) -> int:
    """Of one buffer: the bytes of so many SNPs, from whole page to whole page."""
    return -(-(snps * stride + mmap.PAGESIZE) // mmap.PAGESIZE) * mmap.PAGESIZE


def make_buffer(size: int) -> mmap.mmap:
    """Memory that begins at a page, in huge pages where it can be."""
    made = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= HUGE_PAGE:
        made.madvise(mmap.MADV_HUGEPAGE)
    return made
