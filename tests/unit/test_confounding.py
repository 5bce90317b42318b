"""Which levels give way, against the rank of X; what cannot give way is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.models import confounding
from bench.models.confounding import Constraint, estimable
from bench.models.terms import Term


def classes(name: str, codes: np.ndarray, traits: tuple[int, ...] = (0,)) -> Term:
    return Term(name, "class", traits, codes, np.array([f"{name}{i}" for i in range(int(codes.max()) + 1)], object))


def covariate(name: str, values: np.ndarray, within: np.ndarray | None = None) -> Term:
    if within is None:
        return Term(name, "covariate", (0,), np.zeros(len(values), int), np.array([""], object), values)
    levels = np.array([str(i) for i in range(int(within.max()) + 1)], object)
    return Term(name, "nested", (0,), within, levels, values)


def matrix(terms: list[Term], kept: list[np.ndarray] | None, trait: int, rows: np.ndarray) -> np.ndarray:
    """X of a trait, of the kept columns or of all."""
    blocks = []
    for k, term in enumerate(terms):
        if trait in term.traits:
            X = term.columns(trait, rows).toarray()
            blocks.append(X if kept is None else X[:, kept[k][:, term.traits.index(trait)]])
    return np.hstack(blocks)


@given(st.integers(0, 10**6), st.integers(5, 60), st.integers(1, 4), st.booleans())
@settings(max_examples=80, deadline=None)
def test_what_is_kept_has_full_rank_and_spans_the_same_space(seed, n, effects, nested):
    rng = np.random.default_rng(seed)
    terms = [classes(f"c{k}", rng.integers(0, rng.integers(1, 8), n), (0, 1)) for k in range(effects)]
    if effects > 1:
        terms[1] = classes("within", terms[0].codes * 3 + rng.integers(0, 3, n), (0, 1))
    if nested:
        terms.append(covariate("age", rng.uniform(1, 2, n), terms[0].codes))
    observed = rng.random((n, 2)) < 0.7
    observed[0] = True
    found = estimable(terms, observed, ("milk", "fat"))
    assert not found.unchecked
    for trait in (0, 1):
        X = matrix(terms, found.kept, trait, observed[:, trait])
        everything = matrix(terms, None, trait, observed[:, trait])
        assert X.shape[1] == np.linalg.matrix_rank(everything) == np.linalg.matrix_rank(X)
        present = int((everything != 0).any(axis=0).sum())
        assert present - X.shape[1] == sum(c.trait == ("milk", "fat")[trait] for c in found.constraints)


def test_two_class_effects_share_their_mean():
    rng = np.random.default_rng(1)
    herd, month = classes("herd", np.arange(60) % 12), classes("month", rng.integers(0, 4, 60))
    found = estimable([herd, month], np.ones((60, 1), bool), ("milk",))
    (one,) = found.constraints
    assert (one.effect, one.others) == ("month", ("herd", "other levels of month"))
    assert str(one) == (
        f"fixed effects of milk: level {one.level} of month is confounded with herd and other levels of month; it is "
        "set to 0"
    )


def test_the_level_that_is_confounded_is_named():
    rng = np.random.default_rng(2)
    herd = np.arange(60) % 12
    breed = rng.integers(0, 2, 60)
    breed[herd == 5] = 2  # a breed that only one herd has
    found = estimable([classes("herd", herd), classes("breed", breed)], np.ones((60, 1), bool), ("milk",))
    assert Constraint("milk", "breed", "breed2", ("herd",)) in found.constraints
    assert len(found.constraints) == 2


def test_the_log_names_a_few_levels_and_counts_the_rest():
    herd_year = np.arange(100) % 20
    found = estimable(
        [classes("herd_year", herd_year), classes("herd", herd_year // 2)], np.ones((100, 1), bool), ("milk",)
    )
    notes = found.notes()
    assert notes[2] == "fixed effects of milk: level herd2 of herd is confounded with herd_year; it is set to 0"
    assert notes[3:] == ["fixed effects of milk: 7 more levels of herd are set to 0"]


def test_a_level_without_records_of_a_trait_has_no_equation_and_is_no_fault():
    herd = np.array([0, 0, 1, 1])
    observed = np.array([[1, 1], [1, 1], [1, 0], [1, 0]], bool)
    found = estimable([classes("herd", herd, (0, 1))], observed, ("milk", "fat"))
    np.testing.assert_array_equal(found.kept[0], [[True, True], [True, False]])
    assert not found.constraints


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_a_covariate_that_the_others_determine_is_refused(scale):
    rng = np.random.default_rng(3)
    herd, every = rng.integers(0, 6, 50), np.ones((50, 1), bool)
    age = scale * rng.uniform(300, 400, 50)
    with pytest.raises(
        BenchError, match=r"covariate (copy|age) is confounded with (age|copy): they .* take one off `fixed`"
    ):
        estimable(
            [classes("herd", herd), covariate("age", age), covariate("copy", 3 * age + 7 * scale)], every, ["milk"]
        )
    with pytest.raises(BenchError, match="covariate altitude is confounded with herd: they say the same of every"):
        estimable([classes("herd", herd), covariate("altitude", scale * (herd + 1.0))], every, ["milk"])
    with pytest.raises(BenchError, match="fixed effects of milk: covariate age is the same in all records"):
        estimable([classes("herd", herd), covariate("age", np.full(50, scale))], every, ["milk"])


def test_a_covariate_of_zeros_is_refused():
    with pytest.raises(BenchError, match="fixed effects of milk: covariate age is 0 in all records"):
        estimable([classes("herd", np.arange(4) % 2), covariate("age", np.zeros(4))], np.ones((4, 1), bool), ["milk"])


def test_a_date_keeps_its_digits():
    rng = np.random.default_rng(4)
    terms = [
        classes("herd", rng.integers(0, 6, 50)),
        covariate("born", 20_260_100 + rng.integers(0, 28, 50).astype(float)),
    ]
    assert not estimable(terms, np.ones((50, 1), bool), ["milk"]).constraints


def test_too_many_columns_are_not_checked_and_that_is_said(monkeypatch):
    monkeypatch.setattr(confounding, "MOST_COLUMNS", 3)
    rng = np.random.default_rng(5)
    terms = [classes("herd", np.arange(60) % 12), classes("month", rng.integers(0, 4, 60))]
    found = estimable(terms, np.ones((60, 1), bool), ("milk",))
    assert found.unchecked == ["milk"]
    assert all(kept.all() for kept in found.kept)
