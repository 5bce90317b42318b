"""SNP annotations → network → weights → BLUP → loss, trained as one, on traits that the annotations tell of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from bench.dblup import GBLUP, AnnotationWeights, Data, DenseOperator, EqualWeights, fit
from bench.experiments import Files
from bench.experiments.dblup import session, traits
from bench.experiments.dblup.session import Genomic
from bench.genotypes.dataset import Dataset
from bench.models.validation import correlation
from bench.plan import Case
from bench.record import Document

STREAM = 3
OPTIMISER = optax.adam(0.02)
EVERY = 3  # steps between two looks at what is held out of the training
DEPTH = {"linear": 0, "network": 2}  # hidden layers


def run(case: Case, files: Files, *, version: int) -> Document:
    return session.studied(case, files, version, _study)


def _study(doc: Document, case: Case, data: Dataset, files: Files) -> None:
    options = case["options"]
    packed, _ = session.genotypes(case, data, files, copies=6)
    dosages = packed.dosages()
    for replicate in range(options["replicates"]):
        rng = traits.generator(STREAM, replicate)
        simulated = traits.annotated(dosages, h2=options["h2"], rng=rng)
        trait, (kept, out) = simulated.trait, traits.split(len(dosages), rng)
        genomic, records = Genomic.of(packed, kept), Data.of(session.only(kept, trait.y))
        models = {"reml": _equal(genomic, records)}
        for method, depth in DEPTH.items():
            key = jax.random.key(replicate)
            weights = AnnotationWeights.of(simulated.annotations, width=options["width"], depth=depth, key=key)
            shown = doc if replicate == 0 and method == "network" else None
            model = genomic.model("reml", weights)
            steps = _steps(model, kept, trait.y, options["steps"], rng, shown)
            doc.add("training_steps", steps, "1", phase="annotations", method=method, repeat=replicate)
            models[method] = train(model, records, steps)
        models["truth"] = _equal(_weighted(genomic, np.exp(simulated.log_weight)), records)
        for method, model in models.items():
            place = {"phase": "annotations", "method": method, "repeat": replicate}
            ebv = np.asarray(model.breeding_values(records))
            doc.add("accuracy", correlation(ebv[out], trait.u[out]), "1", **place)
            doc.add("predictive_ability", correlation(ebv[out], trait.y[out]), "1", **place)
            if method in DEPTH:
                learned = np.log(np.asarray(model.link.snp_weights))
                doc.add("weight_correlation", correlation(learned, simulated.log_weight), "1", **place)
        if replicate == 0:
            learned = np.log(np.asarray(models["network"].link.snp_weights))
            for method, log_weight in (("truth", simulated.log_weight), ("network", learned)):
                for snp, value in enumerate(log_weight):
                    doc.add("log_weight", value, "1", phase="weights", method=method, step=snp)


def _steps(
    model: GBLUP, kept: np.ndarray, y: np.ndarray, most: int, rng: np.random.Generator, doc: Document | None
) -> int:
    """After how many steps to stop: a fifth of the training records is held out of a training of its own, and its
    error looked at. A network of hundreds of parameters would go on to learn the records by heart.

    doc: takes rows of the loss, and of that error over the variance of its records.
    """
    within, out = (kept[part] for part in traits.split(kept.size, rng))
    records = Data.of(session.only(within, y))
    errors: dict[int, float] = {}

    def look(number: int, loss: float, model: GBLUP) -> None:
        place = {"phase": "training", "method": "network", "step": number}
        if doc:
            doc.add("objective", loss, "1", **place)
        if number % EVERY == 0:
            ebv = np.asarray(model.breeding_values(records))
            mean = (y[within] - ebv[within]).mean()  # which is b̂: y − Xb̂ − ĝ = λPy sums to 0
            errors[number] = float(np.mean((y[out] - mean - ebv[out]) ** 2) / np.var(y[out]))
            if doc:
                doc.add("heldout_mse", errors[number], "1", **place)

    train(model, records, most + 1, look)
    return min(errors, key=lambda number: errors[number])


def train(model: GBLUP, data: Data, steps: int, observe: Callable[[int, float, GBLUP], None] | None = None) -> GBLUP:
    """The model after so many steps of Adam on its own loss: a plain loop of optax, the BLUP solve a layer in it.

    observe: called with the number of each step, the loss before it, and the model.
    """
    which = eqx.tree_at(lambda m: m.link, jax.tree.map(lambda _: False, model), model.link.learned())
    learned, rest = eqx.partition(model, which)
    state = OPTIMISER.init(learned)
    for number in range(steps):
        before = learned
        learned, state, value = _step(learned, state, rest, data)
        if observe:
            observe(number, float(value), eqx.combine(before, rest))
    return eqx.combine(learned, rest)


@eqx.filter_jit
def _step(learned: Any, state: Any, rest: Any, data: Data) -> tuple[Any, Any, jax.Array]:
    """Compiled once for a shape: parameters and the optimiser's state after a step, and the loss before it."""
    value, gradient = eqx.filter_value_and_grad(lambda part: eqx.combine(part, rest).loss(data)[0])(learned)
    updates, state = OPTIMISER.update(gradient, state, learned)
    return eqx.apply_updates(learned, updates), state, value


def _equal(genomic: Genomic, records: Data) -> GBLUP:
    """REML's λ with equal weights."""
    return fit(genomic.model("reml", EqualWeights.of(genomic.operator.shape[1])), records).model


def _weighted(genomic: Genomic, weights: np.ndarray) -> Genomic:
    """The genotypes with these weights in them: W diag(√w)."""
    return Genomic(DenseOperator(genomic.operator.array * jnp.sqrt(jnp.asarray(weights))), genomic.divisor)
