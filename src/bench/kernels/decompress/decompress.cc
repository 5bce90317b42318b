// Decompress and multiply, after Vandenplas et al. (2020), doi:10.1186/s12711-020-00543-9.
//
// The genotypes stay at 2 bits. A product unpacks a vector of dosages at a time and multiplies it, while it
// is in a register, by several columns: out[r] += z[r, d] * x[d] for a vector of output rows r. A tile of
// codes, the rows of x that it meets and the sums of its output rows fit the first-level cache together.
// Such a vector must hold one input's codes of consecutive output rows:
//   matmul   rows are individuals, inputs are SNPs: that is how a .bed file lies;
//   rmatmul  rows are SNPs, inputs are individuals: 128 SNPs of a panel are transposed first, still at 2 bits.
// A zero dosage multiplies its input like any other, so NaN and infinity behave as in a dense product.
#include "gmk.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif
#include <omp.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <iterator>

#if !defined(__clang__)
// gcc 12's AVX-512 header warns about its own undefined registers.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace {

// COLUMNS: the most that a micro-kernel takes. VECTORS: the numbers of vectors of output rows that a strip
// may have; the first is taken whose dosages and sums are at most HELD, so that they stay in registers.
// Zen 4, AVX-512, float64: k = 10 runs at 0.94 of the FMA peak with 1 vector and 0.81 with 2, k = 4 at
// 0.87 with 4 and 0.71 with 2.
#if defined(__AVX512F__)
template <class real>
constexpr size_t LANES = 64 / sizeof(real);
constexpr int COLUMNS = 16, HELD = 28, VECTORS[] = {8, 4, 1};
#elif defined(__AVX2__)
template <class real>
constexpr size_t LANES = 32 / sizeof(real);
constexpr int COLUMNS = 6, HELD = 14, VECTORS[] = {4, 2};
#else
template <class real>
constexpr size_t LANES = 4;  // a byte of codes
constexpr int COLUMNS = 6, HELD = 7, VECTORS[] = {1};
#endif

constexpr size_t PANEL = 256;  // individuals: 64 bytes, one cache line, of each SNP
constexpr size_t PANEL_BYTES = PANEL / 4;
constexpr size_t DEPTH = 256;  // matmul: SNPs between two visits to the sums
constexpr size_t SNPS = 128;   // rmatmul: SNPs transposed together
constexpr size_t TAIL = 8;     // bytes after the codes that may be read, and are not used

template <class real>
struct Vector {
    typedef real type __attribute__((vector_size(LANES<real> * sizeof(real))));
};
#if !defined(__AVX2__)
// Four doubles in the 128-bit registers that every x86-64 and arm64 has; gcc 12 keeps wider ones in memory.
struct FourDoubles {
    typedef double pair __attribute__((vector_size(16)));
    pair low, high;

    double operator[](size_t lane) const { return lane < 2 ? low[lane] : high[lane - 2]; }
    FourDoubles operator*(double x) const { return {low * x, high * x}; }
    FourDoubles& operator+=(FourDoubles x) { return low += x.low, high += x.high, *this; }
};
template <>
struct Vector<double> {
    typedef FourDoubles type;
};
#endif
template <class real>
using Vec = typename Vector<real>::type;

struct Matrix {
    size_t n, m;
    int threads, real;
    uint8_t* codes;  // [panel][SNP][PANEL_BYTES], padding individuals have code 0

    size_t panels() const { return (n + PANEL - 1) / PANEL; }
    size_t bytes() const { return panels() * m * PANEL_BYTES + TAIL; }
    size_t individuals(size_t panel) const { return std::min(PANEL, n - panel * PANEL); }
    uint8_t* row(size_t panel, size_t snp) const { return codes + (panel * m + snp) * PANEL_BYTES; }
};

// Cache-line aligned memory for `count` items; null when there is none.
template <class T>
T* allocate(size_t count) {
    return static_cast<T*>(std::aligned_alloc(64, (count * sizeof(T) + 63) / 64 * 64));
}

// decompress: the dosages of the vector of codes that starts at `codes`. May read 8 bytes.
#if defined(__AVX512F__)
// A shift brings each lane its code, a permutation looks the dosage up by the lane's lowest bits; the bits
// above the code belong to the next rows, so the four dosages are repeated.
inline __m512d decompress(const uint8_t* codes, double) {
    const __m512i shifts = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
    const __m512d dosages = _mm512_setr_pd(0, 0, 1, 2, 0, 0, 1, 2);
    long long word;
    std::memcpy(&word, codes, sizeof word);
    return _mm512_permutexvar_pd(_mm512_srlv_epi64(_mm512_set1_epi64(word), shifts), dosages);
}

inline __m512 decompress(const uint8_t* codes, float) {
    const __m512i shifts = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512 dosages = _mm512_setr_ps(0, 0, 1, 2, 0, 0, 1, 2, 0, 0, 1, 2, 0, 0, 1, 2);
    int word;
    std::memcpy(&word, codes, sizeof word);
    return _mm512_permutexvar_ps(_mm512_srlv_epi32(_mm512_set1_epi32(word), shifts), dosages);
}
#elif defined(__AVX2__)
// As with AVX-512, but the permutation of 32-bit lanes makes the upper halves of doubles: 1.0 is 0x3ff00000
// and 2.0 is 0x40000000, the lower halves are 0. A shift by 32 leaves index 0.
inline __m256d decompress(const uint8_t* codes, double) {
    const __m256i shifts = _mm256_setr_epi32(32, 0, 32, 2, 32, 4, 32, 6);
    const __m256i dosages = _mm256_setr_epi32(0, 0, 0x3ff00000, 0x40000000, 0, 0, 0x3ff00000, 0x40000000);
    int word;
    std::memcpy(&word, codes, sizeof word);
    const __m256i index = _mm256_srlv_epi32(_mm256_set1_epi32(word), shifts);
    return _mm256_castsi256_pd(_mm256_permutevar8x32_epi32(dosages, index));
}

inline __m256 decompress(const uint8_t* codes, float) {
    const __m256i shifts = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
    const __m256 dosages = _mm256_setr_ps(0, 0, 1, 2, 0, 0, 1, 2);
    int word;
    std::memcpy(&word, codes, sizeof word);
    return _mm256_permutevar8x32_ps(dosages, _mm256_srlv_epi32(_mm256_set1_epi32(word), shifts));
}
#else
// The four dosages of every byte.
template <class real>
struct Dosages {
    alignas(64) real of_byte[256][4];
    Dosages() {
        for (int byte = 0; byte < 256; byte++)
            for (int i = 0; i < 4; i++) of_byte[byte][i] = std::max(0, (byte >> 2 * i & 3) - 1);
    }
};
template <class real>
const Dosages<real> DOSAGES;

template <class real>
inline Vec<real> decompress(const uint8_t* codes, real) {
    Vec<real> dosages;
    std::memcpy(&dosages, DOSAGES<real>.of_byte[*codes], sizeof dosages);
    return dosages;
}
#endif

// Where the codes of input d and vector r of the output rows start: codes + d * input + r * vector.
struct Codes {
    const uint8_t* at;
    size_t input, vector;
};

// sums[c][r] += z[r, d] * x[d * step + c] over d = 0 .. count-1, for R vectors of rows and C columns.
template <class real, int R, int C>
void multiply(Codes codes, size_t count, const real* x, size_t step, Vec<real>* sums) {
    Vec<real> sum[C][R];
#pragma GCC unroll 16
    for (int c = 0; c < C; c++)
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) sum[c][r] = sums[c * R + r];
    for (size_t d = 0; d < count; d++) {
        Vec<real> z[R];
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) z[r] = decompress(codes.at + d * codes.input + r * codes.vector, real());
#pragma GCC unroll 16
        for (int c = 0; c < C; c++)
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) sum[c][r] += z[r] * x[d * step + c];
    }
#pragma GCC unroll 16
    for (int c = 0; c < C; c++)
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) sums[c * R + r] = sum[c][r];
}

// The micro-kernels for R vectors of rows, by number of columns.
template <class real, int R>
struct Columns {
    static constexpr int MOST = std::min(HELD / R - 1, COLUMNS);
    std::array<void (*)(Codes, size_t, const real*, size_t, Vec<real>*), MOST + 1> kernel{};

    template <int C>
    constexpr void fill() {
        kernel[C] = multiply<real, R, C>;
        if constexpr (C > 1) fill<C - 1>();
    }
    constexpr Columns() { fill<MOST>(); }
};

// Columns are taken in near-equal groups of at most COLUMNS.
inline size_t groups(size_t k) { return (k + COLUMNS - 1) / COLUMNS; }

// sums [column][vector] of one strip of R vectors of rows, for all k columns.
template <class real, int R>
void multiply_strip(Codes codes, size_t count, const real* x, size_t k, size_t step, Vec<real>* sums) {
    static constexpr Columns<real, R> columns;
    for (size_t g = 0, first = 0; g < groups(k); g++) {
        const size_t next = (g + 1) * k / groups(k);
        columns.kernel[next - first](codes, count, x + first, step, sums + first * R);
        first = next;
    }
}

// out (rows, k) = the sums [strip][column][vector][lane] of its rows.
template <class real, int R>
void put(const Vec<real>* sums, size_t rows, size_t k, real* out) {
    constexpr size_t ROWS = R * LANES<real>;
    for (size_t i = 0; i < rows; i++)
        for (size_t c = 0; c < k; c++)
            out[i * k + c] = sums[(i / ROWS * k + c) * R + i % ROWS / LANES<real>][i % LANES<real>];
}

// What one thread needs: the sums of PANEL or SNPS rows, and a transposed tile.
template <class real>
struct Work {
    uint8_t* tile;
    Vec<real>* sums;

    static size_t bytes(size_t k) { return SNPS * PANEL_BYTES + 64 + PANEL * k * sizeof(real); }
    Work(uint8_t* memory) : tile(memory), sums(reinterpret_cast<Vec<real>*>(memory + SNPS * PANEL_BYTES + 64)) {}
};

template <class real, int R>
void matmul_panel(const Matrix& z, size_t panel, const real* v, size_t k, real* out, Work<real> work) {
    constexpr size_t ROWS = R * LANES<real>;
    const size_t individuals = z.individuals(panel), strips = (individuals + ROWS - 1) / ROWS;
    std::fill_n(work.sums, strips * k * R, Vec<real>{});
    for (size_t j = 0; j < z.m; j += DEPTH)
        for (size_t strip = 0; strip < strips; strip++)
            multiply_strip<real, R>({z.row(panel, j) + strip * ROWS / 4, PANEL_BYTES, LANES<real> / 4},
                                    std::min(DEPTH, z.m - j), v + j * k, k, k, work.sums + strip * k * R);
    put<real, R>(work.sums, individuals, k, out + panel * PANEL * k);
}

// out [b][line] = lines [line][b] for b < PANEL_BYTES and COUNT lines, a power of two: each step interleaves
// the two halves of the whole, which moves one bit of a byte's line number to the end of its position.
template <size_t COUNT>
void interleave(const uint8_t* lines, uint8_t* out) {
    typedef uint8_t bytes16 __attribute__((vector_size(16)));
    constexpr size_t BYTES = COUNT * PANEL_BYTES;
    alignas(64) uint8_t buffer[2][BYTES];
    const uint8_t* from = lines;
    for (size_t step = 1, b = 0; step < COUNT; step *= 2, b ^= 1) {
        uint8_t* to = step * 2 == COUNT ? out : buffer[b];
        for (size_t i = 0; i < BYTES / 2; i += 16) {
            bytes16 low, high;
            std::memcpy(&low, from + i, 16);
            std::memcpy(&high, from + BYTES / 2 + i, 16);
            const bytes16 first = __builtin_shufflevector(
                low, high, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            const bytes16 second = __builtin_shufflevector(
                low, high, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
            std::memcpy(to + 2 * i, &first, 16);
            std::memcpy(to + 2 * i + 16, &second, 16);
        }
        from = to;
    }
}

// tile [vector of SNPs][individual] = the codes of the vector's SNPs, LANES / 4 bytes; 0 past the last SNP.
// Four SNPs are read as words of one cache line and their 4 x 4 blocks of codes transposed in place, so that
// byte i / 4 of line i % 4 holds the four SNPs of individual i; then those bytes are brought together.
template <class real>
void transpose(const Matrix& z, size_t panel, size_t j, size_t snps, uint8_t* tile) {
    typedef uint64_t line __attribute__((vector_size(PANEL_BYTES)));
    constexpr size_t BYTES = LANES<real> / 4;
    const auto swap = [](line& a, line& b, int shift, uint64_t mask) {
        const line t = ((a >> shift) ^ b) & mask;
        b ^= t;
        a ^= t << shift;
    };
    for (size_t s = 0; s < snps; s += LANES<real>, tile += PANEL * BYTES) {
        alignas(64) uint8_t quads[4][BYTES][PANEL_BYTES];  // [individual % 4][SNPs 4q .. 4q + 3]
        for (size_t q = 0; q < BYTES; q++) {
            line snp[4] = {};
            for (size_t i = 0, first = j + s + 4 * q; i < 4 && first + i < z.m; i++)
                std::memcpy(&snp[i], z.row(panel, first + i), sizeof(line));
            swap(snp[0], snp[1], 2, 0x3333333333333333);
            swap(snp[2], snp[3], 2, 0x3333333333333333);
            swap(snp[0], snp[2], 4, 0x0f0f0f0f0f0f0f0f);
            swap(snp[1], snp[3], 4, 0x0f0f0f0f0f0f0f0f);
            for (size_t i = 0; i < 4; i++) std::memcpy(quads[i][q], &snp[i], sizeof(line));
        }
        interleave<4 * BYTES>(quads[0][0], tile);
    }
}

template <class real, int R>
void rmatmul_snps(const Matrix& z, size_t j, const real* u, size_t k, real* out, Work<real> work) {
    constexpr size_t ROWS = R * LANES<real>, BYTES = LANES<real> / 4;
    const size_t strips = (std::min(SNPS, z.m - j) + ROWS - 1) / ROWS;
    std::fill_n(work.sums, strips * k * R, Vec<real>{});
    for (size_t panel = 0; panel < z.panels(); panel++) {
        transpose<real>(z, panel, j, strips * ROWS, work.tile);
        for (size_t strip = 0; strip < strips; strip++)
            multiply_strip<real, R>({work.tile + strip * R * PANEL * BYTES, BYTES, PANEL * BYTES},
                                    z.individuals(panel), u + panel * PANEL * k, k, k, work.sums + strip * k * R);
    }
    put<real, R>(work.sums, std::min(SNPS, z.m - j), k, out + j * k);
}

template <class real, int R>
int multiply_all(const Matrix& z, const real* x, size_t k, real* out, bool transposed) {
    const size_t each = (Work<real>::bytes(k) + 63) / 64 * 64;
    auto* memory = allocate<uint8_t>(each * z.threads);
    if (!memory) return 1;
#pragma omp parallel num_threads(z.threads)
    {
        // The rows below a strip's last are multiplied too, and left out of the result: let them be defined.
        std::memset(memory + each * omp_get_thread_num(), 0, each);
        const Work<real> work(memory + each * omp_get_thread_num());
        if (transposed) {
#pragma omp for schedule(dynamic)
            for (size_t j = 0; j < z.m; j += SNPS) rmatmul_snps<real, R>(z, j, x, k, out, work);
        } else {
#pragma omp for schedule(dynamic)
            for (size_t panel = 0; panel < z.panels(); panel++) matmul_panel<real, R>(z, panel, x, k, out, work);
        }
    }
    std::free(memory);
    return 0;
}

// Chooses the number of vectors of rows from the largest group of columns.
template <class real, size_t CHOICE = 0>
int product(const Matrix& z, const void* x, size_t k, void* out, bool transposed) {
    constexpr int R = VECTORS[CHOICE];
    const size_t widest = (k + groups(k) - 1) / groups(k);
    if constexpr (CHOICE + 1 < std::size(VECTORS))
        if (R * (widest + 1) > HELD) return product<real, CHOICE + 1>(z, x, k, out, transposed);
    return multiply_all<real, R>(z, static_cast<const real*>(x), k, static_cast<real*>(out), transposed);
}

}  // namespace

int gmk_abi(void) { return GMK_ABI; }

void* gmk_prepare(const uint8_t* bed, size_t stride, size_t n, size_t m, int threads, int real) {
    auto* z = static_cast<Matrix*>(std::malloc(sizeof(Matrix)));
    if (!z) return nullptr;
    *z = {n, m, threads, real, nullptr};
    z->codes = allocate<uint8_t>(z->bytes());
    if (!z->codes) {
        std::free(z);
        return nullptr;
    }
    std::memset(z->codes + z->bytes() - TAIL, 0, TAIL);
#pragma omp parallel for num_threads(threads)
    for (size_t panel = 0; panel < z->panels(); panel++) {
        const size_t individuals = z->individuals(panel), bytes = (individuals + 3) / 4;
        const uint8_t last = 0xff >> 2 * (4 * bytes - individuals);  // padding codes of the last byte go
        for (size_t j = 0; j < m; j++) {
            uint8_t* row = z->row(panel, j);
            std::memcpy(row, bed + j * stride + panel * PANEL_BYTES, bytes);
            std::memset(row + bytes, 0, PANEL_BYTES - bytes);
            row[bytes - 1] &= last;
        }
    }
    return z;
}

size_t gmk_bytes(const void* z) { return static_cast<const Matrix*>(z)->bytes(); }

int gmk_matmul(const void* z, const void* v, size_t k, void* out) {
    const auto& matrix = *static_cast<const Matrix*>(z);
    return matrix.real == 8 ? product<double>(matrix, v, k, out, false) : product<float>(matrix, v, k, out, false);
}

int gmk_rmatmul(const void* z, const void* u, size_t k, void* out) {
    const auto& matrix = *static_cast<const Matrix*>(z);
    return matrix.real == 8 ? product<double>(matrix, u, k, out, true) : product<float>(matrix, u, k, out, true);
}

void gmk_free(void* z) {
    std::free(static_cast<Matrix*>(z)->codes);
    std::free(z);
}
