// What a GPU does at the most of each thing that bounds the kernels. The operands are ones, so that the result says
// whether all of it was done: every thread writes it.
#include "device.h"

#ifdef BENCH_EMULATED
DEVICE void and_popc(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {  // for operands of which all bits are set
    for (int i = 0; i < 4; i++) c[i] += 4 * (__popc(a[i] & b0) + __popc(a[i] & b1));
}
#else
// c (16 × 8) += the number of bits that a row of a (16 × 256 bits) and a column of b (256 × 8) share.
DEVICE void and_popc(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

constexpr int CHAINS = 8;  // of sums, so that none waits for itself

extern "C" __global__ void mma_rate(i64 rounds, i64* out) {
    const u32 a[4] = {0x01010101u, 0x01010101u, 0x01010101u, 0x01010101u};
    int c[CHAINS][4] = {};
    for (i64 round = 0; round < rounds; round++)
#pragma unroll
        for (int i = 0; i < CHAINS; i++) multiply_add(c[i], a, 0x01010101u, 0x01010101u);
    i64 sum = 0;
#pragma unroll
    for (int i = 0; i < CHAINS; i++) sum += i64(c[i][0]) + c[i][1] + c[i][2] + c[i][3];
    out[i64(blockIdx.x) * blockDim.x + threadIdx.x] = sum;
}

extern "C" __global__ void and_popc_rate(i64 rounds, i64* out) {
    const u32 a[4] = {~0u, ~0u, ~0u, ~0u};
    int c[CHAINS][4] = {};
    for (i64 round = 0; round < rounds; round++)
#pragma unroll
        for (int i = 0; i < CHAINS; i++) and_popc(c[i], a, ~0u, ~0u);
    i64 sum = 0;
#pragma unroll
    for (int i = 0; i < CHAINS; i++) sum += i64(c[i][0]) + c[i][1] + c[i][2] + c[i][3];
    out[i64(blockIdx.x) * blockDim.x + threadIdx.x] = sum;
}

// Integers to doubles. The low words of the doubles 1, 2, … are zeros up to 2^20, so the sum of both words is of the high.
extern "C" __global__ void conversion_rate(i64 rounds, i64* out) {
    u32 bits[CHAINS] = {};
    for (i64 round = 0; round < rounds; round++)
#pragma unroll
        for (int i = 0; i < CHAINS; i++) {
            const u64 word = u64(__double_as_longlong(double(int(round) + i)));
            bits[i] ^= u32(word >> 32) ^ u32(word);
        }
    u32 all = 0;
#pragma unroll
    for (int i = 0; i < CHAINS; i++) all ^= bits[i];
    out[i64(blockIdx.x) * blockDim.x + threadIdx.x] = all;
}

// x → 1 · x + one: a multiplication and an addition in one; `one` is an argument so that nothing is known beforehand.
extern "C" __global__ void fma_rate(i64 rounds, i64 one, i64* out) {
    const double unit = double(one);
    double x[CHAINS] = {};
    for (i64 round = 0; round < rounds; round++)
#pragma unroll
        for (int i = 0; i < CHAINS; i++) x[i] = fma(x[i], unit, unit);
    double sum = 0;
#pragma unroll
    for (int i = 0; i < CHAINS; i++) sum += x[i];
    out[i64(blockIdx.x) * blockDim.x + threadIdx.x] = i64(sum);
}

struct alignas(16) Sixteen {
    u64 low, high;
};
// Read `count` times 16 bytes, four loads in flight; *out becomes the exclusive or of all words.
extern "C" __global__ void read_words(const Sixteen* words, i64 count, u64* out) {
    const i64 step = i64(gridDim.x) * blockDim.x;
    u64 found = 0;
    for (i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += 4 * step) {
        Sixteen four[4] = {};
#pragma unroll
        for (int t = 0; t < 4; t++)
            if (i + t * step < count) four[t] = words[i + t * step];
#pragma unroll
        for (int t = 0; t < 4; t++) found ^= four[t].low ^ four[t].high;
    }
    out[i64(blockIdx.x) * blockDim.x + threadIdx.x] = found;
}
