// X X' of dosages, exact, on the tensor cores: 2-bit rows of individuals (rows.cu) times each other, in int32.
//
// A block of 256 threads makes 256 × 128 products, 64 × 64 a warp. Rows come in chunks of 256 SNPs, STAGES of them in
// flight. No genotype is unpacked to memory: a matrix load brings a lane 16 SNPs of a row, and a shift and a mask make four
// operands of them, of SNPs t, t + 4, t + 8, t + 12. Both factors are read so, and a sum may take SNPs in any order.
#include "device.h"

constexpr int ROWS = 256, COLUMNS = 128, CHUNK_BYTES = 64, STAGES = 4;
constexpr int STAGE_BYTES = (ROWS + COLUMNS) * CHUNK_BYTES;

// Byte of 16-byte piece `piece` of a row: eight consecutive rows are read from all banks at once.
DEVICE int place(int row, int piece) { return row * CHUNK_BYTES + 16 * (piece ^ (row >> 1 & 3)); }

// Four pieces a row, a thread copies 16 bytes of each 64th row, first of the rows, then of the columns.
DEVICE void start_copies(char* stage, const u8* rows, const u8* columns, i64 pitch, i64 chunk) {
    const int row = threadIdx.x / 4, piece = threadIdx.x % 4;
    const i64 from = row * pitch + chunk * CHUNK_BYTES + 16 * piece;
#pragma unroll
    for (int i = 0; i < ROWS / 64; i++) copy_async(stage + place(64 * i + row, piece), rows + from + 64 * i * pitch);
#pragma unroll
    for (int i = 0; i < COLUMNS / 64; i++)
        copy_async(stage + place(ROWS + 64 * i + row, piece), columns + from + 64 * i * pitch);
}

// 16 SNPs of 64 rows: word[i] is of row 8 i + lane / 4 and of the SNPs of piece `piece` from 16 (lane % 4) on.
DEVICE void load_words(u32 (&words)[8], const char* stage, int first, int piece, int lane) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        u32 four[4];
        load_matrices(four, stage + place(first + 32 * half + lane, piece));
#pragma unroll
        for (int i = 0; i < 4; i++) words[4 * half + i] = four[i];
    }
}

DEVICE void multiply(int (&sums)[4][8][4], const char* stage, int row, int column, int lane) {
#pragma unroll 1
    for (int piece = 0; piece < CHUNK_BYTES / 16; piece++) {
        u32 a[8], b[8];
        load_words(a, stage, row, piece, lane);
        load_words(b, stage, ROWS + column, piece, lane);
#pragma unroll
        for (int step = 0; step < 2; step++) {
            u32 operand[4][4];
#pragma unroll
            for (int tile = 0; tile < 4; tile++)
#pragma unroll
                for (int i = 0; i < 4; i++)  // rows 0–7 and 8–15 of the first 16 SNPs, and of the others
                    operand[tile][i] = a[2 * tile + i % 2] >> (4 * step + 2 * (i / 2)) & 0x03030303u;
#pragma unroll
            for (int c = 0; c < 8; c++) {
                const u32 b0 = b[c] >> 4 * step & 0x03030303u, b1 = b[c] >> (4 * step + 2) & 0x03030303u;
#pragma unroll
                for (int tile = 0; tile < 4; tile++) multiply_add_unsigned(sums[tile][c], operand[tile], b0, b1);
            }
        }
    }
}

// tile (row_count, column_count) = the products of individuals first_row … with first_column …, and mirror, its transpose.
// `codes`: rows of `pitch` bytes, padded to blocks and to chunks. first_row == first_column: tile and mirror are the same
// array, and of blocks and products above the diagonal none is computed or written.
extern "C" __global__ void __launch_bounds__(256, 1)
    gram(const u8* codes, i64 pitch, i64 chunks, i64 first_row, i64 first_column, i64 row_count, i64 column_count,
         int* tile, int* mirror) {
    SHARED(shared);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const i64 block_row = i64(blockIdx.y) * ROWS, block_column = i64(blockIdx.x) * COLUMNS;
    const bool diagonal = first_row == first_column;
    if (diagonal && block_column >= block_row + ROWS) return;
    const u8* rows = codes + (first_row + block_row) * pitch;
    const u8* columns = codes + (first_column + block_column) * pitch;
    const int row = 64 * (warp / 2), column = 64 * (warp % 2);
    const bool wanted = block_row + row < row_count && block_column + column < column_count &&
                        !(diagonal && block_column + column >= block_row + row + 64);  // of this warp
    int sums[4][8][4];
#pragma unroll
    for (int t = 0; t < 4; t++)
#pragma unroll
        for (int c = 0; c < 8; c++)
#pragma unroll
            for (int i = 0; i < 4; i++) sums[t][c][i] = 0;
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < chunks) start_copies(shared + s * STAGE_BYTES, rows, columns, pitch, s);
        commit_copies();  // an empty group as well: the groups are counted
    }
    int stage = 0;
    for (i64 chunk = 0; chunk < chunks; chunk++) {
        wait_for_copies<STAGES - 2>();
        __syncthreads();  // everybody's copies of this chunk are there, and nobody reads the stage that is filled next
        const i64 next = chunk + STAGES - 1;
        if (next < chunks)
            start_copies(shared + (stage + STAGES - 1) % STAGES * STAGE_BYTES, rows, columns, pitch, next);
        commit_copies();
        if (wanted) multiply(sums, shared + stage * STAGE_BYTES, row, column, lane);
        stage = stage + 1 == STAGES ? 0 : stage + 1;
    }
#pragma unroll
    for (int t = 0; t < 4; t++)
#pragma unroll
        for (int c = 0; c < 8; c++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const i64 r = block_row + row + 16 * t + lane / 4 + 8 * (i / 2);
                const i64 s = block_column + column + 8 * c + 2 * (lane % 4) + i % 2;
                if (r >= row_count || s >= column_count || (diagonal && s > r)) continue;
                tile[r * column_count + s] = sums[t][c][i];
                mirror[s * row_count + r] = sums[t][c][i];
            }
}
