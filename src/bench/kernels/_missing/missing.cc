// Sums of the inputs at missing calls, for the mean imputation of genomic.Centred: out += Miss x or Miss' x.
//
// Both directions gather: an output row adds the inputs that its list names, in registers. Lists are cut by blocks
// of inputs, which lie in the second-level cache, padded to whole vectors. Scattering the inputs of one list to
// the rows that it names took three times as long (Zen 4, ten columns, 1 % of calls missing).
#include <omp.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "isa.h"

namespace {

constexpr size_t MOST = 16;  // columns that are taken together

// first[block * rows + row] .. first[block * rows + row + 1] - 1 are the calls of a row in a block of inputs.
struct Lists {
    const int64_t* first;
    const uint16_t* inputs;  // within their block
    size_t rows, inputs_in_all, block;
};

// K columns as vectors that a register holds.
template <size_t K>
struct Row {
    static constexpr size_t WIDTH = K < 8 ? K : 8, PARTS = K / WIDTH;
    typedef double vec __attribute__((vector_size(WIDTH * sizeof(double))));
    vec part[PARTS];

    Row& operator+=(const Row& o) {
        for (size_t p = 0; p < PARTS; p++) part[p] += o.part[p];
        return *this;
    }
};

// Adds `columns` <= K columns of the sums to out (rows, k); x is (inputs_in_all, k).
template <size_t K>
void gather(const Lists& lists, const double* x, size_t k, size_t columns, double* out, Row<K>* padded) {
    constexpr int64_t CHAINS = K < 16 ? 4 : 2;
    for (size_t begin = 0; begin < lists.inputs_in_all; begin += lists.block) {
        const size_t inputs = std::min(lists.block, lists.inputs_in_all - begin);
#pragma omp for schedule(static)
        for (size_t i = 0; i < inputs; i++) {
            padded[i] = {};
            std::memcpy(&padded[i], x + (begin + i) * k, columns * sizeof(double));
        }
        const int64_t* first = lists.first + begin / lists.block * lists.rows;
#pragma omp for schedule(static)
        for (size_t row = 0; row < lists.rows; row++) {
            Row<K> sum[CHAINS] = {};  // one chain of additions would wait for itself
            int64_t call = first[row];
            for (; call + CHAINS <= first[row + 1]; call += CHAINS)
                for (int64_t i = 0; i < CHAINS; i++) sum[i] += padded[lists.inputs[call + i]];
            for (; call < first[row + 1]; call++) sum[0] += padded[lists.inputs[call]];
            for (int64_t i = 1; i < CHAINS; i++) sum[0] += sum[i];
            double sums[K];
            std::memcpy(sums, &sum[0], sizeof sums);
            for (size_t c = 0; c < columns; c++) out[row * k + c] += sums[c];
        }
    }
}

}  // namespace

extern "C" int missing_runs(void) { return isa_runs(); }

// out (rows, k) += the sums; 1: no memory. No sum depends on the number of threads.
extern "C" int missing_gather(const int64_t* first, const uint16_t* inputs, size_t rows, size_t inputs_in_all,
                              size_t block, const double* x, size_t k, double* out, int threads) {
    const Lists lists{first, inputs, rows, inputs_in_all, block};
    void* padded = std::aligned_alloc(64, (std::min(block, inputs_in_all) * MOST * sizeof(double) + 63) / 64 * 64);
    if (!padded) return 1;
#pragma omp parallel num_threads(threads)
    for (size_t c = 0; c < k; c += MOST) {
        const size_t columns = std::min(MOST, k - c);
        const auto of = [&](auto* memory) { gather(lists, x + c, k, columns, out + c, memory); };
        columns > 8   ? of(static_cast<Row<16>*>(padded))
        : columns > 4 ? of(static_cast<Row<8>*>(padded))
        : columns > 2 ? of(static_cast<Row<4>*>(padded))
        : columns > 1 ? of(static_cast<Row<2>*>(padded))
                      : of(static_cast<Row<1>*>(padded));
    }
    std::free(padded);
    return 0;
}

// Miss (n, m) as a matrix with the products of gmk.h, of doubles. [0]: lists of individuals, [1]: of SNPs.
struct MissingCalls {
    const int64_t* first[2];
    const uint16_t* inputs[2];
    size_t sizes[2], block;
    int threads;

    int product(const void* x, size_t k, void* out, bool transposed) const {
        const size_t rows = sizes[transposed];
        auto* sums = static_cast<double*>(out);
        std::fill(sums, sums + rows * k, 0.0);
        return missing_gather(first[transposed], inputs[transposed], rows, sizes[!transposed], block,
                              static_cast<const double*>(x), k, sums, threads);
    }
};

extern "C" int missing_matmul(const void* z, const void* x, size_t k, void* out) {
    return static_cast<const MissingCalls*>(z)->product(x, k, out, false);
}
extern "C" int missing_rmatmul(const void* z, const void* x, size_t k, void* out) {
    return static_cast<const MissingCalls*>(z)->product(x, k, out, true);
}
