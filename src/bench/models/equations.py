"""The mixed model equations of pedigree BLUP, on which every single-step variant builds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse


@dataclass(frozen=True)
class Equations:
    """S v = b with S = W'R⁻¹W + blkdiag(0, I ⊗ P⁻¹, A⁻¹ ⊗ G₀⁻¹) and b = W'R⁻¹y (Henderson 1984).

    v has the other effects first (fixed, then independent random ones), then the genetic ones, level by level and a
    level's components side by side. Levels are the animals in the order of the pedigree, then its groups or
    metafounders.

    matrix: (size, size), symmetric. rhs: (size,). others: how many effects come before the genetic ones. animals,
    groups: how many levels. genetic_covariance: G₀, (q, q), of the components (traits, and where there is one their
    maternal parts).
    """

    matrix: sparse.csr_array
    rhs: np.ndarray
    others: int
    animals: int
    groups: int
    components: tuple[str, ...]
    genetic_covariance: np.ndarray

    @property
    def size(self) -> int:
        return self.rhs.size

    def genetic(self, v: np.ndarray) -> np.ndarray:
        """(levels, q) view of the genetic effects in v (size,)."""
        return v[self.others :].reshape(self.animals + self.groups, len(self.components))
