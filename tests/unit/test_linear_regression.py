"""The method LR against closed forms and simulated predictions whose accuracy is known."""

import numpy as np
import pytest

from bench.errors import BenchError
from bench.models.linear_regression import linear_regression


def test_the_same_ebvs_twice():
    ebv = np.random.default_rng(1).standard_normal(50)
    found = linear_regression(ebv, ebv, genetic_variance=2 * float(ebv.var(ddof=1)))
    assert found.individuals == 50
    for of, value in ((found.bias, 0), (found.dispersion, 1), (found.consistency, 1), (found.reliability_ratio, 1)):
        assert [of.value, of.low, of.high] == pytest.approx([value] * 3)
    assert found.reliability is not None
    assert found.reliability.value == pytest.approx(0.5)


def test_shifted_and_stretched_ebvs_have_the_bias_and_the_slopes_of_a_line():
    p = np.random.default_rng(2).standard_normal(40)
    found = linear_regression(p, 0.8 * p - 3, genetic_variance=4, inbreeding=0.1, relationship=0.05)
    assert found.bias.value == pytest.approx(p.mean() - (0.8 * p - 3).mean())
    assert found.dispersion.value == pytest.approx(0.8)
    assert found.reliability_ratio.value == pytest.approx(1.25)
    assert found.consistency.value == pytest.approx(1)
    assert found.reliability is not None
    assert found.reliability.value == pytest.approx(0.8 * p.var(ddof=1) / (4 * 1.05))
    assert linear_regression(p, 0.8 * p).reliability is None


def test_estimates_are_those_of_numpy_and_lie_in_their_intervals():
    rng = np.random.default_rng(3)
    p = rng.standard_normal(300)
    w = 0.9 * p + 0.5 * rng.standard_normal(300) + 0.2
    found = linear_regression(p, w, seed=7)
    assert found.dispersion.value == pytest.approx(np.polyfit(p, w, 1)[0])
    assert found.reliability_ratio.value == pytest.approx(np.polyfit(w, p, 1)[0])
    assert found.consistency.value == pytest.approx(np.corrcoef(p, w)[0, 1])
    for of in (found.bias, found.dispersion, found.consistency, found.reliability_ratio):
        assert of.low < of.value < of.high
    # The slope's standard error has a closed form; the bootstrap's interval is as wide.
    error = 0.5 / np.sqrt(300)
    assert (found.dispersion.high - found.dispersion.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.2)
    assert found == linear_regression(p, w, seed=7)


def test_blup_with_half_the_records_is_found_unbiased_and_as_accurate_as_it_is():
    """GBLUP with the true variances of 60 individuals with and 100 first without records: the four statistics are,
    over populations, 0, 1, the ratio of the true accuracies, and the true reliability."""
    rng = np.random.default_rng(11)
    n, focal, lam = 160, np.arange(60, 160), 1.0
    found, true = [], []
    for repeat in range(60):
        W = rng.standard_normal((n, 80)) / np.sqrt(80)
        G = W @ W.T + 0.05 * np.eye(n)
        u = np.linalg.cholesky(G) @ rng.standard_normal(n)
        y = u + np.sqrt(lam) * rng.standard_normal(n)
        ebv = {}
        for which, records in (("p", np.arange(60)), ("w", np.arange(n))):
            V = G[np.ix_(records, records)] + lam * np.eye(records.size)
            ebv[which] = (G[:, records] @ np.linalg.solve(V, y[records]))[focal]
        among = G[np.ix_(focal, focal)]
        off = (among.sum() - np.trace(among)) / (focal.size * (focal.size - 1))
        inbreeding = float(np.diag(among).mean() - 1)
        one = linear_regression(
            ebv["p"], ebv["w"], genetic_variance=1, inbreeding=inbreeding, relationship=off, draws=2, seed=repeat
        )
        assert one.reliability is not None
        found.append([one.bias.value, one.dispersion.value, one.consistency.value, one.reliability.value])
        accuracies = [np.corrcoef(ebv[which], u[focal])[0, 1] for which in "pw"]
        true.append([0, 1, accuracies[0] / accuracies[1], accuracies[0] ** 2])
    error = np.std(np.array(found) - true, axis=0) / np.sqrt(60)
    np.testing.assert_array_less(np.abs(np.mean(found, axis=0) - np.mean(true, axis=0)), 3.5 * error + 0.01)


@pytest.mark.parametrize(
    ("partial", "whole", "options", "sentence"),
    [
        ([1, 2, 3], [1, 2], {}, r"found arrays of shape \(3,\) and \(2,\)"),
        ([1, 2], [1, 2], {}, "2 individuals to validate; three or more were needed"),
        ([1, 2, np.nan], [1, 2, 3], {}, "1 EBVs from the partial data are no numbers"),
        ([1, 2, 3], [2, 2, 2], {}, "the EBVs from the whole data do not vary"),
        ([1, 2, 3], [2, 2, 4], {"genetic_variance": -1}, "breeding values is -1 "),
        ([1, 2, 3], [2, 2, 4], {"genetic_variance": 1, "relationship": 1.2}, r"is -0\.2 \(genetic variance times 1"),
    ],
)
def test_what_cannot_be_compared_is_refused(partial, whole, options, sentence):
    with pytest.raises(BenchError, match=sentence):
        linear_regression(np.array(partial, float), np.array(whole, float), **options)
