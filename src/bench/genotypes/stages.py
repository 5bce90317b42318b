"""What the command line calls: a data set's entry in datasets.yaml and paths in, files out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import BenchError
from bench.genotypes.cost import memory_needed
from bench.genotypes.dataset import Dataset, import_plink, write_table
from bench.genotypes.pedigree import simulate_pedigree
from bench.genotypes.spec import Fetched, Livestock, Plink, Simulated, parse_spec

Compiled = Callable[[], Path]  # compiles the gene drop of livestock where it is not, and says where it lies


def make_pedigree(entry: dict[str, Any], *, name: str, out: Path, genedrop: Compiled | None = None) -> None:
    """Stage 1 of a simulated data set or livestock: write its pedigree table to `out`.

    genedrop: needed for livestock with `selection`.
    """
    spec = _simulated(entry, name)
    if isinstance(spec, Livestock):
        from bench.genotypes import herds

        library = _compiled(genedrop) if spec.selection is not None else None
        herds.write_pedigree(out, herds.simulate_pedigree(spec, library))
    else:
        write_table(out, simulate_pedigree(spec, spec.seed))


def make_chromosome(
    entry: dict[str, Any],
    *,
    name: str,
    pedigree: Path,
    chromosome: int,
    folder: Path,
    genedrop: Compiled | None = None,
) -> None:
    """Stage 2, once a chromosome (1, 2, …): write panel.bed, panel.bim, qtl.bed and qtl.bim to `folder`, and of
    livestock the effects and values of the QTL. genedrop: needed for livestock."""
    spec = _simulated(entry, name)
    if not 1 <= chromosome <= spec.chromosomes:
        raise BenchError(f"data set {name!r}: there is no chromosome {chromosome}, only 1 to {spec.chromosomes}")
    if isinstance(spec, Livestock):
        from bench.genotypes import herds, livestock

        animals = herds.read_pedigree(pedigree, spec)
        livestock.simulate_chromosome(spec, animals, chromosome, folder, library=_compiled(genedrop))
    else:
        from bench.genotypes.simulate import simulate_chromosome

        simulate_chromosome(spec, _read_pedigree(pedigree, spec), chromosome, spec.seed, folder)


def make_simulated(entry: dict[str, Any], *, name: str, pedigree: Path, pieces: list[Path], folder: Path) -> Dataset:
    """Stage 3: join the chromosomes' folders, draw the traits, write the data set and its manifest."""
    spec = _simulated(entry, name)
    if isinstance(spec, Livestock):
        from bench.genotypes import herds, livestock

        return livestock.assemble(spec, pieces, herds.read_pedigree(pedigree, spec), folder, name=name)
    from bench.genotypes.simulate import assemble

    return assemble(spec, pieces, _read_pedigree(pedigree, spec), spec.seed, folder, name=name)


def make_dataset(
    entry: dict[str, Any],
    *,
    name: str,
    folder: Path,
    genedrop: Compiled | None = None,
    jobs: int = 1,
    memory: int | None = None,
) -> Dataset:
    """Any data set in one go, whatever its kind; its manifest is `folder`/dataset.json.

    genedrop: needed for livestock; jobs: how many of its chromosomes at a time; memory: bytes that may be used.
    """
    spec = parse_spec(entry, name=name)
    if isinstance(spec, Livestock):
        need = jobs * memory_needed(spec)
        if memory is not None and need > memory:
            raise BenchError(
                f"data set {name!r}: {jobs} chromosomes at a time need about {need / 1e9:.1f} GB of memory, "
                f"{memory / 1e9:.1f} GB can be used; lower --jobs or `animals`"
            )
        from bench.genotypes import livestock

        return livestock.simulate(spec, folder, name=name, library=_compiled(genedrop), jobs=jobs)
    if isinstance(spec, Simulated):
        from bench.genotypes.simulate import simulate

        return simulate(spec, folder, name=name)
    if isinstance(spec, Fetched):
        from bench.genotypes.sources import fetch_dataset

        return fetch_dataset(spec, folder, name=name)
    return _own(spec, name, folder)


def refuse_dataset(entry: dict[str, Any], *, name: str, reason: str, folder: Path) -> Dataset:
    """Write a manifest that says why the data set is not made here."""
    dataset = Dataset.refused(name, reason, parse_spec(entry, name=name).model_dump(mode="json"))
    dataset.write(folder / "dataset.json")
    return dataset


def _own(spec: Plink, name: str, folder: Path) -> Dataset:
    bed, bim, fam = spec.files()
    dataset = import_plink(
        name,
        bed=bed,
        bim=bim,
        fam=fam,
        phenotypes=spec.phenotypes,
        pedigree=spec.pedigree,
        source=spec.model_dump(mode="json"),
    )
    dataset.write(folder / "dataset.json")
    return dataset


def _compiled(genedrop: Compiled | None) -> Path:
    if genedrop is None:
        raise ValueError("livestock needs `genedrop`, which compiles the gene drop")
    return genedrop()


def _simulated(entry: dict[str, Any], name: str) -> Simulated | Livestock:
    spec = parse_spec(entry, name=name)
    if not isinstance(spec, Simulated | Livestock):
        raise BenchError(f"data set {name!r}: is {spec.kind}, not simulated: it has no pedigree to draw")
    return spec


def _read_pedigree(path: Path, spec: Simulated) -> pd.DataFrame:
    try:
        pedigree = pd.read_csv(path, sep="\t", dtype="int64")
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: not a pedigree of whole numbers ({error}); draw it again") from None
    if len(pedigree) != (needed := sum(spec.generation_sizes())):
        raise BenchError(f"{path}: {len(pedigree)} individuals, needed {needed}; draw the pedigree again")
    return pedigree
