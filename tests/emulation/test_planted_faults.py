"""Faults planted in the 2-bit kernel's sources must be found by the checks that the right sources pass.

Each is one that a hand might make: a barrier or a wait forgotten, a place or a shift that is off by one.
"""

from __future__ import annotations

from pathlib import Path

import compiler
import pytest
from case import Case

from bench.kernels import gpu_2bit
from bench.kernels._cuda import nvrtc
from bench.kernels.gpu_2bit.matrix import GpuMatrix

FOLDER = Path(gpu_2bit.__file__).parent
PRODUCT, DIGITS, PACK = FOLDER / "product.cu", FOLDER / "digits.cu", nvrtc.HERE / "panels.cu"
PANELS = nvrtc.HERE / "panels.h"

FAULTS = {
    "no barrier before a stage is read": (PRODUCT, "__syncthreads();  // everybody's", "// everybody's"),
    "no wait for the copies": (PRODUCT, "wait_for_copies<STAGES - 2>();", "wait_for_copies<STAGES - 1>();"),
    "the stage that is read is filled": (PRODUCT, "(stage + STAGES - 1) % STAGES", "stage"),
    "the sums overwrite stages that are still read": (
        PRODUCT, "    wait_for_copies<0>();\n    __syncthreads();\n    write", "    wait_for_copies<0>();\n    write",
    ),
    "the warps share a patch": (PRODUCT, "(int*)shared + warp * 16 * PITCH", "(int*)shared"),
    "no warp barrier between tiles": (PRODUCT, "        }\n        __syncwarp();\n    }\n}", "        }\n    }\n}"),
    "the factor 4^t stays": (PRODUCT, "TRANSPOSED ? 0 : 2 * tile;", "0;"),
    "rows of Z V are exchanged": (PRODUCT, "4 * (r / 8) + tile", "4 * (r / 8) + (tile ^ 1)"),
    "the second half of a Z'U word is the first": (PRODUCT, "2 * (i / 2)) & 0x03030303u", "0) & 0x03030303u"),
    "bytes of Z V are exchanged": (PRODUCT, "i % 2 ? 0x7531 : 0x6420", "i % 2 ? 0x6420 : 0x7531"),
    "another swizzle writes than reads": (PRODUCT, "16 * swizzled<PER_ROW>(row, chunk);", "16 * chunk;"),
    "the last chunk is left out": (PRODUCT, "chunk < end; chunk++", "chunk < end - (end > begin + 1); chunk++"),
    "splits overlap": (PRODUCT, "(blockIdx.x / blocks) * per_split;", "(blockIdx.x / blocks) * (per_split - 1);"),
    "rows past the end are written": (PRODUCT, "if (row >= to.rows) continue;", ""),
    "digits in another order": (DIGITS, "2 * quarter + (byte & 1)", "2 * quarter + (byte & 1 ^ 1)"),
    "digits without a balance": (DIGITS, "q = (q - digit) >> 8;", "q = q >> 8;"),
    "magnitudes keep their sign": (DIGITS, "& ~(1ull << 63)", ""),
    "a missing call counts 3": (PANELS, "codes ^ (missing | missing << 1)", "codes"),
    "what pads a byte of the .bed counts": (PANELS, "left < 16 ? codes &", "left < 0 ? codes &"),
    "codes 1 and 2 are exchanged": (PACK, "(l << 1) | (h ^ l)", "(h << 1) | (h ^ l)"),
}  # fmt: skip


def check(gpu) -> None:
    """Both directions, ragged, with missing calls, in splits, as the copies come and as the warps run."""
    for lazy, seed, splits in ((False, 5, 2), (True, 5, 2), (True, 0, 1)):
        gpu.lazy, gpu.seed = lazy, seed
        case = Case.of(515, 1100, missing=0.05)
        Z = GpuMatrix(case.packed, dtype="f8", target="sm_90", threads=1, splits=splits)
        assert Z.missing is not None
        case.check_integers(Z, 2)
        assert max(case.errors(Z, 2)) < 1e-15

    assert GpuMatrix(Case.of(21, 9).packed, dtype="f8", target="sm_90", threads=1).missing is None


def test_the_right_sources_pass(gpu):
    check(gpu)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(gpu, monkeypatch, fault):
    file, right, wrong = FAULTS[fault]
    assert file.read_text().count(right) == 1

    def planted(source, *rest, **options):
        text = source.read_text()
        if source == file:
            text = text.replace(right, wrong)
        if file == PANELS:
            text = text.replace('#include "panels.h"', file.read_text().replace(right, wrong))
        return compiler.compiled(source, *rest, **options, text=text)

    monkeypatch.setattr(nvrtc, "compiled", planted)
    with pytest.raises(AssertionError):
        check(gpu)
