// Z V and Z'U, exact, on the tensor cores: 2-bit dosages times the base-256 digits of the inputs (digits.cu), in int32.
//
// A block of 256 threads makes 512 outputs, 64 a warp, of all columns of digits, TILES times 8 of them. It reads the
// genotypes and the digits in chunks of CHUNK inputs, STAGES of them in flight. No genotype is unpacked to memory:
// a matrix load brings packed words to the lanes that need them, and a shift and a mask make operands of them.
//   Z V : the individuals of a word are outputs. The transposed load gives a lane 8 individuals × 8 SNPs; operand t is
//         word & 3 << 2t, which is 4^t times the dosages of individuals t, t + 4, …: undone, exactly, at the end.
//   Z'U : the individuals of a word are inputs: operands are word >> 2t & 3.
// Sums are integers, so neither the order nor the number of blocks that share an output changes a bit.
// Macros, of which each set is a compilation of its own: TILES, CHUNK, STAGES, TRANSPOSED (1: Z'U), DECODE, WGMMA.
#include "digits.h"
#include "panels.h"
#if WGMMA && !defined(BENCH_EMULATED)
#include "wgmma.h"  // made by wgmma.py
#endif

constexpr int WARPS = 8, WARP_ROWS = 64, ROWS = WARPS * WARP_ROWS, COLUMNS = 8 * TILES;
constexpr int GENOTYPE_BYTES = TRANSPOSED ? ROWS * (CHUNK / 4) : CHUNK * ROW;
constexpr int STAGE_BYTES = GENOTYPE_BYTES + COLUMNS * CHUNK;

// Where 16-byte chunk `chunk` of a row of CHUNKS lies, so that eight consecutive rows are read from all banks at once.
template <int CHUNKS>
DEVICE int swizzled(int row, int chunk) {
    if (CHUNKS >= 8) return chunk ^ (row & 7);
    if (CHUNKS == 4) return chunk ^ (row >> 1 & 3);
    if (CHUNKS == 2) return chunk ^ (row >> 2 & 1);
    return chunk;
}

// Byte of the digits' tile: panels of 128 inputs, in each a row of 128 bytes a column. wgmma wants the same order.
DEVICE int digits_at(int column, int chunk) {
    return (chunk >> 3) * (COLUMNS * 128) + column * 128 + (swizzled<8>(column, chunk & 7) << 4);
}

// What a thread copies of each chunk. Its rows advance by a multiple of 8, so that its place in a row is always one.
struct Copies {
    static constexpr int PER_ROW = TRANSPOSED ? CHUNK / 64 : ROW / 16;      // 16-byte chunks
    static constexpr int ROW_BYTES = TRANSPOSED ? CHUNK / 4 : ROW;          // in shared memory
    static constexpr int GENOTYPE_ROWS = TRANSPOSED ? ROWS : CHUNK, GENOTYPE_STEP = 256 / PER_ROW;
    static constexpr int PER_COLUMN = CHUNK / 16, COLUMN_STEP = 256 / PER_COLUMN;
    const u8* genotypes;
    const s8* digits;
    i64 panel, padded;
    int genotype_place, digit_place, column;

    DEVICE Copies(const u8* panels, i64 panel, const s8* all_digits, i64 padded, i64 block)
        : panel(panel), padded(padded) {
        int row = threadIdx.x / PER_ROW, chunk = threadIdx.x % PER_ROW;
        genotypes = panels + (TRANSPOSED ? block * ROWS * ROW : block * panel) + row * ROW + 16 * chunk;
        genotype_place = row * ROW_BYTES + 16 * swizzled<PER_ROW>(row, chunk);
        column = threadIdx.x / PER_COLUMN, chunk = threadIdx.x % PER_COLUMN;
        digits = all_digits + column * padded + 16 * chunk;
        digit_place = GENOTYPE_BYTES + digits_at(column, chunk);
    }
    DEVICE void start(char* stage, i64 number) const {
        constexpr int A_PANEL = PANEL / CHUNK;  // chunks, in Z'U
        const u8* from = genotypes + (TRANSPOSED ? number / A_PANEL * panel + number % A_PANEL * (CHUNK / 4)
                                                 : number * (CHUNK * ROW));
#pragma unroll
        for (int i = 0; i < GENOTYPE_ROWS / GENOTYPE_STEP; i++)
            copy_async(stage + genotype_place + i * GENOTYPE_STEP * ROW_BYTES, from + i * GENOTYPE_STEP * ROW);
        const s8* next = digits + number * CHUNK;
#pragma unroll
        for (int i = 0; i < (COLUMNS + COLUMN_STEP - 1) / COLUMN_STEP; i++, next += COLUMN_STEP * padded)
            if ((i + 1) * COLUMN_STEP <= COLUMNS || column + i * COLUMN_STEP < COLUMNS)
                copy_async(stage + digit_place + i * COLUMN_STEP * 128, next);
    }
};

// The operands of a warp's four tiles of 16 outputs and 32 inputs, the step-th of a chunk.
DEVICE void load_genotypes(u32 (&operand)[4][4], const char* genotypes, int step, int warp, int lane) {
    if (TRANSPOSED) {
        constexpr int PER_ROW = CHUNK / 64;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            u32 words[4];
            const int row = WARP_ROWS * warp + 32 * half + lane;
            load_matrices(words, genotypes + row * (CHUNK / 4) + 16 * swizzled<PER_ROW>(row, step / 2));
#pragma unroll
            for (int w = 0; w < 4; w++) words[w] = decoded<DECODE>(words[w]);
#pragma unroll
            for (int tile = 0; tile < 2; tile++)
#pragma unroll
                for (int i = 0; i < 4; i++)  // rows 0–7 and 8–15 of the first 16 inputs, and of the others
                    operand[2 * half + tile][i] =
                        words[2 * tile + i % 2] >> (4 * (step % 2) + 2 * (i / 2)) & 0x03030303u;
        }
        return;
    }
    u32 words[4], bytes[4];
    const int row = 32 * step + lane;
    load_matrices_transposed(words, genotypes + row * ROW + 16 * swizzled<8>(row, warp));
#pragma unroll
    for (int i = 0; i < 4; i++) {  // 8 individuals × 2 SNPs → 4 individuals × 4 SNPs
        bytes[i] = __byte_perm(words[i & 2], words[(i & 2) + 1], i % 2 ? 0x7531 : 0x6420);
        bytes[i] = decoded<DECODE>(bytes[i]);
    }
#pragma unroll
    for (int tile = 0; tile < 4; tile++)
#pragma unroll
        for (int i = 0; i < 4; i++) operand[tile][i] = bytes[i] & 0x03030303u << 2 * tile;
}

DEVICE void multiply(int (&sums)[4][TILES][4], u32 (&operand)[4][4], const char* digits, int step, int lane) {
#if WGMMA
    begin_wgmma(sums, operand);
#pragma unroll
    for (int tile = 0; tile < 4; tile++)
        wgmma(sums[tile], operand[tile], wgmma_descriptor(digits + step / 4 * (COLUMNS * 128) + step % 4 * 32));
    end_wgmma(sums);
#else
    const int chunk = 2 * step + (lane >> 3 & 1);
#pragma unroll
    for (int pair = 0; pair + 1 < TILES; pair += 2) {
        u32 b[4];
        load_matrices(b, digits + digits_at(8 * pair + (lane & 7) + 8 * (lane >> 4), chunk));
#pragma unroll
        for (int tile = 0; tile < 4; tile++) multiply_add(sums[tile][pair], operand[tile], b[0], b[1]);
#pragma unroll
        for (int tile = 0; tile < 4; tile++) multiply_add(sums[tile][pair + 1], operand[tile], b[2], b[3]);
    }
    if (TILES % 2) {
        u32 b[2];
        load_matrices(b, digits + digits_at(8 * (TILES - 1) + (lane & 7), chunk));
#pragma unroll
        for (int tile = 0; tile < 4; tile++) multiply_add(sums[tile][TILES - 1], operand[tile], b[0], b[1]);
    }
#endif
}

// Where an output goes: added to 96-bit integers (total, of width columns), which several blocks, panels or devices may
// share, or, where `total` is null, as a double into out.
struct Destination {
    i64 rows;
    int width, slices;
    i64* total;
    const u64* largest;
    double* out;
    i64 out_pitch, first;
};

// A warp's sums of the digits → outputs, 16 rows at a time through its own part of shared memory.
DEVICE void write(const int (&sums)[4][TILES][4], char* shared, i64 first_row, const Destination& to, int warp,
                  int lane) {
    constexpr int PITCH = COLUMNS + 2;
    int* patch = (int*)shared + warp * 16 * PITCH;
#pragma unroll
    for (int tile = 0; tile < 4; tile++) {
        const int shift = TRANSPOSED ? 0 : 2 * tile;
#pragma unroll
        for (int t = 0; t < TILES; t++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                patch[(lane / 4 + 8 * (i / 2)) * PITCH + 8 * t + 2 * (lane % 4) + i % 2] = sums[tile][t][i] >> shift;
        __syncwarp();
        for (int x = lane; x < 16 * to.width; x += 32) {
            const int r = x / to.width, c = x % to.width;
            i64 high = 0, low = 0;
            for (int s = 0; s < to.slices; s++) {
                const int digit = patch[r * PITCH + c * to.slices + s];
                if (s < to.slices - 4)
                    high = high * 256 + digit;
                else
                    low = low * 256 + digit;
            }
            const i64 row =
                first_row + WARP_ROWS * warp + (TRANSPOSED ? 16 * tile + r : 8 * (r % 8) + 4 * (r / 8) + tile);
            if (row >= to.rows) continue;
            if (to.total) {
                atomicAdd((u64*)to.total + 2 * (row * to.width + c), u64(high));
                atomicAdd((u64*)to.total + 2 * (row * to.width + c) + 1, u64(low));
            } else {
                to.out[row * to.out_pitch + to.first + c] =
                    rounded(high, low, exponent_of(to.largest[c], to.slices));
            }
        }
        __syncwarp();
    }
}

// Blocks 0 … blocks − 1 take the first per_split chunks of inputs, the next `blocks` the next ones, and so on.
extern "C" __global__ void __launch_bounds__(256, 1)
    product(const u8* panels, i64 panel, const s8* digits, i64 padded, i64 blocks, i64 chunks, i64 per_split,
            i64 rows, i64 width, i64 slices, i64* total, const u64* largest, double* out, i64 out_pitch, i64 first) {
    SHARED(shared);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const i64 block = blockIdx.x % blocks, begin = i64(blockIdx.x / blocks) * per_split;
    const i64 end = begin + per_split < chunks ? begin + per_split : chunks;
    const Copies copies(panels, panel, digits, padded, block);
    int sums[4][TILES][4];
#pragma unroll
    for (int tile = 0; tile < 4; tile++)
#pragma unroll
        for (int t = 0; t < TILES; t++)
#pragma unroll
            for (int i = 0; i < 4; i++) sums[tile][t][i] = 0;
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (begin + s < end) copies.start(shared + s * STAGE_BYTES, begin + s);
        commit_copies();  // an empty group as well: the groups are counted
    }
    int stage = 0;
    for (i64 chunk = begin; chunk < end; chunk++) {
        wait_for_copies<STAGES - 2>();
        if (WGMMA) fence_for_wgmma();
        __syncthreads();  // everybody's copies of this chunk are there, and nobody reads the stage that is filled next
        const i64 next = chunk + STAGES - 1;
        if (next < end) copies.start(shared + (stage + STAGES - 1) % STAGES * STAGE_BYTES, next);
        commit_copies();
        const char* genotypes = shared + stage * STAGE_BYTES;
#pragma unroll
        for (int step = 0; step < CHUNK / 32; step++) {
            u32 operand[4][4];
            load_genotypes(operand, genotypes, step, warp, lane);
            multiply(sums, operand, genotypes + GENOTYPE_BYTES, step, lane);
        }
        stage = stage + 1 == STAGES ? 0 : stage + 1;
    }
    wait_for_copies<0>();
    __syncthreads();
    write(sums, shared, block * ROWS, {rows, int(width), int(slices), total, largest, out, out_pitch, first}, warp, lane);
}
