"""Indirect prediction against GBLUP of everybody, brute force, and swapped or absent SNPs."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.__main__ import main
from bench.errors import BenchError
from bench.genotypes.bim_fam import read_bim
from bench.genotypes.packed import PackedGenotypes
from bench.models.prediction import SnpEffects, align, predict, read_effects
from bench.relationships.codings import snp_coding
from bench.relationships.genomic import BlockCentred
from bench.relationships.missing import missing_calls
from bench.solvers.operator import Dense


def drawn(seed: int, n: int = 12, m: int = 9, traits: int = 2):
    """Dosages with missing calls, their .bim, and effects of the counted alleles."""
    rng = np.random.default_rng(seed)
    dosages = rng.integers(-1, 3, (n, m)).astype(np.int8)
    bim = pd.DataFrame({"snp": [f"s{j}" for j in range(m)], "allele1": "A", "allele2": "C"}, dtype=object)
    effects = SnpEffects(
        tuple(f"t{t}" for t in range(traits)),
        bim["snp"].to_numpy(object),
        bim["allele2"].to_numpy(object),
        rng.random(m),
        rng.standard_normal((m, traits)),
        rng.standard_normal(traits),
    )
    return dosages, bim, effects


def operands(dosages):
    return Dense(np.maximum(dosages, 0).astype(float)), missing_calls(PackedGenotypes.from_dosages(dosages))


def by_hand(dosages, effects):
    """Σ (x − 2p) e, individual by individual; a missing call adds nothing."""
    out = np.tile(effects.constants, (len(dosages), 1))
    for i, row in enumerate(dosages):
        for x, p, e in zip(row, effects.frequency, effects.effects, strict=True):
            out[i] += (x - 2 * p) * e if x >= 0 else 0
    return out


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), turned=st.integers(0, 511), traits=st.integers(1, 3))
def test_swapped_alleles_and_another_order_change_nothing(seed, turned, traits):
    dosages, bim, effects = drawn(seed, traits=traits)
    wanted = by_hand(dosages, effects)
    swapped = (turned >> np.arange(9) & 1).astype(bool)  # the candidates' .bim counts the other allele there
    order = np.random.default_rng(seed).permutation(9)
    other = bim.copy()
    other.loc[swapped, ["allele1", "allele2"]] = ["C", "A"]
    theirs = np.where(swapped & (dosages >= 0), 2 - dosages, dosages).astype(np.int8)[:, order]
    found = predict(effects, other.iloc[order].reset_index(drop=True), *operands(theirs))
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_candidates_get_the_breeding_values_of_a_joint_analysis():
    """GBLUP of 30 with records and 8 without: û of the 8 from SNP effects, constant of the tuned relationships
    included."""
    rng = np.random.default_rng(4)
    dosages = rng.binomial(2, rng.uniform(0.1, 0.9, 60), (38, 60)).astype(np.int8)
    bim = pd.DataFrame({"snp": [f"s{j}" for j in range(60)], "allele1": "A", "allele2": "C"}, dtype=object)
    old, young = dosages[:30], dosages[30:]
    packed = PackedGenotypes.from_dosages(old)
    coding = snp_coding(packed, min_maf=0.2, weights=rng.gamma(2, size=60))
    nu, tau, lam = 0.9 / coding.divisor, 0.3, 2.0
    everybody = BlockCentred(PackedGenotypes.from_dosages(dosages), coding).matmul(np.eye(60))
    G = nu * everybody @ everybody.T + tau
    y = rng.standard_normal(30)
    alpha = np.linalg.solve(G[:30, :30] + lam * np.eye(30), y)
    joint = G[30:, :30] @ alpha
    solutions = nu * everybody[:30].T @ alpha[:, None]
    effects = SnpEffects.of(coding, solutions, bim, ("y",), constants=np.array([tau * alpha.sum()]))
    found = predict(effects, bim, *operands(young))
    np.testing.assert_allclose(found[:, 0], joint, rtol=1e-10)


def test_snps_that_do_not_fit_are_counted_and_named():
    dosages, bim, effects = drawn(1)
    fewer = SnpEffects(
        effects.traits,
        *(a[:7] for a in (effects.snps, effects.alleles, effects.frequency, effects.effects)),
        effects.constants,
    )
    with pytest.raises(BenchError, match="2 of 9 SNPs of the candidates have no effect, such as 's7'"):
        predict(fewer, bim, *operands(dosages))
    with pytest.raises(
        BenchError, match=r"3 of 9 SNPs with an effect are not genotyped .* 's6'; impute them, or ask"
    ):
        predict(effects, bim[:6], *operands(dosages[:, :6]))
    found = predict(effects, bim[:6], *operands(dosages[:, :6]), partial=True)
    unseen = np.where(np.arange(9) < 6, dosages, -1)
    np.testing.assert_allclose(found, by_hand(unseen, effects), atol=1e-12)
    strange = bim.assign(allele1="G", allele2="T")
    with pytest.raises(BenchError, match=r"the SNP effects: 9 of 9 SNPs have an allele that the \.bim file does not"):
        align(effects, strange)


def test_effects_read_back(tmp_path):
    _, _, effects = drawn(2, traits=3)
    effects.write(tmp_path / "e.parquet")
    again = read_effects(tmp_path / "e.parquet")
    assert again.traits == effects.traits
    for name in ("snps", "alleles", "frequency", "effects", "constants"):
        np.testing.assert_array_equal(getattr(again, name), getattr(effects, name))


def test_four_columns_are_enough(tmp_path):
    table = pd.DataFrame({"snp": ["a"], "allele": ["C"], "frequency": [0.25], "effect": [2.0]})
    table.to_parquet(tmp_path / "e.parquet")
    found = read_effects(tmp_path / "e.parquet")
    assert found.traits == ("trait",)
    assert found.constants.tolist() == [0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"frequency": None}, "has no column frequency; needed are snp, allele, frequency, effect"),
        ({"frequency": 1.5}, r"frequency of SNP 'a' is '1\.5'; a number from 0 to 1 was needed"),
        ({"effect": np.inf}, "effect of SNP 'a' is 'inf'; a finite number was needed"),
        ({"effect": "x"}, "effect of SNP 'a' is 'x'"),
        ({"trait": ["one", "two"]}, "snp of trait 'two' differs from that of 'one'"),
    ],
)
def test_effects_that_cannot_be_used_are_refused(tmp_path, change, sentence):
    table = pd.DataFrame({"snp": ["a", "b"], "allele": "C", "frequency": 0.25, "effect": 2.0})
    for column, value in change.items():
        table = table.drop(columns=column) if value is None else table.assign(**{column: value})
    table.to_parquet(tmp_path / "e.parquet")
    with pytest.raises(BenchError, match=rf"e\.parquet: .*{sentence}"):
        read_effects(tmp_path / "e.parquet")


def test_what_is_no_table_of_effects(tmp_path):
    (tmp_path / "e.parquet").write_text("no parquet")
    with pytest.raises(BenchError, match="not a parquet file of SNP effects"):
        read_effects(tmp_path / "e.parquet")
    with pytest.raises(BenchError, match=r"absent\.parquet: no such file"):
        read_effects(tmp_path / "absent.parquet")
    pd.DataFrame({"snp": [], "allele": [], "frequency": [], "effect": []}).to_parquet(tmp_path / "e.parquet")
    with pytest.raises(BenchError, match="has no SNP"):
        read_effects(tmp_path / "e.parquet")


def test_candidates_through_the_command_line(plink_files, tmp_path, capsys):
    bim = read_bim(plink_files.with_suffix(".bim"))
    packed = PackedGenotypes.open(plink_files.with_suffix(".bed"), n_samples=23, n_snps=57)
    rng = np.random.default_rng(5)
    effects = SnpEffects.of(snp_coding(packed), rng.standard_normal((57, 2)), bim, ("milk", "fat"))
    effects.write(tmp_path / "e.parquet")
    files = [
        "--genotypes",
        str(plink_files),
        "--effects",
        str(tmp_path / "e.parquet"),
        "--out",
        str(tmp_path / "o.pq"),
    ]
    assert main(["predict", *files]) == 0
    assert capsys.readouterr().out.endswith("o.pq: 23 candidates, 2 traits\n")
    found = pd.read_parquet(tmp_path / "o.pq").pivot(index="animal", columns="trait", values="ebv")
    assert main(["predict", *files[:-1], str(tmp_path / "o.tsv")]) == 0
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "o.tsv", sep="\t"), pd.read_parquet(tmp_path / "o.pq"))
    ids = [f"animal{i}" for i in range(23)]
    np.testing.assert_allclose(found.loc[ids, ["milk", "fat"]], by_hand(packed.dosages(), effects), atol=1e-10)
