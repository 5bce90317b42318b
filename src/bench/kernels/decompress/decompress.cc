// Decompress and multiply, after Vandenplas et al. (2020), doi:10.1186/s12711-020-00543-9.
//
// The genotypes stay at 2 bits. A product unpacks a few of them into a tile of reals that fits a cache and
// multiplies the tile by a register-blocked micro-kernel, so that each unpacked value is used k times.
// Both directions read the same copy and the same tile order; only what is summed over differs:
//   matmul   lanes are individuals, the sum runs over SNPs, an element of V is broadcast;
//   rmatmul  lanes are individuals, the sum runs over individuals, U comes in vectors and the lanes are
//            added at the end.
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

namespace {

#if defined(__AVX512F__)
constexpr size_t VECTOR_BYTES = 64;
constexpr int WIDE_ROWS = 4, WIDE_COLUMNS = 6, NARROW_ROWS = 8, NARROW_COLUMNS = 2;  // 32 registers
#elif defined(__AVX2__)
constexpr size_t VECTOR_BYTES = 32;
constexpr int WIDE_ROWS = 2, WIDE_COLUMNS = 6, NARROW_ROWS = 4, NARROW_COLUMNS = 3;  // 16 registers
#else
constexpr size_t VECTOR_BYTES = 0;  // one lane
constexpr int WIDE_ROWS = 4, WIDE_COLUMNS = 3, NARROW_ROWS = 8, NARROW_COLUMNS = 1;
#endif

constexpr size_t PANEL = 256;             // individuals of a panel: 64 bytes, one cache line, of each SNP
constexpr size_t PANEL_BYTES = PANEL / 4;
constexpr size_t DEPTH = 64;              // matmul: SNPs of a tile
constexpr size_t SNPS = 16;               // rmatmul: SNPs of a tile
constexpr size_t TAIL = SNPS * PANEL_BYTES;

template <class real>
constexpr size_t LANES = VECTOR_BYTES ? VECTOR_BYTES / sizeof(real) : 1;

template <class real>
struct Vector {
    typedef real type __attribute__((vector_size(LANES<real> * sizeof(real))));
};
template <class real>
using Vec = typename Vector<real>::type;

template <class real>
Vec<real> load(const real* p) {
    Vec<real> v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

template <class real>
void store(real* p, Vec<real> v) {
    std::memcpy(p, &v, sizeof v);
}

struct Matrix {
    size_t n, m;
    int threads, real;
    uint8_t* codes;  // [panel][SNP][PANEL_BYTES], padding individuals have code 0

    size_t panels() const { return (n + PANEL - 1) / PANEL; }
    // Micro-kernels read whole sets of SNPs and whole words: TAIL bytes after the last row may be read too.
    size_t bytes() const { return panels() * m * PANEL_BYTES + TAIL; }
    const uint8_t* row(size_t panel, size_t snp) const { return codes + (panel * m + snp) * PANEL_BYTES; }
    size_t individuals(size_t panel) const { return std::min(PANEL, n - panel * PANEL); }
};

// Cache-line aligned memory for `count` items; null when there is none. `count` 0 is allowed.
template <class T>
T* allocate(size_t count) {
    return static_cast<T*>(std::aligned_alloc(64, std::max<size_t>(64, (count * sizeof(T) + 63) / 64 * 64)));
}

#if defined(__AVX512F__)
// A shift brings each lane its code, a permutation looks the dosage up by the lane's lowest bits; the bits
// above the code belong to the next individuals, so the four dosages are repeated.
inline Vec<double> decompress(const uint8_t* codes, double) {
    const __m512i shifts = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
    const __m512d dosages = _mm512_setr_pd(0, 0, 1, 2, 0, 0, 1, 2);
    long long word;
    std::memcpy(&word, codes, sizeof word);
    return _mm512_permutexvar_pd(_mm512_srlv_epi64(_mm512_set1_epi64(word), shifts), dosages);
}

inline Vec<float> decompress(const uint8_t* codes, float) {
    const __m512i shifts = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512 dosages = _mm512_setr_ps(0, 0, 1, 2, 0, 0, 1, 2, 0, 0, 1, 2, 0, 0, 1, 2);
    int word;
    std::memcpy(&word, codes, sizeof word);
    return _mm512_permutexvar_ps(_mm512_srlv_epi32(_mm512_set1_epi32(word), shifts), dosages);
}
#elif defined(__AVX2__)
// As with AVX-512, but the permutation of 32-bit lanes makes the upper halves of doubles: 1.0 is 0x3ff00000
// and 2.0 is 0x40000000, the lower halves are 0. A shift by 32 leaves index 0.
inline Vec<double> decompress(const uint8_t* codes, double) {
    const __m256i shifts = _mm256_setr_epi32(32, 0, 32, 2, 32, 4, 32, 6);
    const __m256i dosages = _mm256_setr_epi32(0, 0, 0x3ff00000, 0x40000000, 0, 0, 0x3ff00000, 0x40000000);
    int word;
    std::memcpy(&word, codes, sizeof word);
    const __m256i index = _mm256_srlv_epi32(_mm256_set1_epi32(word), shifts);
    return _mm256_castsi256_pd(_mm256_permutevar8x32_epi32(dosages, index));
}

inline Vec<float> decompress(const uint8_t* codes, float) {
    const __m256i shifts = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
    const __m256 dosages = _mm256_setr_ps(0, 0, 1, 2, 0, 0, 1, 2);
    int word;
    std::memcpy(&word, codes, sizeof word);
    return _mm256_permutevar8x32_ps(dosages, _mm256_srlv_epi32(_mm256_set1_epi32(word), shifts));
}
#endif

// The dosages of vector `i` of a row of codes. Reads up to 8 bytes from its first code on.
template <class real>
inline Vec<real> dosages(const uint8_t* codes, size_t i) {
#if defined(__AVX2__)
    return decompress(codes + i * LANES<real> / 4, real());
#else
    constexpr real dosage[4] = {0, 0, 1, 2};
    return Vec<real>{dosage[codes[i / 4] >> 2 * (i % 4) & 3]};
#endif
}

// Where a micro-kernel takes its dosages from: a tile of unpacked rows, or, when they are used only once,
// the codes themselves. Rows lie `stride` items apart.
template <class real>
struct Tile {
    const real* at;
    size_t stride;
    Vec<real> vector(size_t row, size_t i) const { return load(at + row * stride + i * LANES<real>); }
};

template <class real>
struct Packed {
    const uint8_t* at;
    Vec<real> vector(size_t row, size_t i) const { return dosages<real>(at + row * PANEL_BYTES, i); }
};

template <class real>
void decompress_row(const uint8_t* codes, size_t vectors, real* out) {
    for (size_t i = 0; i < vectors; i++) store(out + i * LANES<real>, dosages<real>(codes, i));
}

// acc[c][r] += sum over SNPs j of z[j][r] * v[j][c]; r counts vectors.
template <class real, int R, int C, class Source>
void multiply(Source source, size_t depth, const real* v, size_t k, real* acc) {
    constexpr size_t W = LANES<real>;
    Vec<real> sum[C][R];
    for (int c = 0; c < C; c++)
        for (int r = 0; r < R; r++) sum[c][r] = load(acc + (c * R + r) * W);
    for (size_t j = 0; j < depth; j++) {
        Vec<real> z[R];
        for (int r = 0; r < R; r++) z[r] = source.vector(j, r);
        for (int c = 0; c < C; c++)
            for (int r = 0; r < R; r++) sum[c][r] += z[r] * v[j * k + c];
    }
    for (int c = 0; c < C; c++)
        for (int r = 0; r < R; r++) store(acc + (c * R + r) * W, sum[c][r]);
}

// acc[s][c] += sum over vectors i of z[s][i] * u[i][c]; k columns lie between acc[s] and acc[s + 1].
template <class real, int S, int C, class Source>
void multiply_transposed(Source source, size_t depth, const real* u, size_t k, real* acc) {
    constexpr size_t W = LANES<real>;
    Vec<real> sum[S][C];
    for (int s = 0; s < S; s++)
        for (int c = 0; c < C; c++) sum[s][c] = load(acc + (s * k + c) * W);
    for (size_t i = 0; i < depth; i++) {
        Vec<real> x[C];
        for (int c = 0; c < C; c++) x[c] = load(u + (i * C + c) * W);
        for (int s = 0; s < S; s++) {
            const Vec<real> z = source.vector(s, i);
            for (int c = 0; c < C; c++) sum[s][c] += z * x[c];
        }
    }
    for (int s = 0; s < S; s++)
        for (int c = 0; c < C; c++) store(acc + (s * k + c) * W, sum[s][c]);
}

// The micro-kernels of one number of rows, indexed by the number of columns.
template <class real, int R, int C_MAX, class Source>
struct Kernels {
    using Multiply = void (*)(Source, size_t, const real*, size_t, real*);
    std::array<Multiply, C_MAX + 1> forward{}, transposed{};

    constexpr Kernels() { fill<C_MAX>(); }
    template <int C>
    constexpr void fill() {
        forward[C] = multiply<real, R, C, Source>;
        transposed[C] = multiply_transposed<real, R, C, Source>;
        if constexpr (C > 1) fill<C - 1>();
    }
};

// How a product with k columns is cut: R vectors of rows or R SNPs, by near-equal groups of up to C columns.
template <class T, int R, int C>
struct Shape {
    using real = T;
    static constexpr size_t rows = R;
    static constexpr Kernels<T, R, C, Tile<T>> tiled{};
    static constexpr Kernels<T, R, C, Packed<T>> packed{};

    // Calls f(first column, number of columns).
    template <class F>
    static void groups(size_t k, F f) {
        const size_t count = (k + C - 1) / C;
        for (size_t g = 0; g < count; g++) f(g * k / count, (g + 1) * k / count - g * k / count);
    }
    static bool once(size_t k) { return k <= C; }
};

template <class S, class real = typename S::real>
void matmul_panel(const Matrix& z, size_t panel, const real* v, size_t k, real* out, real* work) {
    constexpr size_t ROWS = S::rows * LANES<real>;
    const size_t individuals = z.individuals(panel), strips = (individuals + ROWS - 1) / ROWS;
    real *tile = work, *acc = work + DEPTH * ROWS;  // acc [strip][column][row]
    std::fill_n(acc, strips * ROWS * k, real(0));
    for (size_t j = 0; j < z.m; j += DEPTH) {
        const size_t depth = std::min(DEPTH, z.m - j);
        for (size_t strip = 0; strip < strips; strip++) {
            const uint8_t* codes = z.row(panel, j) + strip * ROWS / 4;
            if (S::once(k)) {
                S::packed.forward[k](Packed<real>{codes}, depth, v + j * k, k, acc + strip * k * ROWS);
                continue;
            }
            for (size_t d = 0; d < depth; d++) decompress_row(codes + d * PANEL_BYTES, S::rows, tile + d * ROWS);
            S::groups(k, [&](size_t c, size_t columns) {
                S::tiled.forward[columns](Tile<real>{tile, ROWS}, depth, v + j * k + c, k,
                                          acc + (strip * k + c) * ROWS);
            });
        }
    }
    for (size_t i = 0; i < individuals; i++)
        for (size_t c = 0; c < k; c++)
            out[(panel * PANEL + i) * k + c] = acc[(i / ROWS * k + c) * ROWS + i % ROWS];
}

// U as [panel][column group][vector of individuals][column][lane], padding individuals 0.
template <class S, class real = typename S::real>
void pack_panel(const Matrix& z, size_t panel, const real* u, size_t k, real* packed) {
    constexpr size_t W = LANES<real>;
    const size_t individuals = z.individuals(panel);
    S::groups(k, [&](size_t c0, size_t columns) {
        real* group = packed + (panel * k + c0) * PANEL;
        for (size_t i = 0; i < PANEL; i++)
            for (size_t c = 0; c < columns; c++)
                group[(i / W * columns + c) * W + i % W] =
                    i < individuals ? u[(panel * PANEL + i) * k + c0 + c] : real(0);
    });
}

template <class S, class real = typename S::real>
void rmatmul_snps(const Matrix& z, size_t j, const real* packed, size_t k, real* out, real* work) {
    constexpr size_t W = LANES<real>;
    const size_t snps = std::min(SNPS, z.m - j);
    real *tile = work, *acc = work + SNPS * PANEL;  // acc [SNP][column][lane]
    std::fill_n(acc, SNPS * k * W, real(0));
    for (size_t panel = 0; panel < z.panels(); panel++) {
        const size_t depth = (z.individuals(panel) + W - 1) / W;
        const real* u = packed + panel * k * PANEL;
        if (S::once(k)) {
            for (size_t s = 0; s < snps; s += S::rows)
                S::packed.transposed[k](Packed<real>{z.row(panel, j + s)}, depth, u, k, acc + s * k * W);
            continue;
        }
        for (size_t s = 0; s < SNPS; s++) decompress_row(z.row(panel, j + s), depth, tile + s * PANEL);
        S::groups(k, [&](size_t c, size_t columns) {
            for (size_t s = 0; s < snps; s += S::rows)
                S::tiled.transposed[columns](Tile<real>{tile + s * PANEL, PANEL}, depth, u + c * PANEL, k,
                                             acc + (s * k + c) * W);
        });
    }
    for (size_t s = 0; s < snps; s++)
        for (size_t c = 0; c < k; c++) {
            real sum = 0;
            for (size_t lane = 0; lane < W; lane++) sum += acc[(s * k + c) * W + lane];
            out[(j + s) * k + c] = sum;
        }
}

template <class S, class real = typename S::real>
int matmul(const Matrix& z, const real* v, size_t k, real* out) {
    const size_t each = (DEPTH * S::rows * LANES<real> + PANEL * k + 63) / 64 * 64;
    real* work = allocate<real>(each * z.threads);
    if (!work) return 1;
#pragma omp parallel num_threads(z.threads)
    {
        real* mine = work + each * omp_get_thread_num();
#pragma omp for schedule(dynamic)
        for (size_t panel = 0; panel < z.panels(); panel++) matmul_panel<S>(z, panel, v, k, out, mine);
    }
    std::free(work);
    return 0;
}

template <class S, class real = typename S::real>
int rmatmul(const Matrix& z, const real* u, size_t k, real* out) {
    const size_t each = (SNPS * (PANEL + k * LANES<real>) + 63) / 64 * 64;
    real *packed = allocate<real>(z.panels() * PANEL * k), *work = allocate<real>(each * z.threads);
    if (packed && work) {
#pragma omp parallel num_threads(z.threads)
        {
            real* mine = work + each * omp_get_thread_num();
#pragma omp for
            for (size_t panel = 0; panel < z.panels(); panel++) pack_panel<S>(z, panel, u, k, packed);
#pragma omp for schedule(dynamic)
            for (size_t j = 0; j < z.m; j += SNPS) rmatmul_snps<S>(z, j, packed, k, out, mine);
        }
    }
    const int failed = !packed || !work;
    std::free(packed);
    std::free(work);
    return failed;
}

template <class real>
int product(const Matrix& z, const void* x, size_t k, void* out, bool transposed) {
    using Narrow = Shape<real, NARROW_ROWS, NARROW_COLUMNS>;
    using Wide = Shape<real, WIDE_ROWS, WIDE_COLUMNS>;
    const auto function = k <= NARROW_COLUMNS ? transposed ? rmatmul<Narrow> : matmul<Narrow>
                                              : transposed ? rmatmul<Wide> : matmul<Wide>;
    return function(z, static_cast<const real*>(x), k, static_cast<real*>(out));
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
            uint8_t* row = z->codes + (panel * m + j) * PANEL_BYTES;
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
