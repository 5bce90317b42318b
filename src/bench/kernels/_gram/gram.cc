// A tile of X X', X the raw dosages of individuals, exact in integers; a missing call counts 0.
//
// Four SNPs of an individual are a byte. Of two such bytes, the sum over the four SNPs of (x-1)(y-1) + 1, a
// number from 0 to 8, stands in a small constant table: the byte of y chooses a row of the table, which fits in
// vector registers, and the bytes of x are looked up in it, 64 individuals at a time. Sums of bytes are exact
// for 31 such numbers, then they are widened. As xy = (x-1)(y-1) + 1 + x + y - 2, the row sums of X, which the
// same lookup gives against y = 2, turn the sums into those of xy.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>
#if defined(__AVX2__) || defined(__AVX512VBMI__)
#include <immintrin.h>
#endif

#include "isa.h"

namespace {

constexpr size_t BLOCK = 256;         // individuals whose codes of a group of SNPs lie together
constexpr size_t GROUP = 4;           // SNPs of a code
constexpr size_t GROUPS = 1024;       // of a chunk: 256 KB of codes a block, which stay in a cache of level 2
constexpr size_t ROUND = 31;          // groups between widenings: 31 * 8 < 256
constexpr size_t LANES = 64;          // individuals whose even and odd sums lie together
constexpr size_t AHEAD = 32;          // SNPs between a row's prefetch and its use
constexpr size_t FEW = 4, MANY = 32;  // rows of a call of `accumulate`; rows whose sums stay in the first cache
static_assert(GROUPS / ROUND * ROUND * 8 + ROUND * 8 < 65536, "sums of a chunk fit 16 bits");

#if defined(__AVX512VBMI__)
constexpr uint8_t TWOS = 80;

// Digits 0, 1, 2 in each two bits, as a number to the base 3: at most 80, so that two registers hold a table.
uint64_t encode(uint64_t digits) {
    const uint64_t pairs = digits - (digits >> 2 & 0x3333333333333333);  // a + 4b -> a + 3b in each half byte
    const uint64_t upper = pairs >> 4 & 0x0F0F0F0F0F0F0F0F;
    return pairs + upper - (upper << 3);  // p + 16q -> p + 9q
}
// of[a][b]: the sum over four SNPs of (x-1)(y-1) + 1.
struct Products {
    alignas(64) uint8_t of[81][128] = {};
    constexpr Products() {
        for (int a = 0; a < 81; a++)
            for (int b = 0; b < 81; b++)
                for (int s = 1; s < 81; s *= 3) of[a][b] += (a / s % 3 - 1) * (b / s % 3 - 1) + 1;
    }
};
constexpr Products PRODUCTS;

// sums (FEW, BLOCK) += the products of FEW individuals, whose codes of a group stand at y, with those at x.
// The two instructions are written out because gcc 12 keeps two of the sums in memory otherwise: 1.29 cycles a
// lookup and addition instead of 1.36, where registers alone reach 1.27 (Zen 4). Inlined it is half as fast.
__attribute__((noinline)) void accumulate(const uint8_t* x, const uint8_t* y, size_t y_step, size_t groups, uint16_t* sums) {
    constexpr int VECTORS = BLOCK / LANES;
    __m512i sum[FEW][VECTORS];
#pragma GCC unroll 4
    for (size_t r = 0; r < FEW; r++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) sum[r][v] = _mm512_setzero_si512();
    for (size_t g = 0; g < groups; g++) {
        __m512i codes[VECTORS], found[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) codes[v] = _mm512_load_si512(x + g * BLOCK + v * LANES);
#pragma GCC unroll 4
        for (size_t r = 0; r < FEW; r++) {
            const uint8_t* table = PRODUCTS.of[y[g * y_step + r]];
            const __m512i low = _mm512_load_si512(table), high = _mm512_load_si512(table + 64);
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) {
                found[v] = codes[v];
                asm("vpermi2b %2, %1, %0" : "+v"(found[v]) : "v"(low), "v"(high));
            }
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) asm("vpaddb %1, %0, %0" : "+v"(sum[r][v]) : "v"(found[v]));
        }
    }
    const __m512i even = _mm512_set1_epi16(255);
#pragma GCC unroll 4
    for (size_t r = 0; r < FEW; r++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) {
            __m512i* to = reinterpret_cast<__m512i*>(sums + r * BLOCK + v * LANES);
            to[0] = _mm512_add_epi16(to[0], _mm512_and_si512(sum[r][v], even));
            to[1] = _mm512_add_epi16(to[1], _mm512_srli_epi16(sum[r][v], 8));
        }
}

#else
constexpr uint8_t TWOS = 0xAA;

// Digits 0, 1, 2 in each two bits: a half byte looks two SNPs up.
uint64_t encode(uint64_t digits) { return digits; }

// of[a][b]: the sum over two SNPs of (x-1)(y-1) + 1.
struct Products {
    alignas(16) uint8_t of[16][16] = {};
    constexpr Products() {
        for (int a = 0; a < 16; a++)
            for (int b = 0; b < 16; b++)
                for (int s = 0; s < 4; s += 2) of[a][b] += ((a >> s & 3) - 1) * ((b >> s & 3) - 1) + 1;
    }
};
constexpr Products PRODUCTS;

#if defined(__AVX2__)

void accumulate(const uint8_t* x, const uint8_t* y, size_t y_step, size_t groups, uint16_t* sums) {
    const __m256i half = _mm256_set1_epi8(15), even = _mm256_set1_epi16(255);
    const auto table = [](int code) {
        return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(PRODUCTS.of[code])));
    };
    for (size_t lanes = 0; lanes < BLOCK; lanes += LANES) {
        __m256i sum[FEW][2];
        for (auto& row : sum) row[0] = row[1] = _mm256_setzero_si256();
        for (size_t g = 0; g < groups; g++) {
            __m256i low[2], high[2];
            for (int v = 0; v < 2; v++) {
                const __m256i codes =
                    _mm256_load_si256(reinterpret_cast<const __m256i*>(x + g * BLOCK + lanes + 32 * v));
                low[v] = _mm256_and_si256(codes, half);
                high[v] = _mm256_and_si256(_mm256_srli_epi16(codes, 4), half);
            }
            for (size_t r = 0; r < FEW; r++) {
                const int code = y[g * y_step + r];
                const __m256i first = table(code & 15), second = table(code >> 4);
                for (int v = 0; v < 2; v++) {
                    sum[r][v] = _mm256_add_epi8(sum[r][v], _mm256_shuffle_epi8(first, low[v]));
                    sum[r][v] = _mm256_add_epi8(sum[r][v], _mm256_shuffle_epi8(second, high[v]));
                }
            }
        }
        for (size_t r = 0; r < FEW; r++)
            for (int v = 0; v < 2; v++) {
                __m256i* to = reinterpret_cast<__m256i*>(sums + r * BLOCK + lanes) + v;
                to[0] = _mm256_add_epi16(to[0], _mm256_and_si256(sum[r][v], even));
                to[2] = _mm256_add_epi16(to[2], _mm256_srli_epi16(sum[r][v], 8));
            }
    }
}

#else

void accumulate(const uint8_t* x, const uint8_t* y, size_t y_step, size_t groups, uint16_t* sums) {
    for (size_t g = 0; g < groups; g++)
        for (size_t r = 0; r < FEW; r++) {
            const int code = y[g * y_step + r];
            for (size_t i = 0; i < BLOCK; i++) {
                const int other = x[g * BLOCK + i];
                const size_t lane = i / LANES * LANES + i % 2 * (LANES / 2) + i % LANES / 2;
                sums[r * BLOCK + lane] +=
                    PRODUCTS.of[code & 15][other & 15] + PRODUCTS.of[code >> 4][other >> 4];
            }
        }
}

#endif
#endif

// Genotypes as in a .bed file, and which part of them.
struct Bed {
    const uint8_t* bytes;
    size_t stride, n, m;
};

// The codes of `individuals` from `first` on, BLOCK by BLOCK, in one chunk of SNPs: codes[block][group][BLOCK].
struct Side {
    size_t first, individuals, blocks;
    uint8_t* codes;
    std::vector<int32_t> row_sums;  // of the chunk

    Side(size_t first, size_t individuals)
        : first(first), individuals(individuals), blocks((individuals + BLOCK - 1) / BLOCK), row_sums(blocks * BLOCK) {
        codes = static_cast<uint8_t*>(std::aligned_alloc(64, blocks * GROUPS * BLOCK));
        if (!codes) throw std::bad_alloc();
    }
    Side(const Side&) = delete;
    ~Side() { std::free(codes); }
    uint8_t* block(size_t b) const { return codes + b * GROUPS * BLOCK; }
};

// The codes of four SNPs, of which `present` exist, from `bytes` bytes of each row: two-bit fields are transposed
// 4 x 4, then dosages replace the file's codes.
void pack_group(const uint8_t* row, size_t stride, size_t present, size_t bytes, uint8_t* out) {
    constexpr size_t WORDS = BLOCK / 4 / 8;
    uint64_t w[GROUP][WORDS] = {};
    for (size_t s = 0; s < present; s++) std::memcpy(w[s], row + s * stride, bytes);
    for (size_t i = 0; i < WORDS; i++) {
        uint64_t a = w[0][i], b = w[1][i], c = w[2][i], d = w[3][i], t;
        t = (a >> 2 ^ b) & 0x3333333333333333, b ^= t, a ^= t << 2;
        t = (c >> 2 ^ d) & 0x3333333333333333, d ^= t, c ^= t << 2;
        t = (a >> 4 ^ c) & 0x0F0F0F0F0F0F0F0F, c ^= t, a ^= t << 4;
        t = (b >> 4 ^ d) & 0x0F0F0F0F0F0F0F0F, d ^= t, b ^= t << 4;
        w[0][i] = a, w[1][i] = b, w[2][i] = c, w[3][i] = d;
    }
    uint8_t codes[GROUP][BLOCK / 4];
    for (size_t s = 0; s < GROUP; s++) {
        for (size_t i = 0; i < WORDS; i++) {
            const uint64_t upper = w[s][i] >> 1 & 0x5555555555555555;  // 00, 01, 10, 11 -> 0, 0, 1, 2
            w[s][i] = encode(upper + (upper & w[s][i]));
        }
        std::memcpy(codes[s], w[s], sizeof w[s]);
    }
    for (size_t c = 0; c < BLOCK / 4; c++)
        for (size_t s = 0; s < GROUP; s++) out[GROUP * c + s] = codes[s][c];
}

// The codes and row sums of block `b` at the SNPs from `snp` on.
void pack(const Bed& bed, Side& side, size_t b, size_t snp, size_t groups) {
    const size_t start = side.first + b * BLOCK;
    const size_t bytes = std::min(BLOCK / 4, (bed.n + 3) / 4 - start / 4);
    for (size_t g = 0; g < groups; g++) {
        const size_t j = snp + g * GROUP;
        const uint8_t* row = bed.bytes + j * bed.stride + start / 4;
        // Each row is another line of memory: without this, packing waits for them.
        for (size_t ahead = j + AHEAD; ahead < std::min(j + AHEAD + GROUP, bed.m); ahead++)
            __builtin_prefetch(bed.bytes + ahead * bed.stride + start / 4);
        pack_group(row, bed.stride, std::min(GROUP, bed.m - j), bytes, side.block(b) + g * BLOCK);
    }
    alignas(64) uint16_t sums[FEW * BLOCK] = {};
    const uint8_t twos[FEW] = {TWOS, TWOS, TWOS, TWOS};
    for (size_t g = 0; g < groups; g += ROUND)
        accumulate(side.block(b) + g * BLOCK, twos, 0, std::min(ROUND, groups - g), sums);
    for (size_t i = 0; i < BLOCK; i++)
        side.row_sums[b * BLOCK + i] = sums[i / LANES * LANES + i % 2 * (LANES / 2) + i % LANES / 2];
}

// out += the products of the rows of one block with the columns of another.
void multiply(const Side& rows, size_t a, const Side& columns, size_t b, size_t groups, int32_t* out, size_t ld) {
    const size_t count = std::min(BLOCK, rows.individuals - a * BLOCK);
    const size_t width = std::min(BLOCK, columns.individuals - b * BLOCK);
    const uint8_t *x = columns.block(b), *y = rows.block(a);
    const int32_t* of_columns = &columns.row_sums[b * BLOCK];
    for (size_t r = 0; r < count; r += MANY) {
        alignas(64) uint16_t sums[MANY * BLOCK] = {};
        for (size_t g = 0; g < groups; g += ROUND)
            for (size_t few = 0; few < MANY; few += FEW)
                accumulate(x + g * BLOCK, y + g * BLOCK + r + few, BLOCK, std::min(ROUND, groups - g), sums + few * BLOCK);
        for (size_t i = 0; i < std::min(MANY, count - r); i++) {
            int32_t total[BLOCK];
            const int32_t add = rows.row_sums[a * BLOCK + r + i] - int32_t(2 * GROUP * groups);
            for (size_t lanes = 0; lanes < BLOCK; lanes += LANES)
                for (size_t k = 0; k < LANES / 2; k++)
                    for (size_t odd = 0; odd < 2; odd++)
                        total[lanes + 2 * k + odd] = sums[i * BLOCK + lanes + odd * LANES / 2 + k];
            int32_t* to = out + (r + i) * ld;
            for (size_t j = 0; j < width; j++) to[j] += total[j] + of_columns[j] + add;
        }
    }
}

void tile(const Bed& bed, Side& rows, Side& columns, int threads, int32_t* out, size_t ld) {
    const bool diagonal = &rows == &columns;
    for (size_t i = 0; i < rows.individuals; i++) std::fill_n(out + i * ld, columns.individuals, 0);
    for (size_t snp = 0; snp < bed.m; snp += GROUPS * GROUP) {
        const size_t groups = std::min(GROUPS, (bed.m - snp + GROUP - 1) / GROUP);
#pragma omp parallel num_threads(threads)
        {
#pragma omp for schedule(dynamic)
            for (size_t b = 0; b < rows.blocks; b++) pack(bed, rows, b, snp, groups);
            if (!diagonal) {
#pragma omp for schedule(dynamic)
                for (size_t b = 0; b < columns.blocks; b++) pack(bed, columns, b, snp, groups);
            }
#pragma omp for schedule(dynamic)
            for (size_t pair = 0; pair < rows.blocks * columns.blocks; pair++) {
                const size_t a = pair / columns.blocks, b = pair % columns.blocks;
                if (!diagonal || b <= a)
                    multiply(rows, a, columns, b, groups, out + a * BLOCK * ld + b * BLOCK, ld);
            }
        }
    }
}

}  // namespace

extern "C" {

int gram_runs(void) { return isa_runs(); }

// out (rows, columns) int32, a row every `ld` numbers: X X' of the individuals from first_row on with those from
// first_column on, both multiples of 4; if they are the same individuals, only what lies on and below the diagonal
// is to be read. bed: m rows of `stride` bytes of a .bed file of n individuals. Returns 1 if there is no memory.
int gram_tile(const uint8_t* bed, size_t stride, size_t n, size_t m, size_t first_row, size_t rows,
              size_t first_column, size_t columns, int threads, int32_t* out, size_t ld) try {
    Side left(first_row, rows);
    if (first_row == first_column && rows == columns) {
        tile({bed, stride, n, m}, left, left, threads, out, ld);
    } else {
        Side right(first_column, columns);
        tile({bed, stride, n, m}, left, right, threads, out, ld);
    }
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}
}
