"""Over simulated replicates, what the model says of its own precision is what happens."""

import numpy as np
import pytest

from bench.models.gblup import Records, generalised_least_squares, prediction_error_variance, reliability
from bench.models.reml import Spectrum, estimate

pytestmark = pytest.mark.statistical
REPLICATES = 200


@pytest.fixture(scope="module")
def replicates():
    """G of 150 individuals in 15 families of half sibs by markers; u and y drawn with σu² = 2, σe² = 3."""
    rng = np.random.default_rng(5)
    sires = rng.standard_normal((15, 300))
    W = np.repeat(sires, 10, axis=0) * np.sqrt(0.5) + rng.standard_normal((150, 300)) * np.sqrt(0.5)
    G = W @ W.T / 300
    root = np.linalg.cholesky(G)
    u = root @ rng.standard_normal((150, REPLICATES)) * np.sqrt(2)
    return G, u, 4 + u + np.sqrt(3) * rng.standard_normal(u.shape)


def test_reml_is_unbiased(replicates):
    G, _, y = replicates
    spectrum = Spectrum.of(G)
    found = [estimate(spectrum, column, np.ones((150, 1))) for column in y.T]
    for values, truth in (([f.Vu for f in found], 2.0), ([f.Ve for f in found], 3.0)):
        error = np.std(values) / np.sqrt(REPLICATES)
        assert abs(np.mean(values) - truth) < 4 * error  # one seed in 16,000 fails; this one does not


def test_prediction_error_variance_is_the_variance_of_the_prediction_errors(replicates):
    G, u, y = replicates
    y = y.copy()
    y[::5] = np.nan  # every fifth individual has no record
    spectrum, errors = None, []
    for i in range(REPLICATES):
        records = Records.of(y[:, i])
        spectrum = spectrum or Spectrum.of(G[np.ix_(records.index, records.index)])
        fit = generalised_least_squares(records, spectrum.solve(records.right_hand_sides, 1.5), 1.5)
        errors.append(G[:, records.index] @ fit.alpha - u[:, i])
    pev = 2 * prediction_error_variance(G, Records.of(y[:, 0]), 1.5)
    ratio = (np.array(errors) ** 2).mean(0) / pev
    assert ratio.mean() == pytest.approx(1, abs=0.03)
    assert ratio[::5].mean() == pytest.approx(1, abs=0.05)
    # A χ² of 200 degrees of freedom over its mean: standard deviation 0.1.
    assert np.abs(ratio - 1).max() < 0.5
    values = reliability(G.diagonal(), pev / 2)
    assert np.all((values > 0) & (values < 1))
