"""Tables of synthetic measurements whose answers are known exactly."""

from __future__ import annotations

import html.parser

import numpy as np
import pandas as pd
import pytest
import synthetic_documents as synthetic
from synthetic_documents import measurements

from bench import tables
from bench.errors import BenchError
from bench.record import Document
from bench.tables import _cells, _page


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    return measurements(tmp_path_factory.mktemp("documents"))


def at(drawn: pd.DataFrame, **where) -> pd.Series:
    """The one row of a table at a place."""
    found = drawn[np.logical_and.reduce([drawn[name] == value for name, value in where.items()])]
    assert len(found) == 1
    return found.iloc[0]


PLACE = {"dataset": "pigs", "dtype": "f8", "threads": 1, "k": 10, "direction": "matmul"}


def test_products_give_time_rate_and_shares_of_what_was_measured(frame):
    row = at(tables.load("products").draw(frame), **PLACE, kernel="decompress", target="avx512")
    n, m = synthetic.SIZES["pigs"]
    seconds = n * m * 10 / 36e9
    assert row["time_ms"] == pytest.approx(1e3 * seconds)
    assert row["min_ms"] == pytest.approx(0.98e3 * seconds)
    assert row["time_ms_low"] <= row["time_ms"] <= row["time_ms_high"]
    assert row["rate"] == pytest.approx(36.0)
    assert row["fma_share"] == pytest.approx(0.6)
    assert row["read_share"] == pytest.approx(n * m / 4 / seconds / synthetic.READ)
    assert row["repeats"] == len(synthetic.WOBBLE)


def test_limits_are_the_best_tries_in_one_row_for_each_target(frame):
    drawn = tables.load("limits").draw(frame)
    assert drawn["target"].unique().tolist() == list(synthetic.LIMITS)
    row = at(drawn, target="avx2", threads=2)
    assert row["fma_f8"] == pytest.approx(60)
    assert row["fma_f4"] == pytest.approx(120)
    assert row["int8"] == pytest.approx(480)
    assert row["lookup8"] == pytest.approx(3)
    assert row["lookup8_far"] == pytest.approx(1.5)
    assert row["lookup4"] == pytest.approx(4)
    assert (row["read"], row["copy"]) == pytest.approx((40, 30))


def test_speed_ups_are_against_the_fastest_blas_and_the_fastest_decompress_of_the_dtype(frame):
    drawn = tables.load("products").draw(frame)
    # dense_blas: openblas 1/8 of the peak, mkl 0.15 (the baseline); decompress: avx512 0.6.
    row = at(drawn, **PLACE, kernel="five_codes", target="avx2")
    assert row["blas_speedup"] == pytest.approx(0.75 / 0.15)
    assert row["decompress_speedup"] == pytest.approx(0.75 / 0.6)
    assert row["blas_speedup_low"] < 5 < row["blas_speedup_high"]
    assert at(drawn, **PLACE, kernel="dense_blas", target="openblas")["blas_speedup"] == pytest.approx(0.125 / 0.15)
    # float32 still has float64 BLAS as its baseline, but the decompress of its own dtype.
    single = at(drawn, **PLACE | {"dtype": "f4"}, kernel="five_codes", target="avx2")
    assert single["blas_speedup"] == pytest.approx(2 * 0.75 / 0.15)
    assert single["decompress_speedup"] == pytest.approx(0.75 / 0.6)


def test_a_speed_up_of_exactly_four(tmp_path):
    fast = synthetic.products_document("cattle", "decompress", "avx512", "f8", 1)
    slow = synthetic.products_document("cattle", "dense_blas", "mkl", "f8", 1)
    row = at(
        tables.load("products").draw(measurements(tmp_path, fast, slow)),
        k=10,
        direction="rmatmul",
        kernel="decompress",
    )
    assert row["blas_speedup"] == pytest.approx(4.0, rel=1e-12)


def test_the_baseline_against_itself_is_one_without_an_interval(frame):
    row = at(tables.load("products").draw(frame), **PLACE, kernel="dense_blas", target="mkl")
    assert row["blas_speedup"] == 1.0
    assert np.isnan(row["blas_speedup_low"])


def test_without_a_baseline_there_is_no_speed_up(tmp_path):
    drawn = tables.load("products").draw(
        measurements(tmp_path, synthetic.products_document("cattle", "five_codes", "avx2", "f8", 1))
    )
    assert drawn["blas_speedup"].isna().all()
    assert drawn["decompress_speedup"].isna().all()
    assert drawn["rate"].gt(0).all()


def test_without_measured_limits_there_are_no_shares(tmp_path):
    doc = synthetic.products_document("cattle", "five_codes", "avx2", "f8", 1)
    doc.rows = [row for row in doc.rows if row["phase"] != "limits"]
    drawn = tables.load("products").draw(measurements(tmp_path, doc))
    assert len(drawn) == 6
    assert drawn["fma_share"].isna().all()


def test_a_wrong_kernel_is_in_no_table_of_times(frame):
    for name in ("products", "summary"):
        drawn = tables.load(name).draw(frame)
        assert not ((drawn["kernel"] == "five_codes") & (drawn["target"] == "avx512")).any()
    assert tables.load("products").draw(frame)["time_ms"].min() > 0.1


def test_the_share_of_the_peak_is_that_of_the_same_session(tmp_path):
    docs = [synthetic.products_document("cattle", "decompress", t, "f8", 1) for t in ("scalar", "avx512")]
    for row in docs[0].rows:
        if row["metric"] == "fma_peak":
            row["value"] /= 2
    drawn = tables.load("products").draw(measurements(tmp_path, *docs))
    where = {"k": 10, "direction": "matmul"}
    assert at(drawn, **where, target="scalar")["fma_share"] == pytest.approx(0.4)
    assert at(drawn, **where, target="avx512")["fma_share"] == pytest.approx(0.6)


def test_scaling_sessions_do_not_mix_with_products(frame):
    drawn = tables.load("products").draw(frame)
    assert set(drawn["n"]) == {n for n, _ in synthetic.SIZES.values()}
    assert len(drawn) == 2 * len(synthetic.SHARE) * 2 * 2 * 6


def test_bounds_are_the_least_that_a_limit_allows(frame):
    drawn = tables.load("bounds").draw(frame)
    # 60 G/s of multiply-adds; 4k multiply-adds a byte at 80 GB/s, since 37.5 MB may be in the cache of 16 MiB.
    row = at(drawn, **PLACE, kernel="decompress", target="avx512")
    assert (row["rate"], row["fma_bound"], row["read_bound"]) == pytest.approx((36.0, 60.0, 3200.0))
    assert (row["limit"], row["bound"], row["bound_share"]) == ("multiply-adds", pytest.approx(60.0), 0.6)
    assert np.isnan(row["lookup_bound"])
    assert at(drawn, **PLACE, kernel="decompress", target="scalar")["bound"] == pytest.approx(15.0)
    # 10 columns in entries of 12 doubles, half of 2e9 a second with AVX2: 5 · 10 · 1e9.
    row = at(drawn, **PLACE, kernel="five_codes", target="avx2")
    assert (row["limit"], row["bound"], row["bound_share"]) == ("lookups", pytest.approx(50.0), pytest.approx(0.9))
    # 32 columns in 4 sweeps of 8, 1.5e9 a second: 5 · 8 · 1.5e9.
    row = at(drawn, **PLACE | {"k": 32}, kernel="five_codes", target="avx2")
    assert row["lookup_bound"] == pytest.approx(60.0)


def test_a_target_without_limits_of_its_own_has_the_best_of_all(frame):
    row = at(tables.load("bounds").draw(frame), **PLACE | {"k": 1}, kernel="dense_blas", target="mkl")
    # 1.2 GB do not fit a cache: 40 GB/s, 8 bytes a genotype.
    assert (row["fma_bound"], row["read_bound"], row["limit"]) == (pytest.approx(60.0), pytest.approx(5.0), "reading")
    assert row["bound_share"] == pytest.approx(0.15 * 0.25 * 60 / 5)


def test_bounds_of_all_threads_are_those_measured_with_them(frame):
    row = at(tables.load("bounds").draw(frame), **PLACE | {"threads": 2}, kernel="decompress", target="avx512")
    assert (row["bound"], row["bound_share"]) == (pytest.approx(120.0), pytest.approx(0.6))


def test_a_wider_target_is_allowed_no_less_than_a_narrower_one(tmp_path):
    doc = synthetic.products_document("cattle", "decompress", "avx512", "f8", 1)
    limits = synthetic.limits_document()
    for row in limits.rows:  # something disturbed every try of the widest
        row["value"] /= 10 if row["target"] == "avx512" else 1
    drawn = tables.load("bounds").draw(measurements(tmp_path, doc, limits))
    assert drawn["fma_bound"].unique() == pytest.approx([30.0])


def test_several_widths_of_lookups_take_their_turns_and_8_bit_products_their_own_units(tmp_path):
    doc = synthetic.products_document("cattle", "decompress", "avx512", "f8", 1)
    n, m = synthetic.SIZES["cattle"]
    doc.rows = [row for row in doc.rows if not row["metric"].startswith("work_")]
    where = {"phase": "work", "k": 10, "direction": "matmul"}
    for what, amount in (("lookups8", 0.2), ("lookups2", 0.2), ("int8", 60.0)):
        doc.add(f"work_{what}", n * m * amount, "1", **where)
    drawn = tables.load("bounds").draw(measurements(tmp_path, doc, synthetic.limits_document()))
    row = at(drawn, k=10, direction="matmul")
    assert row["lookup_bound"] == pytest.approx(10 / (0.2 / 3 + 0.2 / 4))
    assert row["int8_bound"] == pytest.approx(10 / (60 / 480))
    assert (row["limit"], row["bound"]) == ("8-bit products", pytest.approx(80.0))


def test_what_was_not_declared_or_not_measured_has_no_bound(tmp_path):
    doc = synthetic.products_document("cattle", "decompress", "avx512", "f8", 1)
    alone = tables.load("bounds").draw(measurements(tmp_path / "alone", doc))
    doc.rows = [row for row in doc.rows if not row["metric"].startswith("work_")]
    silent = tables.load("bounds").draw(measurements(tmp_path / "silent", doc, synthetic.limits_document()))
    for drawn in (alone, silent):
        assert drawn["rate"].gt(0).all()
        assert drawn["bound"].isna().all()
        assert drawn["bound_share"].isna().all()
        assert (drawn["limit"] == "").all()


def test_kernels_give_bits_per_genotype_and_the_worst_error(frame):
    drawn = tables.load("kernels").draw(frame)
    where = {"dataset": "cattle", "dtype": "f8", "threads": 1}
    dense = at(drawn, **where, kernel="dense_blas", target="mkl")
    packed = at(drawn, **where, kernel="decompress", target="avx512")
    assert (dense["bytes_per_genotype"], packed["bits_per_genotype"]) == (8.0, 2.0)
    assert (packed["integer_mismatches"], packed["rel_error"], packed["prepare_s"]) == (0, 3e-15, 0.5)
    wrong = at(drawn, **where, kernel="five_codes", target="avx512")
    assert (wrong["status"], wrong["integer_mismatches"]) == ("wrong", 7)
    assert wrong["reason"].startswith("matmul with k = 10")


def test_kernels_list_what_was_refused_with_the_reason(frame):
    drawn = tables.load("kernels").draw(frame)
    refused = drawn[drawn["status"] == "refused"]
    assert set(refused["target"]) == {"sm_80", "sm_90"}
    assert refused["reason"].eq("needs an NVIDIA GPU, this machine has none").all()


@pytest.mark.parametrize("ratio", [4.0, 0.5])
def test_pairs_tell_how_many_times_as_fast_the_first_is(tmp_path, ratio):
    drawn = tables.load("paired").draw(measurements(tmp_path, synthetic.paired_document(ratio)))
    assert drawn["direction"].tolist() == ["matmul", "rmatmul"]
    row = drawn.iloc[0]
    assert (row["kernel"], row["against"], row["against_target"]) == ("decompress", "dense_blas", "openblas")
    for end in ("", "_low", "_high"):
        assert row[f"times_as_fast{end}"] == pytest.approx(ratio, rel=1e-12)  # drift of a factor 10 cancels
    assert row["fma_share"] == pytest.approx(0.6)
    assert row["against_fma_share"] == pytest.approx(0.6 / ratio)
    assert (row["rate"], row["against_rate"]) == pytest.approx((36.0, 36.0 / ratio))
    assert row["pairs"] == 5


def test_pairs_are_matched_by_round_and_not_by_order(tmp_path):
    doc = synthetic.paired_document()
    doc.rows.reverse()
    drawn = tables.load("paired").draw(measurements(tmp_path, doc))
    assert drawn["times_as_fast"].tolist() == pytest.approx([4.0, 4.0])


def test_what_centring_costs_is_told_by_rounds(tmp_path):
    doc = synthetic.centred_document({"centred": 1.02, "imputed": 1.125})
    drawn = tables.load("centred").draw(measurements(tmp_path, doc))
    assert drawn["direction"].tolist() == ["matmul", "rmatmul"]
    row = drawn.iloc[0]
    assert (row["kernel"], row["missing_rate"], row["repeats"]) == ("auto", 0.01, 5)
    assert row["time_ms"] == pytest.approx(3.0)
    for end in ("", "_low", "_high"):
        assert row[f"centred_cost{end}"] == pytest.approx(2.0)  # drift of a factor 10 cancels
        assert row[f"imputed_cost{end}"] == pytest.approx(12.5)


def test_without_missing_calls_imputation_has_no_cost(tmp_path):
    drawn = tables.load("centred").draw(measurements(tmp_path, synthetic.centred_document({"centred": 0.99})))
    assert drawn["centred_cost"].tolist() == pytest.approx([-1.0, -1.0])
    assert drawn["imputed_cost"].isna().all()


def test_streamed_products_are_held_against_the_disk_and_the_kernel_of_their_round(frame):
    drawn = tables.load("streamed").draw(frame)
    disk, kernel = at(drawn, k=1), at(drawn, k=32)
    for row, resident in ((disk, 8 / 3), (kernel, 1 / 3)):  # the median round drifts threefold
        assert row["resident_gb_s"] == pytest.approx(resident)
        assert row["reading_gb_s"] == pytest.approx(2 / 3)
        for end in ("", "_low", "_high"):
            assert row[f"share{end}"] == pytest.approx(90.0)
        assert (row["given_mb"], row["taken_mb"], row["process_mb"]) == (800, 700, 900)
        assert row["cache"] == "dropped"
    assert disk["streamed_gb_s"] == pytest.approx(0.9 * 2 / 3)
    assert kernel["streamed_gb_s"] == pytest.approx(0.9 / 3)


def test_gblup_gives_variances_prediction_and_the_spread_of_the_folds(frame):
    drawn = tables.load("gblup").draw(frame)
    row = at(drawn, dataset="cattle", trait="yield")
    assert (row["lambda"], row["h2"], row["var_u"], row["var_e"]) == (1.5, 0.4, 0.4, 0.6)
    assert (row["predictive_ability"], row["reliability"]) == (0.42, 0.55)
    assert row["predictive_ability_sd"] == pytest.approx(0.02)
    assert row["accuracy"] == pytest.approx(0.72)
    assert row["snp_blup_error"] == 5e-11
    assert row["records"] == 4100
    assert row["note"] == "λ: REML; folds: random folds"
    assert "; 15000 individuals are more than inverse_max_n" in at(drawn, dataset="pigs")["note"]
    assert len(drawn) == 3


def test_solves_compare_with_the_dense_way(frame):
    drawn = tables.load("solves").draw(frame)
    row = at(drawn, dataset="pigs", kernel="decompress", target="avx512")
    n, m = synthetic.SIZES["pigs"]
    seconds = 240 * n * m / 72e9
    assert row["solve_s"] == pytest.approx(seconds)
    assert row["cholesky_s"] == pytest.approx(0.5 + 3.0 + 1.5)
    assert row["cholesky_speedup"] == pytest.approx(5.0 / seconds)
    assert (row["iterations"], row["snp_effect_error"]) == (59, 3e-11)
    assert row["ebv_error"] == pytest.approx(3.2e-11)


def test_a_wrong_solve_is_not_shown(tmp_path):
    doc = synthetic.solve_document("pigs", "gain", "decompress", "avx512").wrong("EBVs differ")
    assert tables.load("solves").draw(measurements(tmp_path, doc)).empty


def test_refused_groups_equal_reasons_and_lists_what_they_concern(frame):
    drawn = tables.load("refused").draw(frame)
    assert len(drawn) == 3
    gpu = at(drawn, kernel="gpu_2bit")
    assert (gpu["datasets"], gpu["targets"], gpu["dtypes"]) == ("cattle, pigs", "sm_80, sm_90", "f4, f8")
    assert gpu["cases"] == 8
    assert at(drawn, status="wrong")["cases"] == 1


def test_summary_takes_the_fastest_target_at_k_10_on_one_and_all_threads(frame):
    drawn = tables.load("summary").draw(frame)
    assert set(drawn["k"]) == {10}
    assert set(drawn["threads"]) == {1, 2}
    row = at(drawn, dataset="pigs", threads=2, kernel="decompress")
    assert row["target"] == "avx512"
    assert (row["rate_matmul"], row["rate_rmatmul"]) == pytest.approx((72.0, 79.2))
    assert (row["blas_matmul"], row["blas_rmatmul"]) == pytest.approx((4.0, 4.0))
    assert drawn["dataset"].iloc[0] == "pigs"  # the larger one


def test_summary_takes_the_largest_k_below_ten_where_ten_is_not_there(tmp_path):
    doc = synthetic.products_document("cattle", "decompress", "avx512", "f8", 1)
    doc.rows = [row for row in doc.rows if row.get("k") != 10]
    assert set(tables.load("summary").draw(measurements(tmp_path, doc))["k"]) == {1}


def test_summary_fits_a_terminal_and_tells_of_refusals(frame):
    text = tables.load("summary").to_text(frame)
    assert len(text.splitlines()) <= 20
    assert "9 refused, 1 wrong" in text
    line = next(line for line in text.splitlines() if "decompress" in line)
    assert line.split()[-4:] == ["36.0", "39.6", "4.00", "4.00"]


def test_summary_of_many_rows_says_how_many_it_left_out(frame, tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "SIZES", {f"data{i}": (1000 + i, 2000) for i in range(5)})
    docs = [synthetic.products_document(d, *kernel, "f8", 1) for d in synthetic.SIZES for kernel in synthetic.SHARE]
    text = tables.load("summary").to_text(measurements(tmp_path, *docs))
    assert len(text.splitlines()) <= 20
    assert "… and 4 more rows" in text  # 5 data sets × 4 kernels and the header are 21 lines


class Rows(html.parser.HTMLParser):
    """The rows of an HTML table as lists of text, with the class of each row."""

    def __init__(self, text: str):
        super().__init__()
        self.rows: list[tuple[str, list[str]]] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append((dict(attrs).get("class") or "", []))
        if tag in ("td", "th"):
            self.rows[-1][1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][1][-1] += data


@pytest.mark.parametrize("name", tables.names())
def test_every_table_is_written_as_csv_html_and_markdown(frame, tmp_path, name):
    tables.write(name, frame, tmp_path)
    drawn = tables.load(name).draw(frame)
    assert len(drawn) > 0
    back = pd.read_csv(tmp_path / f"{name}.csv")
    assert list(back.columns) == list(drawn.columns)
    numbers = drawn.select_dtypes("number").columns
    pd.testing.assert_frame_equal(
        back[numbers].astype(float), drawn[numbers].astype(float), check_dtype=False, rtol=1e-14
    )
    rows = Rows((tmp_path / f"{name}.html").read_text()).rows
    assert len(rows) == len(drawn) + 1
    assert {len(cells) for _, cells in rows} == {len(rows[0][1])}
    lines = (tmp_path / f"{name}.md").read_text().splitlines()
    assert sum(line.startswith("|") for line in lines) == len(drawn) + 2
    assert all(line.count("|") == len(rows[0][1]) + 1 for line in lines if line.startswith("|"))


@pytest.mark.parametrize("name", tables.names())
def test_every_column_of_a_table_has_a_header(frame, name):
    drawn = tables.load(name).draw(frame)
    assert [column for column in _page.shown(drawn).columns if column not in _page.SHOWN] == []


@pytest.mark.parametrize("name", tables.names())
def test_a_table_without_measurements_says_so(frame, tmp_path, name):
    tables.write(name, frame.head(0), tmp_path)
    assert "nothing to show" in (tmp_path / f"{name}.html").read_text()
    assert len(pd.read_csv(tmp_path / f"{name}.csv")) == 0
    assert tables.load("summary").to_text(frame.head(0)) == "No product was timed."


@pytest.mark.parametrize("name", tables.names())
def test_drawing_leaves_the_measurements_alone(frame, name):
    before = frame.copy()
    tables.load(name).draw(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_html_shows_intervals_units_and_greys_what_was_refused(frame, tmp_path):
    tables.write("products", frame, tmp_path)
    page = (tmp_path / "products.html").read_text()
    head, first = (cells for _, cells in Rows(page).rows[:2])
    assert "time (ms)" in head
    assert "[" in first[head.index("time (ms)")]
    assert "http" not in page  # self-contained
    tables.write("kernels", frame, tmp_path)
    rows = Rows((tmp_path / "kernels.html").read_text()).rows
    grey = [cells for kind, cells in rows if "refused" in kind]
    assert len(grey) == 9
    assert all("gpu_2bit" in cells or "wrong" in cells for cells in grey)


def test_text_of_a_document_cannot_break_the_page(tmp_path):
    identity = {
        "experiment": "products",
        "dataset": "<b>a|b</b>",
        "kernel": "x",
        "target": "y",
        "dtype": "f8",
        "threads": 1,
    }
    frame = measurements(tmp_path, Document(identity).refuse("a < b & c | d"))
    tables.write("refused", frame, tmp_path)
    page = (tmp_path / "refused.html").read_text()
    assert "<b>" not in page
    assert "a &lt; b &amp; c" in page
    assert "a\\|b" in (tmp_path / "refused.md").read_text()


def test_an_unknown_table_is_an_error_that_lists_the_known():
    with pytest.raises(BenchError, match="no table 'product'; there are bounds, centred, dblup_annotations"):
        tables.load("product")


def test_sources_of_a_table_exist_and_hold_its_module():
    for name in tables.names():
        found = tables.sources(name)
        assert any(file.endswith(f"tables/{name}.py") for file in found)
        assert any(file.endswith("statistics.py") for file in found)


def test_gram_gives_the_rate_of_half_the_square_and_the_ratio_to_dsyrk(frame):
    drawn = tables.load("gram").draw(frame)
    assert len(drawn) == 2 * 2 * len(synthetic.GRAM_SECONDS)
    row = at(drawn, dataset="pigs", threads=2, method="gram")
    n, m = synthetic.SIZES["pigs"]
    assert row["time_s"] == pytest.approx(0.25)
    assert row["rate"] == pytest.approx(n * (n + 1) / 2 * m / 0.25 / 1e9)
    assert row["dsyrk_speedup"] == pytest.approx(16.0)
    assert row["dsyrk_speedup_low"] < 16 < row["dsyrk_speedup_high"]
    assert row["peak_rss"] == 1e9
    assert at(drawn, dataset="pigs", threads=2, method="dsyrk")["dsyrk_speedup"] == 1.0


def test_lanczos_reml_gives_the_share_of_the_kernels_rate_and_both_errors(frame):
    drawn = tables.load("lanczos_reml").draw(frame)
    assert drawn["n"].tolist() == [1000, 4000]
    row = at(drawn, n=1000)
    assert row["k"] == 8
    assert row["kernel_share"] == pytest.approx(0.5)
    assert row["cpu_share"] == pytest.approx(0.75)
    assert drawn["status"].tolist() == ["converged", "λ at its bound"]
    page = _page.to_html(drawn, "title", "caption")
    assert page.count('class="first refused') + page.count('class="refused') == 1  # the one at its bound is grey
    assert row["prepare_s"] == 3
    assert row["reml_s"] == pytest.approx(22 * 3e-5 * 1000)
    assert row["eigen_difference"] == pytest.approx(0.01)
    assert row["standard_error"] == pytest.approx(5 * row["monte_carlo_error"])
    assert np.isnan(at(drawn, n=4000)["eigen_difference"])
    assert np.isnan(at(drawn, n=4000)["truncation_error"])


def test_gram_without_dsyrk_has_no_ratio(tmp_path):
    drawn = tables.load("gram").draw(measurements(tmp_path, synthetic.gram_document("pigs", "plink2", "plink2")))
    assert drawn["dsyrk_speedup"].isna().all()
    assert drawn["rate"].gt(0).all()


def test_a_contaminated_session_is_compared_with_the_best_peak_of_the_run(tmp_path):
    busy, quiet, slow = (synthetic.products_document("cattle", "decompress", t, "f8", n)
                         for t, n in (("scalar", 1), ("avx512", 1), ("avx512", 2)))  # fmt: skip
    for doc, factor in ((contaminate(busy), 0.25), (contaminate(slow), 0.3)):
        for row in doc.rows:
            row["value"] *= factor if row["metric"].endswith("_peak") else 1
    frame = measurements(tmp_path / "own", busy, quiet, slow)
    drawn, where = tables.load("products").draw(frame), {"k": 10, "direction": "matmul"}
    assert at(drawn, **where, target="scalar")["fma_share"] == pytest.approx(0.2)  # not 0.8
    # Two threads: no session did better than the clean one on one thread, whose 60e9 are more than 0.3 × 120e9.
    assert at(drawn, **where, threads=2)["fma_share"] == pytest.approx(1.2)
    for name in ("fma_share", "read_share"):
        shares = drawn[(drawn["threads"] == 1) & (drawn["k"] == 10)].groupby("target")[name].max()
        assert shares["avx512"] == pytest.approx(3 * shares["scalar"])
    with_limits = measurements(tmp_path / "limits", busy, quiet, slow, synthetic.limits_document())
    assert at(tables.load("products").draw(with_limits), **where, threads=2)["fma_share"] == pytest.approx(0.6)
    pair = contaminate(synthetic.paired_document())
    for row in pair.rows:
        row["value"] *= 0.5 if row["metric"] == "fma_peak" else 1
    drawn = tables.load("paired").draw(measurements(tmp_path / "pair", pair, synthetic.limits_document()))
    alone = tables.load("paired").draw(measurements(tmp_path / "alone", pair))
    assert alone["fma_share"].to_numpy() == pytest.approx(2 * drawn["fma_share"].to_numpy())


def contaminate(doc: Document, reason: str = "other processes took 40% of the usable cores") -> Document:
    doc.provenance = doc.provenance | {"contaminated": reason}
    return doc


def test_contaminated_sessions_are_marked_and_explained_below_the_table(tmp_path):
    busy = contaminate(synthetic.products_document("cattle", "decompress", "avx512", "f8", 1))
    quiet = synthetic.products_document("cattle", "five_codes", "avx2", "f8", 1)
    frame = measurements(tmp_path / "docs", busy, quiet)
    tables.write("products", frame, tmp_path)
    drawn = pd.read_csv(tmp_path / "products.csv")
    assert drawn.groupby("kernel")["contaminated"].count().to_dict() == {"decompress": 6, "five_codes": 0}
    page = (tmp_path / "products.html").read_text()
    marked = [cells for kind, cells in Rows(page).rows if "contaminated" in kind.split()]
    assert len(marked) == 6
    assert all(cells[0] == "cattle †" and "decompress" in cells for cells in marked)
    for text in (page, (tmp_path / "products.md").read_text()):
        said = "† Contaminated: something else disturbed the machine (6 of 12 rows: other processes took 40 % of the"
        assert said in text
    lines = (tmp_path / "products.md").read_text().splitlines()
    assert not any("contaminated" in line for line in lines if line.startswith("|"))


def test_without_contamination_there_is_no_dagger(frame, tmp_path):
    for name in tables.names():
        tables.write(name, frame, tmp_path)
        assert "†" not in (tmp_path / f"{name}.html").read_text()
        assert "†" not in (tmp_path / f"{name}.md").read_text()


def test_every_table_of_times_marks_contaminated_sessions(tmp_path):
    frame = measurements(tmp_path, *(contaminate(doc) for doc in synthetic.documents().values()))
    for name in ("products", "bounds", "kernels", "paired", "centred", "gram", "solves"):
        drawn = tables.load(name).draw(frame)
        assert drawn["contaminated"].notna().all(), name
    assert f"Contaminated: {frame[frame['metric'].notna()]['case'].nunique()} of" in tables.load("summary").to_text(
        frame
    )


def test_many_reasons_are_not_all_written_below_the_table():
    drawn = pd.DataFrame({"dataset": list("abcdefghijkl"), "contaminated": [f"reason {x}" for x in "abcdefghijkl"]})
    said = _page.footnote(drawn)
    assert "reason h; … and 4 more reasons, in the CSV file" in said
    assert "reason i" not in said


def test_reasons_that_differ_in_their_number_are_one_with_its_range():
    took, switches = "other processes took {}% of the usable cores", "{} involuntary switches a second"
    reasons = [f"{took.format(51)}; {took.format(90)}", took.format(70), f"{took.format(60)}; {switches.format(130)}"]
    said = _page.footnote(pd.DataFrame({"dataset": list("abcd"), "contaminated": [*reasons, None]}))
    assert said == (
        "† Contaminated: something else disturbed the machine (3 of 4 rows: other processes took 51 to 90 % of the "
        "usable cores; 1 of 4 rows: 130 involuntary switches a second)."
    )


def in_processes(doc: Document, factors: tuple[float, ...]) -> Document:
    """The rows of `doc` once per process, whose times are `factors` times as long."""
    rows = []
    for process, factor in enumerate(factors):
        timed = [row | {"process": process} for row in doc.rows]
        rows += [row | {"value": row["value"] * (factor if row["metric"].endswith("_time") else 1)} for row in timed]
    doc.rows = rows
    return doc


def test_processes_are_the_outer_level_of_the_summary(tmp_path):
    factors = (1.0, 1.3, 0.8, 1.1, 1.2)
    doc = in_processes(synthetic.products_document("cattle", "decompress", "avx512", "f8", 1), factors)
    row = at(tables.load("products").draw(measurements(tmp_path, doc)), k=10, direction="matmul")
    n, m = synthetic.SIZES["cattle"]
    one = 1e3 * n * m * 10 / 36e9
    assert row["time_ms"] == pytest.approx(1.1 * one)
    assert row["min_ms"] == pytest.approx(0.8 * 0.98 * one)
    assert row["repeats"] == 5 * len(synthetic.WOBBLE)
    # The repeats of a process lie within 5 %: the bounds are those of the processes.
    assert row["time_ms_low"] == pytest.approx(0.8 * one, rel=0.03)
    assert row["time_ms_high"] == pytest.approx(1.3 * one, rel=0.06)


def test_pairs_of_several_processes_are_matched_within_each(tmp_path):
    doc = in_processes(synthetic.paired_document(4.0), (1.0, 7.0, 0.5))
    row = tables.load("paired").draw(measurements(tmp_path, doc)).iloc[0]
    assert (row["times_as_fast"], row["times_as_fast_low"], row["times_as_fast_high"]) == pytest.approx((4, 4, 4))
    assert (row["pairs"], row["faster_share"]) == (15, 1.0)
    assert row["minima_ratio"] == pytest.approx(4.0)


def test_pairs_tell_an_effect_size(tmp_path):
    doc = synthetic.paired_document(4.0)
    slow = [row for row in doc.rows if row.get("kernel") == "decompress" and row["repeat"] < 2]
    for row in slow:  # in two rounds of five the first is the slower one
        row["value"] *= 8
    drawn = tables.load("paired").draw(measurements(tmp_path, doc))
    assert drawn["faster_share"].tolist() == pytest.approx([0.6, 0.6])


def test_an_entry_of_three_kernels_compares_the_first_with_each_other(tmp_path):
    doc = synthetic.paired_document(4.0)
    doc.identity["against"] = "dense_blas/openblas,five_codes/avx512"
    second = [row for row in doc.rows if row.get("kernel") == "dense_blas"]
    doc.rows += [row | {"kernel": "five_codes", "target": "avx512", "value": row["value"] / 8} for row in second]
    drawn = tables.load("paired").draw(measurements(tmp_path, doc))
    assert len(drawn) == 4
    for against, ratio in (("dense_blas", 4.0), ("five_codes", 0.5)):
        row = at(drawn, against=against, direction="matmul")
        assert row["kernel"] == "decompress"
        assert row["times_as_fast"] == pytest.approx(ratio)
        assert row["faster_share"] == (ratio > 1)


def test_ratios_of_sessions_are_widened_by_the_drift_of_the_machine(tmp_path):
    def ratio(folder, *factors):
        docs = [synthetic.products_document("cattle", *kernel, "f8", 1) for kernel in list(synthetic.SHARE)[:6]]
        for doc, factor in zip(docs, factors, strict=True):
            for row in doc.rows:
                row["value"] *= factor if row["metric"] == "fma_peak" else 1
        drawn = tables.load("products").draw(measurements(tmp_path / folder, *docs))
        return at(drawn, k=10, direction="matmul", kernel="five_codes", target="avx2")

    quiet, drifting = ratio("quiet", *[1.0] * 6), ratio("drifting", 1.0, 1.1, 0.9, 1.2, 1.0, 0.8)
    assert drifting["blas_speedup"] == quiet["blas_speedup"]
    sd = np.log([1.0, 1.1, 0.9, 1.2, 1.0, 0.8]).std(ddof=1) * 2.571 / 1.96  # Student's t with 5 degrees of freedom
    for end in ("low", "high"):
        own = np.log(quiet[f"blas_speedup_{end}"] / quiet["blas_speedup"])
        wide = np.log(drifting[f"blas_speedup_{end}"] / drifting["blas_speedup"])
        assert abs(wide) == pytest.approx(np.hypot(own, 1.96 * np.sqrt(2) * sd), rel=1e-3)


def test_the_drift_of_few_sessions_is_not_known(tmp_path):
    docs = [synthetic.products_document("cattle", *kernel, "f8", 1) for kernel in list(synthetic.SHARE)[:3]]
    for i, doc in enumerate(docs):
        for row in doc.rows:
            row["value"] *= 1 + i if row["metric"] == "fma_peak" else 1
    cells = _cells.cells(measurements(tmp_path, *docs), "products")
    assert (cells["drift"] == 0).all()


def test_tables_of_times_have_the_minimum_beside_the_median(frame):
    for name, median, least in (
        ("products", "time_ms", "min_ms"), ("gram", "time_s", "min_s"), ("solves", "solve_s", "min_s"),
        ("centred", "time_ms", "min_ms"),
    ):  # fmt: skip
        drawn = tables.load(name).draw(frame)
        assert (drawn[least] <= drawn[median]).all(), name
        assert (drawn[least] > 0).all(), name
