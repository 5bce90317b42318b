"""The GPUs that kernels are compiled for, and what their declarations need to know of them; imports nothing heavy."""

from __future__ import annotations

import importlib

# Architecture → the compute capability that runs it. sm_90a has Hopper's wgmma.
ARCHITECTURES = {
    "sm_80": "8.0",
    "sm_86": "8.6",
    "sm_89": "8.9",
    "sm_100": "10.0",
    "sm_120": "12.0",
    "sm_90": "9.0",
    "sm_90a": "9.0",
}
# Bytes of shared memory that a block may have.
SHARED = {
    "sm_80": 163 << 10,
    "sm_86": 99 << 10,
    "sm_89": 99 << 10,
    "sm_100": 227 << 10,
    "sm_120": 99 << 10,
    "sm_90": 227 << 10,
    "sm_90a": 227 << 10,
}
PANEL = 512  # individuals of a panel, and what SNPs are padded to: a whole number of any product's chunks
ROWS = 1536  # what rows with all genotypes of an individual, or of a SNP, are padded to
STAGE = 64 << 20  # bytes of .bed rows on their way to the device
STAGES = 2 * STAGE  # of them, on the host and on the device


def architecture(target: str) -> str:
    """sm_90a of sm_90a_s4."""
    return "_".join(target.split("_")[:2])


def padded(count: int) -> int:
    """`count` individuals or SNPs up to whole panels."""
    return -(-count // PANEL) * PANEL


def panel_bytes(n: int, m: int) -> int:
    """Device memory of n individuals at m SNPs at 2 bits a genotype."""
    return padded(n) * padded(m) // 4


def rows_bytes(rows: int, inputs: int) -> int:
    """Device memory of `rows` with `inputs` genotypes each, one after the other, at 2 bits a genotype."""
    return -(-rows // ROWS) * ROWS * padded(inputs) // 4


def lacks(target: str) -> str | None:
    """Why this machine cannot run `target`, in words; None if it can."""
    return importlib.import_module("bench.kernels._cuda.gpu").lacks(target)  # which imports CuPy
