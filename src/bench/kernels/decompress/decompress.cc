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
    size_t bytes() const { return panels() * m * PANEL_BYTES; }
    const uint8_t* row(size_t panel, size_t snp) const { return codes + (panel * m + snp) * PANEL_BYTES; }
    size_t individuals(size_t panel) const { return std::min(PANEL, n - panel * PANEL); }
};

// Cache-line aligned memory for `count` items; null when there is none. `count` 0 is allowed.
template <class T>
T* allocate(size_t count) {
    return static_cast<T*>(std::aligned_alloc(64, std::max<size_t>(64, (count * sizeof(T) + 63) / 64 * 64)));
}

// The four dosages of every byte.
template <class real>
struct Dosages {
    alignas(64) real of_byte[256][4];
    Dosages() {
        constexpr real dosage[4] = {0, 0, 1, 2};
        for (int byte = 0; byte < 256; byte++)
            for (int i = 0; i < 4; i++) of_byte[byte][i] = dosage[byte >> 2 * i & 3];
    }
};
template <class real>
const Dosages<real> DOSAGES;

template <class real>
inline void decompress(const uint8_t* codes, size_t bytes, real* out) {
    for (size_t b = 0; b < bytes; b++) std::memcpy(out + 4 * b, DOSAGES<real>.of_byte[codes[b]], 4 * sizeof(real));
}

// acc[c][r] += sum over j of tile[j][r] * v[j][c], r a row of R vectors.
template <class real, int R, int C>
void multiply(const real* tile, size_t depth, const real* v, size_t k, real* acc) {
    constexpr size_t W = LANES<real>;
    Vec<real> sum[C][R];
    for (int c = 0; c < C; c++)
        for (int r = 0; r < R; r++) sum[c][r] = load(acc + (c * R + r) * W);
    for (size_t j = 0; j < depth; j++) {
        Vec<real> z[R];
        for (int r = 0; r < R; r++) z[r] = load(tile + (j * R + r) * W);
        for (int c = 0; c < C; c++)
            for (int r = 0; r < R; r++) sum[c][r] += z[r] * v[j * k + c];
    }
    for (int c = 0; c < C; c++)
        for (int r = 0; r < R; r++) store(acc + (c * R + r) * W, sum[c][r]);
}

// acc[s][c] += sum over vectors i of tile[s][i] * u[i][c]; k columns lie between acc[s] and acc[s + 1].
template <class real, int S, int C>
void multiply_transposed(const real* tile, size_t depth, const real* u, size_t k, real* acc) {
    constexpr size_t W = LANES<real>;
    Vec<real> sum[S][C];
    for (int s = 0; s < S; s++)
        for (int c = 0; c < C; c++) sum[s][c] = load(acc + (s * k + c) * W);
    for (size_t i = 0; i < depth; i++) {
        Vec<real> x[C];
        for (int c = 0; c < C; c++) x[c] = load(u + (i * C + c) * W);
        for (int s = 0; s < S; s++) {
            const Vec<real> z = load(tile + s * PANEL + i * W);
            for (int c = 0; c < C; c++) sum[s][c] += z * x[c];
        }
    }
    for (int s = 0; s < S; s++)
        for (int c = 0; c < C; c++) store(acc + (s * k + c) * W, sum[s][c]);
}

// The micro-kernels of one row count, by number of columns.
template <class real, int R, int C_MAX>
struct Kernels {
    using Multiply = void (*)(const real*, size_t, const real*, size_t, real*);
    static constexpr int rows = R;
    std::array<Multiply, C_MAX + 1> forward{}, transposed{};

    template <int C = C_MAX>
    constexpr void fill() {
        forward[C] = multiply<real, R, C>;
        transposed[C] = multiply_transposed<real, R, C>;
        if constexpr (C > 1) fill<C - 1>();
    }
    constexpr Kernels() { fill(); }

    // Calls f(first column, number of columns) on near-equal groups of at most C_MAX of k columns.
    template <class F>
    static void groups(size_t k, F f) {
        const size_t count = (k + C_MAX - 1) / C_MAX;
        for (size_t g = 0; g < count; g++) f(g * k / count, (g + 1) * k / count - g * k / count);
    }
};

template <class real, class K>
void matmul_panel(const Matrix& z, size_t panel, const real* v, size_t k, real* out, real* work) {
    static constexpr K kernels;
    constexpr size_t ROWS = K::rows * LANES<real>;
    const size_t individuals = z.individuals(panel), strips = (individuals + ROWS - 1) / ROWS;
    real *tile = work, *acc = work + DEPTH * ROWS;  // acc [strip][column][row]
    std::fill_n(acc, strips * ROWS * k, real(0));
    for (size_t j = 0; j < z.m; j += DEPTH) {
        const size_t depth = std::min(DEPTH, z.m - j);
        for (size_t strip = 0; strip < strips; strip++) {
            for (size_t d = 0; d < depth; d++)
                decompress(z.row(panel, j + d) + strip * ROWS / 4, ROWS / 4, tile + d * ROWS);
            K::groups(k, [&](size_t c, size_t columns) {
                kernels.forward[columns](tile, depth, v + j * k + c, k, acc + (strip * k + c) * ROWS);
            });
        }
    }
    for (size_t i = 0; i < individuals; i++)
        for (size_t c = 0; c < k; c++)
            out[(panel * PANEL + i) * k + c] = acc[(i / ROWS * k + c) * ROWS + i % ROWS];
}

// U as [panel][column group][vector of individuals][column][lane], padding individuals 0.
template <class real, class K>
void pack_panel(const Matrix& z, size_t panel, const real* u, size_t k, real* packed) {
    constexpr size_t W = LANES<real>;
    const size_t individuals = z.individuals(panel);
    K::groups(k, [&](size_t c0, size_t columns) {
        real* group = packed + (panel * k + c0) * PANEL;
        for (size_t i = 0; i < PANEL; i++)
            for (size_t c = 0; c < columns; c++)
                group[(i / W * columns + c) * W + i % W] =
                    i < individuals ? u[(panel * PANEL + i) * k + c0 + c] : real(0);
    });
}

template <class real, class K>
void rmatmul_snps(const Matrix& z, size_t j, const real* packed, size_t k, real* out, real* work) {
    static constexpr K kernels;
    constexpr size_t W = LANES<real>;
    const size_t snps = std::min(SNPS, z.m - j);
    real *tile = work, *acc = work + SNPS * PANEL;  // acc [SNP][column][lane]
    std::fill_n(work, SNPS * (PANEL + k * W), real(0));
    for (size_t panel = 0; panel < z.panels(); panel++) {
        const size_t depth = (z.individuals(panel) + W - 1) / W;
        for (size_t s = 0; s < snps; s++) decompress(z.row(panel, j + s), PANEL_BYTES, tile + s * PANEL);
        K::groups(k, [&](size_t c, size_t columns) {
            const real* u = packed + (panel * k + c) * PANEL;
            for (size_t s = 0; s < snps; s += K::rows)
                kernels.transposed[columns](tile + s * PANEL, depth, u, k, acc + (s * k + c) * W);
        });
    }
    for (size_t s = 0; s < snps; s++)
        for (size_t c = 0; c < k; c++) {
            real sum = 0;
            for (size_t lane = 0; lane < W; lane++) sum += acc[(s * k + c) * W + lane];
            out[(j + s) * k + c] = sum;
        }
}

template <class real, class K>
int matmul(const Matrix& z, const real* v, size_t k, real* out) {
    const size_t each = (DEPTH * K::rows * LANES<real> + PANEL * k + 63) / 64 * 64;
    real* work = allocate<real>(each * z.threads);
    if (!work) return 1;
#pragma omp parallel num_threads(z.threads)
    {
        real* mine = work + each * omp_get_thread_num();
#pragma omp for schedule(dynamic)
        for (size_t panel = 0; panel < z.panels(); panel++) matmul_panel<real, K>(z, panel, v, k, out, mine);
    }
    std::free(work);
    return 0;
}

template <class real, class K>
int rmatmul(const Matrix& z, const real* u, size_t k, real* out) {
    const size_t each = (SNPS * (PANEL + k * LANES<real>) + 63) / 64 * 64;
    real *packed = allocate<real>(z.panels() * PANEL * k), *work = allocate<real>(each * z.threads);
    if (packed && work) {
#pragma omp parallel num_threads(z.threads)
        {
            real* mine = work + each * omp_get_thread_num();
#pragma omp for
            for (size_t panel = 0; panel < z.panels(); panel++) pack_panel<real, K>(z, panel, u, k, packed);
#pragma omp for schedule(dynamic)
            for (size_t j = 0; j < z.m; j += SNPS) rmatmul_snps<real, K>(z, j, packed, k, out, mine);
        }
    }
    const int failed = !packed || !work;
    std::free(packed);
    std::free(work);
    return failed;
}

template <class real>
int product(const Matrix& z, const void* x, size_t k, void* out, bool transposed) {
    using Narrow = Kernels<real, NARROW_ROWS, NARROW_COLUMNS>;
    using Wide = Kernels<real, WIDE_ROWS, WIDE_COLUMNS>;
    const auto function = k <= NARROW_COLUMNS ? transposed ? rmatmul<real, Narrow> : matmul<real, Narrow>
                                              : transposed ? rmatmul<real, Wide> : matmul<real, Wide>;
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
