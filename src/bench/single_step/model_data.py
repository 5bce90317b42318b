"""The records of a model file as what sampling and variance components draw again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from bench.models.design import Design
from bench.models.variances import Variances
from bench.single_step.problem import Genomic, Problem, single_step_problem
from bench.single_step.variance_components import Model


@dataclass(frozen=True)
class DesignData:
    """`Data` and, for one trait, `ScoredData` of a design.

    groups: levels that follow the animals. adjusted: (R, t) the records, if not as they were read.
    """

    design: Design
    variances: Variances
    groups: int = 0
    adjusted: np.ndarray | None = None

    @property
    def y(self) -> np.ndarray:
        return self.design.records.y if self.adjusted is None else self.adjusted

    def simulate(self, rng: np.random.Generator, u: np.ndarray) -> np.ndarray:
        return self.design.simulate(rng, u, self.variances)

    def rhs(self, Y: np.ndarray) -> np.ndarray:
        return self.design.rhs(Y, self.variances, groups=self.groups)

    def quadratics(self, V: np.ndarray, Y: np.ndarray) -> np.ndarray:
        start, found = self.design.fixed, []
        for term in self.design.random_terms:
            effects = V[start : start + term.size]
            found.append(np.einsum("ij,ij->j", effects, effects) / self.variances.others[term.name][0, 0])
            start += term.size
        residual = self.design.residual_quadratic(V, self.variances, Y)[0, 0] * self.variances.residual[0, 0]
        return np.array([*found, residual])


def trait_variances(design: Design, values: np.ndarray) -> Variances:
    """Of one trait: genetic, the other random effects in the order of the design, residual."""
    names = [term.name for term in design.random_terms]
    others = {name: np.array([[value]]) for name, value in zip(names, values[1:-1], strict=True)}
    return Variances(np.array([[values[0]]]), np.array([[values[-1]]]), others)


def design_model(
    design: Design, genomic: Genomic, inverse: sparse.csr_array, *, library: Path, shares: np.ndarray | None = None
) -> Model:
    """What `variance_components.estimate` asks for: the problem and its records at other variances.

    inverse: A⁻¹, with any groups; shares: as in `single_step_problem`.
    """
    y = design.less_fixed()[0].records.y

    def at(values: np.ndarray) -> tuple[Problem, DesignData]:
        variances = trait_variances(design, values)
        equations = design.assemble(inverse, variances)
        problem = single_step_problem(equations, genomic, inverse, library=library, shares=shares)
        return problem, DesignData(design, variances, equations.groups, y)

    return at
