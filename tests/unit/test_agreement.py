"""Two runs of synthetic measurements: what agrees, what does not, and what may not be compared."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import synthetic_documents as synthetic
from synthetic_documents import measurements

from bench import agreement
from bench.__main__ import main
from bench.collect import write
from bench.errors import BenchError
from bench.statistics import Interval, agree

CPU = {"cpu": "a CPU", "cores": 2}


def run(folder, factor=1.0, *, contaminated=None, **provenance):
    """Two kernels on cattle, the second `factor` times as slow as in another run, and a pair."""
    docs = [synthetic.products_document("cattle", *kernel, "f8", 1) for kernel in
            (("decompress", "avx512"), ("five_codes", "avx2"))]  # fmt: skip
    for row in docs[1].rows:
        row["value"] *= factor if row["metric"] == "product_time" else 1
    docs.append(synthetic.paired_document())
    for doc in docs:
        doc.provenance = doc.provenance | CPU | provenance
    docs[1].provenance["contaminated"] = contaminated
    return measurements(folder, *docs)


def test_equal_runs_agree_in_every_cell(tmp_path):
    drawn = agreement.compare(run(tmp_path / "a"), run(tmp_path / "b"))
    assert drawn["agrees"].tolist() == ["yes"] * 8
    assert drawn.groupby("experiment").size().to_dict() == {"paired": 2, "products": 6}
    text = agreement.to_text(drawn)
    assert "products: 6 of 6 kernel ratios agree within their intervals (100.0%)" in text
    assert "all: 8 of 8" in text
    assert "do not agree" not in text
    row = drawn[(drawn["k"] == 10) & (drawn["direction"] == "matmul") & (drawn["experiment"] == "products")].iloc[0]
    assert (row["kernel"], row["against"]) == ("decompress", "five_codes")
    assert row["times_as_fast"] == pytest.approx(0.6 / 0.75)  # decompress reaches 0.6 of the peak, five_codes 0.75


def test_a_ratio_that_moved_by_a_fifth_does_not_agree_and_is_listed(tmp_path):
    drawn = agreement.compare(run(tmp_path / "a"), run(tmp_path / "b", 1.2))
    assert set(zip(drawn["experiment"], drawn["agrees"], strict=True)) == {("paired", "yes"), ("products", "no")}
    text = agreement.to_text(drawn)
    assert "products: 0 of 6" in text
    assert "all: 2 of 8" in text
    assert text.count("five_codes") == 6


def test_contaminated_sessions_are_counted_apart_and_marked(tmp_path):
    drawn = agreement.compare(run(tmp_path / "a"), run(tmp_path / "b", 1.2, contaminated="it was busy"))
    text = agreement.to_text(drawn)
    assert "all: 2 of 8" in text
    assert "not contaminated: 2 of 2 kernel ratios" in text
    assert "†" in text
    agreement.write(drawn, tmp_path / "out")
    assert "it was busy" in (tmp_path / "out" / "agreement.md").read_text()
    assert len(pd.read_csv(tmp_path / "out" / "agreement.csv")) == 8
    assert "<table>" in (tmp_path / "out" / "agreement.html").read_text()


@pytest.mark.parametrize(
    ("provenance", "said"),
    [
        ({"cpu": "another CPU"}, "the runs differ in CPU: a CPU and another CPU"),
        ({"cores": 64}, "the runs differ in number of cores: 2 and 64"),
        ({"protocol": 7}, "the runs differ in timing protocol: 1 and 7"),
    ],
)
def test_runs_of_different_machines_are_refused(tmp_path, provenance, said):
    with pytest.raises(BenchError, match=said):
        agreement.compare(run(tmp_path / "a"), run(tmp_path / "b", **provenance))


def test_runs_that_share_nothing_are_refused(tmp_path):
    one = run(tmp_path / "a")
    with pytest.raises(BenchError, match="the runs share no kernel ratio: 8 in the first, 0 in the second"):
        agreement.compare(one, one[one["metric"] != "product_time"])


def test_a_single_repeat_cannot_be_judged(tmp_path):
    one = run(tmp_path / "a")
    once = one[(one["metric"] != "product_time") | (one["repeat"] == 0)]
    drawn = agreement.compare(one, once)
    assert set(drawn["agrees"]) == {"unknown"}
    assert "no kernel ratio can be judged" in agreement.to_text(drawn)


def test_the_command_prints_the_share_and_writes_the_table(tmp_path, capsys):
    for name, factor in (("a", 1.0), ("b", 1.2)):
        write(run(tmp_path / name, factor), tmp_path / f"{name}.parquet")
    files = [str(tmp_path / f"{name}.parquet") for name in "ab"]
    assert main(["agreement", *files, "--out", str(tmp_path / "out")]) == 0
    assert "all: 2 of 8 kernel ratios agree" in capsys.readouterr().out
    assert (tmp_path / "out" / "agreement.html").exists()
    assert main(["agreement", files[0], str(tmp_path / "gone.parquet")]) == 2
    assert "gone.parquet: no such file" in capsys.readouterr().err


def test_intervals_agree_up_to_the_root_of_the_sum_of_squares():
    e = math.exp
    one = Interval(1.0, e(-0.5), e(0.3))
    assert agree(one, Interval(e(0.49), e(0.49 - 0.4), 99.0)) is True  # √(0.3² + 0.4²) = 0.5
    assert agree(one, Interval(e(0.51), e(0.51 - 0.4), 99.0)) is False
    assert agree(Interval(e(0.51), e(0.51 - 0.4), 99.0), one) is False
    assert agree(one, Interval(1.1, math.nan, math.nan)) is None
    assert agree(one, Interval(math.nan, math.nan, math.nan)) is None


@pytest.mark.statistical
def test_normal_estimates_agree_as_often_as_their_intervals_cover():
    rng = np.random.default_rng(5)
    sd = rng.uniform(0.01, 0.2, (4000, 2))
    found = rng.normal(0, sd)
    bounds = [np.exp(found + z * sd) for z in (0, -1.96, 1.96)]
    pairs = [[Interval(*side) for side in row] for row in np.stack(bounds, axis=-1).tolist()]
    assert np.mean([agree(*pair) for pair in pairs]) == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 4000))
