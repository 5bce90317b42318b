"""The genotypes of a model file: checked, coded, and ready to be multiplied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bench.build import installed
from bench.errors import BenchError
from bench.genotypes.alleles import read_frequencies
from bench.genotypes.bim_fam import finite, read_bim, read_lines
from bench.genotypes.checks import check_genotypes, parent_pairs
from bench.genotypes.packed import PackedGenotypes
from bench.machine import memory_available
from bench.matrix import GenotypeMatrix
from bench.models.design import Design
from bench.models.model_file import Model
from bench.models.variances import Variances
from bench.ranks.genotypes import SharedMatrix, Spread
from bench.relationships.codings import snp_coding
from bench.relationships.gaussian import gaussian_bytes, kernel, median_distance, squared_distances
from bench.relationships.genomic import Coding, dense_grm, grm_diagonal
from bench.relationships.pedigree import Pedigree
from bench.single_step.build import genomic_problem
from bench.single_step.problem import Problem
from bench.solvers.direct import semidefinite_root
from bench.solvers.operator import Dense, Operator

# Calls up to which genotypes are checked against each other and the pedigree while they are evaluated: 10 s.
CHECKED = 10**9


@dataclass(frozen=True)
class Genotyped:
    """ids, rows: (g,) of the genotyped, in the order of the .fam file, and where they stand in the pedigree.

    markers: M (g, m), coded. With the Gaussian kernel, whose width is then known, M is a root of K, and the coding is
    that of the distances.
    """

    ids: np.ndarray
    rows: np.ndarray
    prefix: str
    matrix: GenotypeMatrix | SharedMatrix
    coding: Coding
    markers: Operator
    width: float | None = None

    @classmethod
    def of(
        cls,
        model: Model,
        matrix: GenotypeMatrix | SharedMatrix,
        rows: np.ndarray,
        coding: Coding,
        width: float | None = None,
    ) -> Genotyped:
        """Genotypes that have been packed, coded so. width: of the Gaussian kernel, if not that of these genotypes.

        BenchError: too little memory.
        """
        assert model.genotypes is not None
        assert matrix.individuals is not None
        named = matrix.individuals, rows, str(model.genotypes.plink), matrix, coding
        if not model.relationship.linear:
            D2 = _distances(matrix, coding)
            width = width or model.relationship.theta * median_distance(D2)
            return cls(*named, Dense(semidefinite_root(kernel(D2, width))), width)
        return cls(*named, matrix.coded(coding))

    def problem(self, design: Design, variances: Variances, library: Path) -> Problem:
        """GBLUP of a design whose animals are these. library: the compiled pedigree."""

        if self.width is not None:
            return genomic_problem(design, variances, self.markers, 1.0, library=library)
        ratio = 1 / self.coding.divisor
        gram = partial(_gram, self.matrix, self.coding)
        return genomic_problem(design, variances, self.markers, ratio, library=library, gram=gram)

    def gram_diagonal(self) -> np.ndarray:
        """(g,) of MM'."""
        if self.width is not None:
            return np.ones(len(self.ids))
        return grm_diagonal(self.matrix.packed, self.coding) * self.coding.divisor


def _gram(matrix: GenotypeMatrix | SharedMatrix, coding: Coding) -> np.ndarray:
    """W W', (g, g)."""
    made = dense_grm(matrix.packed, coding, library=installed("gram").library, threads=matrix.threads)
    made *= coding.divisor
    matrix.packed.forget()
    return made


def _distances(matrix: GenotypeMatrix | SharedMatrix, coding: Coding) -> np.ndarray:
    need, memory = gaussian_bytes(matrix.shape[0]), memory_available()
    if need > memory:
        raise BenchError(
            f"the Gaussian kernel of {matrix.shape[0]} animals needs {need / 1e9:.3g} GB of memory, "
            f"{memory / 1e9:.3g} GB can be used; a linear relationship.kind needs none of it"
        )
    return squared_distances(_gram(matrix, coding))


def read_genotyped(
    model: Model,
    pedigree: Pedigree,
    *,
    threads: int,
    say: Callable[[str], None],
    memory: int | None = None,
    spread: Spread | None = None,
) -> Genotyped:
    """memory: bytes; where they do not hold the genotypes, these are read anew at each product. spread: over ranks,
    which hold them all together; None for one process.

    BenchError: files that do not fit each other, animals that are not in the pedigree, too little memory."""
    files = model.genotypes
    assert files is not None
    prefix = str(files.plink)
    matrix = _opened(prefix, threads, memory, spread, say)
    ids = matrix.individuals
    assert ids is not None
    rows = pedigree.rows(list(ids), of=f"{prefix}.fam")
    if np.unique(rows).size < rows.size:
        raise BenchError(f"{prefix}.fam: an animal stands there twice; keep one of its genotypes")
    if spread is None or spread.ranks.first:
        _report(matrix, pedigree, ids, rows, say)
    coding = read_coding(model, matrix.packed)
    left_out = int((coding.scale == 0).sum())
    if left_out:
        say(
            f"{left_out} of {coding.scale.size} SNPs are left out: they do not vary, or the frequency of their rarer "
            f"allele is below min_maf = {files.min_maf:g}"
        )
    made = Genotyped.of(model, matrix, rows, coding)
    matrix.packed.forget()
    return made


def _opened(
    prefix: str, threads: int, memory: int | None, spread: Spread | None, say: Callable[[str], None]
) -> GenotypeMatrix | SharedMatrix:
    if spread is not None:
        return SharedMatrix.from_bed(prefix, spread, threads=threads, memory=memory)
    matrix = GenotypeMatrix.from_bed(prefix, threads=threads, memory=memory)
    if matrix.streamed:
        say(
            f"{prefix}.bed does not fit the memory given: it is read anew at each product, with buffers of "
            f"{matrix.bytes_held / 1e6:.4g} MB"
        )
    return matrix


def _report(
    matrix: GenotypeMatrix | SharedMatrix,
    pedigree: Pedigree,
    ids: np.ndarray,
    rows: np.ndarray,
    say: Callable[[str], None],
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
        "metafounder" if metafounders else model.relationship.kind if model.relationship.linear else "vanraden1",
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
