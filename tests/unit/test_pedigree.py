"""Reading, checking, ordering and pruning pedigrees."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.relationships.pedigree import from_table, read_pedigree

PIGS = {"a": None, "b": None, "c": ("a", "b"), "d": ("a", None), "e": ("d", "c"), "f": ("d", "b")}


def table(parents: dict) -> pd.DataFrame:
    pairs = [pair or (None, None) for pair in parents.values()]
    columns = [list(parents), [s or "0" for s, _ in pairs], [d or "0" for _, d in pairs]]
    return pd.DataFrame(dict(zip(("id", "sire", "dam"), columns, strict=True)))


def parents_of(pedigree) -> dict:
    """id → its parents' ids, None where unknown."""
    names = [*pedigree.ids, None]  # −1 is the last
    return {a: (names[s], names[d]) for a, s, d in zip(pedigree.ids, pedigree.sire, pedigree.dam, strict=True)}


def write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "id\tsire\tdam\na\t0\t0\nb\t0\t0\nc\ta\tb\nd\ta\t0\ne\td\tc\nf\td\tb\n",
        "animal,dam,father\na,,\nb,,\nc,b,a\nd,NA,a\ne,c,d\nf,b,d\n",
        "a 0 0\nb 0 0\nc a b\nd a 0\ne d c\nf d b\n",
        "a . . 1\nb . . 2\nc a b 2\nd a . 1\ne d c 1\nf d b 2\n",
        "ID;Sire;Dam;Sex;Year\na;0;0;M;2001\nb;0;0;F;2001\nc;a;b;F;2002\nd;a;0;1;2002\ne;d;c;;2004\nf;d;b;;NA\n",
    ],
)
def test_columns_are_found_by_name_or_place(tmp_path, text):
    pedigree = read_pedigree(write(tmp_path / "ped.txt", text))
    assert pedigree.ids.tolist() == list(PIGS)
    assert parents_of(pedigree) == {a: p or (None, None) for a, p in PIGS.items()}
    assert pedigree.added == 0


@given(st.randoms(use_true_random=False), st.integers(1, 60))
def test_any_order_of_lines_gives_an_order_of_birth(random, size):
    names = [f"x{i}" for i in range(size)]
    made = {a: tuple(random.choice([None, *names[:i]]) for _ in range(2)) for i, a in enumerate(names)}
    lines = list(made.items())
    random.shuffle(lines)
    pedigree = from_table(table(dict(lines)), selfing=True)
    assert parents_of(pedigree) == made
    rows = np.arange(size)
    assert (pedigree.sire < rows).all()
    assert (pedigree.dam < rows).all()


def test_parents_without_a_line_become_founders():
    pedigree = from_table(table({"c": ("a", "b"), "d": ("c", "b")}), selfing=True)
    assert pedigree.ids.tolist() == ["a", "b", "c", "d"]
    assert pedigree.added == 2
    assert parents_of(pedigree)["a"] == (None, None)


def test_pruning_keeps_the_ancestors_and_nobody_else():
    pedigree = from_table(table(PIGS))
    small, kept = pedigree.pruned(pedigree.rows(["c", "d"], of="x"))
    assert small.ids.tolist() == ["a", "b", "c", "d"]
    assert kept.tolist() == [0, 1, 2, 3]
    assert parents_of(small) == {a: p for a, p in parents_of(pedigree).items() if a in "abcd"}
    whole, _ = pedigree.pruned(np.arange(6))
    assert parents_of(whole) == parents_of(pedigree)
    nobody, kept = pedigree.pruned(np.array([], int))
    assert len(nobody) == len(kept) == 0


def test_animals_that_are_not_there_are_named():
    pedigree = from_table(table(PIGS))
    assert pedigree.rows(["f", "a"], of="genotypes").tolist() == [5, 0]
    with pytest.raises(BenchError, match=r"herd\.fam: 1 of 2 animals are not in the pedigree, such as 'x'"):
        pedigree.rows(["a", "x"], of="herd.fam")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("id sire dam\n", "no animal below the header"),
        ("id sire mum\na 0 0\n", "the header has no column dam"),
        ("a 0 0\nb 0\n", "line 2 has 2 columns, needed 3"),
        ("a 0 0\nb 0 0\na 0 0\n", "1 animals stand there twice, such as 'a'"),
        ("id,sire,dam\na,0,0\n,a,0\n", "animal 2 has the id '', which stands for an unknown"),
        ("a a 0\n", "a loop: 'a' ← 'a'"),
        ("a 0 c\nb a 0\nc b 0\nd 0 0\n", "a loop: 'a' ← 'c' ← 'b' ← 'a'"),
        ("c a b\nd b 0\n", "1 animals are sire and dam, such as 'b': sire of 'd', dam of 'c'"),
        ("id sire dam sex\na 0 0 2\nb 0 0 2\nc a b 1\n", "such as 'c', whose sire 'a' is female"),
        ("id sire dam sex\na 0 0 1\nb 0 0 M\nc a b 1\n", "such as 'c', whose dam 'b' is male"),
        (
            "id sire dam year\na 0 0 2001\nb 0 0 2003\nc a b 2003\n",
            r"such as 'c' \(born 2003\) and its dam 'b' \(born 2003\)",
        ),
    ],
)
def test_what_cannot_be_is_a_sentence_that_names_the_file(tmp_path, text, said):
    with pytest.raises(BenchError, match=rf"ped\.txt: .*{said}"):
        read_pedigree(write(tmp_path / "ped.txt", text))


def test_a_plant_may_be_sire_and_dam(tmp_path):
    path = write(tmp_path / "ped.txt", "a 0 0\nb a a\nc b a\n")
    assert parents_of(read_pedigree(path, selfing=True)) == {"a": (None, None), "b": ("a", "a"), "c": ("b", "a")}


def test_the_pedigrees_of_the_shared_data_are_read():
    """Salmon: 1,561 animals of which 1,481 have genotypes; BLUPF90's lab: 15,800, blanks and no header."""
    folder = os.environ.get("BENCH_DATA")
    if not folder:
        pytest.skip("BENCH_DATA names no folder with the public data")
    salmon = read_pedigree(Path(folder) / "salmon" / "ped.csv")
    assert (len(salmon), salmon.added) == (1561, 0)
    lab = read_pedigree(Path(folder) / "blupf90_lab" / "pedigree.txt")
    assert (len(lab), lab.added) == (15_800, 0)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BenchError, match=r"none\.txt"):
        read_pedigree(tmp_path / "none.txt")


GROUPED = {"a": ("G1", "G2"), "b": ("G1", "G1"), "c": ("a", "b"), "d": ("a", "G2"), "e": ("d", "c")}


def test_groups_stand_for_unknown_parents(tmp_path):
    lines = [f"{a} {s} {d}" for a, (s, d) in GROUPED.items()]
    path = write(tmp_path / "ped.txt", "\n".join(reversed(lines)))  # offspring first
    pedigree = read_pedigree(path, groups=("G1", "G2", "G3"))
    row = {a: i for i, a in enumerate(pedigree.ids)}
    assert sorted(row) == list("abcde")
    assert pedigree.groups == ("G1", "G2", "G3")
    groups = {a: (pedigree.sire_group[i], pedigree.dam_group[i]) for a, i in row.items()}
    assert groups == {"a": (0, 1), "b": (0, 0), "c": (-1, -1), "d": (-1, 1), "e": (-1, -1)}
    sire, dam = pedigree.parent_rows()
    assert (sire[row["d"]], dam[row["d"]]) == (row["a"], 5 + 1)
    shares = {a: pedigree.group_shares()[i].tolist() for a, i in row.items()}
    assert shares["a"] == [0.5, 0.5, 0]
    assert shares["c"] == [0.75, 0.25, 0]
    assert shares["d"] == [0.25, 0.75, 0]
    small, kept = pedigree.pruned(np.array([row["d"]]))
    assert small.groups == pedigree.groups
    assert small.sire_group.tolist() == pedigree.sire_group[kept].tolist() == [0, -1]
    assert small.dam_group.tolist() == [1, 1]
    alone = pedigree.without_groups()
    assert alone.groups == ()
    assert alone.parent_rows()[0].min() == -1


@given(st.randoms(use_true_random=False), st.integers(1, 40))
def test_every_animal_is_wholly_of_its_groups(random, size):
    names, groups = [f"x{i}" for i in range(size)], ("g0", "g1", "g2")
    made = {a: tuple(random.choice([*groups, *names[:i]]) for _ in range(2)) for i, a in enumerate(names)}
    pedigree = from_table(table(made), selfing=True, groups=groups)
    shares = pedigree.group_shares()
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert shares.min() >= 0
    assert from_table(table(PIGS)).group_shares().shape == (6, 0)


@pytest.mark.parametrize(
    ("text", "groups", "said"),
    [
        (
            "a G1 0\n",
            ("G1",),
            "1 animals have an unknown parent without a group, such as 'a'; where there are groups",
        ),
        ("a b G1\n", ("G1",), r"such as 'b' \(has no line of its own\)"),
        ("a G1 G1\nG1 0 0\n", ("G1",), "'G1' is a group and has a line of its own"),
        ("a G1 G1\n", ("G1", "G1"), "group 'G1' is named twice"),
        ("a 0 0\n", ("0",), "group '0' cannot be told from an unknown parent"),
    ],
)
def test_groups_that_cannot_be_are_told(tmp_path, text, groups, said):
    with pytest.raises(BenchError, match=rf"ped\.txt: .*{said}"):
        read_pedigree(write(tmp_path / "ped.txt", text), groups=groups)
