"""Breeding schemes against what genetics says of them: inbreeding, divergence, selection, who is genotyped."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.build import installed
from bench.errors import BenchError
from bench.genotypes import selection
from bench.genotypes.dataset import Dataset
from bench.genotypes.founders import demography, draw_founders
from bench.genotypes.genedrop import GeneDrop
from bench.genotypes.herds import FEMALE, MALE, genotyped_rows, simulate_pedigree
from bench.genotypes.livestock import simulate
from bench.genotypes.records import draw_records
from bench.genotypes.selection import Selection, blup, family_of, inverse_relationship
from bench.genotypes.spec import Livestock, RecordedTrait, parse_spec

SMALL = {
    "kind": "livestock",
    "animals": 1200,
    "genotyped": 300,
    "n_snps": 200,
    "cohorts": 6,
    "herds": 5,
    "sires": 12,
    "chromosomes": 2,
    "chromosome_length": 4_000_000,
    "founders": 60,
    "n_qtl": 50,
    "seed": 5,
}
LINES = SMALL | {"mating": "lines", "sires": 10, "herds": 3, "validation_cohorts": 1}


def lines(selfing, cycles=1, parents=30, crosses=20, per_cross=10, **keys):
    made = {"parents": parents, "crosses": crosses, "per_cross": per_cross, "selfing": selfing, "cycles": cycles}
    length = 1 + (selfing or 1)
    animals = parents + cycles * (crosses + crosses * per_cross * (length - 1))
    sizes = {"animals": animals, "cohorts": 1 + cycles * length, "genotyped": 200, "genotyped_cohorts": 1}
    return Livestock(**LINES | sizes | {"lines": made} | keys)


@pytest.fixture(scope="module")
def library():
    made = installed("genedrop")
    if made.library is None:
        pytest.skip(str(made.reason))
    return made.library


def drop_labels(spec, pedigree, library, sites=20, bits=8):
    """(n, 2, sites) the founder gamete that each allele comes from: it carries one of 256 labels."""
    family, morgans = family_of(spec, pedigree), np.linspace(0.05, 19.95, sites)  # a Morgan apart: almost unlinked
    drop, found = GeneDrop(library, length=20.0, seed=1, switches=1e-9), np.zeros((len(family), 2, sites), int)
    for bit in range(bits):
        haplotypes = np.repeat((np.arange(1 << bits) >> bit & 1)[:, None], sites, axis=1)
        gametes = drop.drop(family, morgans, haplotypes)
        bytes_ = gametes.bits.astype("<u8").view(np.uint8).reshape(len(family), 2, -1)
        found |= np.unpackbits(bytes_, axis=2, bitorder="little")[:, :, :sites].astype(int) << bit
    return found


def test_doubled_haploids_are_homozygous_and_founders_too(library):
    spec = lines(None, cycles=2)
    pedigree = simulate_pedigree(spec)
    found = drop_labels(spec, pedigree, library)
    born = pedigree["born"].to_numpy()
    finished = np.isin(born, spec.finished_cohorts())
    assert (found[finished, 0] == found[finished, 1]).all()
    f1 = ~finished
    assert (found[f1, 0] != found[f1, 1]).mean() > 0.8  # of two parents, which share few of their founders
    # Half the alleles of a line come from each parent, at each site by chance.
    dh = np.flatnonzero(born == 2)
    mother = pedigree["sire"].to_numpy()[dh] - 1
    of_first = found[dh, 0] == found[mother, 0]
    differ = found[mother, 0] != found[mother, 1]
    assert abs(of_first[differ].mean() - 0.5) < 0.05


@pytest.mark.parametrize("selfing", [1, 2, 4])
def test_selfing_halves_heterozygosity_each_generation(library, selfing):
    spec = lines(selfing, parents=60, crosses=50)
    pedigree = simulate_pedigree(spec)
    found = drop_labels(spec, pedigree, library)
    born = pedigree["born"].to_numpy()
    f1 = found[born == 1]
    apart = (f1[:, 0] != f1[:, 1]).mean()
    for generation in range(1, selfing + 1):
        plants = found[born == 1 + generation]
        shown = (plants[:, 0] != plants[:, 1]).mean() / apart
        assert abs(shown - 0.5**generation) < 0.03  # F = 1 − (1/2)^t; 10,000 sites, 500 plants
    assert spec.lines is not None
    assert spec.lines.inbreeding() == 1 - 0.5**selfing


def test_lines_have_the_pedigree_of_a_breeding_cycle():
    spec = lines(3, cycles=2)
    pedigree = simulate_pedigree(spec)
    assert np.bincount(pedigree["born"]).tolist() == [30, *[20, 200, 200, 200] * 2]
    assert (pedigree["sex"] == 0).all()
    for cohort in range(1, 9):
        plants = pedigree[pedigree["born"] == cohort]
        same = (plants["sire"] == plants["dam"]).all()
        assert same == (cohort not in (1, 5))
        parents = pedigree.set_index("id").loc[plants["sire"]]
        assert (parents["born"] == cohort - 1).all()
        if cohort in (1, 5):
            assert (plants["sire"] != plants["dam"]).all()
            assert len(set(plants["sire"]) | set(plants["dam"])) <= 10
    assert set(pedigree["born"].to_numpy()[genotyped_rows(spec, pedigree)]) == {8}
    recorded = draw_records(spec, pedigree, np.zeros((spec.animals, 1)))
    assert set(pedigree["born"].to_numpy()[recorded["id"].to_numpy() - 1]) == {0, 4}


def breeds(**keys):
    return Livestock(**SMALL | {"breeds": {"shares": [0.5, 0.3, 0.2], "split": 300, "crossing": 0.2}} | keys)


@settings(max_examples=10, deadline=None)
@given(mating=st.sampled_from(["dairy", "random"]), crossing=st.sampled_from([0.0, 0.3]), seed=st.integers(0, 2**31))
def test_breeds_are_crossed_as_said(mating, crossing, seed):
    spec = breeds(
        mating=mating, animals=6000, seed=seed, breeds={"shares": [0.5, 0.3, 0.2], "split": 9, "crossing": crossing}
    )
    pedigree = simulate_pedigree(spec)
    breed, born = pedigree["breed"].to_numpy(), pedigree["born"].to_numpy()
    assert np.bincount(breed[born == 0]).tolist() == [0, 500, 300, 200]
    sire, dam = (breed[pedigree[p].to_numpy()[born > 0] - 1] for p in ("sire", "dam"))
    assert (sire > 0).all()
    assert (breed[born > 0] == np.where(sire == dam, dam, 0)).all()
    purebred = dam > 0
    assert abs((sire != dam)[purebred].mean() - crossing) < 0.05
    if not crossing:
        assert (breed > 0).all()
    sires = pedigree.loc[born > 0, "sire"].groupby(born[born > 0]).nunique()
    assert (sires <= spec.sires).all()


def test_founders_of_breeds_diverge_as_msprime_says():
    """Hudson's F_ST of the haplotypes against 1 − T_within/T_between of the expected times of coalescence."""
    spec = breeds(founders=60, min_maf=0, n_snps=4000, chromosomes=1, chromosome_length=20_000_000)
    drawn = draw_founders(spec, 1)
    assert drawn.pools.tolist() == [[0, 40], [40, 80], [80, 120], [0, 120]]
    p = np.array([drawn.haplotypes[a:b].mean(axis=0) for a, b in drawn.pools[:3]])
    within = np.mean(2 * p * (1 - p) * 40 / 39)
    between = np.mean([np.mean(p[i] * (1 - p[j]) + p[j] * (1 - p[i])) for i in range(3) for j in range(i)])
    history = demography(breeds=3, split=300).debug()
    inside = history.mean_coalescence_time({"breed1": 2})
    outside = history.mean_coalescence_time({"breed1": 1, "breed2": 1})
    assert abs((1 - within / between) - (1 - inside / outside)) < 0.04
    assert 1 - inside / outside > 0.08
    one = demography().debug().mean_coalescence_time({0: 2})
    np.testing.assert_allclose(inside, one, rtol=0.01)  # a breed alone has the history of the one population


def test_genes_of_a_breed_come_from_its_founders(library):
    spec = breeds(breeds={"shares": [0.5, 0.5], "split": 300, "crossing": 0.3}, unknown_parents=0.1)
    pedigree = simulate_pedigree(spec)
    family = family_of(spec, pedigree)
    pools = np.array([[0, 3], [3, 8], [0, 8]])
    marks = np.repeat((np.arange(8) >= 3)[:, None], 30, axis=1)
    gametes = GeneDrop(library, length=1.0, seed=4).drop(family, np.linspace(0, 0.99, 30), marks, pools)
    share = np.bitwise_count(gametes.bits).sum(axis=(1, 2)) / 60
    breed = pedigree["breed"].to_numpy()
    assert (share[breed == 1] == 0).all()
    assert (share[breed == 2] == 1).all()
    assert 0.3 < share[breed == 0].mean() < 0.7


SHARES = [
    {"sex": "male", "ages": [0, 1], "share": 1},
    {"sex": "female", "ages": [0, 3], "share": 0.1},
]


def test_genotyped_shares_are_those_asked_for():
    spec = Livestock(**SMALL | {"genotyped": None, "genotyped_shares": SHARES, "animals": 1207})
    pedigree = simulate_pedigree(spec)
    rows = genotyped_rows(spec, pedigree)
    assert len(rows) == len(set(rows)) == spec.n_samples
    there = np.zeros(len(pedigree), bool)
    there[rows] = True
    age = 5 - pedigree["born"].to_numpy()
    for sex, ages, share in ((MALE, (0, 1), 1.0), (MALE, (2, 5), 0.0), (FEMALE, (0, 3), 0.1), (FEMALE, (4, 5), 0.0)):
        of = (pedigree["sex"].to_numpy() == sex) & (age >= ages[0]) & (age <= ages[1])
        assert abs(there[of].mean() - share) < 0.005


def selected(**keys):
    traits = (RecordedTrait(name="milk", h2=0.4), RecordedTrait(name="fat", h2=0.2))
    return Livestock(
        **SMALL | {"traits": traits, "selection": {"milk": 1.0}, "animals": 4000, "cohorts": 8, "recorded": 1} | keys
    )


@pytest.fixture(scope="module")
def improved(library, tmp_path_factory):
    folder = tmp_path_factory.mktemp("improved")
    spec = selected(unknown_parents=0.05)
    return spec, simulate(spec, folder, name="improved", library=library, note=lambda text: None), folder


def trend(folder, trait):
    values = pd.read_csv(folder / "breeding_values.tsv", sep="\t")
    born = pd.read_csv(folder / "pedigree.tsv", sep="\t")["born"]
    return values[trait].groupby(born).mean().to_numpy()


def test_selection_on_ebvs_makes_a_trend_in_the_trait(improved):
    _, _, folder = improved
    milk, fat = trend(folder, "milk"), trend(folder, "fat")
    assert milk[-1] > 0.6  # one genetic standard deviation is 0.63
    assert abs(fat[-1]) < 0.7 * milk[-1]


def test_selection_sees_the_breeding_values_and_records_of_the_data_set(improved, library, monkeypatch):
    spec, dataset, folder = improved
    seen = []
    kept = selection.draw_records
    monkeypatch.setattr(selection, "draw_records", lambda *a: seen.append((a[2], kept(*a))) or seen[-1][1])
    pedigree = simulate_pedigree(spec, library)
    before = (pedigree["born"] < 7).to_numpy()
    written = pd.read_csv(folder / "breeding_values.tsv", sep="\t")[["milk", "fat"]].to_numpy()
    values, table = seen[-1]
    np.testing.assert_allclose(values[before], written[before], atol=1e-6)
    records = Dataset.read(folder / "dataset.json").records()
    mine = table[before[table["id"].to_numpy() - 1]]
    theirs = records[before[records["id"].astype(int) - 1]]
    np.testing.assert_allclose(mine["milk"], theirs["milk"], atol=2e-6)
    assert dataset.n_samples == 300


@pytest.mark.parametrize("scheme", ["herds", "doubled", "selfed"])
def test_ebvs_solve_the_mixed_model(scheme, library):
    """Against dense generalised least squares with the relationship matrix made by the tabular rules."""
    spec = {
        "herds": lambda: Livestock(
            **SMALL | {"animals": 240, "sires": 4, "genotyped": 40, "repeats": 2, "weights": True}
        ),
        "doubled": lambda: lines(None, cycles=2, crosses=6, per_cross=8, genotyped=40, sires=4, parents=10),
        "selfed": lambda: lines(2, cycles=2, crosses=6, per_cross=8, genotyped=40, sires=4, parents=10),
    }[scheme]()
    pedigree = simulate_pedigree(spec)
    rng = np.random.default_rng(3)
    cohort = spec.cohorts
    rows, inverse = inverse_relationship(spec, pedigree, cohort)
    A = np.linalg.inv(inverse.toarray())
    finished = rows[pedigree["born"].to_numpy()[rows] == 0]
    np.testing.assert_allclose(A[: len(finished), : len(finished)], np.eye(len(finished)), atol=1e-10)
    if scheme == "doubled":  # unrelated fully inbred parents: a line varies as much as they do
        first = pedigree["born"].to_numpy()[rows] == 2
        np.testing.assert_allclose(np.diag(A)[first], 1, atol=1e-10)
    u = rng.multivariate_normal(np.zeros(len(rows)), 0.3 * A)
    values = np.zeros((spec.animals, 1))
    values[rows, 0] = u
    table = draw_records(spec, pedigree, values)
    found = blup(table, "trait", rows, inverse, 0.7 / 0.3)
    X = pd.get_dummies(table["herd_year"]).to_numpy(float)
    X = np.column_stack([X, table["age"]])
    Z = sp.coo_array(
        (np.ones(len(table)), (np.arange(len(table)), np.searchsorted(rows, table["id"] - 1))),
        shape=(len(table), len(rows)),
    ).toarray()  # fmt: skip
    weight = table["weight"].to_numpy() if "weight" in table else np.ones(len(table))
    V = 0.3 * Z @ A @ Z.T + np.diag(0.7 / weight)
    y = table["trait"].to_numpy()
    b = np.linalg.lstsq(X.T @ np.linalg.solve(V, X), X.T @ np.linalg.solve(V, y), rcond=None)[0]
    np.testing.assert_allclose(found, 0.3 * A @ Z.T @ np.linalg.solve(V, y - X @ b), atol=1e-5)


def test_lines_are_selected_too_and_any_threads_give_the_same(library):
    spec = lines(None, cycles=4, selection={"trait": 1.0}, recorded=1, traits=(RecordedTrait(h2=0.5),))
    one, two = (simulate_pedigree(spec, library) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    again = Selection(spec, library, threads=2)
    values = again.breeding_values(one, spec.cohorts)[:, 0]
    np.testing.assert_array_equal(values, Selection(spec, library).breeding_values(one, spec.cohorts)[:, 0])
    born = one["born"].to_numpy()
    assert values[born == 8].mean() > values[born == 2].mean() + 0.5


def test_entries_without_a_scheme_are_written_as_before():
    entry = Livestock(**SMALL).model_dump(mode="json")
    assert entry["genotyped"] == 300
    assert not {"selection", "breeds", "lines", "genotyped_shares"} & set(entry)
    assert Livestock.model_validate(entry) == Livestock(**SMALL)


BAD = [
    ({"genotyped": None}, "give either how many are genotyped, or genotyped_shares"),
    ({"genotyped_shares": SHARES}, "give either how many are genotyped, or genotyped_shares"),
    ({"genotyped": None, "genotyped_shares": [SHARES[0], SHARES[0]]}, "animals of age 0 are in an earlier share"),
    (
        {"genotyped": None, "genotyped_shares": [{"ages": [0, 6], "share": 1}]},
        "the oldest of 6 cohorts has the age 5",
    ),
    ({"genotyped": None, "genotyped_shares": [{"ages": [2, 1], "share": 1}]}, "not a first and a last age"),
    ({"genotyped": None, "genotyped_shares": [{"ages": [0, 1], "shar": 1}]}, "did you mean 'share'"),
    ({"genotyped": None, "genotyped_shares": SHARES, "genotype_sires": True}, "cannot be joined with genotype_sires"),
    ({"selection": {"milk": 1}}, "selection: there is no trait 'milk'"),
    ({"selection": {}}, "needed a finite weight"),
    ({"selection": {"trait": float("nan")}}, "needed a finite weight"),
    ({"selection": {"trait": 1}, "sire_accuracy": 0.5}, "either selection or sire_accuracy"),
    ({"breeds": {"shares": [1], "split": 3}}, "at least 2"),
    ({"breeds": {"shares": [1, 1], "split": 3, "crosing": 1}}, "did you mean 'crossing'"),
    ({"breeds": {"shares": [1, 1], "split": 3}, "mating": "beef", "herds": 7}, "a breed gets 6 of 12, needed 7"),
    ({"breeds": {"shares": [1, 1], "split": 3}, "founders": 4, "sires": 1}, "a breed gets 0 of 1"),
    ({"mating": "lines"}, "lines: needed with `mating: lines`"),
    ({"lines": {"parents": 30, "crosses": 3, "per_cross": 3}}, "lines: needed with `mating: lines`"),
    ({"mating": "lines", "lines": {"parents": 30, "crosses": 3, "per_cross": 3}}, "make 42 plants in 3 cohorts"),
]


@pytest.mark.parametrize(("keys", "sentence"), BAD, ids=range(len(BAD)))
def test_what_cannot_be_is_said(keys, sentence):
    with pytest.raises(BenchError, match=sentence):
        parse_spec(SMALL | keys, name="herd")


def test_more_that_lines_cannot_have():
    entry = lines(2).model_dump(mode="json")
    for keys, sentence in (
        ({"unknown_parents": 0.1}, "unknown_parents: 0.1 is not simulated for lines"),
        ({"polygenic": 0.1}, "polygenic: 0.1 is not simulated for lines"),
        ({"sires": 31}, "sires: 31 parents of crosses"),
        ({"recorded_sex": "female"}, "plants of lines are of both sexes"),
        ({"genotyped": 201}, "genotyped: 201 animals, the last 1 cohorts have 200"),
    ):
        with pytest.raises(BenchError, match=sentence):
            parse_spec(entry | keys, name="wheat")


def test_too_few_purebred_males_are_said():
    spec = breeds(breeds={"shares": [0.9, 0.1], "split": 5, "crossing": 0.95}, sires=40)
    with pytest.raises(BenchError, match=r"sires of a breed are needed for cohort \d"):
        simulate_pedigree(spec)
