"""SNP tables against a .bim, and files of allele frequencies."""

import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.genotypes.alleles import match_snps, read_frequencies
from bench.genotypes.bim_fam import read_bim
from bench.genotypes.packed import PackedGenotypes


def bim(names="abc", first="AAA", counted="CGT") -> pd.DataFrame:
    return pd.DataFrame({"snp": list(names), "allele1": list(first), "allele2": list(counted)}, dtype=object)


def test_snps_are_found_by_name_and_their_alleles_turned():
    match = match_snps(bim(), ["x", "c", "a"], ["?", "A", "C"], of="the table")
    assert match.rows.tolist() == [2, -1, 1]
    assert match.turned.tolist() == [False, False, True]


def test_snps_that_cannot_be_matched_are_named():
    with pytest.raises(BenchError, match="the table: SNP 'a' stands there twice"):
        match_snps(bim(), ["a", "a"], ["A", "A"], of="the table")
    with pytest.raises(BenchError, match=r"the \.bim file: SNP 'b' stands there twice"):
        match_snps(bim("abb"), ["a"], ["A"], of="the table")
    with pytest.raises(BenchError, match=r"1 of 2 SNPs have an allele .* such as 'b': 'T' instead of 'A' or 'G'"):
        match_snps(bim(), ["a", "b"], ["A", "T"], of="the table")


@pytest.mark.parametrize(
    "text",
    [
        "snp allele frequency\nc T .25\na C .5\nb A .9\n",
        "#CHROM\tID\tREF\tALT\tALT_FREQS\n1\tb\tG\tA\t0.9\n1\tc\tA\tT\t0.25\n1\ta\tA\tC\t0.5\n1\tx\tA\tC\t1\n",
        " CHR SNP A1 A2 MAF NCHROBS\n 1 a C A 0.5 8\n 1 b A G 0.9 8\n 1 c T A 0.25 8\n",
        "frequency,snp,allele\n.5,a,C\n.9,b,A\n.25,c,T\n",
    ],
)
def test_frequencies_are_those_of_the_counted_allele(tmp_path, text):
    (tmp_path / "f.txt").write_text(text)
    np.testing.assert_allclose(read_frequencies(tmp_path / "f.txt", bim()), [0.5, 0.1, 0.25])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "0 lines; a header and a line per SNP were needed"),
        ("snp allele\na C\n", "the header has no column frequency"),
        ("snp allele frequency\na C\n", "line 2 has 2 columns, the header has 3"),
        ("snp allele frequency\na C x\n", "line 2: the frequency is 'x', a number from 0 to 1 was needed"),
        ("snp allele frequency\na C 1.01\n", "line 2: the frequency is '1.01'"),
        ("snp allele frequency\na C .5\n", r"2 of 3 SNPs of the \.bim file are not there, such as 'b'"),
        ("snp allele frequency\na G .5\n", r"f\.txt: 1 of 1 SNPs have an allele"),
    ],
)
def test_damaged_frequencies_are_told(tmp_path, text, sentence):
    (tmp_path / "f.txt").write_text(text)
    with pytest.raises(BenchError, match=sentence):
        read_frequencies(tmp_path / "f.txt", bim())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=60), st.text("abcACGT01. \n", max_size=60).map(str.encode)), st.booleans())
def test_any_bytes_are_frequencies_or_refused(tmp_path, content, header):
    path = tmp_path / "f.txt"
    path.write_bytes(b"snp allele frequency\n" * header + content)
    try:
        found = read_frequencies(path, bim())
    except BenchError:
        return
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.skipif(shutil.which("plink1.9") is None, reason="no plink1.9 on this machine")
def test_plink_s_frequencies(plink_files):
    command = ["plink1.9", "--bfile", str(plink_files), "--freq", "--keep-allele-order", "--out", str(plink_files)]
    subprocess.run([*command, "--allow-no-sex", "--nonfounders", "--threads", "1"], check=True, capture_output=True)
    table = read_bim(plink_files.with_suffix(".bim"))
    packed = PackedGenotypes.open(plink_files.with_suffix(".bed"), n_samples=23, n_snps=57)
    found = read_frequencies(plink_files.with_suffix(".frq"), table)
    np.testing.assert_allclose(found, packed.allele_frequency(), rtol=1e-3)  # plink prints four digits
