"""Claims: statistics and verdicts on tables whose answers are known, bad input, and the pages of the repository."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import synthetic_documents as synthetic
import yaml
from synthetic_documents import measurements

from bench import __main__ as cli
from bench import collect
from bench.claims import pages, query, spec, verdict
from bench.claims.spec import Claim, Claims, Wanted
from bench.errors import BenchError
from bench.record import Document
from bench.statistics import Interval

ROOT = Path(__file__).resolve().parents[2]
PAIR = {"experiment": "paired", "kernel": "decompress", "against": "dense_blas"}
PRODUCT = {"experiment": "products", "dataset": "pigs", "dtype": "f8", "threads": 1, "k": 10}


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    return measurements(tmp_path_factory.mktemp("documents"))


def claim(wanted: dict[str, float], query: dict[str, Any] | None = None, **more: Any) -> Claim:
    query = query or {"statistic": "times_as_fast", "where": PAIR}
    given = {"text": "It is so.", "configuration": "config/config.yaml", "query": query, "wanted": wanted}
    return Claim.model_validate(given | more)


def found(frame: pd.DataFrame, statistic: str, where: dict[str, Any], **more: Any) -> dict[tuple, Interval]:
    """(direction, target) → interval."""
    asked = spec.Query.model_validate({"statistic": statistic, "where": where} | more)
    return {(c.place.get("direction"), c.place.get("target")): c.interval for c in query.cells(asked, frame)}


# What each statistic is, on round numbers.


def test_a_rate_is_work_over_the_median_time(frame):
    cells = found(frame, "rate", PRODUCT | {"kernel": "decompress", "target": "avx512"})
    assert cells["matmul", "avx512"].value == pytest.approx(0.6 * 60)
    assert cells["rmatmul", "avx512"].value == pytest.approx(1.1 * 0.6 * 60)
    interval = cells["matmul", "avx512"]
    assert interval.low < interval.value < interval.high


def test_a_share_of_the_peak_is_that_of_the_same_session(frame):
    cells = found(frame, "peak_share", PRODUCT | {"kernel": "decompress", "threads": 2})
    assert cells["matmul", "avx512"].value == pytest.approx(60)
    assert cells["matmul", "scalar"].value == pytest.approx(20)


def test_a_share_of_the_bandwidth_counts_what_a_product_reads(frame):
    n, m = synthetic.SIZES["pigs"]
    seconds = n * m * 10 / (0.6 * 60e9)
    cells = found(frame, "read_share", PRODUCT | {"kernel": "decompress"})
    assert cells["matmul", "avx512"].value == pytest.approx(100 * n * m / 4 / seconds / synthetic.READ)


def test_a_share_of_the_targets_own_peak(frame):
    cells = found(frame, "target_share", PRODUCT | {"kernel": "decompress"})
    assert cells["matmul", "avx512"].value == pytest.approx(60)
    assert cells["matmul", "scalar"].value == pytest.approx(20 / synthetic.LIMITS["scalar"])


def test_packing_counts_reading_and_writing(frame):
    cells = found(frame, "copy_share", {"experiment": "products", "dataset": "pigs", "kernel": "decompress",
                                        "target": "avx512", "dtype": "f8", "threads": 1})  # fmt: skip
    n, m = synthetic.SIZES["pigs"]
    (interval,) = cells.values()
    assert interval.value == pytest.approx(100 * (n * m / 2 / 0.5) / 30e9)
    assert math.isnan(interval.low)  # one observation of a time


def test_times_as_fast_is_over_rounds(frame):
    cells = found(frame, "times_as_fast", PAIR)
    assert set(cells) == {("matmul", "avx512"), ("rmatmul", "avx512")}
    for interval in cells.values():
        assert (interval.value, interval.low, interval.high) == pytest.approx((4, 4, 4))  # drift hits both


def test_speed_up_compares_cells_that_differ_in_what_than_says(frame):
    cells = found(frame, "speed_up", PRODUCT | {"kernel": "decompress", "threads": 2}, than={"threads": 1})
    assert cells["matmul", "avx512"].value == pytest.approx(2)
    assert cells["matmul", "scalar"].value == pytest.approx(2)
    against = found(frame, "speed_up", PRODUCT | {"kernel": "decompress"}, than={"kernel": "dense_blas"})
    assert against["matmul", "avx512"].value == pytest.approx(0.6 / 0.15)  # MKL is the faster of the two BLAS


def test_speed_up_of_relationship_matrices(frame):
    cells = found(frame, "speed_up", {"experiment": "gram", "dataset": "pigs", "threads": 1, "method": "gram"},
                  than={"method": "dsyrk"})  # fmt: skip
    assert [interval.value for interval in cells.values()] == pytest.approx([16])


def test_a_ratio_of_two_sessions_knows_of_the_drift_between_them(frame):
    asked, than = PRODUCT | {"kernel": "decompress"}, {"kernel": "dense_blas"}
    still = found(frame, "speed_up", asked, than=than)["matmul", "avx512"]
    up = {case: 1.2 ** (-1) ** i for i, case in enumerate(sorted(frame["case"].unique()))}
    peaks = frame["metric"] == "fma_peak"
    drifting = frame.assign(value=frame["value"].mask(peaks, frame["value"] * frame["case"].map(up)))
    moved = found(drifting, "speed_up", asked, than=than)["matmul", "avx512"]
    assert moved.value == still.value
    assert moved.low < still.low / 1.4 < 1.4 * still.high < moved.high  # at least 1.96 · √2 · log 1.2


def test_extra_time_is_over_rounds(frame):
    where = {"experiment": "centred", "dataset": "pigs", "k": 10, "method": "centred"}
    cells = found(frame, "extra_time", where, than={"method": "raw"})
    assert [interval.value for interval in cells.values()] == pytest.approx([1, 1])
    assert [interval.high for interval in cells.values()] == pytest.approx([1, 1])


def test_a_number_is_exact_and_a_time_is_not(frame):
    where = {"experiment": "gblup", "dataset": "pigs"}
    (ratio,) = found(frame, "median", where, metric="variance_ratio").values()
    assert (ratio.low, ratio.value, ratio.high) == (1.5, 1.5, 1.5)
    solve = found(frame, "median", where | {"kernel": "decompress", "target": "avx512"}, metric="solve_time")
    (interval,) = solve.values()
    assert interval.low < interval.value < interval.high


def test_the_greatest_error_counts_and_wrong_rows_do_not(frame):
    where = {"experiment": "products", "dtype": "f8", "kernel": "five_codes", "dataset": "cattle"}
    cells = found(frame, "greatest", where, metric="rel_error")
    assert {interval.value for interval in cells.values()} == {3e-15}  # the wrong document has 0.5


def test_bytes_per_genotype(frame):
    cells = found(frame, "bytes_per_genotype", PRODUCT | {"kernel": "five_codes"})
    assert {round(interval.value, 3) for interval in cells.values()} == set()  # k is not of a memory row
    cells = found(frame, "bytes_per_genotype", {"experiment": "products", "kernel": "five_codes", "dtype": "f8"})
    assert {round(interval.value, 3) for interval in cells.values()} == {0.4}


def test_against_names_whole_kernels():
    rows = pd.DataFrame({"against": pd.Series(["lut5/avx2", "lut5b/avx2", "a/x,lut5/avx512", None], dtype="string")})
    assert query.select(rows, {"against": "lut5"}).index.tolist() == [0, 2]
    assert query.select(rows, {"against": ["a", "lut5b"]}).index.tolist() == [1, 2]


# Verdicts.


@pytest.mark.parametrize(
    ("interval", "wanted", "expected"),
    [
        ((4, 3.9, 4.1), {"least": 3.9}, "holds"),
        ((4, 3.9, 4.1), {"least": 3.95}, "inconclusive"),
        ((4, 3.9, 4.1), {"least": 4.2}, "does not hold"),
        ((4, 3.9, 4.1), {"most": 4.1}, "holds"),
        ((4, 3.9, 4.1), {"most": 4.0}, "inconclusive"),
        ((4, 3.9, 4.1), {"most": 3.8}, "does not hold"),
        ((4, 3.9, 4.1), {"least": 3, "most": 5}, "holds"),
        ((4, 3.9, 4.1), {"least": 4, "most": 5}, "inconclusive"),
        ((4, 3.9, 4.1), {"least": 5, "most": 6}, "does not hold"),
        ((4, 3.9, 4.1), {"about": 4, "within": 0.03}, "holds"),
        ((4, 3.9, 4.1), {"about": 4, "within": 0.01}, "inconclusive"),
        ((4, 3.9, 4.1), {"about": 3, "within": 0.1}, "does not hold"),
        ((4, math.nan, math.nan), {"least": 1}, "inconclusive"),
        ((0, 0, 0), {"most": 1e-13}, "holds"),
    ],
)
def test_an_interval_decides(interval, wanted, expected):
    assert verdict.decide(Interval(*interval), Wanted.model_validate(wanted)) == expected


def test_the_margin_is_the_factor_to_the_nearer_bound():
    assert verdict.margin(3, Wanted(least=2)) == 1.5
    assert verdict.margin(3, Wanted(most=1.5)) == 0.5
    assert verdict.margin(0, Wanted(most=1.5)) == math.inf
    assert verdict.margin(3, Wanted(least=2, most=3.3)) == pytest.approx(1.1)


def test_the_worst_cell_decides_and_is_named(frame):
    where = PRODUCT | {"kernel": "decompress"}
    judged = verdict.judge("c", claim({"least": 50}, {"statistic": "peak_share", "where": where}), frame)
    assert judged.verdict == "does not hold"
    assert verdict.name_of(judged.worst) == "pigs decompress/scalar f8 1 thread Z V k = 10"
    assert judged.worst.interval.value == pytest.approx(20)
    assert len(judged.cells) == 4


def test_either_direction_suffices_where_the_claim_says_so(frame):
    asked = {
        "statistic": "peak_share",
        "where": PRODUCT | {"kernel": "decompress", "target": "avx512"},
    }  # 60 and 66 %
    assert verdict.judge("c", claim({"least": 62}, asked), frame).verdict == "does not hold"
    judged = verdict.judge("c", claim({"least": 62}, asked, over="either"), frame)
    assert judged.verdict == "holds"
    assert "Z′U" in verdict.name_of(judged.worst)


def test_what_was_refused_is_not_measured_for_its_reason(frame):
    where = {"experiment": "products", "kernel": "gpu_2bit", "k": 10}
    judged = verdict.judge("c", claim({"least": 1}, {"statistic": "rate", "where": where}), frame)
    assert (judged.verdict, judged.reason) == ("not measured", "needs an NVIDIA GPU, this machine has none")


def test_what_is_not_there_is_not_measured(frame):
    where = PRODUCT | {"kernel": "decompress", "threads": 64}
    judged = verdict.judge("c", claim({"least": 1}, {"statistic": "rate", "where": where}), frame)
    assert judged.verdict == "not measured"
    assert judged.reason == "no such rows; config/config.yaml measures them"
    assert verdict.draw([judged])["measured"].isna().all()


def test_one_observation_of_a_time_is_inconclusive(frame):
    asked = {"statistic": "median", "metric": "reml_time", "where": {"experiment": "gblup", "dataset": "pigs"}}
    assert verdict.judge("c", claim({"most": 30}, asked), frame).verdict == "inconclusive"


def test_a_time_from_a_contaminated_session_decides_nothing_and_an_error_does(frame):
    asked = {"statistic": "peak_share", "where": PRODUCT | {"kernel": "decompress"}}  # 20 % and 60 %, 22 % and 66 %
    one = claim({"least": 50}, asked)
    scalar = frame["target"] == "scalar"
    nothing = pd.Series(pd.NA, index=frame.index, dtype="string")
    slow, fast = (frame.assign(contaminated=nothing.mask(rows, "steal 12 %")) for rows in (scalar, ~scalar))
    judged = verdict.judge("c", one, slow)
    assert (judged.verdict, judged.reason) == ("inconclusive", "contaminated: steal 12 %")
    assert verdict.judge("c", one, fast).verdict == "does not hold"  # the clean cells fail
    than = {"kernel": "dense_blas"}  # a baseline that was disturbed decides as little
    faster = claim(
        {"least": 1.1}, {"statistic": "speed_up", "where": PRODUCT | {"kernel": "decompress"}, "than": than}
    )
    assert verdict.judge("c", faster, frame).verdict == "holds"
    disturbed = frame.assign(contaminated=nothing.mask(frame["kernel"] == "dense_blas", "steal 12 %"))
    assert verdict.judge("c", faster, disturbed).verdict == "inconclusive"
    where = {"experiment": "products", "dataset": "pigs", "dtype": "f8", "kernel": "decompress"}
    error = claim({"most": 1e-12}, {"statistic": "greatest", "metric": "rel_error", "where": where})
    assert verdict.judge("c", error, slow).verdict == "holds"


NAMED = Claims.model_validate({"claims": {"c": claim({"least": 1}).model_dump()}})
HOLDS, FAILS, ABSENT = {"least": 3}, {"least": 5}, {"statistic": "times_as_fast", "where": PAIR | {"threads": 64}}
NOT = {"expected": "does not hold", "reason": "known"}


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ([claim(HOLDS)], 0),
        ([claim(HOLDS), claim(FAILS)], 1),
        ([claim(FAILS, **NOT)], 0),
        ([claim(HOLDS, **NOT)], 0),
        ([claim(HOLDS, ABSENT)], 3),
        ([claim(HOLDS, ABSENT, **NOT)], 3),
        ([claim(HOLDS, ABSENT), claim(FAILS)], 1),
    ],
)
def test_the_exit_status(frame, claims, expected):
    assert verdict.status(verdict.judge_all(dict(enumerate(claims)), {"config/config.yaml": frame})) == expected


# Bad input.


def claims_file(folder: Path, **changes: Any) -> Path:
    given = {
        "text": "decompress is four times as fast as BLAS.",
        "configuration": "config/config.yaml",
        "query": {"statistic": "times_as_fast", "where": PAIR},
        "wanted": {"least": 3.5},
    }
    (folder / "claims.yaml").write_text(yaml.safe_dump({"claims": {"fast": given | changes}}), encoding="utf-8")
    return folder / "claims.yaml"


def where(**more: Any) -> dict[str, Any]:
    return {"query": {"statistic": "times_as_fast", "where": PAIR | more}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"wantd": {"least": 1}}, "unknown key `claims.fast.wantd`; did you mean 'wanted'?"),
        ({"wanted": {"lest": 1}}, "unknown key `claims.fast.wanted.lest`; did you mean 'least'?"),
        ({"wanted": {}}, "write `least`, `most` or both"),
        ({"wanted": {"least": 2, "most": 1}}, "least 2 is more than most 1"),
        ({"wanted": {"about": 2}}, "`about` and `within` go together"),
        ({"wanted": {"least": 0}}, "greater than 0"),
        ({"expected": "does not hold"}, "`reason` go together"),
        ({"over": "any"}, "'each' or 'either'"),
        (where(kernl="auto"), "there is no column 'kernl'"),
        (where(kernel="decompres"), "there is no kernel 'decompres'"),
        (where(against="dense"), "there is no kernel 'dense'"),
        (where(experiment="pared"), "there is no experiment 'pared'"),
        (where(dataset="wheat"), "config/config.yaml has no dataset wheat in its experiment paired"),
        (where(k=3), "config/config.yaml has no k 3 in its experiment paired"),
        (where(kernel="lut5"), "config/config.yaml has no kernel lut5 in its experiment paired"),
        (where(experiment="gram"), "config/config.yaml has no experiment gram"),
        ({"query": {"statistic": "times_as_fst", "where": PAIR}}, "did you mean 'times_as_fast'?"),
        ({"query": {"statistic": "speed_up", "where": PAIR}}, "the statistic speed_up needs `than`"),
        ({"query": {"statistic": "rate", "where": PAIR, "than": {"k": 1}}}, "the statistic rate has no `than`"),
        ({"query": {"statistic": "greatest", "where": PAIR}}, "the statistic greatest needs `metric`"),
        ({"query": {"statistic": "median", "where": PAIR, "metric": "h3"}}, "there is no metric 'h3'"),
        ({"query": {"statistic": "rate", "where": {"k": 1}}}, "needs `experiment`"),
        ({"configuration": "config/none.yaml"}, "config/none.yaml: no such file"),
    ],
)
def test_a_claim_that_cannot_be_is_a_sentence(tmp_path, changes, said):
    with pytest.raises(BenchError) as raised:
        spec.read(claims_file(tmp_path, **changes))
    assert said in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_block_of_a_table_or_column_that_is_not_there_is_a_sentence(frame):
    block = {"configuration": "config/config.yaml", "table": "paired", "columns": ["dataset", "ratee"], "intro": ""}
    claims = Claims.model_validate({"claims": {}, "blocks": {"pairs": block}})
    with pytest.raises(BenchError, match=r"the table paired has no column 'ratee'; did you mean 'rate'\?"):
        pages.record(claims, [], {"config/config.yaml": frame}, {"claims": {}, "blocks": {}})
    with pytest.raises(ValueError, match="there is no table 'pared'"):
        Claims.model_validate({"claims": {}, "blocks": {"pairs": block | {"table": "pared"}}})


def table_of(folder: Path, *docs: Document) -> Path:
    collect.write(measurements(folder, *docs), folder / "measurements.parquet")
    return folder / "measurements.parquet"


def test_tables_of_two_machines_and_a_case_twice_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    doc = synthetic.paired_document()
    doc.provenance = doc.provenance | {"cpu": "One"}
    one = table_of(tmp_path / "a", doc)
    with pytest.raises(BenchError, match="case case-0 of experiment paired is in two of the tables"):
        verdict.given_tables(NAMED, [one, one])
    other = synthetic.paired_document()
    other.provenance = other.provenance | {"cpu": "Two", "cores": 8}
    with pytest.raises(
        BenchError, match=r"the tables are of 2 machines \(One, 2 cores; Two, 8 cores\); claims need one"
    ):
        verdict.given_tables(NAMED, [one, table_of(tmp_path / "b", other)])


def test_limits_may_be_in_two_tables(tmp_path):
    (tmp_path / "a").mkdir()
    one = table_of(tmp_path / "a", synthetic.limits_document())
    assert len(verdict.given_tables(NAMED, [one, one])["config/config.yaml"]) == 2 * len(collect.read(one))


# The command line.


@pytest.mark.parametrize(("wanted", "status"), [({"least": 3.5}, 0), ({"least": 4.5}, 1)])
def test_the_verb_prints_and_exits(tmp_path, capsys, wanted, status):
    table = table_of(tmp_path, synthetic.paired_document())
    file = claims_file(tmp_path, wanted=wanted)
    arguments = ["claims", "--claims", str(file), "--measurements", str(table)]
    assert cli.main(arguments) == status
    text = capsys.readouterr().out
    assert re.search(r"fast +≥ [\d.]+ × +4.00 \[4.00, 4.00\] +× +(holds|does not hold) +pigs decompress/avx512", text)
    assert ("fast: does not hold. decompress is four" in text) is (status == 1)
    assert cli.main([*arguments, "--json"]) == status
    (told,) = json.loads(capsys.readouterr().out)
    assert told["worst"]["value"] == pytest.approx(4)
    assert len(told["cells"]) == 2


def test_the_verb_without_measurements_exits_with_3(tmp_path, capsys):
    table = table_of(tmp_path, synthetic.limits_document())
    assert cli.main(["claims", "--claims", str(claims_file(tmp_path)), "--measurements", str(table)]) == 3
    assert "1 not measured" in capsys.readouterr().out


def test_the_verb_writes_table_and_figure(tmp_path, capsys):
    table = table_of(tmp_path, synthetic.paired_document())
    out = tmp_path / "out"
    file = claims_file(tmp_path, expected="does not hold", reason="known")
    assert cli.main(["claims", "--claims", str(file), "--measurements", str(table), "--out", str(out)]) == 0
    assert "holds here, though it is expected not to: known" in capsys.readouterr().out
    assert sorted(path.suffix for path in out.iterdir()) == [".csv", ".html", ".md", ".pdf", ".png", ".svg"]
    row = pd.read_csv(out / "claims.csv").iloc[0]
    assert (row["claim"], row["verdict"], row["measured"]) == ("fast", "holds", pytest.approx(4))
    assert "fast" in (out / "claims.svg").read_text(encoding="utf-8")


def test_a_figure_of_nothing_can_be_drawn(frame):
    from bench.claims import figure

    assert figure.draw([verdict.judge("c", claim(HOLDS, ABSENT), frame)])


def test_an_unknown_claim_is_a_sentence(tmp_path, capsys):
    assert cli.main(["claims", "--claims", str(claims_file(tmp_path)), "--only", "fas"]) == 2
    assert capsys.readouterr().err == "bench claims: --only: there is no claim 'fas'; did you mean 'fast'?\n"


def test_configurations_without_measurements_are_missing(tmp_path):
    claims = Claims.model_validate(yaml.safe_load(claims_file(tmp_path).read_text()))
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "config").symlink_to(ROOT / "config")
    assert verdict.missing(claims, root) == ["config/config.yaml"]
    (root / "results/main").mkdir(parents=True)
    table_of(root / "results/main", synthetic.limits_document())
    assert verdict.missing(claims, root) == ["config/config.yaml"]
    table_of(root / "results/main", synthetic.paired_document())
    assert verdict.missing(claims, root) == []


# Pages.


def recorded(tmp_path: Path, *docs: Document) -> tuple[Claims, dict[str, Any]]:
    given = yaml.safe_load(claims_file(tmp_path).read_text())
    given["blocks"] = {
        "pairs": {
            "configuration": "config/config.yaml",
            "table": "paired",
            "where": {"dataset": "pigs"},
            "columns": ["dataset", "kernel", "times_as_fast", "fma_share"],
            "intro": "One thread.",
        }
    }
    claims = Claims.model_validate(given)
    measured = {"config/config.yaml": measurements(tmp_path, *docs)}
    findings = verdict.judge_all(claims.claims, measured)
    return claims, pages.record(claims, findings, measured, {"claims": {}, "blocks": {}})


PAGE = """It is <!-- claim: fast -->old<!-- /claim --> as fast, at least <!-- wanted: fast --><!-- /wanted -->.

<!-- block: pairs -->
<!-- /block -->

<!-- claims -->
<!-- /claims -->
"""


def document() -> Document:
    doc = synthetic.paired_document()
    doc.provenance = doc.provenance | {"cpu": "A CPU", "started_at": "2026-11-21T10:00:00+00:00", "dirty": True}
    return doc


def test_pages_show_what_was_measured_with_its_source(tmp_path):
    claims, found = recorded(tmp_path, document())
    page = pages.fill(PAGE, found, claims, "page.md")
    assert "It is <!-- claim: fast -->4.00 ×<!-- /claim --> as fast, at least" in page
    assert "at least <!-- wanted: fast -->3.5 ×<!-- /wanted -->." in page
    assert "One thread. Measured 2026-11-21 on A CPU, 2 cores; commit c0ffee+." in page
    assert "| pigs | decompress | 4.00 [4.00, 4.00] / 4.00 [4.00, 4.00] | 60 % / 60 % |" in page
    assert "| `fast` | ≥ 3.5 × | 4.00 × | 4.00 [4.00, 4.00] × | pigs decompress/avx512 against dense_blas" in page


def test_filling_again_changes_nothing(tmp_path):
    claims, found = recorded(tmp_path, document())
    page = pages.fill(PAGE, found, claims, "page.md")
    assert pages.fill(page, found, claims, "page.md") == page
    pages.write(found, tmp_path)
    assert pages.read(tmp_path) == found


def test_what_these_measurements_do_not_say_keeps_its_entry(tmp_path):
    claims, found = recorded(tmp_path, document())
    measured = {"config/config.yaml": measurements(tmp_path, synthetic.limits_document())}
    again = pages.record(claims, verdict.judge_all(claims.claims, measured), measured, found)
    assert again == found
    fewer = Claims.model_validate({"claims": {}})
    assert pages.record(fewer, [], measured, found) == {"claims": {}, "blocks": {}}


def test_what_was_never_measured_says_so(tmp_path):
    claims, found = recorded(tmp_path, synthetic.limits_document())
    page = pages.fill(PAGE, found, claims, "page.md")
    assert "It is <!-- claim: fast -->not measured<!-- /claim -->" in page
    assert "Not measured yet: `make CONFIG=config/config.yaml`." in page


def test_a_mark_of_nothing_is_a_sentence(tmp_path):
    claims, found = recorded(tmp_path, document())
    with pytest.raises(BenchError, match=r"page.md: there is no claim 'fas' in .*; did you mean 'fast'\?"):
        pages.fill("<!-- claim: fas --><!-- /claim -->", found, claims, "page.md")


@pytest.fixture(scope="module")
def stated():
    return spec.read(ROOT / "config/claims.yaml", ROOT)


def test_the_numbers_of_the_pages_are_the_recorded_ones(stated):
    found = pages.read(ROOT)
    for page in pages.pages(ROOT):
        text = page.read_text(encoding="utf-8")
        assert pages.fill(text, found, stated, page.name) == text, f"{page.name}: run `bench claims --fill`"


def test_every_page_that_a_claim_names_shows_it(stated):
    for name, one in stated.claims.items():
        for page in one.stands:
            marks = pages.INLINE.findall((ROOT / page).read_text(encoding="utf-8"))
            assert name in {mark for _, mark, _ in marks}, f"{page} has no mark of {name}"


def test_every_block_stands_on_a_page(stated):
    text = "".join(page.read_text(encoding="utf-8") for page in pages.pages(ROOT))
    assert {name for _, name, _ in pages.BLOCK.findall(text)} == set(stated.blocks)


FIGURE = re.compile(r"(?<![\w.])\d[\d.,]*(?:e-?\d+)? ?(?:%|×(?! ?\d)|G/s|GB/s|minutes?\b|seconds?\b|s\b|ms\b)")
INTERVALS = re.compile(r"\b95 %|\b100 %|\b50 % is")  # of confidence, and of a whole


def sections(text: str) -> dict[str, str]:
    """Heading → what stands below it up to the next, without code."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    parts = re.split(r"^#+ (.*)$", prose, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def unmarked(text: str) -> list[str]:
    for mark in (pages.INLINE, pages.BLOCK, pages.ALL, INTERVALS):
        text = mark.sub("", text)
    return FIGURE.findall(text)


def test_a_figure_is_under_a_mark_or_stated_with_its_source(stated):
    listed = {(one.page, one.section) for one in stated.stated}
    used = set()
    for page in pages.pages(ROOT):
        name = str(page.relative_to(ROOT))
        for heading, text in sections(page.read_text(encoding="utf-8")).items():
            if figures := unmarked(text):
                keys = {(name, heading), (name, None)} & listed
                assert keys, f"{name}, {heading}: {figures}: mark them, or list the section in config/claims.yaml"
                used |= keys
    assert listed == used, f"no longer needed: {listed - used}"


def test_a_figure_that_is_not_marked_is_noticed():
    assert unmarked("It is 4.5× as fast, or 85 % of 12.5 G/s, in 9 minutes.") == [
        "4.5×",
        "85 %",
        "12.5 G/s",
        "9 minutes",
    ]
    assert not unmarked("n is 10,240 × 20,480, a 95 % interval, <!-- claim: a -->5 %<!-- /claim --> at k = 10.")


def test_the_metrics_that_a_claim_may_name_are_those_of_the_schema():
    schema = (ROOT / "docs/result-schema.md").read_text(encoding="utf-8")
    assert not [name for name in query.MEASURED if f"`{name}`" not in schema]


def test_every_key_and_statistic_is_on_the_page():
    page = (ROOT / "docs/claims.md").read_text(encoding="utf-8")
    keys = [*Claim.model_fields, *(f"query.{key}" for key in spec.Query.model_fields if key != "query")]
    assert not [key for key in keys if key != "query" and f"`{key}`" not in page]
    for name, statistic in query.STATISTICS.items():
        assert f"| `{name}` | {statistic.unit or '–'} |" in page
