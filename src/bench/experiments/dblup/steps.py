"""Time and memory of one gradient of REML along λ and the weights of all SNPs, dense and matrix-free; and along λ
alone with a dense G that is there already (dense_fixed). Matrix-free also warm, as in learning: at weights that have
changed a little, from what the step before has solved.

Memory is measured from before the genotypes are loaded, in a process that has compiled a small step already.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from bench import measure, surroundings
from bench.bridges import jax as bridge
from bench.dblup import GBLUP, Data, Deflation, Dense, EqualWeights, Link, MatrixFree, SnpWeights
from bench.dblup.dense import PANEL
from bench.dblup.matrix_free import squared_lengths
from bench.dblup.optimise import value_and_gradient
from bench.experiments import Files
from bench.experiments.dblup import session
from bench.genotypes.dataset import Dataset
from bench.genotypes.packed import PackedGenotypes
from bench.machine import memory_available
from bench.matrix import CentredMatrix, GenotypeMatrix
from bench.measure import Sample
from bench.plan import Case
from bench.record import Document
from bench.relationships.genomic import Centred, Gram, dense_grm_bytes, vanraden1
from bench.solvers.lanczos import BlockLanczos

DENSE_MATRICES = 5  # of n × n float64 that XLA holds beside G: its rows, the factor, and their derivatives
VECTORS = 14  # of (n, k) and (m, k) float64 that conjugate gradients and the gradient hold, k right-hand sides
OVERHEAD = 64 << 20
RITZ, RITZ_PRODUCTS = 100, 15  # pairs, and products of the block Lanczos run that they are from
CHANGE = 0.05  # standard deviation of what the log weights have changed by in a warm step
H2 = 0.3  # of records drawn around true breeding values


def run(case: Case, files: Files, *, version: int) -> Document:
    """Load, compile, then time gradient after gradient at the same λ and weights."""
    doc, data = session.begin(case, files, version)
    if doc.status != "ok":
        return doc
    n, m = doc.identity["n"], data.n_snps
    if case["samples"] > data.n_samples:
        return doc.refuse(f"asks for {case['samples']} individuals, {data.name} has {data.n_samples}")
    need = bytes_needed(case["method"], n, m, case["options"]["probes"] + 2)
    doc.add("bytes_needed", need, "B", phase="memory")
    free = min(memory_available(), files.memory or memory_available())
    if need > free:
        return doc.refuse(f"the step needs {need / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB can be used")
    y = records(data)[:n]
    with measure.exclusive():
        _warm_up(case)
        before = measure.current_rss()
        problem = _Problem(doc, data.packed().head(n), y, case)
        measure.forget_peak_rss()
        with surroundings.watched(doc, case["threads"]):
            _add(doc, "step", measure.repeats(problem.step, **files.timing, warm=False))
            doc.add("gradient_norm", problem.gradient_norm, "1", phase="step")
            if case["method"] == "matrix_free":
                _add(doc, "warm", measure.repeats(problem.warm_step, **files.timing, warm=False))
        doc.add("step_rss", max(0, measure.peak_rss() - before), "B", phase="memory")
        if case["method"] == "matrix_free":
            problem.count(doc)
    doc.add("peak_rss", measure.peak_rss(), "B", phase="memory")
    return doc


def records(data: Dataset) -> np.ndarray:
    """(n,) of the first trait; of a livestock population, whose records are of other animals too, new ones of
    heritability H2 around the true breeding values."""
    trait = next(iter(data.traits))
    if data.source.get("kind") != "livestock":
        return data.phenotypes()[trait].to_numpy(float)
    truth = data.breeding_values()
    assert truth is not None
    u = truth[trait].to_numpy(float)
    noise = np.random.default_rng([5, u.size]).standard_normal(u.size)
    return u + noise * u.std() * np.sqrt(1 / H2 - 1)


def _add(doc: Document, phase: str, samples: list[Sample]) -> None:
    for repeat, sample in enumerate(samples):
        doc.add("step_time", sample.wall, "s", phase=phase, repeat=repeat)
        doc.add("step_cpu", sample.cpu, "s", phase=phase, repeat=repeat)


def bytes_needed(method: str, n: int, m: int, columns: int) -> int:
    """The most memory of a step beside Python and jax: the packed genotypes, and matrices or vectors."""
    shared = n * m // 4 * 5 // 4 + OVERHEAD
    if method == "matrix_free":
        return shared + 8 * VECTORS * (n + m) * columns
    made = dense_grm_bytes(n) if method == "dense_fixed" else 8 * (n * n + 3 * PANEL * m)
    return shared + made + 8 * DENSE_MATRICES * n * n


class _Problem:
    """A model of the first individuals of a data set, and its gradient as a call."""

    def __init__(self, doc: Document, packed: PackedGenotypes, y: np.ndarray, case: Case):
        self.case, self.packed, self.rng = case, packed, np.random.default_rng(4)
        made: list[Any] = []
        took = measure.once(lambda: made.append(self._prepare(y)))
        doc.identity |= {"kernel": self.matrix.kernel, "target": self.matrix.target}
        doc.add("setup_time", took.wall, "s", phase="setup")

    def _prepare(self, y: np.ndarray) -> None:
        self.matrix = GenotypeMatrix(self.packed, threads=self.case["threads"])
        self.centred = self.matrix.centred()
        self.data = Data.of(y)
        self.model = _model(self.centred, self.packed, self.case)
        self.packed.forget()  # the pages of the file, which the matrix has copied
        self.step()  # compiles

    def step(self) -> None:
        """One gradient, from a start of zeros."""
        self.state, self.gradient = gradient(self.model, self.data)

    def warm_step(self) -> None:
        """One gradient at changed weights, from what the last one solved."""
        self.state, self.gradient = gradient(self.changed(self.model), self.data, self.state)

    def changed(self, model: GBLUP) -> GBLUP:
        change = jnp.asarray(CHANGE * self.rng.standard_normal(self.packed.n_snps))
        return eqx.tree_at(lambda model: model.link.weights.raw, model, change)

    @property
    def gradient_norm(self) -> float:
        link = self.gradient.link
        return float(jnp.linalg.norm(link.raw if link.weights.raw is None else link.weights.raw))

    def count(self, doc: Document) -> None:
        """Passes over the genotypes of a step and of a warm one, from further ones through an operator that counts,
        and how long the kernel takes over as many of the same width by itself."""
        counting = _Counting(self.matrix.products)
        W = bridge.centred(Centred(counting, vanraden1(self.packed)))
        model = eqx.tree_at(lambda model: model.operator, self.model, W, is_leaf=lambda x: x is W)
        passes: dict[str, Counter[tuple[str, int]]] = {}
        for phase in ("step", "warm"):
            counting.passes.clear()
            at, start = (model, None) if phase == "step" else (self.changed(model), self.state)
            state, _ = gradient(at, self.data, start)
            passes[phase] = counting.passes.copy()
            doc.add("iterations", int(state.products), "1", phase=phase)
            doc.add("passes", counting.passes.total(), "1", phase=phase)
        alone = {kind: self._alone(*kind) for kind in set().union(*passes.values())}
        for phase, counted in passes.items():
            wall, cpu = (sum(n * getattr(alone[kind], of) for kind, n in counted.items()) for of in ("wall", "cpu"))
            doc.add("kernel_time", wall, "s", phase=phase)
            doc.add("kernel_cpu", cpu, "s", phase=phase)

    def _alone(self, direction: str, k: int) -> Sample:
        """A product of k columns in the kernel: the median of three by CPU time."""
        products = self.matrix.products
        X = np.random.default_rng(1).standard_normal((products.shape[direction == "matmul"], k))
        samples = measure.repeats(lambda: getattr(products, direction)(X), least=3)
        return sorted(samples, key=lambda sample: sample.cpu)[len(samples) // 2]


def _model(W: CentredMatrix, packed: PackedGenotypes, case: Case) -> GBLUP:
    options = case["options"]
    if case["method"] == "dense_fixed":
        link = Link.of(options["variance_ratio"], EqualWeights.of(W.shape[1]))
        return GBLUP.of(W.jax(), link, "reml", divisor=W.divisor, backend=Dense(jnp.asarray(W.gram()[None])))
    link = Link.of(options["variance_ratio"], SnpWeights.of(W.shape[1]))
    if case["method"] == "dense":
        return GBLUP.of(W.jax(), link, "reml", divisor=W.divisor)
    squares = squared_lengths(packed, vanraden1(packed))
    deflation = _ritz(W) if case["preconditioner"] == "ritz" else None
    backend = MatrixFree.of(W.shape[0], probes=options["probes"], squares=squares, deflation=deflation)
    return GBLUP.of(W.jax(), link, "reml", divisor=W.divisor, backend=backend)


def _ritz(W: CentredMatrix) -> Deflation:
    start = np.random.default_rng(2).standard_normal((W.shape[0], RITZ // 10))
    lanczos = BlockLanczos(Gram(W.products, W.divisor), start, max_steps=RITZ_PRODUCTS)
    while lanczos.step():
        pass
    values, vectors, _ = lanczos.ritz(RITZ)
    return Deflation(jnp.asarray(values), jnp.asarray(vectors))


def gradient(model: GBLUP, data: Data, start: Any = None) -> tuple[Any, Any]:
    """What a next step would start from, and the gradient, when both are there. start: of an earlier one."""
    which = eqx.tree_at(lambda m: m.link, jax.tree.map(lambda _: False, model), model.link.learned())
    learned, rest = eqx.partition(model, which)
    (_, state), found = value_and_gradient(learned, rest, data, model.begin(data) if start is None else start, False)
    return jax.block_until_ready((state, found))


class _Counting:
    """A kernel's products, counted by direction and number of columns."""

    def __init__(self, of: Any):
        self._of, self.shape, self.dtype = of, of.shape, np.dtype("f8")
        self.passes: Counter[tuple[str, int]] = Counter()

    def matmul(self, V: np.ndarray) -> np.ndarray:
        self.passes["matmul", V.shape[1]] += 1
        return self._of.matmul(V)

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        self.passes["rmatmul", U.shape[1]] += 1
        return self._of.rmatmul(U)


def _warm_up(case: Case) -> None:
    """A step of a few individuals: it loads what a step loads."""
    packed = PackedGenotypes.from_dosages(np.random.default_rng(3).integers(0, 3, (40, 64)).astype(np.int8))
    matrix = GenotypeMatrix(packed, threads=1)
    gradient(_model(matrix.centred(), packed, case | {"preconditioner": "none"}), Data.of(np.arange(40.0)))
    matrix.close()
