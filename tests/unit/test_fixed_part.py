import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import sparse

from bench.errors import BenchError
from bench.models.confounding import estimable
from bench.models.design import Design
from bench.models.fixed_part import fixed_part
from bench.models.records import Records
from bench.models.terms import Term

TRAITS = ("milk", "fat")


def terms_of(rng: np.random.Generator, records: int, herds: int, years: int, *, covariate: bool) -> list[Term]:
    """Herds of both traits, years of the second alone, and what makes few levels, regressions within herds."""
    herd, year = rng.integers(0, herds, records), rng.integers(0, years, records)

    def names(count: int) -> np.ndarray:
        return np.array([str(k) for k in range(count)], object)

    found = [Term("herd", "class", (0, 1), herd, names(herds)), Term("year", "class", (1,), year, names(years))]
    if covariate:
        age = 20240101 + rng.integers(0, 300, records).astype(float)
        found.append(Term("age", "covariate", (0, 1), np.zeros(records, int), names(1), age))
        found.append(Term("dose", "nested", (1,), year, names(years), rng.integers(0, 3, records).astype(float)))
    return found


def taken(term: Term, rows: np.ndarray) -> Term:
    values = None if term.values is None else term.values[rows]
    return Term(term.name, term.kind, term.traits, term.codes[rows], term.levels, values)


def dense(terms: list[Term], trait: int) -> np.ndarray:
    """Every column of the trait; covariates less a number, which spans the same with the herds."""
    columns = []
    for term in terms:
        if trait in term.traits:
            values = 1.0 if term.values is None else term.values[:, None]
            values = values - 20240250 if term.kind == "covariate" else values
            columns.append((term.codes[:, None] == np.arange(len(term.levels))) * values)
    return np.hstack(columns)


@settings(max_examples=150, deadline=None)
@given(
    records=st.integers(8, 40),
    herds=st.integers(1, 5),
    years=st.integers(1, 6),
    covariate=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_only_what_the_records_determine_is_a_number(records, herds, years, covariate, seed):
    """Against the row space of a dense X; the numbers are x'b of any b."""
    rng = np.random.default_rng(seed)
    terms = terms_of(rng, records, herds, years, covariate=covariate)
    training = rng.random(records) < 0.5
    own = [taken(term, training) for term in terms]
    y = rng.standard_normal((int(training.sum()), 2))
    y[rng.random(y.shape) < 0.2] = np.nan
    observed = ~np.isnan(y)
    assume(observed.any(axis=0).all())
    try:
        checked = estimable(own, observed, TRAITS)
    except BenchError:  # of a covariate that is confounded: such a fold is not fitted
        assume(False)
    b = [np.where(kept, rng.integers(1, 5, kept.shape), 0.0) for kept in checked.kept]
    n = len(y)
    made = Records(TRAITS, np.arange(n), y, np.ones((n, 2)), {}, {})
    design = Design(made, own, [], checked, sparse.csr_array((2 * n, 0)), 0, TRAITS)
    effects = np.concatenate([of[kept] for of, kept in zip(b, checked.kept, strict=True)])
    found = fixed_part(design, effects, terms, ~training)
    for j in range(2):
        X = dense(terms, j)
        fitted, others = X[training][observed[:, j]], X[~training]
        combination = np.linalg.lstsq(fitted.T, others.T, rcond=1e-9)[0]
        left = np.linalg.norm(fitted.T @ combination - others.T, axis=0)
        determined = left < 1e-6 * (1 + np.linalg.norm(others, axis=1))
        assert (np.isnan(found[:, j]) == ~determined).all()
        expected = np.zeros(records)
        for term, of in zip(terms, b, strict=True):
            if j in term.traits:
                values = 1.0 if term.values is None else term.values
                expected += of[term.codes, term.traits.index(j)] * values
        np.testing.assert_allclose(found[determined, j], expected[~training][determined], rtol=1e-12)


def test_a_herd_in_a_year_that_it_was_not_seen_in_is_open_where_herd_and_year_are_one():
    herd, year = np.array([0, 0, 1, 1, 0, 1, 0]), np.array([0, 0, 1, 1, 1, 1, -1])
    names = np.array(["a", "b"], object)
    terms = [Term("herd", "class", (0,), herd, names), Term("year", "class", (0,), year, names)]
    training = np.arange(7) < 4
    own = [taken(term, training) for term in terms]
    made = Records(("milk",), np.arange(4), np.ones((4, 1)), np.ones((4, 1)), {}, {})
    checked = estimable(own, made.observed, made.traits)
    design = Design(made, own, [], checked, sparse.csr_array((4, 0)), 0, made.traits)
    found = fixed_part(design, np.array([1.0, 2.0]), terms, ~training)
    np.testing.assert_array_equal(found[:, 0], [np.nan, 2.0, np.nan])
