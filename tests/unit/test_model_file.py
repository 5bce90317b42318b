"""Model files and their records: what is accepted, and the sentence that each fault gets."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from bench.build import installed
from bench.errors import BenchError
from bench.models.load import inverse, load
from bench.models.model_file import read_model
from bench.models.variances import inverted
from model_case import tabular

GOOD = """
records: records.csv
animal: cow
traits: [milk, fat]
fixed:
  milk: {herd: class, age: covariate within herd}
  fat: {herd: class}
random: {pen: class}
weights: {milk: edc}
pedigree: {file: pedigree.csv}
variances:
  genetic: [[3, 1], [1, 2]]
  residual: [[5, 1], [1, 4]]
  pen: [[1, 0], [0, 1]]
"""
RECORDS = """cow,herd,age,pen,edc,dam,milk,fat
c,h1,2,p1,1.5,a,30,4
d,h1,3,p1,2,a,31,NA
d,h2,4,p2,1,b,.,3
c,h2,5,p2,1,0,33,3.5
a,h1,6,p3,1,0,,nan
"""
PEDIGREE = "id,sire,dam\na,0,0\nb,0,0\nc,0,a\nd,c,b\n"


def write(folder: Path, *, change=None, records: str = RECORDS, pedigree: str = PEDIGREE) -> Path:
    """The model above, with some keys changed (None takes one away)."""
    given = yaml.safe_load(GOOD) | (change or {})
    (folder / "records.csv").write_text(records)
    (folder / "pedigree.csv").write_text(pedigree)
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in given.items() if v is not None}, sort_keys=False))
    return path


def test_the_records_are_those_of_the_file(tmp_path):
    model, pedigree, records, design = load(write(tmp_path))
    assert records.traits == ("milk", "fat")
    assert pedigree.ids[records.animal].tolist() == ["c", "d", "d", "c"]
    np.testing.assert_array_equal(records.y, [[30, 4], [31, np.nan], [np.nan, 3], [33, 3.5]])
    np.testing.assert_array_equal(records.weights, [[1.5, 1], [2, 1], [1, 1], [1, 1]])
    assert records.factors["herd"].levels.tolist() == ["h1", "h2"]
    assert records.factors["pen"].codes.tolist() == [0, 0, 1, 1]  # p3 left with the record that has no trait
    assert records.covariates["age"].tolist() == [2, 3, 4, 5]
    assert records.notes == (
        "1 records without any trait were left out",
        "2 animals have more than one record, and the model has no `permanent`",
    )
    assert model.components == ("milk", "fat")
    labels = design.labels().query("kind == 'fixed'")[["effect", "level", "trait"]].agg(" ".join, axis=1)
    assert labels.tolist() == [
        "herd h1 milk", "herd h1 fat", "herd h2 milk", "herd h2 fat", "age within herd h1 milk",
    ]  # fmt: skip
    assert len(design.labels()) == design.others == 5 + 4
    # one record of milk in h2: age within h2 cannot be told from h2
    assert (
        "fixed effects of milk: level h2 of age within herd is confounded with herd; it is set to 0" in design.notes
    )


@pytest.mark.parametrize("separator", ["\t", ";", " "])
def test_any_separator_gives_the_same_records(tmp_path, separator):
    expected = load(write(tmp_path))[2]
    text = RECORDS.replace(",,", ",NA,").replace(",", separator)
    found = load(write(tmp_path, records=text))[2]
    np.testing.assert_array_equal(found.y, expected.y)
    np.testing.assert_array_equal(found.factors["pen"].codes, expected.factors["pen"].codes)


def test_a_line_that_stands_there_twice_is_counted(tmp_path):
    records = load(write(tmp_path, records=RECORDS + RECORDS.splitlines()[1] + "\n"))[2]
    assert "1 records are the same as another in all that the model reads; they are kept" in records.notes
    assert len(records) == 5


def test_a_trait_without_class_effect_has_an_intercept(tmp_path):
    design = load(write(tmp_path, change={"fixed": {"milk": {"age": "covariate"}}}))[3]
    assert design.labels()["effect"].tolist()[:3] == ["intercept", "intercept", "age"]


def test_paths_start_at_the_folder_of_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    model = read_model(write(tmp_path, change={"genotypes": {"plink": "snps/cows"}}))
    assert model.genotypes is not None
    assert (model.records, model.genotypes.plink) == (tmp_path / "records.csv", tmp_path / "snps" / "cows")


def test_the_dam_is_the_column_s_or_the_pedigree_s(tmp_path):
    G = (np.eye(4) + 0.1).tolist()
    variances = yaml.safe_load(GOOD)["variances"] | {"genetic": G}
    by_pedigree = load(write(tmp_path, change={"maternal": {}, "variances": variances}))
    assert by_pedigree[2].dam is not None
    assert by_pedigree[2].dam.tolist() == [0, 1, 1, 0]
    assert by_pedigree[0].components == ("milk", "fat", "milk (maternal)", "fat (maternal)")
    by_column = load(write(tmp_path, change={"maternal": {"dam": "dam"}, "variances": variances}))[2]
    assert by_column.dam is not None
    assert by_column.dam.tolist() == [0, 0, 1, -1]
    assert "1 records have an unknown dam, and no maternal effect" in by_column.notes


MODEL_FAULTS = [
    ({"trait": ["milk"]}, r"unknown key `trait`; there are records, animal, traits.*did you mean 'traits'\?"),
    ({"pedigree": {"file": "p", "group": ["G"]}}, r"unknown key `pedigree.group`; there are file.*'groups'\?"),
    ({"records": None}, "needs the key `records`"),
    ({"traits": []}, "`traits`: Tuple should have at least 1 item"),
    ({"traits": ["milk", "milk"]}, "traits: milk stands there twice"),
    ({"fixed": {"herd": "factor"}}, "fixed: 'herd' is 'factor', needed `class`, `covariate` or"),
    ({"fixed": {"milk": {"herd": "class"}, "fats": {}}}, r"fixed: there is no trait 'fats'; .*mean 'fat'\?"),
    ({"fixed": {"milk": {"herd": "class"}, "fat": "class"}}, "fixed: 'fat': a map of effects was needed"),
    ({"weights": {"mlik": "edc"}}, "weights: there is no trait 'mlik'; there are milk, fat; did you mean 'milk'"),
    ({"random": {"residual": "class"}}, "random: an effect cannot have the name 'residual'"),
    ({"fixed": {"pen": "class"}}, "random: 'pen' is a fixed effect as well, which leaves nothing to it"),
    ({"traits": "milk"}, "`traits`: a list was needed"),
    ({"random": {"pen": "klass"}}, "`random.pen`: Input should be 'class'"),
    ({"permanent": True}, "variances: needs the key `permanent`"),
    ({"random": {}}, "variances: the model has no effect 'pen'; it has genetic, residual"),
    ({"pedigree": {"file": "p", "metafounders": "g", "groups": ["a"]}}, "metafounders are named by their file"),
    ({"single_step": {"polygenic": 1.5}}, "`single_step.polygenic`: Input should be less than 1"),
]


@pytest.mark.parametrize(
    ("change", "message"), MODEL_FAULTS, ids=lambda v: next(iter(v)) if isinstance(v, dict) else ""
)
def test_a_model_file_that_cannot_be_is_refused(tmp_path, change, message):
    with pytest.raises(BenchError, match=rf"model\.yaml: .*{message}"):
        read_model(write(tmp_path, change=change))


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[3, 1]], r"it is 1 × 2, needed 2 × 2 \(milk, fat\)"),
        ([[3, 1], [2, 2]], "not symmetric: 1 of milk with fat, 2 of fat with milk"),
        ([[1, 2], [2, 1]], "not positive definite, the smallest eigenvalue of its correlations is -1"),
        ([[1, 0], [0, -2]], "not positive definite: fat has the variance -2"),
        ([[1, 1], [1, 1]], "not positive definite"),
        ([[float("nan"), 1], [1, 1]], "it holds NaN or infinity"),
        ("large", "a number or a list of rows of numbers was needed"),
        ([[1], [1, 2]], "a number or a list of rows of numbers was needed"),
        (2.0, r"it is 1 × 1, needed 2 × 2"),
    ],
)
def test_a_variance_that_cannot_be_is_named(tmp_path, matrix, message):
    variances = yaml.safe_load(GOOD)["variances"] | {"residual": matrix}
    with pytest.raises(BenchError, match=f"variances.residual: {message}"):
        read_model(write(tmp_path, change={"variances": variances}))


def test_variances_of_any_units(tmp_path):
    units = np.array([1e4, 1e-4])
    stated = {"genetic": [[3, 1], [1, 2]], "residual": [[5, 1], [1, 4]], "pen": [[1, 0], [0, 1]]}
    scaled = {name: (np.outer(units, units) * matrix).tolist() for name, matrix in stated.items()}
    found = read_model(write(tmp_path, change={"variances": scaled})).covariances
    wanted = np.linalg.inv(stated["genetic"]) / np.outer(units, units)
    np.testing.assert_allclose(inverted(found.genetic), wanted, rtol=1e-12)


@pytest.mark.parametrize("text", ["- a\n", "records: [", "\x00"])
def test_what_is_no_model_file_is_refused(tmp_path, text):
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(BenchError, match="cannot be read as a model file"):
        read_model(tmp_path / "model.yaml")
    with pytest.raises(BenchError, match="cannot be read as a model file"):
        read_model(tmp_path / "none.yaml")


RECORD_FAULTS = [
    (("age,", "years,"), "there is no column 'age'; there are cow, herd, years"),
    (("cow,herd", "herd,herd"), "the header names the column 'herd' more than once"),
    ((",30,", ",thirty,"), "line 2: milk is 'thirty'; needed a finite number, or NA"),
    ((",30,", ",inf,"), "line 2: milk is 'inf'; needed a finite number"),
    ((",30,", ",1_0,"), "line 2: milk is '1_0'; needed a finite number"),
    (("h1,3,", "h1,NA,"), "line 3: age is 'NA'; a recorded trait needs a number there"),
    (("d,h1", "d,NA"), "line 3: herd is 'NA'; a recorded trait needs a level there"),
    (("p1,2,", "p1,0,"), "line 3: edc is '0'; a weight must be above 0"),
    (("p1,2,", "p1,-1,"), "line 3: edc is '-1'; a weight must be above 0"),
    (("d,h1", "x,h1"), "column 'cow': 1 of 4 animals are not in the pedigree, such as 'x'"),
    (("d,h1,3", "d,h1,3,4"), "line 3 has 9 columns, the header has 8"),
    (("d,h1,3", "d,h1"), "line 3 has 7 columns, the header has 8"),
]


@pytest.mark.parametrize(("swap", "message"), RECORD_FAULTS, ids=[message[:30] for _, message in RECORD_FAULTS])
def test_records_that_cannot_be_used_are_named(tmp_path, swap, message):
    with pytest.raises(BenchError, match=rf"records\.csv: .*{message}"):
        load(write(tmp_path, records=RECORDS.replace(swap[0], swap[1], 1)))


def test_a_trait_without_records_is_named(tmp_path):
    lines = [line.rsplit(",", 1)[0] + ("," + ("fat" if i == 0 else "NA")) for i, line in enumerate(RECORDS.split())]
    with pytest.raises(BenchError, match="trait 'fat' has no records; take it off `traits`"):
        load(write(tmp_path, records="\n".join(lines)))


def test_a_file_without_records_is_refused(tmp_path):
    with pytest.raises(BenchError, match=r"records\.csv: 1 lines; a header and a line per record were needed"):
        load(write(tmp_path, records=RECORDS.split()[0]))


def test_a_maternal_effect_needs_a_dam(tmp_path):
    variances = yaml.safe_load(GOOD)["variances"] | {"genetic": np.eye(4).tolist()}
    path = write(
        tmp_path, change={"maternal": {}, "variances": variances}, pedigree="id,sire,dam\nc,0,0\nd,c,0\na,0,0\n"
    )
    with pytest.raises(BenchError, match="no record has a known dam"):
        load(path)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ on this machine")
def test_groups_are_fixed_random_or_metafounders(tmp_path):
    made = installed("pedigree").library
    assert made is not None
    grouped = "id,sire,dam\na,G1,G1\nb,G1,G2\nc,G2,a\nd,c,b\n"
    Q = np.array([[1, 0], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    A = tabular(np.array([-1, -1, -1, 2]), np.array([-1, -1, 0, 1]))
    Ai = np.linalg.inv(A)
    fixed = np.block([[Ai, -Ai @ Q], [-Q.T @ Ai, Q.T @ Ai @ Q]])
    for effect, expected in (("fixed", fixed), ("random", fixed + np.diag([0.0] * 4 + [1, 1]))):
        stanza = {"file": "pedigree.csv", "groups": ["G1", "G2"], "group_effect": effect}
        model, pedigree, _, design = load(write(tmp_path, change={"pedigree": stanza}, pedigree=grouped))
        found = inverse(model, pedigree, library=made)
        np.testing.assert_allclose(found.toarray(), expected, atol=1e-12)
        assert design.assemble(found, model.covariances).groups == 2
    (tmp_path / "gamma.txt").write_text("id G1 G2\nG1 0.8 0.2\nG2 0.2 1.0\n")
    stanza = {"file": "pedigree.csv", "metafounders": "gamma.txt"}
    model, pedigree, _, _ = load(write(tmp_path, change={"pedigree": stanza}, pedigree=grouped))
    corner = np.linalg.inv(inverse(model, pedigree, library=made).toarray())[4:, 4:]
    np.testing.assert_allclose(corner, [[0.8, 0.2], [0.2, 1.0]], atol=1e-10)
    (tmp_path / "gamma.txt").write_text("id G1 G2\nG1 0.8 x\nG2 0.2 1.0\n")
    with pytest.raises(BenchError, match=r"gamma\.txt: line 2: needed the id and 2 numbers"):
        load(tmp_path / "model.yaml")
