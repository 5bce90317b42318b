"""The memory of the one stored copy of panels.h, for the declarations of the kernels that share it."""

from bench.kernels import Problem

PANEL, LINE = 256, 64  # individuals, and the bytes of a SNP's dosages of them
TAIL = 64  # lines of zeros behind the last SNP
HUGE_PAGE = 2 << 20


def allocated(size: int) -> int:
    """What panels.h takes for `size` bytes: whole huge pages, if it is more than one."""
    return -(-size // HUGE_PAGE) * HUGE_PAGE if size >= HUGE_PAGE else size


def packed_bytes(problem: Problem) -> int:
    """The copy."""
    return allocated((-(-problem.n // PANEL) * problem.m + TAIL) * LINE)
