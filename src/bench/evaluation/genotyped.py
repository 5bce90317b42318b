"""The genotypes of a model file: checked, coded, and ready to be multiplied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.build import installed
from bench.errors import BenchError
from bench.genotypes.alleles import read_frequencies
from bench.genotypes.bim_fam import finite, read_bim, read_lines
from bench.genotypes.checks import check_genotypes, parent_pairs
from bench.genotypes.packed import PackedGenotypes
from bench.matrix import GenotypeMatrix
from bench.models.design import Design
from bench.models.model_file import Model
from bench.models.variances import Variances
from bench.relationships.codings import snp_coding
from bench.relationships.genomic import Centred, Coding, dense_grm, grm_diagonal
from bench.relationships.missing import missing_calls
from bench.relationships.pedigree import Pedigree
from bench.single_step.build import genomic_problem
from bench.single_step.problem import Problem

# Calls up to which genotypes are checked against each other and the pedigree while they are evaluated: 10 s.
CHECKED = 10**9


@dataclass(frozen=True)
class Genotyped:
    """ids, rows: (g,) of the genotyped, in the order of the .fam file, and where they stand in the pedigree."""

    ids: np.ndarray
    rows: np.ndarray
    prefix: str
    matrix: GenotypeMatrix
    coding: Coding
    markers: Centred

    def problem(self, design: Design, variances: Variances, library: Path, threads: int) -> Problem:
        """GBLUP of a design whose animals are these. library: the compiled pedigree."""

        def gram() -> np.ndarray:
            made = dense_grm(self.matrix.packed, self.coding, library=installed("gram").library, threads=threads)
            made *= self.coding.divisor
            self.matrix.packed.forget()
            return made

        ratio = 1 / self.coding.divisor
        return genomic_problem(design, variances, self.markers, ratio, library=library, gram=gram)

    def gram_diagonal(self) -> np.ndarray:
        """(g,) of MM'."""
        return grm_diagonal(self.matrix.packed, self.coding) * self.coding.divisor


def read_genotyped(model: Model, pedigree: Pedigree, *, threads: int, say: Callable[[str], None]) -> Genotyped:
    """BenchError: files that do not fit each other, animals that are not in the pedigree, too little memory."""
    files = model.genotypes
    assert files is not None
    prefix = str(files.plink)
    matrix = GenotypeMatrix.from_bed(prefix, threads=threads)
    ids = matrix.individuals
    assert ids is not None
    rows = pedigree.rows(list(ids), of=f"{prefix}.fam")
    if np.unique(rows).size < rows.size:
        raise BenchError(f"{prefix}.fam: an animal stands there twice; keep one of its genotypes")
    _report(matrix, pedigree, ids, rows, say)
    coding = read_coding(model, matrix.packed)
    left_out = int((coding.scale == 0).sum())
    if left_out:
        say(
            f"{left_out} of {coding.scale.size} SNPs are left out: they do not vary, or the frequency of their rarer "
            f"allele is below min_maf = {files.min_maf:g}"
        )
    missing = missing_calls(matrix.packed, threads=threads, library=installed("missing").library)
    matrix.packed.forget()
    return Genotyped(ids, rows, prefix, matrix, coding, Centred(matrix.products, coding, missing))


def _report(
    matrix: GenotypeMatrix, pedigree: Pedigree, ids: np.ndarray, rows: np.ndarray, say: Callable[[str], None]
) -> None:
    """Say what is wrong with the genotypes; nothing is left out for it."""
    if matrix.shape[0] * matrix.shape[1] > CHECKED:
        say("the genotypes were not checked, which takes a while at this size: `bench check` does")
        return
    pairs = parent_pairs(pedigree.sire, pedigree.dam, rows)
    snps = matrix.snps
    assert snps is not None
    report = check_genotypes(matrix.packed, individuals=ids, snps=snps, pairs=pairs)
    for kind, sentence in report.sentences().items():
        if kind != "monomorphic":
            say(f"warning: genotypes: {sentence}; `bench check` lists all")


def read_coding(model: Model, packed: PackedGenotypes) -> Coding:
    """How the model codes these genotypes of its .bim; frequencies that no file gives are theirs."""
    files = model.genotypes
    assert files is not None
    bim = read_bim(Path(f"{files.plink}.bim"))
    metafounders = model.pedigree is not None and model.pedigree.metafounders is not None
    return snp_coding(
        packed,
        "metafounder" if metafounders else model.relationship.kind,
        min_maf=files.min_maf,
        frequencies=None if files.frequencies is None else read_frequencies(files.frequencies, bim),
        weights=None if files.weights is None else snp_weights(files.weights, bim["snp"].to_numpy()),
    )


def snp_weights(path: Path, snps: np.ndarray) -> np.ndarray:
    """(m,) from lines of a SNP's id and its weight, in any order; a first line without a number is a header."""
    known: dict[str, float] = {}
    for number, line in enumerate(read_lines(path), start=1):
        fields = line.split()
        weight = finite(fields[1]) if len(fields) == 2 else None
        if weight is None and number > 1:
            raise BenchError(f"{path}: line {number} is {line.strip()!r}; a SNP's id and its weight were needed")
        if fields[0] in known:
            raise BenchError(f"{path}: line {number}: SNP {fields[0]!r} has a weight already")
        if weight is not None:
            known[fields[0]] = weight
    if absent := [str(snp) for snp in snps if snp not in known]:
        raise BenchError(f"{path}: {len(absent)} of {len(snps)} SNPs have no weight, such as {absent[0]!r}")
    return np.array([known[snp] for snp in snps])
