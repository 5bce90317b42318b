"""gpu.json → the table of measurements as parquet and CSV, tables and the figure: there, or elsewhere from a copy."""

from __future__ import annotations

from pathlib import Path

from bench import collect, figures, tables
from bench.gpu import figure
from bench.gpu import tables as own
from bench.gpu.session import DOCUMENT
from bench.record import atomic_path
from bench.tables import _page, refused


def write(folder: Path) -> str:
    """Write all that is drawn from `folder`/gpu.json beside it; the bars as lines. BenchError: no such file."""
    frame = collect.collect([folder / DOCUMENT])
    collect.write(frame, folder / "measurements.parquet")
    with atomic_path(folder / "measurements.csv") as tmp:
        frame.dropna(axis="columns", how="all").to_csv(tmp, index=False, lineterminator="\n")
    bars = own.bars(frame)
    tables.save(bars, "gpu_bars", own.BARS_TITLE, own.BARS_CAPTION, folder)
    tables.save(own.times(frame), "gpu_times", own.TIMES_TITLE, own.TIMES_CAPTION, folder)
    tables.save(own.limits(frame), "gpu_limits", own.LIMITS_TITLE, own.LIMITS_CAPTION, folder)
    tables.save(refused.draw(frame), "gpu_refused", refused.TITLE, refused.CAPTION, folder)
    figures.save(figure.draw(frame), "gpu_roofline", folder)
    return "\n".join(_page.to_lines(bars))
