// The rate of Hopper's wgmma, as rates.cu measures that of mma.sync. TILES: of 8 columns.
#include "device.h"
#ifndef BENCH_EMULATED
#include "wgmma.h"
#endif

// As a product does it: four times 64 × 8 TILES sums of a warp group in a row.
extern "C" __global__ void __launch_bounds__(256, 1) wgmma_rate(i64 rounds, i64* out) {
    SHARED(shared);
    for (int i = threadIdx.x; i < TILES * 8 * 128; i += 256) shared[i] = 1;
    fence_for_wgmma();
    __syncthreads();
    const u32 a[4] = {0x01010101u, 0x01010101u, 0x01010101u, 0x01010101u};
    int c[4][TILES][4] = {};
    for (i64 round = 0; round < rounds; round++) {
        begin_wgmma();
#pragma unroll
        for (int i = 0; i < 4; i++) wgmma(c[i], a, wgmma_descriptor(shared));
        end_wgmma();
    }
    i64 sum = 0;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int t = 0; t < TILES; t++)
#pragma unroll
            for (int j = 0; j < 4; j++) sum += c[i][t][j];
    out[i64(blockIdx.x) * blockDim.x + threadIdx.x] = sum;
}
