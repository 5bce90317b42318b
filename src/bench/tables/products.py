"""What each kernel reached in Z V and Z′U."""

from __future__ import annotations

import pandas as pd

from bench.tables import _cells

TITLE = "Products with the genotype matrix"
CAPTION = (
    "Time of one product of the genotype matrix Z (n individuals × m SNPs) with k columns: Z V, or Z′U. The time "
    "is the median of all repeats (of several processes, the median of their medians) with its 95 % bootstrap "
    "interval, after one warm-up call; min is the fastest repeat. The rate counts n·m·k multiply-adds per second, "
    "whatever a kernel really executes, so that a share of the FMA peak above 100 % is possible for kernels that "
    "look sums up instead of adding. The FMA peak and the read bandwidth were measured in the same session at the "
    "same number of threads; what disturbs a session lowers them, so the rates of a contaminated one are compared "
    "with the best that any session of the run, or the job limits, reached at no more threads. The share of the "
    "bandwidth is that of reading the matrix once as the kernel stores it. Speed-ups are ratios of median times: "
    "against float64 BLAS on the dense matrix (its fastest library) and against decompress (its fastest target of "
    "the same dtype); sessions run one after the other, so differences of a few per cent belong to the machine "
    "(see the table of pairs). Within each block the fastest comes first."
)
ORDER = ["dataset", "dtype", "threads", "k", "direction", "time", "kernel", "target"]


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per data set, n, m, dtype, threads, k, direction, kernel and target. Times in ms, rates in G/s."""
    cells = _cells.cells(frame, "products").sort_values(ORDER, ignore_index=True)
    drawn = cells[["dataset", "n", "m", "dtype", "threads", "k", "direction", "kernel", "target"]].copy()
    for end in ("", "_low", "_high"):
        drawn[f"time_ms{end}"] = 1e3 * cells[f"time{end}"]
    drawn["min_ms"] = 1e3 * cells["time_min"]
    drawn["rate"] = cells["rate"] / 1e9
    drawn["fma_share"] = cells["rate"] / cells["fma_peak"]
    drawn["read_share"] = cells["bytes_read"] / cells["time"] / cells["read_peak"]
    _cells.spread(drawn, "blas_speedup", _cells.against_blas(cells))
    _cells.spread(drawn, "decompress_speedup", _cells.against_decompress(cells))
    drawn["repeats"] = cells["repeats"]
    drawn["contaminated"] = cells["contaminated"]
    return drawn
