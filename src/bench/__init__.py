"""blupbench: a reproducible benchmark of genotype-matrix kernels and genomic-prediction solvers."""

__version__ = "0.1.0"
