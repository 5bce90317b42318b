"""Reliabilities: exactly, from the dense inverse of the coefficient matrix, and from samples, at any size.

PEV_i = var(û_i − u_i), and r²_i = 1 − PEV_i/(H_ii σ²) for each animal and component (trait, direct or maternal).
Fixed effects are estimated, so the PEV includes what is not known of them. With unknown-parent groups, whose effects
are fixed, u is an animal's deviation from its groups: H_ii σ² is the variance of that, and r² stays within 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.linalg import pinvh
from scipy.linalg.lapack import dpotrf, dpotri  # pyright: ignore[reportAttributeAccessIssue]
from scipy.sparse.linalg import splu

from bench.errors import BenchError
from bench.single_step.problem import BLOCK, Problem, group_deviations
from bench.single_step.samples import Data, GeneticSampler, check_drawn, generators
from bench.single_step.solve import Prepared, prepare
from bench.single_step.variants.ss_h import difference_of_inverses
from bench.solvers.incomplete import IncompletePCG
from bench.solvers.pcg import pcg

Progress = Callable[[int, int], None]
BATCH = 16  # samples that are solved together
RTOL = 1e-2  # of a sample's û: a quarter of the error of 200 samples
RTOL_OF_GROUPS = 1e-4  # what animals have in common converges last: at 1e-2 metafounders' were off by two such errors


@dataclass(frozen=True)
class Reliabilities:
    """Of n animals in q components.

    reliability, pev: (n, q). relationship: (n,) H_ii. errors: (n, q) standard errors of the reliabilities, None where
    they are exact. samples: how many were drawn, 0 where they are exact.
    """

    reliability: np.ndarray
    pev: np.ndarray
    relationship: np.ndarray
    errors: np.ndarray | None = None
    samples: int = 0


def exact_bytes(problem: Problem, levels: int) -> int:
    """Memory that `exact` takes for so many levels beside a sparse factor of all else: the matrix that is inverted in
    its place, and what the genotyped need beside it."""
    g = len(problem.genomic.rows)
    return 8 * max(4 * g * g, (levels * problem.components) ** 2 + 2 * g * g + 2 * BLOCK * problem.equations.size)


def check_exact(problem: Problem, levels: int, memory: int) -> None:
    """BenchError if `exact` cannot be had: no polygenic share, or too little memory for so many levels."""
    if problem.genomic.polygenic <= 0:
        raise BenchError("exact reliabilities need a polygenic share above 0; sampled ones take 0")
    if (need := exact_bytes(problem, levels)) > memory:
        raise BenchError(
            f"exact reliabilities of {levels} levels × {problem.components} components need {need / 1e9:.3g} GB of "
            f"memory, {memory / 1e9:.3g} GB can be used; sample them"
        )


def exact(problem: Problem, *, memory: int, animals: np.ndarray | None = None) -> Reliabilities:
    """Reliabilities from the inverse of S + (Gw⁻¹ − A_gg⁻¹) ⊗ G₀⁻¹ after all other effects have been absorbed.

    animals: whose are wanted, None for all. All effects but those of these animals and of the genotyped are absorbed
    by a sparse factor, so that some animals of a large pedigree can be had; the rows of the others are NaN.
    Work: (levels · q)³ multiply-adds. memory: bytes that it may take. BenchError: it does not fit, the polygenic
    share is 0 (there is no Gw⁻¹), or fixed effects are confounded. Groups may be confounded with fixed effects:
    deviations from them can be predicted nevertheless.
    """
    n, q, genomic = problem.equations.animals, problem.components, problem.genomic
    random = n if problem.shares is not None else problem.levels
    levels = np.arange(random) if animals is None else np.union1d(animals, genomic.rows)
    check_exact(problem, levels.size, memory)
    difference, rows = difference_of_inverses(genomic), np.searchsorted(levels, genomic.rows)
    C = _coefficients(problem, levels)
    for a in range(q):
        for b in range(q):
            C[np.ix_(rows * q + a, rows * q + b)] += problem.precision[a, b] * difference
    of_levels = _inverse_diagonal(C, "the coefficient matrix").reshape(-1, q)
    del C
    H = absorbed(sparse.csr_array(problem.inverse[:random, :random]), levels)
    H[np.ix_(rows, rows)] += difference
    own = _inverse_diagonal(H, "the inverse of H")
    wanted = levels < n if animals is None else np.isin(levels, animals)
    pev, relationship = np.full((n, q), np.nan), np.full(n, np.nan)
    pev[levels[wanted]], relationship[levels[wanted]] = of_levels[wanted], own[wanted]
    return Reliabilities(1 - pev / _variances(problem, relationship), pev, relationship)


def _variances(problem: Problem, relationship: np.ndarray) -> np.ndarray:
    """(n, q) H_ii G₀cc."""
    return relationship[:, None] * problem.equations.genetic_covariance.diagonal()


def _inverse_diagonal(matrix: np.ndarray, what: str) -> np.ndarray:
    """The diagonal of a symmetric positive definite matrix's inverse; the matrix is used up."""
    factor, status = dpotrf(matrix.T, lower=1, overwrite_a=1, clean=0)
    if status == 0:
        factor, status = dpotri(factor, lower=1, overwrite_c=1)
    if status:
        raise BenchError(f"{what} is not positive definite (row {status}): look for duplicated genotypes")
    return factor.diagonal().copy()


def _coefficients(problem: Problem, levels: np.ndarray) -> np.ndarray:
    """S of `levels` after all other effects, groups among them, have been absorbed; dense."""
    equations, matrix, q = problem.equations, problem.equations.matrix, problem.components
    kept = (equations.others + levels[:, None] * q + np.arange(q)).ravel()
    if problem.shares is None or not equations.groups:
        return absorbed(matrix, kept)
    others = np.setdiff1d(np.arange(equations.animals), problem.genomic.rows)
    change = group_deviations(equations, others, group_shares(problem)[others])
    groups = np.arange(equations.others + equations.animals * q, equations.size)
    left = absorbed(sparse.csr_array(change.T @ matrix @ change), np.concatenate([kept, groups]))
    n = kept.size
    coupling = left[:n, n:]
    # Groups that are confounded, with each other or with fixed effects, leave a singular matrix here.
    return left[:n, :n] - coupling @ pinvh(left[n:, n:], rtol=1e-10) @ coupling.T


def absorbed(matrix: sparse.csr_array, kept: np.ndarray) -> np.ndarray:
    """M_kk − M_ko M_oo⁻¹ M_ok of a sparse matrix, dense; o are all others."""
    others = np.setdiff1d(np.arange(len(matrix.indptr) - 1), kept)
    rows = sparse.csr_array(matrix[kept])
    left = rows[:, kept].toarray()
    if others.size:
        coupling = sparse.csr_array(rows[:, others])
        transposed = sparse.csc_array(coupling.T)
        solve = _solver(sparse.csc_array(sparse.csr_array(matrix[others])[:, others]))
        for at in range(0, left.shape[1], BLOCK):
            left[:, at : at + BLOCK] -= coupling @ solve(transposed[:, at : at + BLOCK].toarray())
    return left


def _solver(matrix: sparse.csc_array) -> Callable[[np.ndarray], np.ndarray]:
    """B → M⁻¹B for the effects that are absorbed; BenchError where they are confounded."""
    sentence = "the fixed effects are confounded: take one of them off the model"
    diagonal = matrix.diagonal()
    if not (diagonal > 0).all():
        raise BenchError(f"{int((diagonal <= 0).sum())} of the fixed effects have no records")
    scale = 1 / np.sqrt(diagonal)
    by = sparse.diags_array(scale)
    try:
        factor = splu(
            sparse.csc_matrix(by @ matrix @ by),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
    except RuntimeError:
        raise BenchError(sentence) from None
    if np.abs(factor.U.diagonal()).min() < 1e-10:  # the share of an effect that the others do not determine
        raise BenchError(sentence)
    return lambda B: scale[:, None] * factor.solve(scale[:, None] * B)


def group_shares(problem: Problem) -> np.ndarray:
    """Q, (n, G): the share of each unknown-parent group in each animal, from A⁻¹ and −A⁻¹Q in the inverse."""
    n = problem.equations.animals
    rows = sparse.csr_array(problem.inverse[:n])
    # With the youngest first the incomplete factor of A⁻¹ is the exact one, T'D^-½.
    inverse = IncompletePCG(sparse.csr_array(rows[:, :n]), np.arange(n)[::-1], library=problem.library)
    return -inverse.solve(rows[:, n:].toarray())


def sampled_bytes(problem: Problem, records: int, batch: int) -> int:
    """Memory that `sampled` takes beside the problem for batches of `batch` samples of so many observed values."""
    unknowns = problem.equations.size + len(problem.places)
    draws = problem.levels * problem.components + problem.genomic.markers.shape[1] * problem.components + records
    return 8 * batch * (8 * unknowns + 3 * draws) + 32 * problem.levels * problem.components


def check_sampled(problem: Problem, records: int, memory: int) -> int:
    """How many samples, up to BATCH, can be solved together. BenchError if none can, or none can be drawn."""
    check_drawn(problem.genomic)
    batch = next((k for k in range(BATCH, 0, -1) if sampled_bytes(problem, records, k) <= memory), None)
    if batch is None:
        need = sampled_bytes(problem, records, 1)
        raise BenchError(
            f"sampled reliabilities need {need / 1e9:.3g} GB of memory, {memory / 1e9:.3g} GB can be used"
        )
    return batch


def sampled(
    problem: Problem,
    sampler: GeneticSampler,
    data: Data,
    *,
    memory: int,
    samples: int = 200,
    batch: int = BATCH,
    seed: int = 1,
    rtol: float | None = None,
    max_steps: int = 1000,
    gram_diagonal: np.ndarray | None = None,
    progress: Progress | None = None,
) -> Reliabilities:
    """Reliabilities from samples of breeding values, records of them, and their predictions by prior_pcg.

    û and u − û of an animal are independent with variances r²H_iiσ² and (1 − r²)H_iiσ² (García-Cortés et al. 1995;
    Hickey et al. 2009). Where H_ii is known, the maximum likelihood of both sums of squares; it is the mean of
    var(û)/H_iiσ² and 1 − PEV/H_iiσ² weighted by the inverses of their variances. Elsewhere var(û)/(var(û) + PEV).
    Their errors are at the most r²(1 − r²)·2/√samples.

    rtol: of each solution, ‖r‖/‖b‖; None for RTOL, or with groups or metafounders RTOL_OF_GROUPS. batch: samples
    that are solved together; the results do not depend on it.
    gram_diagonal: (g,) diagonal of MM' (`grm_diagonal` times its divisor): H_ii of the genotyped is then known.
    memory: bytes that prior_pcg may take. progress(done, samples): after each batch. BenchError: PCG does not
    converge.
    """
    if samples < 10 or batch < 1:
        raise BenchError(f"reliabilities from {samples} samples in batches of {batch}: 10 and 1 are the least")
    prepared = prepare("prior_pcg", problem, memory=memory)
    n, q = problem.equations.animals, problem.components
    rtol = rtol or (RTOL_OF_GROUPS if problem.equations.groups else RTOL)
    root = np.linalg.cholesky(problem.equations.genetic_covariance)
    shares = group_shares(problem) if problem.shares is not None else None
    drawn, found, missed = np.zeros(n), np.zeros((n, q)), np.zeros((n, q))
    for first in range(0, samples, batch):
        rngs = generators(seed, first, min(batch, samples - first))
        standard = sampler.draw_components(rngs)
        U = np.einsum("ab,nbk->nak", root, standard)
        Y = np.stack([data.simulate(rng, U[:, :, k]) for k, rng in enumerate(rngs)], axis=-1)
        estimates = _predicted(prepared, data.rhs(Y), shares, rtol, max_steps)
        drawn += (standard[:n] ** 2).mean(axis=1).sum(axis=1)
        found += (estimates**2).sum(axis=2)
        missed += ((U[:n] - estimates) ** 2).sum(axis=2)
        if progress:
            progress(first + len(rngs), samples)
    relationship = drawn / samples
    known = np.zeros(n, bool)
    if gram_diagonal is not None:
        rows = problem.genomic.rows
        relationship[rows], known[rows] = _genotyped_diagonal(problem, gram_diagonal), True
    variances = _variances(problem, relationship)
    ratio, error = _from_both(found, missed, samples)
    if known.any():
        scaled = (part[known] / samples / variances[known] for part in (found, missed))
        ratio[known], error[known] = _from_both_and_variance(*scaled, start=ratio[known], samples=samples)
    pev = np.where(known[:, None], (1 - ratio) * variances, missed / samples)
    return Reliabilities(ratio, pev, relationship, error, samples)


def _predicted(
    prepared: Prepared, B: np.ndarray, shares: np.ndarray | None, rtol: float, max_steps: int
) -> np.ndarray:
    """û of the animals, deviations from their groups, (n, q, k)."""
    problem = prepared.system.problem
    solution = pcg(
        prepared.system,
        problem.right_hand_sides(B),
        preconditioner=prepared.preconditioner,
        rtol=rtol,
        max_steps=max_steps,
    )
    if not solution.converged.all():
        raise BenchError(
            f"{int((~solution.converged).sum())} of {B.shape[1]} samples did not reach a residual of {rtol:g} in "
            f"{solution.steps} steps; raise max_steps"
        )
    effects = prepared.system.effects(solution.value)[problem.equations.others :]
    effects = effects.reshape(problem.levels, problem.components, -1)
    n = problem.equations.animals
    if shares is None:
        return effects[:n]
    estimates = effects[:n] - np.einsum("ng,gqk->nqk", shares, effects[n:])
    estimates[problem.genomic.rows] = effects[problem.genomic.rows]  # these are deviations already
    return estimates


def _genotyped_diagonal(problem: Problem, gram_diagonal: np.ndarray) -> np.ndarray:
    """(g,) diagonal of Gw."""
    genomic = problem.genomic
    own = genomic.polygenic * (1 + genomic.numerator.inbreeding)
    return genomic.marker_variance * gram_diagonal + genomic.constant + own


def _from_both(found: np.ndarray, missed: np.ndarray, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """r² and its standard error where H_ii is not known: the logarithm of found/missed has the variance 4/samples."""
    ratio = found / (found + missed)
    return ratio, ratio * (1 - ratio) * 2 / np.sqrt(samples)


def _from_both_and_variance(
    found: np.ndarray, missed: np.ndarray, *, start: np.ndarray, samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """r² and its standard error where H_ii is known. found, missed: var(û) and PEV as shares of H_ii σ².

    Maximises −½·samples·(log r² + log(1 − r²) + found/r² + missed/(1 − r²)) by scoring, which weights the estimates
    found and 1 − missed by the inverses of their variances, 2r⁴/samples and 2(1 − r²)²/samples.
    """
    ratio = np.clip(start, 1e-6, 1 - 1e-6)
    for _ in range(10):
        weight, other = (1 - ratio) ** 2, ratio**2
        ratio = np.clip((weight * found + other * (1 - missed)) / (weight + other), 1e-6, 1 - 1e-6)
    spread = np.sqrt(ratio**2 + (1 - ratio) ** 2)
    return ratio, ratio * (1 - ratio) * np.sqrt(2 / samples) / spread
