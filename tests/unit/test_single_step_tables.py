"""Tables and figures of single-step solves, from documents with round figures."""

import numpy as np
import pandas as pd
import pytest
import synthetic_documents as synthetic
from matplotlib.text import Text
from synthetic_documents import measurements

from bench import figures, tables
from bench.figures import _single_step as looks
from bench.single_step import variants


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    return measurements(tmp_path_factory.mktemp("documents"), *synthetic.single_step_documents())


def at(drawn: pd.DataFrame, **where) -> pd.Series:
    (index,) = np.flatnonzero(np.all([drawn[key] == value for key, value in where.items()], axis=0))
    return drawn.iloc[index]


def drawn(name, frame):
    return tables.load(f"single_step_{name}" if name else "single_step").draw(frame)


def texts(figure):
    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


def test_every_solve_is_a_row_with_its_rounds_and_the_median_round(frame):
    found = drawn("", frame)
    assert len(found) == 16
    row = at(found, variant="ss_h", trait="milk", n=3000)
    assert (row["rounds"], row["passes"], row["rounds_ebv"]) == (160, 0, 80)
    assert row["round_ms"] == pytest.approx(3.0, rel=0.01)
    assert row["round_ms_low"] <= row["round_ms"] <= row["round_ms_high"]
    assert row["setup_s"] == 27
    assert row["setup_rss"] == 32 * 3000**2


def test_bars_compare_with_the_best_published_preconditioner_and_with_jacobi(frame):
    found = drawn("bars", frame)
    assert len(found) == 2  # one trait and two
    row = at(found, trait="milk")
    assert (row["rounds"], row["liu_best"], row["liu_rounds"], row["h_rounds"]) == (40, "second_level", 400, 160)
    assert (row["liu_ratio"], row["h_ratio"]) == (0.1, 0.25)
    assert (row["passes"], row["fewest_other_passes"]) == (80, 320)
    assert row["meets"] == "all"


def test_bars_that_are_missed_are_named(tmp_path, monkeypatch):
    slow = synthetic.ROUNDS | {("prior_pcg", "prior"): (170, True)}
    monkeypatch.setattr(synthetic, "ROUNDS", slow)
    row = drawn("bars", measurements(tmp_path, *synthetic.single_step_documents())).iloc[0]
    assert row["meets"] == "missed: 1/5 of ssSNPBLUP, 1/3 of the H-form, fewest passes"


def test_the_crossover_marks_the_fastest_of_each_number_of_genotyped(frame):
    found = drawn("crossover", frame)
    assert set(found["n"]) == {1000, 2000, 3000}
    few = at(found, n=1000, variant="ss_h")
    assert few["total_s"] == pytest.approx(1 + 0.95 * 160 * 1e-3)
    assert at(found, n=1000, variant="ssgtablup")["fastest"] == "✓"
    many = found[found["n"] == 3000]
    assert many.loc[many["fastest"] == "✓", "variant"].tolist() == ["prior_pcg"]
    assert (many["preconditioner"].isin(["prior", "jacobi", "second_level"])).all()


def test_kernels_show_what_a_round_spends_on_each_product(frame):
    found = drawn("kernels", frame)
    assert found["kernel"].tolist() == ["auto", "decompress"]
    assert found["zv_ms"].tolist() == pytest.approx([0.6, 1.2])
    assert found["ztu_ms"].tolist() == pytest.approx([0.9, 1.8])
    assert found["sparse_ms"].tolist() == pytest.approx([1.2, 2.4])


def test_several_traits_stand_beside_the_same_one_by_one(frame):
    row = at(drawn("traits", frame), variant="prior_pcg")
    assert (row["rounds"], row["rounds_alone"]) == (80, 80)
    assert (row["products"], row["products_alone"]) == (160, 160)
    assert row["solve_s"] == pytest.approx(0.24)
    assert len(drawn("traits", frame)) == 1  # of no other variant was the second trait solved alone


def test_warm_starts_say_what_they_save(frame):
    row = at(drawn("warm", frame), variant="ss_h")
    assert (row["cold_rounds"], row["warm_rounds"], row["rounds_saved"]) == (160, 120, 0.25)
    assert row["start_error"] == pytest.approx(10**1.25)


def test_accuracies_have_intervals_of_their_draws_and_a_gain_that_is_paired(frame):
    row = at(drawn("accuracy", frame), group="young genotyped")
    assert (row["accuracy"], row["pedigree_accuracy"], row["gain"]) == pytest.approx((0.6, 0.4, 0.2))
    assert row["accuracy_low"] == pytest.approx(0.6 - 0.95 * 19.5 / 400, abs=1e-3)
    assert (row["gain_low"], row["gain_high"]) == pytest.approx((0.2, 0.2))  # the same families in both


def test_published_numbers_stand_beside_the_range_that_was_measured(frame):
    found = drawn("published", frame)
    row = found[found["what"].str.contains("2.68e-9")].iloc[0]
    assert (row["published"], row["least"], row["largest"]) == (2560, 152, 152)
    assert found["source"].str.contains("doi:").all()
    assert found["note"].str.len().gt(20).all()


def test_a_wrong_solve_is_in_no_table(tmp_path):
    docs = [doc.wrong("EBVs differ") for doc in synthetic.single_step_documents()]
    frame = measurements(tmp_path, *docs)
    for name in tables.names():
        if name.startswith("single_step"):
            assert tables.load(name).draw(frame).empty, name


def test_every_variant_has_a_look_and_a_name_of_its_own():
    assert set(looks.LOOKS) == set(looks.TITLES) == set(variants.names())
    assert len(set(looks.LOOKS.values())) == len(looks.LOOKS)
    names = {preconditioner for name in variants.names() for preconditioner in variants.load(name).preconditioners}
    assert names == set(looks.DASHES)
    assert looks.ordered(["zebra", "ss_h", "prior_pcg"]) == ["prior_pcg", "ss_h", "zebra"]
    assert looks.look("zebra") != looks.look("ss_h")


def test_convergence_draws_residuals_and_errors_of_every_solve(frame):
    figure = figures.load("single_step_convergence").draw(frame)
    residual, error, passes = figure.axes[3:6]  # below fat: milk
    assert len(residual.lines) == len(error.lines) == 5
    assert len(passes.lines) == 4  # SS-H multiplies no genotypes
    prior = next(line for line in residual.lines if line.get_color() == looks.look("prior_pcg").colour)
    assert prior.get_xdata()[-1] == 40
    assert np.asarray(prior.get_ydata())[-1] == pytest.approx(1e-9)


def test_the_crossover_figure_draws_each_variant_over_the_number_of_genotyped(frame):
    figure = figures.load("single_step_crossover").draw(frame)
    setup = figure.axes[0]
    of_ss_h = [line for line in setup.lines if line.get_color() == looks.look("ss_h").colour]
    line = next(line for line in of_ss_h if len(line.get_xdata()) == 3)
    assert np.asarray(line.get_ydata()) == pytest.approx([1, 8, 27])
    assert [label.get_text() for label in setup.get_xticklabels()] == ["1k", "2k"]  # 3k has no room
    assert "n = m" in texts(figure)


def test_a_round_is_a_bar_of_its_parts(frame):
    figure = figures.load("single_step_kernels").draw(frame)
    at = figure.axes[0]
    widths = [patch.get_width() for patch in at.patches]
    assert sum(widths) == pytest.approx(3.0 + 6.0)
    assert sorted(label.get_text() for label in at.get_yticklabels()) == ["auto", "decompress"]


def test_contaminated_sessions_are_seen(tmp_path):
    from bench.figures import style

    docs = synthetic.single_step_documents()
    for doc in docs:
        doc.provenance = doc.provenance | {"contaminated": "it was busy"}
    frame = measurements(tmp_path, *docs)
    for name in ("crossover", "kernels", "cost"):
        assert style.DISTURBED in texts(figures.load(f"single_step_{name}").draw(frame))
    for name in ("", "bars", "crossover", "kernels", "traits", "warm", "accuracy"):
        assert drawn(name, frame)["contaminated"].notna().all(), name
