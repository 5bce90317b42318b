"""Livestock populations: pedigrees, genotypes, breeding values and records against what they are said to be."""

import json
import shutil
import subprocess
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import __main__ as cli
from bench.build import installed
from bench.errors import BenchError
from bench.experiments import gblup
from bench.genotypes import cost, records
from bench.genotypes.dataset import Dataset
from bench.genotypes.genedrop import Family
from bench.genotypes.herds import FEMALE, MALE, genotyped_rows, read_pedigree, simulate_pedigree, write_pedigree
from bench.genotypes.livestock import simulate
from bench.genotypes.packed import PackedGenotypes
from bench.genotypes.records import draw_polygenic, draw_records
from bench.genotypes.spec import Livestock, RecordedTrait, parse_spec
from bench.genotypes.stages import make_chromosome, make_dataset, make_pedigree, make_simulated

PLINK = shutil.which("plink1.9")
R = ((1.0, 0.5), (0.5, 1.0))
SMALL = {
    "kind": "livestock",
    "animals": 1200,
    "genotyped": 451,
    "n_snps": 303,
    "cohorts": 6,
    "herds": 8,
    "sires": 12,
    "genotype_sires": True,
    "chromosomes": 2,
    "chromosome_length": 4_000_000,
    "founders": 60,
    "n_qtl": 50,
    "genetic_correlations": R,
    "traits": (RecordedTrait(name="milk", h2=0.3, mean=30), RecordedTrait(name="fat", h2=0.2, missing=0.5)),
    "seed": 5,
}


def spec(**keys):
    return Livestock(**SMALL | keys)


@pytest.fixture(scope="module")
def library():
    made = installed("genedrop")
    if made.library is None:
        pytest.skip(str(made.reason))
    return made.library


@pytest.fixture(scope="module")
def population(tmp_path_factory, library):
    folder = tmp_path_factory.mktemp("population")
    return simulate(spec(), folder, name="population", library=library, jobs=2, note=lambda text: None), folder


def contents(folder):
    files = (f for f in sorted(folder.rglob("*")) if f.is_file() and "chromosomes" not in f.parts)
    return {str(f.relative_to(folder)): f.read_bytes() for f in files}


@settings(max_examples=25, deadline=None)
@given(
    mating=st.sampled_from(["dairy", "beef", "random"]),
    animals=st.integers(400, 3000),
    cohorts=st.integers(2, 8),
    herds=st.integers(1, 9),
    accuracy=st.sampled_from([None, 0.5, 1.0]),
    unknown=st.sampled_from([0.0, 0.3]),
    groups=st.integers(0, 5),
    seed=st.integers(0, 2**31),
)
def test_a_pedigree_is_one(mating, animals, cohorts, herds, accuracy, unknown, groups, seed):
    asked = spec(
        mating=mating, animals=animals, cohorts=cohorts, herds=herds, sires=10, sire_accuracy=accuracy,
        unknown_parents=unknown, groups=groups, seed=seed, genotyped=40, genotyped_cohorts=1, validation_cohorts=1,
    )  # fmt: skip
    pedigree = simulate_pedigree(asked)
    assert pedigree["id"].tolist() == list(range(1, animals + 1))
    assert np.bincount(pedigree["born"]).tolist() == asked.cohort_sizes()
    assert pedigree["herd"].between(1, herds).all()
    born, sex = (pedigree[c].to_numpy() for c in ("born", "sex"))
    for parent, right in (("sire", MALE), ("dam", FEMALE)):
        of = pedigree[parent].to_numpy()
        known = of > 0
        assert not known[born == 0].any()
        assert (sex[of[known] - 1] == right).all()
        age = born[known] - born[of[known] - 1]
        assert ((age >= 1) & (age <= (3 if right == MALE else 5))).all()
        assert abs(known[born > 0].mean() - (1 - unknown)) < 0.2
        assert set(of[~known]) <= ({-g for g in range(1, groups + 1)} or {0})
    assert (pedigree.groupby("born")["sire"].agg(lambda s: s[s > 0].nunique()) <= asked.sires).all()
    rows = genotyped_rows(asked, pedigree)
    assert len(set(rows)) == 40
    sires = set(pedigree["sire"][born >= cohorts - 1])
    assert all(born[r] >= cohorts - 1 or r + 1 in sires for r in rows)


def test_matings_have_their_shape():
    def bulls(mating):
        calves = simulate_pedigree(spec(mating=mating, animals=12_000, herds=10, sires=40)).query("born == 4")
        return calves.groupby("herd")["sire"].nunique().mean(), calves.groupby("sire")["herd"].nunique().mean()

    # In 200 calves a herd; calves that moved show a few of other herds' sires.
    assert bulls("random")[0] > 35
    assert bulls("random")[1] > 9
    few, _ = bulls("dairy")
    assert few < 15
    assert bulls("beef")[1] < 4


def test_selected_sires_are_more_often_half_sibs():
    half_sibs = []
    for accuracy in (None, 0.9):
        pedigree = simulate_pedigree(spec(animals=24_000, mating="random", sires=100, sire_accuracy=accuracy))
        sires = pedigree.loc[pedigree["id"].isin(pedigree.query("born == 5")["sire"]), "sire"]
        half_sibs.append(sires[sires > 0].value_counts().pow(2).sum())
    assert half_sibs[1] > 1.2 * half_sibs[0]


def test_a_pedigree_reads_back(tmp_path):
    asked = spec(unknown_parents=0.2, groups=3)
    pedigree = simulate_pedigree(asked)
    write_pedigree(tmp_path / "p.tsv", pedigree)
    assert {"G1", "G2", "G3"} <= set(pd.read_csv(tmp_path / "p.tsv", sep="\t", dtype=str)["sire"])
    pd.testing.assert_frame_equal(read_pedigree(tmp_path / "p.tsv", asked), pedigree)
    with pytest.raises(BenchError, match=r"1200 animals .* needed 1300 with id, sire"):
        read_pedigree(tmp_path / "p.tsv", spec(animals=1300))
    for column, value, sentence in (
        ("sire", 1201, "sire is 1201, needed -3 to 400"),
        ("dam", 500, "dam is 500, needed -3 to 400"),
        ("sire", -4, "sire is -4, needed -3 to 400"),
        ("id", 4, "id is 4, needed 501 to 501"),
        ("born", 6, "born is 6, needed 2 to 2"),
        ("herd", 0, "herd is 0, needed 1 to 8"),
    ):
        wrong = pedigree.copy()
        wrong.loc[500, column] = value
        write_pedigree(tmp_path / "q.tsv", wrong)
        with pytest.raises(BenchError, match=rf"q\.tsv: line 502: {sentence}; draw the pedigree again"):
            read_pedigree(tmp_path / "q.tsv", asked)
    (tmp_path / "q.tsv").write_text("id\tsire\n1\tx\n")
    with pytest.raises(BenchError, match=r"q\.tsv: not the pedigree of a livestock data set"):
        read_pedigree(tmp_path / "q.tsv", asked)


def test_the_data_set_has_the_asked_shape_and_reads_back(population):
    dataset, folder = population
    again = Dataset.read(folder / "dataset.json")
    assert again == dataset
    assert (again.n_samples, again.n_snps) == again.packed().shape == (451, 303)
    assert again.snps()["snp"].is_unique
    values = again.breeding_values()
    assert values is not None
    assert values.shape == (451, 2)
    assert list(again.records()) == ["id", "herd_year", "age", "milk", "fat"]
    assert set(again.sample_ids()) <= set(pd.read_csv(folder / "pedigree.tsv", sep="\t", dtype=str)["id"])
    assert not again.packed().code_counts()[:, 1].any()
    with pytest.raises(BenchError, match="names no phenotypes_path"):
        again.phenotypes()


def test_a_manifest_without_records_is_still_read(population, tmp_path):
    _, folder = population
    entries = json.loads((folder / "dataset.json").read_text())
    del entries["records_path"]
    (tmp_path / "dataset.json").write_text(json.dumps(entries))
    assert Dataset.read(tmp_path / "dataset.json").records_path is None


def test_the_stages_one_by_one_in_any_order_give_the_same_bytes_as_in_one_go(population, library, tmp_path):
    _, folder = population
    entry = spec().model_dump(mode="json")
    pedigree, out = tmp_path / "pedigree.tsv", tmp_path / "population"
    pieces = [tmp_path / f"chromosome{c}" for c in (1, 2)]
    make_pedigree(entry, name="population", out=pedigree)
    for c in (2, 1):
        options = {"name": "population", "pedigree": pedigree, "genedrop": lambda: library}
        make_chromosome(entry, chromosome=c, folder=pieces[c - 1], **options)
    make_simulated(entry, name="population", pedigree=pedigree, pieces=pieces, folder=out)
    assert contents(out) == contents(folder)

    def assembled(of=pieces):
        make_simulated(entry, name="population", pedigree=pedigree, pieces=of, folder=out)

    with pytest.raises(BenchError, match=r"panel\.bim: SNPs of chromosome 2, needed those of chromosome 1"):
        assembled(of=pieces[::-1])

    np.save(pieces[1] / "values.npy", np.zeros((7, 2)))
    with pytest.raises(BenchError, match=r"values\.npy: found numbers of shape \(7, 2\), needed \(1200, 2\)"):
        assembled()
    (pieces[0] / "values.npy").write_bytes(b"")
    with pytest.raises(BenchError, match=r"values\.npy: cannot be read .*; simulate the chromosome again"):
        assembled()


@pytest.mark.skipif(PLINK is None, reason="plink1.9 is not installed")
def test_plink_finds_no_mendelian_error_until_offspring_are_exchanged(population, tmp_path):
    _, folder = population
    fam = pd.read_csv(folder / "genotypes.fam", sep="\t", header=None)
    assert ((fam[2] != 0) & (fam[3] != 0)).sum() > 30

    def errors():
        command = [str(PLINK), "--bfile", str(tmp_path / "x"), "--mendel", "--out", str(tmp_path / "out")]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    for suffix in ("bed", "bim"):
        shutil.copy(folder / f"genotypes.{suffix}", tmp_path / f"x.{suffix}")
    fam.to_csv(tmp_path / "x.fam", sep="\t", header=False, index=False)
    assert "0 Mendel errors detected" in errors()
    young = fam.index[fam[2] != 0]
    fam.loc[young, [2, 3]] = fam.loc[np.roll(young, 7), [2, 3]].to_numpy()
    fam.to_csv(tmp_path / "x.fam", sep="\t", header=False, index=False)
    assert "0 Mendel errors detected" not in errors()


def test_breeding_values_are_those_of_the_qtl_genotypes(population):
    dataset, folder = population
    pieces = [folder / "chromosomes" / str(c) for c in (1, 2)]
    beds = [PackedGenotypes.open(p / "qtl.bed", n_samples=451, n_snps=25).dosages() for p in pieces]
    effects = pd.read_csv(folder / "qtl.tsv", sep="\t")
    assert len(effects) == 50
    expected = np.hstack(beds).astype(float) @ effects[["milk", "fat"]].to_numpy()
    written = dataset.breeding_values()
    assert written is not None
    shift = written.to_numpy() - expected
    assert shift.std(axis=0).max() < 1e-6  # six digits are written
    assert written["milk"].std() > 0.3


def test_founders_breeding_values_have_the_asked_moments(population):
    _, folder = population
    everyone = pd.read_csv(folder / "breeding_values.tsv", sep="\t")
    founders = everyone[["milk", "fat"]].to_numpy()[:200]
    np.testing.assert_allclose(founders.mean(axis=0), 0, atol=1e-6)
    cross = 0.5 * np.sqrt(0.3 * 0.2)
    np.testing.assert_allclose(np.cov(founders.T, bias=True), [[0.3, cross], [cross, 0.2]], atol=1e-5)


def test_allele_frequencies_carry_over_from_the_founders(library, tmp_path, monkeypatch):
    # All founders are genotyped here: their gametes' frequencies are the haplotypes' up to sampling.
    from bench.genotypes import livestock

    asked = spec(cohorts=2, genotyped=1200, genotyped_cohorts=2, genotype_sires=False, sires=12)
    seen = []

    def kept(*arguments):
        seen.append(draw_founders(*arguments))
        return seen[-1]

    draw_founders = livestock.draw_founders
    monkeypatch.setattr(livestock, "draw_founders", kept)
    livestock.simulate_chromosome(asked, simulate_pedigree(asked), 1, tmp_path, library=library)
    expected = seen[0].haplotypes[:, ~seen[0].is_qtl].mean(axis=0)
    packed = PackedGenotypes.open(tmp_path / "panel.bed", n_samples=1200, n_snps=152).head(600)
    error = np.sqrt(expected * (1 - expected) / 1200)
    assert (np.abs(packed.allele_frequency() - expected) < 5 * error).all()


def test_near_snps_are_in_linkage_disequilibrium_and_far_ones_are_not(population):
    dataset, _ = population
    there = (dataset.snps()["chromosome"] == "1").to_numpy()
    bp = dataset.snps()["bp"].to_numpy()[there]
    r2 = np.corrcoef(dataset.packed().dosages(np.flatnonzero(there)).T.astype(float)) ** 2
    apart = np.abs(bp[:, None] - bp)
    near, far = np.nanmean(r2[(apart > 0) & (apart < 50_000)]), np.nanmean(r2[apart > 2_000_000])
    assert near > 0.15
    assert near > 3 * far


@settings(max_examples=15, deadline=None)
@given(
    mean=st.floats(-50, 50), h2=st.floats(0.05, 0.6), pe=st.floats(0, 0.3), age_effect=st.floats(-1, 1),
    weights=st.booleans(), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_records_are_what_the_model_says(mean, h2, pe, age_effect, weights, seed):
    trait = RecordedTrait(name="milk", h2=h2, pe=pe, mean=mean, age_effect=age_effect, herd_year_sd=0.7)
    asked = spec(
        animals=6000, traits=(trait,), genetic_correlations=None, repeats=3, weights=weights, recorded=0.5, seed=seed
    )
    pedigree = simulate_pedigree(asked)
    u = np.random.default_rng(seed).standard_normal((6000, 1)) * np.sqrt(h2)
    table = draw_records(asked, pedigree, u)
    assert ("weight" in table) == weights
    lines = table.groupby("id").size()
    assert len(lines) == 2500  # half of the five cohorts that may have records
    assert lines.between(1, 3).all()
    rows = table["id"].to_numpy() - 1
    assert (pedigree["born"].to_numpy()[rows] < 5).all()
    w = table["weight"].to_numpy() if weights else 1.0
    rest = table["milk"].to_numpy() - mean - age_effect * table["age"].to_numpy() - u[rows, 0]
    effects = pd.Series(rest).groupby(table["herd_year"]).transform("mean").to_numpy()
    within = rest - effects
    assert abs(pd.Series(effects).groupby(table["herd_year"]).first().std() - 0.7) < 0.35
    # Repeats of one animal share the permanent environment, and nothing else once the herd-year is known.
    pairs = table.assign(e=within, w=w).groupby("id").filter(lambda g: len(g) > 1).groupby("id").head(2)
    e = pairs["e"].to_numpy().reshape(-1, 2)
    assert abs(np.mean(e[:, 0] * e[:, 1]) - pe) < 0.12
    expected = pe + (1 - h2 - pe) * np.mean(1 / np.broadcast_to(w, within.shape))
    assert abs(np.var(within) / expected - 1) < 0.15


def test_records_of_several_traits():
    asked = spec(animals=20_000, residual_correlations=((1, -0.4), (-0.4, 1)), recorded_sex="female", recorded=1)
    pedigree = simulate_pedigree(asked)
    table = draw_records(asked, pedigree, np.zeros((20_000, 2)))
    assert (pedigree["sex"].to_numpy()[table["id"].to_numpy() - 1] == FEMALE).all()
    assert len(table) == len(pedigree.query("born < 5 and sex == 2"))
    assert table["milk"].notna().all()
    assert abs(table["fat"].isna().mean() - 0.5) < 0.03
    both = table.dropna()
    rest = both[["milk", "fat"]] - both.groupby("herd_year")[["milk", "fat"]].transform("mean")
    assert abs(rest.corr().to_numpy()[0, 1] + 0.4) < 0.05
    np.testing.assert_allclose(rest.var(), [0.7, 0.8], atol=0.05)


def test_the_polygenic_part_has_the_variance_of_mendelian_sampling():
    asked = spec(animals=40_000, polygenic=0.4, sires=200)
    pedigree = simulate_pedigree(asked)
    values = draw_polygenic(asked, family := Family.of(pedigree))
    cross = 0.5 * np.sqrt(0.3 * 0.2)
    expected = 0.4 * np.array([[0.3, cross], [cross, 0.2]])
    np.testing.assert_allclose(np.cov(values[family.sire < 0].T), expected, atol=0.01)
    calves = np.flatnonzero(family.sire >= 0)
    sampling = values[calves] - (values[family.sire[calves]] + values[family.dam[calves]]) / 2
    np.testing.assert_allclose(np.cov(sampling.T), expected / 2, atol=0.005)


def test_a_scale_gives_exactly_the_covariance():
    rng = np.random.default_rng(1)
    raw, wanted = rng.standard_normal((500, 3)) @ rng.standard_normal((3, 3)) + 7, np.diag([1.0, 2, 3]) + 0.5
    scaled = records.Scale.of(raw, wanted).apply(raw)
    np.testing.assert_allclose(np.cov(scaled.T, bias=True), wanted, atol=1e-12)
    with pytest.raises(BenchError, match="do not give 2 traits variances of their own"):
        records.Scale.of(np.ones((5, 2)), np.eye(2))


BAD = [
    ({"animals": 10}, "greater than or equal to 20"),
    ({"genotyped": 601}, "genotyped: 601 animals, the last 3 cohorts have 600"),
    ({"sires": 51}, "sires: 51 sires need cohorts of at least 204 animals, the smallest has 200"),
    ({"mating": "beef", "herds": 13}, "12 cannot serve 13 herds"),
    ({"mating": "goats"}, "'dairy', 'beef', 'random' or 'lines'"),
    ({"n_snps": 1}, "1 SNPs cannot be spread over 2 chromosomes"),
    ({"n_qtl": 1}, "1 QTL cannot be spread over 2 chromosomes"),
    ({"validation_cohorts": 6}, "validation_cohorts: 6 of 6 leave no records"),
    ({"genetic_correlations": ((1.0,),)}, "needed 2 rows of 2 numbers"),
    ({"genetic_correlations": ((1.0, 0.5), (0.4, 1.0))}, "not a symmetric matrix with ones"),
    ({"residual_correlations": ((1.0, 1.0), (1.0, 1.0))}, "not positive definite"),
    ({"traits": [{"name": "milk", "h2": 0.6, "pe": 0.4}], "genetic_correlations": None}, r"h2 \+ pe is 1"),
    ({"traits": [{"name": "milk", "pe": 0.1}], "genetic_correlations": None}, "shows no permanent environment"),
    ({"traits": [{"name": "age"}], "genetic_correlations": None}, "'age' is the name of another column"),
    ({"traits": [{"name": "a"}, {"name": "a"}]}, "two traits have the same name"),
    ({"traits": [{"nam": "a"}]}, "unknown key `traits.0.nam`; did you mean 'name'"),
    ({"animal": 3}, "unknown key `animal`; did you mean 'animals'"),
]


@pytest.mark.parametrize(("keys", "sentence"), BAD, ids=[str(sorted(k[0])) for k in BAD])
def test_what_cannot_be_is_said(keys, sentence):
    entry = spec().model_dump(mode="json") | keys
    with pytest.raises(BenchError, match=sentence):
        parse_spec(entry, name="herd")


def test_too_few_sites_and_too_little_memory_are_said(library, tmp_path):
    entry = spec(n_snps=90_000).model_dump(mode="json")
    with pytest.raises(BenchError, match=r"chromosome 1: found .* needed 45000 for the panel"):
        make_dataset(entry, name="x", folder=tmp_path, genedrop=lambda: library)
    with pytest.raises(BenchError, match=r"2 chromosomes at a time need about .* GB .* lower --jobs"):
        make_dataset(entry, name="x", folder=tmp_path, genedrop=lambda: library, jobs=2, memory=10**8)


def test_a_killed_process_of_a_chromosome_is_said(library, tmp_path, monkeypatch):
    def broken(*_):
        raise BrokenProcessPool

    monkeypatch.setattr(ProcessPoolExecutor, "map", broken)
    with pytest.raises(BenchError, match=r"'x': the process of a chromosome was killed .* lower --jobs"):
        simulate(spec(), tmp_path, name="x", library=library)


def test_the_cost_grows_with_the_population():
    national = spec(animals=10**6, genotyped=10**5, n_snps=50_000, chromosomes=30, n_qtl=900, chromosome_length=10**8)
    assert 0.6e9 < cost.memory_needed(national) < 1.5e9
    assert 1.25e9 * 2 < cost.disk_needed(national) < 5e9
    assert 200 < cost.seconds_needed(national) < 1200
    assert cost.refusal(national, memory=10**9 // 2, disk=10**12, hours=12)
    assert cost.refusal(national, memory=10**10, disk=10**9, hours=12)
    assert cost.refusal(national, memory=10**10, disk=10**12, hours=0.01)


def test_gblup_is_refused_by_a_sentence():
    with pytest.raises(BenchError, match="records of animals without genotypes"):
        gblup._traits(gblup.Stanza(datasets=["population"]), spec())


def test_the_verb_makes_it_in_one_go(population, tmp_path, capsys, library):
    _, folder = population
    command = ["dataset", "--name", "population", "--spec", spec().model_dump_json(), "--out", str(tmp_path)]
    assert cli.main([*command, "--jobs", "2"]) == 0
    assert "milk: 600 records" in capsys.readouterr().out
    assert contents(tmp_path) == contents(folder)
    assert cli.main([*command, "--jobs", "0"]) == 2
