"""Figures of synthetic measurements: what is drawn is what was measured, and the same bytes every time."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic_documents as synthetic
from matplotlib.figure import Figure
from matplotlib.text import Text
from synthetic_documents import measurements

from bench import figures, kernels, tables
from bench.errors import BenchError
from bench.figures import style


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    return measurements(tmp_path_factory.mktemp("documents"))


@pytest.fixture(scope="module")
def roofline(frame) -> Figure:
    """Not to be changed."""
    return figures.load("roofline").draw(frame)


def texts(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


def curves(at, kernel: str) -> list[np.ndarray]:
    """(points, 2) of every line of a kernel's colour in a panel."""
    colour = style.look(kernel).colour
    return [np.column_stack(line.get_data()).astype(float) for line in at.lines if line.get_color() == colour]


@pytest.mark.parametrize("name", figures.names())
def test_every_figure_is_written_in_three_formats_with_the_same_bytes_every_time(frame, tmp_path, name):
    for folder in ("one", "two"):
        figures.write(name, frame, tmp_path / folder)
    for kind, magic in (("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")):
        one, two = ((tmp_path / folder / f"{name}.{kind}").read_bytes() for folder in ("one", "two"))
        assert one.startswith(magic)
        assert one == two


@pytest.mark.parametrize("name", figures.names())
def test_a_figure_fits_a_page_and_its_text_can_be_read(frame, name):
    figure = figures.load(name).draw(frame)
    width, height = figure.get_size_inches()
    assert width == style.WIDTH
    assert height < 9.5
    assert min(t.get_fontsize() for t in figure.findobj(Text) if t.get_text()) >= 7


@pytest.mark.parametrize("name", figures.names())
def test_drawing_leaves_the_measurements_and_matplotlib_alone(frame, name):
    import matplotlib as mpl

    before, settings = frame.copy(), dict(mpl.rcParams)
    figures.load(name).draw(frame)
    pd.testing.assert_frame_equal(frame, before)
    assert dict(mpl.rcParams) == settings


@pytest.mark.parametrize("name", figures.names())
def test_a_figure_with_nothing_to_draw_says_so_in_words(frame, tmp_path, name):
    figure = figures.load(name).draw(frame.head(0))
    assert any(text.startswith("Nothing to draw:") for text in texts(figure))
    assert any("hold no case of the experiment" in text for text in texts(figure))
    figures.write(name, frame.head(0), tmp_path)
    assert (tmp_path / f"{name}.png").stat().st_size > 0


def test_an_empty_figure_gives_the_reasons_of_what_was_refused(tmp_path):
    docs = [synthetic.refused_document("pigs", "gpu_2bit", t) for t in ("sm_80", "sm_90")]
    figure = figures.load("rates").draw(measurements(tmp_path, *docs, synthetic.wrong_document()))
    said = " ".join(texts(figure))
    assert "2 × refused: needs an NVIDIA GPU" in said
    assert "1 × wrong: matmul with k = 10" in said


def test_roofline_draws_rates_over_the_intensity_of_what_a_kernel_stores(roofline):
    figure = roofline
    first = figure.axes[0]  # cattle, float64, 1 thread
    forward, backward = curves(first, "decompress")
    assert forward[:, 0].tolist() == [4.0, 40.0, 128.0]
    assert forward[:, 1] == pytest.approx([9.0, 36.0, 36.0])
    assert backward[:, 1] == pytest.approx([9.9, 39.6, 39.6])
    sizes = [c.get_sizes().tolist() for c in first.collections]
    assert sizes == [[9.0, 4.5**2, 36.0]] * len(sizes)  # of k = 1, 10 and 32
    said = [t.get_text() for t in figure.legends[0].get_texts()]
    assert [text for text in said if text.startswith("k = ")] == ["k = 1", "k = 10", "k = 32"]
    assert curves(first, "dense_blas")[0][:, 0].tolist() == [1 / 8, 10 / 8, 32 / 8]
    single = figure.axes[2]  # cattle, float32, 1 thread
    assert curves(single, "dense_blas")[0][:, 0].tolist() == [1 / 4, 10 / 4, 32 / 4]


def test_roof_is_the_lesser_of_bandwidth_and_peak(roofline):
    roof = next(line for line in roofline.axes[0].lines if line.get_color() == style.GREY)
    x, y = roof.get_data()
    assert np.asarray(y) == pytest.approx(np.minimum(60.0, 40.0 * np.asarray(x)))


def test_roofline_has_the_ceilings_of_what_its_kernels_use(roofline, tmp_path):
    first = roofline.axes[0]  # cattle, float64, 1 thread: five_codes in AVX2, 1.5e9 lookups of 8 columns a second
    level = {line.get_ydata()[0] for line in first.lines if len(set(line.get_ydata())) == 1}
    assert sorted(level) == pytest.approx([15.0, 30.0, 60.0])  # lookups, and the FMA peak of AVX2 and scalar
    said = [t.get_text() for t in roofline.legends[0].get_texts()]
    assert "table lookups" in said
    assert "bandwidth of a cache" in said
    assert "8-bit products" not in said
    doc = synthetic.products_document("cattle", "decompress", "avx512", "f8", 1)
    doc.add("work_int8", 4100 * 20000 * 60, "1", phase="work", k=10, direction="matmul")
    figure = figures.load("roofline").draw(measurements(tmp_path, doc, synthetic.limits_document()))
    assert "8-bit products" in [t.get_text() for t in figure.legends[0].get_texts()]
    assert any(line.get_ydata()[0] == pytest.approx(80.0) for line in figure.axes[0].lines)


def test_roofline_without_limits_still_has_its_roof(tmp_path):
    doc = synthetic.products_document("cattle", "five_codes", "avx2", "f8", 1)
    figure = figures.load("roofline").draw(measurements(tmp_path, doc))
    said = [t.get_text() for t in figure.legends[0].get_texts()]
    assert "roof: bandwidth, FMA peak" in said
    assert "table lookups" not in said


def test_a_figure_of_rates_draws_the_fastest_target_and_never_a_wrong_kernel(frame):
    for name in ("roofline", "rates", "scaling"):
        legend = [t.get_text() for t in figures.load(name).draw(frame).legends[0].get_texts()]
        assert "five_codes (avx2)" in legend
        assert "decompress (avx512)" in legend
        assert "dense_blas (mkl)" in legend


def test_rates_are_bars_of_the_measured_rate_with_the_peak_as_a_line(frame):
    at = figures.load("rates").draw(frame).axes[0]  # cattle, 1 thread
    heights = {round(patch.get_height(), 6) for patch in at.patches}
    assert {9.0, 36.0, 39.6, 72.0, 79.2} <= heights
    assert {line.get_ydata()[0] for line in at.lines if len(line.get_ydata()) == 2} >= {60.0, 120.0}


def test_rates_and_roofline_have_one_peak_whatever_disturbed_the_sessions(tmp_path):
    docs = [synthetic.products_document("cattle", "decompress", t, "f8", 2) for t in ("avx512", "scalar")]
    for i, doc in enumerate(docs):
        doc.provenance = doc.provenance | {"contaminated": "it was busy"}
        for row in doc.rows:
            row["value"] *= (0.2 + 0.2 * i) if row["metric"] == "fma_peak" else 1
    for name, more, peak in (("own", [], 48.0), ("limits", [synthetic.limits_document()], 120.0)):
        found = measurements(tmp_path / name, *docs, *more)
        rates, roofline = (figures.load(figure).draw(found).axes[0] for figure in ("rates", "roofline"))
        assert [line.get_ydata()[0] for line in rates.lines if len(line.get_ydata()) == 2] == pytest.approx([peak])
        roof = next(line for line in roofline.lines if line.get_color() == style.GREY)
        assert max(np.asarray(roof.get_ydata())) == pytest.approx(peak)


def test_scaling_draws_time_over_n(frame):
    at = figures.load("scaling").draw(frame).axes[0]  # Z V
    (curve,) = curves(at, "decompress")
    n = np.array([1000, 3000, 9000])
    assert curve[:, 0].tolist() == n.tolist()
    assert curve[:, 1] == pytest.approx(1e3 * n * 10_000 * 10 / 36e9)


def test_solves_draw_time_and_error_beside_the_dense_way(frame):
    figure = figures.load("solves").draw(frame)
    times, errors = figure.axes[1], figure.axes[3]  # pigs: one trait
    assert curves(times, "decompress")[0][0, 0] == pytest.approx(240 * 15_000 * 10_000 / 72e9)
    assert curves(errors, "decompress")[0][0, 0] == pytest.approx(3.2e-11)
    dense = [line.get_xdata()[0] for line in times.lines if line.get_linestyle() == "--"]
    assert dense == [5.0]


def test_convergence_draws_every_step_of_every_kernel(frame):
    at = figures.load("convergence").draw(frame).axes[1]  # pigs: one trait
    for kernel, targets in (("five_codes", 2), ("numba_unpack", 1)):
        found = curves(at, kernel)
        assert len(found) == targets
        assert found[0][:, 1] == pytest.approx(10 ** (-np.arange(60) / 5))


def test_prediction_draws_the_pooled_value_and_each_fold(frame):
    at = figures.load("prediction").draw(frame).axes[0]
    rows = [label.get_text() for label in at.get_yticklabels()]
    y = rows.index("cattle · yield")
    on_row = [line.get_xdata() for line in at.lines if np.allclose(line.get_ydata(), y)]
    assert sorted(float(x) for values in on_row for x in np.atleast_1d(values)) == pytest.approx(
        [0.40, 0.42, 0.42, 0.42, 0.44]  # the folds, their mean, the pooled
    )


def test_prediction_says_what_was_not_computed(frame):
    gone = (frame["dataset"] == "cattle") & frame["metric"].astype(str).str.startswith("reliability")
    assert "not computed" not in texts(figures.load("prediction").draw(frame))
    assert "not computed" in texts(figures.load("prediction").draw(frame[~gone]))


def test_no_legend_lies_on_a_label_of_an_axis(frame, tmp_path):
    from bench.figures import _crossvalidation

    folds = pd.DataFrame({"trait": "milk", "fold": range(3), "ability": [0.1, 0.5, 0.3]})
    folds = folds.assign(ability_low=folds["ability"] - 0.2, ability_high=folds["ability"] + 0.2, over="pooled")
    animals = pd.DataFrame({"trait": "milk", "fixed": 0.0, "ebv": [0.1, 0.2], "y": [1.0, 2.0]})
    drawn = [figures.load("gram").draw(contaminated(tmp_path, "dsyrk")), _crossvalidation.draw(animals, folds, folds)]
    for figure in drawn:
        figure.canvas.draw()
        (legend,) = figure.legends
        named = [at.xaxis.label for at in figure.axes if at.get_xlabel()]
        assert named
        assert not any(legend.get_window_extent().overlaps(label.get_window_extent()) for label in named)
        assert not any(legend.get_window_extent().overlaps(at.get_window_extent()) for at in figure.axes)
    said = [text.get_text() for text in drawn[1].legends[0].get_texts()]
    assert sorted(said) == ["fold, 95 % interval", "pooled", "pooled, 95 % interval", "slope 1"]


def test_single_step_convergence_names_what_makes_no_passes(frame):
    figure = figures.load("single_step_convergence").draw(frame)
    assert "no passes: SS-H" in {at.get_title("right") for at in figure.axes}
    widths = {line.get_label(): line.get_linewidth() for line in figure.legends[0].get_lines()}
    assert widths["prior-PCG"] > widths["SS-H"]


def test_panels_of_dblup_prediction_share_one_scale_in_the_order_of_the_table(frame):
    figure, drawn = figures.load("dblup_prediction").draw(frame), tables.load("dblup_prediction").draw(frame)
    shown = [at for at in figure.axes if at.axison]
    assert len({at.get_xlim() for at in shown}) == 1
    names = list(dict.fromkeys(drawn["dataset"] + " · " + drawn["trait"]))
    assert [at.get_title("left").split("\n")[0] for at in shown] == names


def test_weights_have_one_scale_on_both_axes_and_no_point_at_an_edge(frame):
    at = figures.load("dblup_annotations").draw(frame).axes[0]
    assert at.get_xlim() == at.get_ylim()
    for line in at.lines:
        for values in line.get_data():
            assert at.get_xlim()[0] * 1.5 < min(values)
            assert max(values) < at.get_xlim()[1] / 1.5


def test_dblup_learned_has_the_markers_of_its_legend_and_says_that_lambda_falls(frame):
    figure = figures.load("dblup_learned").draw(frame)
    markers = [line for line in figure.legends[0].get_lines() if line.get_marker() != "None"]
    assert markers
    assert {line.get_markerfacecolor() for line in markers} == {"none"}
    assert figure.axes[2].get_xlabel() == "λ, falling from left to right"
    assert figure.axes[2].xaxis_inverted()


def test_prediction_has_no_panel_for_accuracy_where_no_breeding_values_are_known(frame):
    titles = lambda rows: [at.get_title("left") for at in figures.load("prediction").draw(rows).axes]  # noqa: E731
    assert "accuracy of EBVs" in titles(frame)
    assert titles(frame[frame["metric"] != "accuracy"]) == ["predictive ability", "reliability"]


def test_figures_stay_on_the_page_with_four_data_sets_and_six_kernels(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "SIZES", {f"a_long_name_{i}": (1000 + i, 2000) for i in range(4)})
    monkeypatch.setattr(synthetic, "SHARE", synthetic.SHARE | {("lut_5", "avx512"): 1.5, ("gpu_2bit", "sm_90"): 3.0})
    docs = [
        synthetic.products_document(d, *kernel, dtype, threads)
        for d in synthetic.SIZES
        for kernel in synthetic.SHARE
        for dtype in ("f8", "f4")
        for threads in (1, 2)
    ]
    frame = measurements(tmp_path, *docs)
    for name in ("roofline", "rates"):
        figure = figures.load(name).draw(frame)
        assert figure.get_size_inches()[1] < 9.5
        figure.canvas.draw()
        boxes = [legend.get_window_extent() for legend in figure.legends]
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_kernels_have_distinct_looks_and_new_ones_keep_theirs():
    looks = [style.look(name) for name in style.LOOKS]
    assert len({look.colour for look in looks}) == len({look.marker for look in looks}) == len(looks)
    assert len({style.look(name) for name in kernels.names()}) == len(kernels.names())
    assert style.look("lut_5") == style.look("lut_5")
    assert style.look("lut_5").colour not in {look.colour for look in looks}
    assert style.look("lut_5").marker not in {look.marker for look in looks}
    assert style.ordered(["zz", "five_codes", "aa", "dense_blas"]) == ["dense_blas", "five_codes", "aa", "zz"]


def test_an_unknown_figure_is_an_error_that_lists_the_known():
    with pytest.raises(BenchError, match="no figure 'roof'; there are convergence, dblup_annotations"):
        figures.load("roof")


def test_sources_of_a_figure_exist_and_hold_its_module():
    for name in figures.names():
        found = figures.sources(name)
        assert all(Path(file).exists() for file in found)
        assert any(file.endswith(f"figures/{name}.py") for file in found)


@pytest.mark.parametrize("kind", ["table", "figure"])
def test_captions_of_the_report_cover_every_name_and_are_one_paragraph(kind):
    jinja2, core = pytest.importorskip("jinja2"), pytest.importorskip("docutils.core")
    text = (Path(__file__).parents[2] / "workflow" / "report" / f"{kind}.rst").read_text()
    fallback = None
    for name in ["nothing_known", *(tables if kind == "table" else figures).names()]:
        wildcards = types.SimpleNamespace(wildcards=types.SimpleNamespace(name=name))
        rendered = jinja2.Environment().from_string(text).render(snakemake=wildcards)
        body = core.publish_parts(rendered, writer="html", settings_overrides={"halt_level": 2})["body"]
        assert body.count("<p>") == 2
        assert "<dl" not in body
        fallback = fallback or body.replace(name, "NAME")
        assert name == "nothing_known" or body.replace(name, "NAME") != fallback


def test_importing_a_figure_imports_neither_kernels_nor_the_clock():
    import subprocess

    code = (
        "import sys; from bench import figures, tables\n"
        "[figures.load(n) for n in figures.names()]; [tables.load(n) for n in tables.names()]\n"
        "print([m for m in sys.modules if m.startswith(('bench.kernels', 'bench.measure', 'bench.solvers'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_gram_draws_a_bar_of_the_rate_per_method_and_says_the_ratio(frame):
    figure = figures.load("gram").draw(frame)
    at = figure.axes[0]  # cattle, 1 thread
    n, m = synthetic.SIZES["cattle"]
    widths = sorted(patch.get_width() for patch in at.patches)
    assert widths == pytest.approx(sorted(n * (n + 1) / 2 * m / s / 1e9 for s in synthetic.GRAM_SECONDS.values()))
    assert {"16×", "1×", "0.8×"} <= {t.get_text() for t in at.texts}


def test_lanczos_reml_draws_both_errors_and_the_share(frame):
    figure = figures.load("lanczos_reml").draw(frame)
    estimate, time, share = figure.axes
    assert share.lines[0].get_ydata() == pytest.approx([50, 50])
    taken, alone = time.lines[0].get_ydata(), time.lines[1].get_ydata()
    np.testing.assert_allclose(taken, 2 * np.asarray(alone))
    spans = sorted(np.ptp(path.vertices[:, 1]) for bars in estimate.collections for path in bars.get_paths())
    factors = [1.96 * size / np.sqrt(n) for n in (1000, 4000) for size in (1, 5)]
    np.testing.assert_allclose(spans, sorted(4 * np.sinh(factor) for factor in factors), rtol=1e-6)


def contaminated(folder: Path, *names: str) -> pd.DataFrame:
    """A whole run in which the sessions of some kernels, or methods, were contaminated."""
    docs = synthetic.documents()
    for doc in docs.values():
        if {doc.identity.get("kernel"), doc.identity.get("method")} & set(names):
            doc.provenance = doc.provenance | {"contaminated": "it was busy"}
    return measurements(folder, *docs.values())


@pytest.mark.parametrize("name", ["rates", "roofline", "scaling", "solves", "gram"])
def test_contaminated_sessions_look_different_and_are_in_the_legend(frame, tmp_path, name):
    assert style.DISTURBED not in texts(figures.load(name).draw(frame))
    figure = figures.load(name).draw(contaminated(tmp_path, "decompress", "dsyrk"))
    assert style.DISTURBED in texts(figure)
    hatched = [patch for at in figure.axes for patch in at.patches if patch.get_hatch()]
    ringed = [line for at in figure.axes for line in at.lines if line.get_markeredgecolor() == style.RING["mec"]]
    assert bool(hatched) == (name in ("rates", "gram"))
    assert bool(ringed) == (name not in ("rates", "gram"))
    if name == "rates":
        from matplotlib.colors import to_hex

        filled = {to_hex(patch.get_facecolor()) for patch in hatched if patch.get_facecolor()[3]}
        assert filled == {style.look("decompress").colour.lower()}


def test_roofline_places_every_kernel_k_and_direction(frame):
    figure = figures.load("roofline").draw(frame)
    for at in figure.axes[:8]:
        for kernel in {kernel for kernel, _ in synthetic.SHARE}:
            found = curves(at, kernel)
            assert [len(line) for line in found] == [3, 3], kernel  # Z V and Z′U, each with three k
            assert all(np.isfinite(line).all() for line in found)


def test_roofline_has_the_peak_of_each_instruction_set_at_each_number_of_threads(frame):
    figure = figures.load("roofline").draw(frame)
    for at, peak in zip(figure.axes[:4], (60.0, 120.0, 120.0, 240.0), strict=True):  # f8 and f4, on 1 and 2 threads
        assert {t.get_text() for t in at.texts} >= {"avx2", "scalar"}
        levels = {round(float(line.get_ydata()[0]), 6) for line in at.lines if len(set(line.get_ydata())) == 1}
        assert {peak / 2, peak / 4} <= levels
