"""Variance components of one trait at any size: REML with expectations simulated, solutions by prior_pcg.

At the REML estimates each random effect's quadratic form, q_i = û_i'K_i⁻¹û_i/σ_i², and that of the residuals,
q_e = ê'R⁻¹ê, equal their expectations under the model (Harville 1977). The expectations are means over records that
are simulated with the same random numbers at all variances, as in BOLT-LMM (Loh et al. 2015). So θ, the logarithms of
σ_i²/σ_e², solve smooth equations, q̄ being the means:

    f_i(θ) = (log q_i − log q̄_i) − (log q_e − log q̄_e) = 0.

With one random effect the search is the secant on the logit of h², with more it is Broyden's method (1965). The first
slope comes from the spread of the simulated q, the expected information: ∂(log q_i − log q̄_i)/∂log σ_j² =
−½ cov(q_i, q_j)/q̄_i.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bench.errors import BenchError
from bench.single_step.problem import Problem
from bench.single_step.samples import Data, Draws, GeneticSampler, generators
from bench.single_step.solve import prepare
from bench.solvers.pcg import pcg

LARGEST_STEP = 2.0  # of a θ
BOUND = float(np.log(1e4))  # of |θ|: a variance that is 10,000 times smaller than another is none


class ScoredData(Data, Protocol):
    """Records whose quadratic forms can be told. One trait."""

    @property
    def y(self) -> np.ndarray:
        """(R, 1), fixed effects taken off as far as a quick fit can: PCG stops relative to the right-hand side."""
        ...

    def quadratics(self, V: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """p'p/σ_p² of each random effect that is not genetic, then e'R⁻¹e with e = y − Wv, of k solutions V (size, k)
        of the equations for the records Y (R, 1, k): (effects, k)."""
        ...


Model = Callable[[np.ndarray], tuple[Problem, ScoredData]]
Observer = Callable[[int, np.ndarray, np.ndarray], None]


@dataclass(frozen=True)
class SimulatedREML:
    """What was found.

    variances: (c,) genetic, of other random effects, residual. covariance: (c, c) of the errors of their logarithms,
    those of the simulation included; NaN where a variance is at its bound. simulations: how many. evaluations:
    (n, c − 1) θ that were looked at; scores: f there. bound: which variances went to one, nothing or all there is.
    """

    variances: np.ndarray
    covariance: np.ndarray
    simulations: int
    evaluations: np.ndarray
    scores: np.ndarray
    bound: tuple[int, ...] = ()

    @property
    def errors(self) -> np.ndarray:
        """(c,) standard errors of the variances."""
        return self.variances * np.sqrt(self.covariance.diagonal())

    @property
    def shares(self) -> np.ndarray:
        """(c,) of the sum of the variances; the first is h²."""
        return self.variances / self.variances.sum()

    @property
    def share_errors(self) -> np.ndarray:
        """(c,) standard errors of the shares."""
        slope = np.diag(self.shares) - np.outer(self.shares, self.shares)
        return np.sqrt((slope @ self.covariance @ slope.T).diagonal())

    @property
    def simulation_errors(self) -> np.ndarray:
        """(c,) what of the shares' errors more simulations would take away."""
        return self.share_errors / np.sqrt(self.simulations + 1)


@dataclass(frozen=True)
class Evaluations:
    """What the search goes on from after n evaluations: thetas (n, c − 1), gaps (n, c), simulated (n, c, k) of each,
    and the slope (c, c − 1) after the last."""

    thetas: np.ndarray
    gaps: np.ndarray
    simulated: np.ndarray
    slope: np.ndarray


@dataclass(frozen=True)
class _Scores:
    """At one θ, with σ_e² = 1. gaps: (c,) log q − log q̄. simulated: (c, k) q."""

    gaps: np.ndarray
    simulated: np.ndarray

    @property
    def score(self) -> np.ndarray:
        return self.gaps[:-1] - self.gaps[-1]

    def information_slope(self) -> np.ndarray:
        """(c, c − 1) ∂gaps/∂θ, expected."""
        return -np.cov(self.simulated)[:, :-1] / 2 / self.simulated.mean(axis=1)[:, None]


def estimate(
    model: Model,
    numerator: Draws,
    *,
    start: np.ndarray,
    memory: int,
    simulations: int = 15,
    seed: int = 1,
    rtol: float = 1e-4,
    tolerance: float = 1e-3,
    max_evaluations: int = 30,
    observe: Observer | None = None,
    keep: Callable[[Evaluations], None] | None = None,
    resume: Evaluations | None = None,
) -> SimulatedREML:
    """The variances of one trait's model by the simulated score.

    model: the problem and the data at given variances (c,): genetic, of other independent random effects, residual.
    numerator: A of the whole pedigree. start: (c,) variances. rtol: of each solution, ‖r‖/‖b‖. tolerance: of θ.
    observe(evaluation, shares, scores); of those before `resume` too, which keep
    was given by an earlier search. memory: bytes that prior_pcg may take. BenchError: more than one trait,
    variances that are not positive, no convergence.
    """
    start = np.asarray(start, float)
    if start.ndim != 1 or start.size < 2 or not (np.isfinite(start) & (start > 0)).all():
        raise BenchError(f"variances to start from: two or more positive numbers were needed, found {start.tolist()}")
    if simulations < 5:
        raise BenchError(f"{simulations} simulated data sets cannot tell a spread; 5 are the least, 15 are usual")
    problem, _ = model(start)
    if problem.components != 1:
        raise BenchError(
            f"the simulated score estimates the variances of one trait without maternal effects; this model has "
            f"{problem.components} genetic components ({', '.join(problem.equations.components)})"
        )
    unit = GeneticSampler(problem, numerator).draw(generators(seed, 0, simulations))

    def scores(theta: np.ndarray) -> _Scores:
        return _scores(model, unit, np.append(np.exp(theta), 1.0), seed, rtol, memory)

    return _search(scores, np.log(start[:-1] / start[-1]), tolerance, max_evaluations, observe, keep, resume)


def _scores(model: Model, unit: np.ndarray, variances: np.ndarray, seed: int, rtol: float, memory: int) -> _Scores:
    """Solve the real and the simulated records at these variances."""
    problem, data = model(variances)
    root, k = np.sqrt(variances[0]), unit.shape[1]
    rngs = [np.random.default_rng([seed, sample, 1]) for sample in range(k)]  # the same at all variances
    simulated = [data.simulate(rng, root * unit[:, j, None]) for j, rng in enumerate(rngs)]
    Y = np.stack([data.y, *simulated], axis=-1)
    prepared = prepare("prior_pcg", problem, memory=memory)
    B = problem.right_hand_sides(data.rhs(Y))
    solution = pcg(prepared.system, B, preconditioner=prepared.preconditioner, rtol=rtol, max_steps=2000)
    if not solution.converged.all():
        raise BenchError(
            f"variance components: PCG stopped at a residual of {solution.true_residual_norms.max():.1e} after "
            f"{solution.steps} steps, {rtol:.0e} was needed"
        )
    effects = problem.animals_effects(solution.value[: problem.equations.size])
    q = np.vstack([_genetic_quadratic(problem, solution.value, effects), data.quadratics(effects, Y)])
    if not (q > 0).all():
        raise BenchError("variance components: the records do not vary around their fixed effects")
    return _Scores(np.log(q[:, 0]) - np.log(q[:, 1:].mean(axis=1)), q[:, 1:])


def _genetic_quadratic(problem: Problem, V: np.ndarray, effects: np.ndarray) -> np.ndarray:
    """û'H⁻¹û/σ_u² of solutions V of prior_pcg, which carry Gw⁻¹û_g/σ_u²: without any inverse of G."""
    precision, size = problem.precision[0, 0], problem.equations.size
    U, U_g = effects[problem.equations.others :], V[problem.places]
    pedigree = np.einsum("ij,ij->j", U, problem.inverse @ U)
    genotyped = np.einsum("ij,ij->j", U_g, V[size:] - precision * problem.genomic.numerator.solve(U_g))
    return precision * pedigree + genotyped


def _search(
    scores: Callable[[np.ndarray], _Scores],
    theta: np.ndarray,
    tolerance: float,
    max_evaluations: int,
    observe: Observer | None,
    keep: Callable[[Evaluations], None] | None,
    resume: Evaluations | None,
) -> SimulatedREML:
    """Broyden's method for score(θ) = 0 within ±BOUND."""
    if resume is None:
        thetas, found = [theta], [scores(theta)]
        slope = found[0].information_slope()
    else:
        thetas, slope = list(resume.thetas), resume.slope
        found = [_Scores(*of) for of in zip(resume.gaps, resume.simulated, strict=True)]
        for number, of in enumerate(found[:-1]):
            _observe(observe, number + 1, thetas[number], of)
        theta = thetas[-1]
    while True:
        at = found[-1]
        _observe(observe, len(found), theta, at)
        if keep:
            gaps, simulated = (np.array([getattr(of, name) for of in found]) for name in ("gaps", "simulated"))
            keep(Evaluations(np.array(thetas), gaps, simulated, slope))
        step = _step(slope, at.score, theta)
        if np.abs(step).max() <= tolerance:
            return _estimates(np.array(thetas), found, slope)
        if len(found) == max_evaluations:
            raise BenchError(
                f"variance components: after {max_evaluations} evaluations the logarithms of the ratios still change "
                f"by {np.abs(step).max():.2g}, {tolerance:g} was needed; start from other variances"
            )
        theta = theta + step
        thetas.append(theta)
        found.append(scores(theta))
        slope = slope + np.outer(found[-1].gaps - at.gaps - slope @ step, step) / (step @ step)
        if not _falls(slope):  # it was no descent: the information is
            slope = found[-1].information_slope()


def _observe(observe: Observer | None, number: int, theta: np.ndarray, at: _Scores) -> None:
    if observe:
        ratios = np.append(np.exp(theta), 1.0)
        observe(number, ratios / ratios.sum(), at.score)


def _step(slope: np.ndarray, score: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Newton's, limited; what is at a bound and would go beyond it stays."""
    free = ~((np.abs(theta) >= BOUND) & (theta * score > 0))
    step = np.zeros_like(theta)
    own = (slope[:-1] - slope[-1])[np.ix_(free, free)]
    step[free] = np.clip(np.linalg.solve(own, -score[free]), -LARGEST_STEP, LARGEST_STEP)
    return np.clip(theta + step, -BOUND, BOUND) - theta


def _falls(slope: np.ndarray) -> bool:
    """Whether the scores fall as their ratios grow, as they do where the likelihood has a maximum."""
    return bool((np.linalg.eigvals(slope[:-1] - slope[-1]).real < -1e-8).all())


def _estimates(thetas: np.ndarray, found: list[_Scores], slope: np.ndarray) -> SimulatedREML:
    """What the last evaluation says: the scale from all quadratic forms, errors from slope and spread."""
    theta, last = thetas[-1], found[-1]
    means, k = last.simulated.mean(axis=1), last.simulated.shape[1]
    scale = float((np.exp(last.gaps) * means).sum() / means.sum())
    bound = np.flatnonzero(np.abs(theta) >= BOUND)
    free = np.setdiff1d(np.arange(len(slope)), bound)
    # The gaps are functions of θ and of the scale, which lowers all: log σ_i² = θ_i + log scale.
    inverse = np.linalg.inv(np.column_stack([slope[np.ix_(free, free[:-1])], -np.ones(free.size)]))
    change = np.eye(free.size)
    change[:, -1] = 1
    spread = np.atleast_2d(np.cov(np.log(last.simulated[free]))) * (1 + 1 / k)
    covariance = np.full((len(slope), len(slope)), np.nan)
    covariance[np.ix_(free, free)] = change @ inverse @ spread @ inverse.T @ change.T
    return SimulatedREML(
        np.append(np.exp(theta), 1.0) * scale,
        covariance,
        k,
        thetas,
        np.array([at.score for at in found]),
        tuple(bound.tolist()),
    )
