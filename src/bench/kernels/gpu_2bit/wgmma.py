"""The header with a product's wgmma instruction: it has as many operands as the product has columns of digits."""

from __future__ import annotations

TILES = (1, 2, 3, 4, 6, 8, 10)  # of 8 columns, that int8 wgmma takes of those that a product may have


def header(tiles: int) -> str:
    """wgmma.h: `wgmma(c, a, b)` adds a (64 × 32 over the four warps) times b (32 × 8·tiles, a descriptor) to c."""
    c = ", ".join(f"%{i}" for i in range(4 * tiles))
    a = ", ".join(f"%{4 * tiles + i}" for i in range(4))
    sums = ", ".join(f'"+r"(c[{t}][{i}])' for t in range(tiles) for i in range(4))
    return f"""#pragma once
#include "device.h"
DEVICE void wgmma(int (&c)[{tiles}][4], const u32 (&a)[4], u64 b) {{
    asm volatile("wgmma.mma_async.sync.aligned.m64n{8 * tiles}k32.s32.u8.s8 {{{c}}}, {{{a}}}, %{4 * tiles + 4}, 1;"
                 : {sums}
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}}
"""
