"""The machine code that a run will need, compiled by several threads while the GPU would otherwise wait."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product as combinations

from bench.gpu.session import Session
from bench.kernels._cuda import nvrtc
from bench.kernels._cuda.gpu import Gpu
from bench.kernels.gpu_2bit import SLICES
from bench.kernels.gpu_2bit.geometry import Variant, groups, variant
from bench.kernels.gpu_2bit.sums import CALLED_DOSAGES, DOSAGES, HERE, MISSING_CALLS
from bench.machine import this_machine


def variants(session: Session, devices: list[Gpu]) -> list[tuple[str, Variant]]:
    """(architecture, compilation) of every product that is asked for, each once, what is checked first."""
    asked = session.settings
    slices = dict.fromkeys((*asked.checked_slices, *asked.slices, SLICES))
    columns = dict.fromkeys((*asked.checked_columns, *asked.columns))
    decodes = DOSAGES, CALLED_DOSAGES, MISSING_CALLS
    found: dict[tuple[str, Variant], None] = {}
    for s, k, decode, transposed, gpu in combinations(slices, columns, decodes, (False, True), devices):
        if decode == MISSING_CALLS and (s, k) != (SLICES, asked.columns[0]):
            continue  # the pass over missing calls is timed with these alone
        for _, width in groups(k, s):
            how = variant(gpu.arch, width * s, transposed=transposed, decode=decode)
            found[gpu.arch, how] = None
    return list(found)


def compile_all(session: Session, devices: list[Gpu]) -> None:
    """Fill the cache of compilations. What cannot be compiled says so where it is used."""
    wanted = variants(session, devices)

    def one(item: tuple[str, Variant]) -> None:
        arch, how = item
        if session.left() > 0:
            nvrtc.compiled(HERE / "product.cu", arch, how.macros, how.headers)

    with ThreadPoolExecutor(this_machine().cores) as pool:
        errors = [future.exception() for future in [pool.submit(one, item) for item in wanted]]
    session.say(f"  {len(wanted)} compilations, {sum(error is not None for error in errors)} of them failed")
