// The 5codes algorithm of Freudenberg et al. (2023), doi:10.3389/fgene.2023.1220408.
//
// Five genotypes take one of 3^5 = 243 values and so fit a byte. To sum five inputs weighted by five
// dosages for every output row, the 243 possible sums are tabulated once and each row looks its own up:
// one addition does the work of five multiply-adds. The rows' bytes must be grouped along the sum, so the
// matrix is stored twice: groups of five SNPs for Z V, groups of five individuals for Z'U. Both directions
// are then the same routine, `accumulate`.
// A dosage of 0 skips its input: unlike in a dense product, 0 times NaN or infinity counts as 0.
#include "gmk.h"

#include <omp.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace {

constexpr size_t FIVE = 5;       // genotypes of a code
constexpr size_t TABLE = 243;    // codes
constexpr size_t CODES = 8;      // codes of a word: a row's codes of 8 consecutive groups, read at once
constexpr size_t WORD = FIVE * CODES;  // inputs of a word

// The codes of one direction: rows x ceil(inputs / 40) words.
struct Codes {
    size_t rows, inputs;
    uint64_t* words;  // [word][row]; byte g of a word is group g, padding inputs have dosage 0

    size_t words_per_row() const { return (inputs + WORD - 1) / WORD; }
    size_t bytes() const { return rows * words_per_row() * sizeof(uint64_t); }
};

struct Matrix {
    int threads, real;
    Codes by_snps, by_individuals;  // rows are individuals, inputs SNPs; and the other way round
};

// Cache-line aligned memory for `count` items; null when there is none. `count` 0 is allowed.
template <class T>
T* allocate(size_t count) {
    return static_cast<T*>(std::aligned_alloc(64, std::max<size_t>(64, (count * sizeof(T) + 63) / 64 * 64)));
}

// The .bed payload with bytes past its rows and codes past individual n-1 read as 0.
struct Bed {
    const uint8_t* codes;
    size_t stride, n, m;

    size_t bytes() const { return (n + 3) / 4; }
    uint8_t operator()(size_t snp, size_t byte) const {
        if (snp >= m || byte >= bytes()) return 0;
        const uint8_t code = codes[snp * stride + byte];
        return byte + 1 < bytes() ? code : code & 0xff >> 2 * (4 * bytes() - n);
    }
};

// The four dosages of a .bed byte as the four bytes of a word, the first individual lowest.
struct Dosages {
    uint32_t of_byte[256];
    Dosages() {
        constexpr uint32_t dosage[4] = {0, 0, 1, 2};
        for (uint32_t byte = 0; byte < 256; byte++)
            of_byte[byte] = dosage[byte & 3] | dosage[byte >> 2 & 3] << 8 | dosage[byte >> 4 & 3] << 16 |
                            dosage[byte >> 6] << 24;
    }
};
const Dosages DOSAGES;

// Codes of four individuals at a time: the bytes of a 32-bit word stay below 243, so they never carry.
void encode_by_snps(const Bed& bed, const Codes& codes, size_t word) {
    for (size_t byte = 0; byte < bed.bytes(); byte++) {
        uint64_t words[4] = {0, 0, 0, 0};
        for (size_t g = 0; g < CODES; g++) {
            uint32_t four = 0;
            for (size_t s = FIVE; s-- > 0;) four = 3 * four + DOSAGES.of_byte[bed(word * WORD + g * FIVE + s, byte)];
            for (size_t i = 0; i < 4; i++) words[i] |= uint64_t(four >> 8 * i & 0xff) << 8 * g;
        }
        for (size_t i = 0; i < 4 && 4 * byte + i < bed.n; i++) codes.words[word * codes.rows + 4 * byte + i] = words[i];
    }
}

void encode_by_individuals(const Bed& bed, const Codes& codes, size_t word) {
    for (size_t snp = 0; snp < bed.m; snp++) {
        uint8_t dosages[WORD];
        for (size_t b = 0; b < WORD / 4; b++)
            std::memcpy(dosages + 4 * b, &DOSAGES.of_byte[bed(snp, word * WORD / 4 + b)], 4);
        uint64_t packed = 0;
        for (size_t g = 0; g < CODES; g++) {
            uint64_t code = 0;
            for (size_t s = FIVE; s-- > 0;) code = 3 * code + dosages[g * FIVE + s];
            packed |= code << 8 * g;
        }
        codes.words[word * codes.rows + snp] = packed;
    }
}

#if defined(__AVX512F__)
constexpr size_t REGISTER = 64;
#elif defined(__AVX2__)
constexpr size_t REGISTER = 32;
#else
constexpr size_t REGISTER = 16;  // every x86-64 and arm64 has it
#endif

// A table entry: one value for each of N columns, as vectors of the widest register that divides it.
template <class real, size_t N>
struct Entry {
    static constexpr size_t COLUMNS = N, BYTES = N * sizeof(real), PART = std::min(REGISTER, BYTES & -BYTES);
    static constexpr size_t PARTS = BYTES / PART;
    typedef real vec __attribute__((vector_size(PART)));
    vec part[PARTS];
};

// All 243 sums of five inputs: entry e has dosage e / 3^s % 3 of input s.
template <class E>
void tabulate(const E* inputs, E* table) {
    table[0] = E{};
    size_t size = 1;
    for (size_t s = 0; s < FIVE; s++, size *= 3)
        for (size_t e = 0; e < 2 * size; e++)
            for (size_t v = 0; v < E::PARTS; v++)
                table[size + e].part[v] = table[e].part[v] + inputs[s].part[v];
}

// acc[row] += the eight table entries that the row's word names.
template <class E>
void look_up(const uint64_t* words, size_t rows, const E* tables, E* acc) {
    for (size_t row = 0; row < rows; row++) {
        E sum = acc[row];
        for (size_t g = 0; g < CODES; g++) {
            const E& entry = tables[g * TABLE + (words[row] >> 8 * g & 0xff)];
            for (size_t v = 0; v < E::PARTS; v++) sum.part[v] += entry.part[v];
        }
        acc[row] = sum;
    }
}

// The most rows of a block: its accumulators stay in the second-level cache beside the eight tables, and the
// cost of building a table (243 additions) is shared by this many rows.
constexpr size_t ROWS = 4096;

// Rows of a block such that blocks are alike and as many for every thread: of 4,100 rows in blocks of 4,096
// the last one would build all its tables for four rows, and a second thread would wait.
size_t block_rows(size_t rows, size_t threads) {
    const size_t blocks = ((rows + ROWS - 1) / ROWS + threads - 1) / threads * threads;
    return (rows + blocks - 1) / blocks;
}

// What one thread needs: inputs of a word, eight tables, accumulators of a block.
template <class E>
struct Work {
    E inputs[WORD], tables[CODES * TABLE], acc[ROWS];
};

// Columns c, c + 1, ... of the next `block` rows of `out` (rows, k), at most E::COLUMNS of them.
template <class real, class E>
void accumulate(const Codes& codes, size_t row, size_t block, const real* x, size_t k, size_t c, real* out,
                Work<E>& work) {
    const size_t rows = std::min(block, codes.rows - row), columns = std::min(E::COLUMNS, k - c);
    std::memset(work.acc, 0, rows * sizeof(E));
    for (size_t word = 0; word < codes.words_per_row(); word++) {
        std::memset(work.inputs, 0, sizeof work.inputs);
        const size_t first = word * WORD, inputs = std::min(WORD, codes.inputs - first);
        for (size_t i = 0; i < inputs; i++)
            std::memcpy(&work.inputs[i], x + (first + i) * k + c, columns * sizeof(real));
        for (size_t g = 0; g < CODES; g++) tabulate(work.inputs + g * FIVE, work.tables + g * TABLE);
        look_up(codes.words + word * codes.rows + row, rows, work.tables, work.acc);
    }
    for (size_t r = 0; r < rows; r++) std::memcpy(out + (row + r) * k + c, &work.acc[r], columns * sizeof(real));
}

template <class real, class E>
int sweep(const Codes& codes, int threads, const real* x, size_t k, size_t c, real* out) {
    auto* work = allocate<Work<E>>(threads);
    if (!work) return 1;
    const size_t block = block_rows(codes.rows, threads);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (size_t row = 0; row < codes.rows; row += block)
        accumulate<real, E>(codes, row, block, x, k, c, out, work[omp_get_thread_num()]);
    std::free(work);
    return 0;
}

template <class real>
int product(const Codes& codes, int threads, const void* x, size_t k, void* out) {
    // Columns go by 8 (float64; 16 in float32), an AVX-512 register; a rest of 9 to 12 is one sweep of three
    // AVX2 registers. Zen 4, k = 32: 4 sweeps of 8 73 G/s, 2 of 12 and one of 8 68.
    constexpr size_t EIGHT = 64 / sizeof(real), MOST = EIGHT * 3 / 2;
    const auto* in = static_cast<const real*>(x);
    auto* to = static_cast<real*>(out);
    for (size_t c = 0; c < k;) {
        const size_t left = k - c;
        const bool rest = left > EIGHT && left <= MOST;
        const auto sweep_columns = rest               ? sweep<real, Entry<real, MOST>>
                                   : left > EIGHT / 2 ? sweep<real, Entry<real, EIGHT>>
                                   : left > EIGHT / 4 ? sweep<real, Entry<real, EIGHT / 2>>
                                   : left > EIGHT / 8 ? sweep<real, Entry<real, EIGHT / 4>>
                                                      : sweep<real, Entry<real, EIGHT / 8>>;
        if (sweep_columns(codes, threads, in, k, c, to)) return 1;
        c += rest ? MOST : EIGHT;
    }
    return 0;
}

}  // namespace

int gmk_abi(void) { return GMK_ABI; }

void* gmk_prepare(const uint8_t* bed, size_t stride, size_t n, size_t m, int threads, int real) {
    auto* z = static_cast<Matrix*>(std::malloc(sizeof(Matrix)));
    if (!z) return nullptr;
    *z = {threads, real, {n, m, nullptr}, {m, n, nullptr}};
    for (Codes* codes : {&z->by_snps, &z->by_individuals})
        codes->words = allocate<uint64_t>(codes->rows * codes->words_per_row());
    if (!z->by_snps.words || !z->by_individuals.words) {
        gmk_free(z);
        return nullptr;
    }
    const Bed source{bed, stride, n, m};
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(dynamic)
        for (size_t word = 0; word < z->by_snps.words_per_row(); word++) encode_by_snps(source, z->by_snps, word);
#pragma omp for schedule(dynamic)
        for (size_t word = 0; word < z->by_individuals.words_per_row(); word++)
            encode_by_individuals(source, z->by_individuals, word);
    }
    return z;
}

size_t gmk_bytes(const void* z) {
    const auto& matrix = *static_cast<const Matrix*>(z);
    return matrix.by_snps.bytes() + matrix.by_individuals.bytes();
}

int gmk_matmul(const void* z, const void* v, size_t k, void* out) {
    const auto& [threads, real, codes, _] = *static_cast<const Matrix*>(z);
    return real == 8 ? product<double>(codes, threads, v, k, out) : product<float>(codes, threads, v, k, out);
}

int gmk_rmatmul(const void* z, const void* u, size_t k, void* out) {
    const auto& [threads, real, _, codes] = *static_cast<const Matrix*>(z);
    return real == 8 ? product<double>(codes, threads, u, k, out) : product<float>(codes, threads, u, k, out);
}

void gmk_free(void* z) {
    auto* matrix = static_cast<Matrix*>(z);
    std::free(matrix->by_snps.words);
    std::free(matrix->by_individuals.words);
    std::free(matrix);
}
