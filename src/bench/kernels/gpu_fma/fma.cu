// Z V or Z'U by floating-point multiply-adds: 2-bit rows, along which the sums run (_cuda/rows.cu), become numbers in
// registers. The way of Freudenberg et al. (2023), doi:10.3389/fgene.2023.1220408.
//
// A block of 256 threads makes 1536 outputs of COLUMNS columns; a thread has six of them, so that an input that it reads
// from shared memory, where all threads read the same, serves six multiply-adds: such a read of a double takes as long as
// four. Genotypes and inputs come in chunks of 64 inputs, while the chunk before is computed. A sum's order is that of the
// inputs, in each of the splits.
// Macros, of which each set is a compilation of its own: COLUMNS, REAL_BYTES (8: float64, 4: float32), MISSING (1: a missing
// call counts 1, all others 0).
#include "device.h"

#if REAL_BYTES == 8
using Real = double;
constexpr u32 ONE = 0x3FF0, TWO = 0x4000;  // the upper halves of the upper words
#else
using Real = float;
constexpr u32 ONE = 0x3F80, TWO = 0x4000;
#endif
struct alignas(16) Words {
    u32 of[4];
};  // of a row and chunk
constexpr int MINE = 6, ROWS = 256 * MINE, CHUNK = 64, STAGES = 2;
constexpr int GENOTYPE_BYTES = ROWS * sizeof(Words);
constexpr int VECTOR = COLUMNS == 1 ? 1 : 16 / REAL_BYTES;                    // inputs read at once
constexpr int PITCH = (COLUMNS + VECTOR - 1) / VECTOR * VECTOR;          // of the inputs in shared memory
constexpr int STAGE_BYTES = GENOTYPE_BYTES + CHUNK * PITCH * REAL_BYTES;

struct alignas(VECTOR * REAL_BYTES) Inputs {
    Real of[VECTOR];
};

// Two dosages, in the lowest bits of each half, as numbers: their upper 16 bits are looked up, the others are 0.
DEVICE void numbers(u32 pair, Real& low, Real& high) {
    // Tables of bytes for dosage 0, 1, 2 and for a missing call.
    constexpr u32 upper = MISSING ? (ONE >> 8) << 24 : (ONE >> 8) << 8 | (TWO >> 8) << 16;
    constexpr u32 lower = MISSING ? (ONE & 0xff) << 24 : (ONE & 0xff) << 8 | (TWO & 0xff) << 16;
    const u32 selectors = pair * 0x1100 + 0x04000400;  // of bytes: d, 4 + d, 0, 0; the tables have 0 for d = 0
    const u32 a = __byte_perm(upper, lower, selectors), b = __byte_perm(upper, lower, selectors >> 16);
#if REAL_BYTES == 8
    low = __hiloint2double(int(a), 0), high = __hiloint2double(int(b), 0);
#else
    low = __uint_as_float(a), high = __uint_as_float(b);
#endif
}

DEVICE void start_copies(char* stage, const u8* rows, i64 pitch, const Real* X, i64 k, i64 first, i64 inputs, i64 chunk) {
#pragma unroll
    for (int i = 0; i < MINE; i++) {
        const int row = threadIdx.x + 256 * i;
        copy_async((Words*)stage + row, rows + row * pitch + chunk * sizeof(Words));
    }
    for (int e = threadIdx.x; e < CHUNK * COLUMNS; e += 256) {
        const int d = e / COLUMNS, c = e % COLUMNS;
        const i64 input = chunk * CHUNK + d;
        copy_async_or_zero<REAL_BYTES>(stage + GENOTYPE_BYTES + (d * PITCH + c) * REAL_BYTES, X + input * k + first + c,
                                  input < inputs);
    }
}

DEVICE void add(Real (&sums)[MINE][COLUMNS], const Real (&dosages)[MINE], const Real* x) {
#pragma unroll
    for (int v = 0; v < PITCH / VECTOR; v++) {
        const Inputs in = ((const Inputs*)x)[v];
#pragma unroll
        for (int i = 0; i < VECTOR && v * VECTOR + i < COLUMNS; i++)
#pragma unroll
            for (int r = 0; r < MINE; r++) sums[r][v * VECTOR + i] += dosages[r] * in.of[i];
    }
}

// Add the products of a chunk.
DEVICE void multiply(Real (&sums)[MINE][COLUMNS], const char* stage) {
    const Real* x = (const Real*)(stage + GENOTYPE_BYTES);
    Words words[MINE];
#pragma unroll
    for (int r = 0; r < MINE; r++) words[r] = ((const Words*)stage)[256 * r + threadIdx.x];
#pragma unroll 1
    for (int w = 0; w < 4; w++, x += 16 * PITCH) {
#pragma unroll 2
        for (int t = 0; t < 8; t++) {
            Real low[MINE], high[MINE];
#pragma unroll
            for (int r = 0; r < MINE; r++) {
                numbers(words[r].of[0] & 0x00030003, low[r], high[r]);
                words[r].of[0] >>= 2;
            }
            add(sums, low, x + t * PITCH);
            add(sums, high, x + (t + 8) * PITCH);
        }
#pragma unroll
        for (int r = 0; r < MINE; r++)  // the next word takes the place of this one: registers have no index
#pragma unroll
            for (int i = 0; i < 3; i++) words[r].of[i] = words[r].of[i + 1];
    }
}

// Columns first … first + COLUMNS of X (inputs, k), times `outputs` rows of codes, which are padded to blocks and chunks,
// into columns to_first … of out (outputs, to_pitch). Blocks 0 … blocks − 1 take the first per_split chunks of inputs, the
// next `blocks` the next ones, and write to the next (outputs, to_pitch) of out.
extern "C" __global__ void __launch_bounds__(256, 1)
    product(const u8* codes, i64 pitch, const Real* X, i64 k, i64 first, i64 inputs, i64 outputs, i64 blocks,
            i64 chunks, i64 per_split, Real* out, i64 to_pitch, i64 to_first) {
    SHARED(shared);
    const i64 block = blockIdx.x % blocks, split = blockIdx.x / blocks, begin = split * per_split;
    const i64 end = begin + per_split < chunks ? begin + per_split : chunks;
    const u8* rows = codes + block * ROWS * pitch;
    Real sums[MINE][COLUMNS];
#pragma unroll
    for (int r = 0; r < MINE; r++)
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) sums[r][c] = 0;
    if (begin < end) start_copies(shared, rows, pitch, X, k, first, inputs, begin);
    commit_copies();
    for (i64 chunk = begin; chunk < end; chunk++) {
        const int turn = int(chunk - begin) % STAGES;
        if (chunk + 1 < end) start_copies(shared + (1 - turn) * STAGE_BYTES, rows, pitch, X, k, first, inputs, chunk + 1);
        commit_copies();  // an empty group as well: the groups are counted
        wait_for_copies<1>();
        __syncthreads();  // everybody's copies of this chunk are there
        multiply(sums, shared + turn * STAGE_BYTES);
        __syncthreads();  // nobody reads the stage that is filled next
    }
    out += split * outputs * to_pitch;
#pragma unroll
    for (int r = 0; r < MINE; r++) {
        const i64 row = block * ROWS + 256 * r + threadIdx.x;
        if (row < outputs)
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) out[row * to_pitch + to_first + c] = sums[r][c];
    }
}

// Columns first … of out (outputs, k) = the sums over the splits, in their order, of parts (splits, outputs, COLUMNS).
extern "C" __global__ void add_splits(const Real* parts, i64 splits, i64 outputs, Real* out, i64 k, i64 first) {
    const i64 thread = i64(blockIdx.x) * blockDim.x + threadIdx.x;
    if (thread >= outputs * COLUMNS) return;
    Real sum = 0;
    for (i64 s = 0; s < splits; s++) sum += parts[s * outputs * COLUMNS + thread];
    out[thread / COLUMNS * k + first + thread % COLUMNS] = sum;
}
