"""Indirect prediction: breeding values of newly genotyped candidates from SNP effects, without their records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.genotypes.alleles import match_snps
from bench.record import atomic_path
from bench.relationships.genomic import Centred, Coding
from bench.relationships.missing import MissingProducts
from bench.solvers.operator import Operator

COLUMNS = ("snp", "allele", "frequency", "effect")


@dataclass(frozen=True)
class SnpEffects:
    """GEBV = constant + Σ_j (x_j − 2 frequency_j) effect_j, x_j the dosage of allele_j.

    snps, alleles: (m,) text. frequency: (m,), half the centre of the coding that the effects were estimated in.
    effects: (m, t), of a dosage of 1 more. constants: (t,), such as the common part that tuning adds.
    """

    traits: tuple[str, ...]
    snps: np.ndarray
    alleles: np.ndarray
    frequency: np.ndarray
    effects: np.ndarray
    constants: np.ndarray

    @classmethod
    def of(
        cls,
        coding: Coding,
        solutions: np.ndarray,
        bim: pd.DataFrame,
        traits: tuple[str, ...],
        constants: np.ndarray | None = None,
    ) -> SnpEffects:
        """The solutions (m, t) of a model whose genotypes are coded by `coding`; its SNPs are those of `bim`."""
        return cls(
            traits,
            bim["snp"].to_numpy(object),
            bim["allele2"].to_numpy(object),
            coding.centre / 2,
            coding.scale[:, None] * solutions,
            np.zeros(len(traits)) if constants is None else np.asarray(constants, float),
        )

    def write(self, path: Path | str) -> None:
        """Parquet: a row per trait and SNP with the columns trait, snp, allele, frequency, effect and constant."""
        snps = pd.DataFrame({"snp": self.snps, "allele": self.alleles, "frequency": self.frequency})
        parts = [
            snps.assign(trait=trait, effect=self.effects[:, t], constant=self.constants[t])
            for t, trait in enumerate(self.traits)
        ]
        with atomic_path(path) as tmp:
            pd.concat(parts)[["trait", *COLUMNS, "constant"]].to_parquet(tmp, index=False)


def read_effects(path: Path | str) -> SnpEffects:
    """A parquet file with the columns snp, allele, frequency and effect; trait (else there is one) and constant (else
    0) may be there as well. BenchError: other columns, numbers that cannot be, traits of different SNPs."""
    path = Path(path)
    if not path.exists():
        raise BenchError(f"{path}: no such file; `bench solve` writes snp_effects.parquet")
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: not a parquet file of SNP effects ({error})") from None
    if absent := [column for column in COLUMNS if column not in table]:
        raise BenchError(f"{path}: has no column {', '.join(absent)}; needed are {', '.join(COLUMNS)}")
    if table.empty:
        raise BenchError(f"{path}: has no SNP")
    table = table.assign(
        trait=table["trait"].astype(str) if "trait" in table else "trait",
        constant=table.get("constant", 0.0),
    )
    for column, low, high in (("frequency", 0, 1), ("effect", -np.inf, np.inf), ("constant", -np.inf, np.inf)):
        values = pd.to_numeric(table[column], errors="coerce").to_numpy(float)
        wrong = np.flatnonzero(~(np.isfinite(values) & (values >= low) & (values <= high)))
        if wrong.size:
            raise BenchError(
                f"{path}: {column} of SNP {table['snp'].iloc[wrong[0]]!r} is {str(table[column].iloc[wrong[0]])!r}; "
                f"{'a number from 0 to 1' if high == 1 else 'a finite number'} was needed"
            )
        table[column] = values
    parts = {str(trait): part for trait, part in table.groupby("trait", sort=False)}
    first = next(iter(parts.values()))
    for trait, part in parts.items():
        for column in ("snp", "allele", "frequency"):
            if not np.array_equal(part[column].to_numpy(), first[column].to_numpy()):
                raise BenchError(
                    f"{path}: {column} of trait {trait!r} differs from that of {next(iter(parts))!r}; every trait "
                    "needs the same SNPs in the same order"
                )
    return SnpEffects(
        tuple(parts),
        first["snp"].astype(str).to_numpy(object),
        first["allele"].astype(str).to_numpy(object),
        first["frequency"].to_numpy(float),
        np.column_stack([part["effect"].to_numpy(float) for part in parts.values()]),
        np.array([part["constant"].iloc[0] for part in parts.values()]),
    )


def align(effects: SnpEffects, bim: pd.DataFrame, *, partial: bool = False) -> tuple[Coding, np.ndarray]:
    """The coding (scale 1) and the effects (m', t) of the m' SNPs of the candidates' .bim, swapped alleles turned:
    with x' = 2 − x, (x − c) e = (x' − (2 − c)) (−e).

    BenchError: a SNP of the .bim without effect; an effect without a SNP there, unless `partial` (such a SNP is taken
    to have the mean dosage in every candidate); alleles that are not those of the .bim.
    """
    match = match_snps(bim, effects.snps, effects.alleles, of="the SNP effects")
    if (unknown := np.flatnonzero(match.rows < 0)).size:
        raise BenchError(
            f"{unknown.size} of {len(bim)} SNPs of the candidates have no effect, such as "
            f"{bim['snp'].iloc[unknown[0]]!r}; take them out, or estimate effects of these SNPs"
        )
    if len(bim) < effects.snps.size and not partial:
        absent = np.setdiff1d(np.arange(effects.snps.size), match.rows)
        raise BenchError(
            f"{absent.size} of {effects.snps.size} SNPs with an effect are not genotyped in the candidates, such as "
            f"{effects.snps[absent[0]]!r}; impute them, or ask for a partial prediction"
        )
    centre = 2 * effects.frequency[match.rows]
    sign = np.where(match.turned, -1.0, 1.0)
    coding = Coding("effects", np.where(match.turned, 2 - centre, centre), np.ones(len(bim)), 1.0)
    return coding, sign[:, None] * effects.effects[match.rows]


def predict(
    effects: SnpEffects,
    bim: pd.DataFrame,
    dosages: Operator,
    missing: MissingProducts | None = None,
    *,
    partial: bool = False,
) -> np.ndarray:
    """GEBV (n, t) of candidates whose raw dosages any kernel multiplies; a missing call counts as the centre.

    missing: `missing_calls` of the same genotypes.
    """
    coding, aligned = align(effects, bim, partial=partial)
    return Centred(dosages, coding, missing).matmul(aligned) + effects.constants
