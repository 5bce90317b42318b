"""Simulated populations, checked with PLINK and against what quantitative genetics expects of them."""

import shutil
import subprocess

import msprime
import numpy as np
import pandas as pd
import pytest

from bench.errors import BenchError
from bench.genotypes import cost
from bench.genotypes.bim_fam import read_bim, read_fam
from bench.genotypes.dataset import Dataset
from bench.genotypes.founders import segregating_sites
from bench.genotypes.packed import PackedGenotypes
from bench.genotypes.pedigree import FEMALE, MALE, genotyped, seed_for, simulate_pedigree
from bench.genotypes.simulate import simulate, simulate_chromosome
from bench.genotypes.spec import Simulated, Trait, parse_spec
from bench.genotypes.stages import make_chromosome, make_pedigree, make_simulated

PLINK = shutil.which("plink1.9")
needs_plink = pytest.mark.skipif(PLINK is None, reason="plink1.9 is not installed")


def spec(**keys):
    small = {
        "kind": "simulated",
        "n_samples": 203,
        "n_snps": 301,
        "chromosomes": 2,
        "chromosome_length": 3_000_000,
        "founders": 43,
        "generations": 3,
        "sires_per_generation": 5,
        "missing_rate": 0.03,
        "seed": 3,
        "traits": (Trait(name="milk", n_qtl=40), Trait(name="fat", n_qtl=21)),
    }
    return Simulated(**small | keys)


@pytest.fixture(scope="module")
def population(tmp_path_factory):
    folder = tmp_path_factory.mktemp("population")
    return simulate(spec(), folder, name="population"), folder


def contents(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def plink(prefix, out, *options):
    command = [PLINK, "--bfile", str(prefix), "--keep-allele-order", "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_data_set_has_the_asked_shape_and_reads_back(population):
    dataset, folder = population
    again = Dataset.read(folder / "dataset.json")
    assert (again.n_samples, again.n_snps) == again.packed().shape == (203, 301)
    assert again.bed_sha256 == dataset.bed_sha256
    assert again.traits == ("milk", "fat")
    assert again.source["seed"] == 3
    assert again.source["missing_rate"] == 0.03
    assert again.phenotypes().shape == (203, 2)
    values = again.breeding_values()
    assert values is not None
    assert not values.isna().any().any()
    snps = again.snps()
    assert snps["chromosome"].value_counts().to_dict() == {"1": 151, "2": 150}
    assert snps["snp"].is_unique
    assert all(bp.is_monotonic_increasing for _, bp in snps.groupby("chromosome")["bp"])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(population, tmp_path):
    _, folder = population
    simulate(spec(), tmp_path / "again", name="population")
    assert contents(tmp_path / "again") == contents(folder)
    simulate(spec(seed=4), tmp_path / "other", name="population")
    assert contents(tmp_path / "other")["genotypes.bed"] != contents(folder)["genotypes.bed"]
    assert contents(tmp_path / "other")["phenotypes.tsv"] != contents(folder)["phenotypes.tsv"]


def test_the_stages_one_by_one_give_the_same_bytes_as_in_one_go(population, tmp_path):
    _, folder = population
    entry = spec().model_dump(mode="json")
    pedigree, out = tmp_path / "pedigree.tsv", tmp_path / "population"
    pieces = [tmp_path / f"chromosome{c}" for c in (1, 2)]
    make_pedigree(entry, name="population", out=pedigree)
    for chromosome in (2, 1):
        make_chromosome(
            entry, name="population", pedigree=pedigree, chromosome=chromosome, folder=pieces[chromosome - 1]
        )
    make_simulated(entry, name="population", pedigree=pedigree, pieces=pieces, folder=out)
    expected = {k: v for k, v in contents(folder).items() if not k.startswith("chromosomes/")}
    assert contents(out) == expected


def test_seeds_for_different_purposes_differ():
    seeds = {seed_for(s, "panel", c) for s in range(20) for c in range(20)}
    assert len(seeds) == 400
    assert min(seeds) >= 1
    assert max(seeds) < 2**32


@needs_plink
@pytest.mark.parametrize("missing_rate", [0.0, 0.03])
@pytest.mark.parametrize("genotyped_generations", ["all", 2])
def test_plink_finds_no_mendelian_error(tmp_path, missing_rate, genotyped_generations):
    simulate(spec(missing_rate=missing_rate, genotyped_generations=genotyped_generations), tmp_path, name="x")
    fam = read_fam(tmp_path / "genotypes.fam")
    assert ((fam["sire"] != "0") & (fam["dam"] != "0")).sum() > 80
    assert "0 Mendel errors detected" in plink(tmp_path / "genotypes", tmp_path / "out", "--mendel")


@needs_plink
def test_plink_finds_the_mendelian_errors_of_exchanged_offspring(population, tmp_path):
    _, folder = population
    for suffix in ("bed", "bim"):
        shutil.copy(folder / f"genotypes.{suffix}", tmp_path)
    fam = read_fam(folder / "genotypes.fam")
    young = fam.index[fam["sire"] != "0"]
    fam.loc[young, ["sire", "dam"]] = fam.loc[np.roll(young, 1), ["sire", "dam"]].to_numpy()
    fam.to_csv(tmp_path / "genotypes.fam", sep="\t", header=False, index=False)
    assert "0 Mendel errors detected" not in plink(tmp_path / "genotypes", tmp_path / "out", "--mendel")


@needs_plink
def test_plink_reports_our_allele_frequencies_and_missing_calls(population, tmp_path):
    dataset, folder = population
    plink(folder / "genotypes", tmp_path / "out", "--freq", "--nonfounders")
    table = pd.read_csv(tmp_path / "out.frq", sep=r"\s+")
    assert table["A2"].eq("G").all()
    ours = 1 - dataset.packed().allele_frequency()  # PLINK's column is the frequency of allele 1
    np.testing.assert_allclose(table["MAF"], ours, atol=1e-3 * 0.5 + 1e-4)
    plink(folder / "genotypes", tmp_path / "out", "--missing")
    missing = pd.read_csv(tmp_path / "out.lmiss", sep=r"\s+")
    np.testing.assert_array_equal(missing["N_MISS"], dataset.packed().code_counts()[:, 1])


def test_a_panel_snp_has_the_asked_minor_allele_frequency(tmp_path):
    simulate(spec(min_maf=0.1, missing_rate=0.0), tmp_path, name="x")
    frequency = Dataset.read(tmp_path / "dataset.json").packed().allele_frequency()
    assert np.minimum(frequency, 1 - frequency).min() >= 0.1


def test_counted_minor_alleles_are_those_of_the_decoded_genotypes():
    tables = msprime.sim_ancestry(
        30, sequence_length=2e4, recombination_rate=1e-6, population_size=500, random_seed=1
    )
    ts = msprime.sim_mutations(tables, rate=1e-5, model=msprime.BinaryMutationModel(), random_seed=1)
    genotypes = ts.genotype_matrix()
    single = np.array([len(site.mutations) == 1 for site in ts.sites()])
    assert 0 < single.sum() < ts.num_sites
    minor = np.minimum(genotypes.sum(1), 60 - genotypes.sum(1))
    expected = np.flatnonzero(single & (minor >= 12))
    assert (minor[expected] == 12).any()
    assert np.array_equal(segregating_sites(ts, 0.2), expected)


def test_qtl_are_not_on_the_panel(population):
    _, folder = population
    for chromosome in ("1", "2"):
        piece = folder / "chromosomes" / chromosome
        panel, qtl = read_bim(piece / "panel.bim"), read_bim(piece / "qtl.bim")
        assert not set(panel["bp"]) & set(qtl["bp"])
    assert [len(read_bim(folder / "chromosomes" / c / "qtl.bim")) for c in "12"] == [31, 30]


def test_panel_snps_spread_over_the_chromosome(population):
    dataset, _ = population
    bp = dataset.snps().query("chromosome == '1'")["bp"]
    assert np.histogram(bp, bins=10, range=(0, 3_000_000))[0].min() >= 5


def test_missing_calls_are_as_frequent_as_asked(population):
    dataset, _ = population
    n_calls = 203 * 301
    assert abs(dataset.missing_rate - 0.03) < 5 * np.sqrt(0.03 * 0.97 / n_calls)
    assert dataset.missing_rate == dataset.packed().missing_rate()


def test_too_few_segregating_sites_are_told_in_a_sentence(tmp_path):
    big = spec(n_snps=100_000)
    with pytest.raises(BenchError, match=r"chromosome 1: found \d+ sites .* needed 50000 for the panel and 31 QTL"):
        simulate_chromosome(big, simulate_pedigree(big, 1), 1, 1, tmp_path)


def test_a_missing_chromosome_is_told_in_a_sentence(population, tmp_path):
    _, folder = population
    pieces = [folder / "chromosomes" / "1"]
    with pytest.raises(BenchError, match="1 chromosomes given, 2 needed"):
        make_simulated(
            spec().model_dump(mode="json"), name="x", pedigree=folder / "pedigree.tsv", pieces=pieces, folder=tmp_path
        )


@pytest.mark.parametrize(("generations", "n_genotyped"), [(3, "all"), (4, 1), (4, 3)])
def test_a_pedigree_is_consistent(generations, n_genotyped):
    population = spec(generations=generations, genotyped_generations=n_genotyped)
    pedigree = simulate_pedigree(population, 1)
    assert genotyped(population, pedigree).sum() == 203
    assert pedigree["id"].tolist() == list(range(1, len(pedigree) + 1))
    founders = pedigree["generation"] == 0
    assert founders.sum() == 43
    assert (pedigree.loc[founders, ["sire", "dam"]] == 0).all().all()
    young = pedigree[~founders]
    of = pedigree.set_index("id")
    for column, sex in (("sire", MALE), ("dam", FEMALE)):
        parents = of.loc[young[column]]
        assert (parents["sex"] == sex).all()
        assert (parents["generation"].to_numpy() == young["generation"].to_numpy() - 1).all()
    sizes = pedigree[genotyped(population, pedigree)].groupby("generation").size()
    assert sizes[sizes.index > 0].max() - sizes[sizes.index > 0].min() <= 1


def test_selected_sires_have_many_offspring_and_dams_few():
    pedigree = simulate_pedigree(spec(n_samples=1043, sires_per_generation=10), 1)
    young = pedigree[pedigree["generation"] > 0]
    assert (young.groupby("generation")["sire"].nunique() <= 10).all()
    assert young["sire"].value_counts().median() > 4 * young["dam"].value_counts().median()
    per_dam = young[young["generation"] == 3]["dam"].value_counts()
    assert per_dam.max() - per_dam.min() <= 1


@pytest.mark.statistical
def test_linkage_disequilibrium_decays_with_distance(tmp_path):
    wide = spec(
        n_samples=600, n_snps=600, chromosomes=1, chromosome_length=20_000_000, founders=200,
        generations=2, sires_per_generation=20, min_maf=0.1, missing_rate=0.0,
    )  # fmt: skip
    dataset = simulate(wide, tmp_path, name="x")
    r2 = np.corrcoef(dataset.packed().dosages().T.astype(float)) ** 2
    bp = dataset.snps()["bp"].to_numpy()
    distance = np.abs(bp[:, None] - bp)
    near, middle, far = (
        r2[(distance > low) & (distance <= high)].mean()
        for low, high in ((0, 50_000), (200_000, 500_000), (5_000_000, 20_000_000))
    )
    assert near > 0.2
    assert near > 2 * middle > 4 * far


@pytest.mark.statistical
def test_relatives_share_the_expected_part_of_their_genome(tmp_path):
    wide = spec(
        n_samples=900, n_snps=3000, chromosomes=3, chromosome_length=50_000_000, founders=300,
        generations=2, sires_per_generation=30, min_maf=0.05, missing_rate=0.0,
    )  # fmt: skip
    dataset = simulate(wide, tmp_path, name="x")
    dosages = dataset.packed().dosages().astype(float)
    pedigree = simulate_pedigree(wide, wide.seed)
    base = pedigree["generation"].to_numpy() == 0
    frequency = dosages[base].mean(0) / 2
    centred = dosages - 2 * frequency
    relationship = centred @ centred.T / (2 * frequency * (1 - frequency)).sum()
    young = np.flatnonzero(pedigree["generation"] == 1)
    for parent in ("sire", "dam"):
        other = pedigree[parent].to_numpy()[young] - 1
        assert abs(relationship[young, other].mean() - 0.5) < 0.02
    unrelated = relationship[np.ix_(base, base)][np.triu_indices(300, 1)]
    assert abs(unrelated.mean()) < 0.02


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"n_snps": 1}, "1 SNPs cannot be spread over 2 chromosomes"),
        ({"n_samples": 40}, "40 do not hold 43 founders"),
        ({"sires_per_generation": 30}, "30 sires need generations of at least 60"),
        ({"genotyped_generations": 9}, 'not "all" or in 1..3'),
        ({"traits": (Trait(), Trait())}, "same name"),
        ({"n_sampels": 4}, "unknown key `n_sampels`; did you mean 'n_samples'"),
        ({"min_maf": 0.7}, "`min_maf`: Input should be less than 0.5"),
        ({"traits": [{"h2": 2}]}, r"`traits.0.h2`: Input should be less than 1"),
        ({"kind": "simulation"}, "kind"),
    ],
)
def test_an_impossible_population_is_told_in_a_sentence(keys, message):
    with pytest.raises(BenchError, match=message) as error:
        parse_spec(spec().model_dump() | keys, name="mine")
    assert "'mine'" in str(error.value)


def test_costs_grow_with_the_population_and_refuse_what_is_too_large():
    small, large = spec(), spec(n_samples=3_000_000, n_snps=50_000, chromosomes=30)
    for need in (cost.memory_needed, cost.disk_needed, cost.seconds_needed):
        assert need(large) > 2 * need(small)
    assert cost.refusal(small, memory=10**9, disk=10**9, hours=1) is None
    assert "GB of memory" in str(cost.refusal(large, memory=10**8, disk=10**12, hours=10**6))
    assert "GB of disk" in str(cost.refusal(large, memory=10**12, disk=10**9, hours=10**6))
    assert "hours" in str(cost.refusal(large, memory=10**12, disk=10**12, hours=1))


def test_disk_needed_is_that_of_the_files(population):
    _, folder = population
    written = sum(len(content) for content in contents(folder).values())
    assert 0.5 < cost.disk_needed(spec()) / written < 2


def test_the_packed_pieces_add_up_to_the_data_set(population):
    dataset, folder = population
    pieces = [
        PackedGenotypes.open(folder / "chromosomes" / c / "panel.bed", n_samples=203, n_snps=m).dosages()
        for c, m in (("1", 151), ("2", 150))
    ]
    assert np.array_equal(np.hstack(pieces), dataset.packed().dosages())
