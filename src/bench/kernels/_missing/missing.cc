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

// The same sums without lists, from the .bed rows of some SNPs: for matrices that pass by in chunks, whose lists are not
// worth making. Blocks of individuals, whose rows lie in the second-level cache; within one, SNP after SNP.
namespace {

constexpr size_t BLOCK = 4096, WORD = 32;  // individuals

struct Rows {
    const uint8_t* bed;
    size_t stride, n, m;

    // The calls of 32 individuals from `at` on, one bit in two set where a call is missing, code 1.
    uint64_t missing(size_t snp, size_t at) const {
        uint64_t codes = 0;
        const size_t individuals = std::min(WORD, n - at);
        std::memcpy(&codes, bed + snp * stride + at / 4, (individuals + 3) / 4);
        if (individuals < WORD) codes &= (uint64_t(1) << 2 * individuals) - 1;
        return codes & ~(codes >> 1) & 0x5555555555555555;
    }

    // each(i) for the missing calls of a SNP among the individuals begin .. end - 1; i counts from begin.
    template <class Each>
    void of(size_t snp, size_t begin, size_t end, Each each) const {
        for (size_t at = begin; at < end; at += WORD)
            for (uint64_t bits = missing(snp, at); bits; bits &= bits - 1)
                each(at - begin + __builtin_ctzll(bits) / 2);
    }
};

template <size_t K>
void add(const Row<K>& sum, size_t columns, double* out) {
    double sums[K];
    std::memcpy(sums, &sum, sizeof sums);
    for (size_t c = 0; c < columns; c++) out[c] += sums[c];
}

// out (n, k) += Miss x, `columns` <= K of them; a block's sums stand in `block`.
template <size_t K>
void scan_matmul(const Rows& rows, const double* x, size_t k, size_t columns, double* out, Row<K>* block) {
#pragma omp for schedule(dynamic)
    for (size_t begin = 0; begin < rows.n; begin += BLOCK) {
        const size_t end = std::min(rows.n, begin + BLOCK);
        std::fill(block, block + (end - begin), Row<K>{});
        for (size_t snp = 0; snp < rows.m; snp++) {
            Row<K> input = {};
            std::memcpy(&input, x + snp * k, columns * sizeof(double));
            rows.of(snp, begin, end, [&](size_t i) { block[i] += input; });
        }
        for (size_t i = begin; i < end; i++) add(block[i - begin], columns, out + i * k);
    }
}

// out (m, k) += Miss' x; a block's inputs stand in `block`.
template <size_t K>
void scan_rmatmul(const Rows& rows, const double* x, size_t k, size_t columns, double* out, Row<K>* block) {
    for (size_t begin = 0; begin < rows.n; begin += BLOCK) {
        const size_t end = std::min(rows.n, begin + BLOCK);
        for (size_t i = begin; i < end; i++) {
            block[i - begin] = {};
            std::memcpy(&block[i - begin], x + i * k, columns * sizeof(double));
        }
#pragma omp for schedule(static) nowait
        for (size_t snp = 0; snp < rows.m; snp++) {
            Row<K> sum = {};
            rows.of(snp, begin, end, [&](size_t i) { sum += block[i]; });
            add(sum, columns, out + snp * k);
        }
    }
}

}  // namespace

// out += Miss x, or with `transposed` Miss' x, of the m SNPs and n individuals whose .bed rows stand `stride` bytes
// apart at `bed`; 1: no memory. No sum depends on the number of threads.
extern "C" int missing_scan(const uint8_t* bed, size_t stride, size_t n, size_t m, const double* x, size_t k,
                            double* out, int transposed, int threads) {
    const Rows rows{bed, stride, n, m};
    const size_t bytes = BLOCK * MOST * sizeof(double);
    auto* memory = static_cast<uint8_t*>(std::aligned_alloc(64, bytes * threads));
    if (!memory) return 1;
#pragma omp parallel num_threads(threads)
    for (size_t c = 0; c < k; c += MOST) {
        const size_t columns = std::min(MOST, k - c);
        void* own = memory + bytes * omp_get_thread_num();
        const auto of = [&](auto* block) {
            transposed ? scan_rmatmul(rows, x + c, k, columns, out + c, block)
                       : scan_matmul(rows, x + c, k, columns, out + c, block);
        };
        columns > 8   ? of(static_cast<Row<16>*>(own))
        : columns > 4 ? of(static_cast<Row<8>*>(own))
        : columns > 2 ? of(static_cast<Row<4>*>(own))
        : columns > 1 ? of(static_cast<Row<2>*>(own))
                      : of(static_cast<Row<1>*>(own));
    }
    std::free(memory);
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
