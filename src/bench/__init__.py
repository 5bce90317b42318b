"""blupbench: a reproducible benchmark of genotype-matrix kernels and genomic-prediction solvers."""

from pathlib import Path

__version__ = "0.1.0"
PACKAGE = Path(__file__).parent
