// The scheme of slices.h a number at a time: what the other targets are checked against.
#pragma once
#include "slices/fixed_point.h"

namespace slices {

// out[row] = the sum of fixed[input] weighted by the row's dosages, digit by digit.
template <class real, size_t S>
void sum_digits(const Panels& z, bool transposed, const int64_t* fixed, const Scale& scale, size_t k, real* out) {
    const size_t rows = transposed ? z.m : z.n, inputs = transposed ? z.n : z.m;
#pragma omp parallel for num_threads(z.threads)
    for (size_t row = 0; row < rows; row++) {
        int64_t sums[S] = {};
        for (size_t i = 0; i < inputs; i++) {
            const uint64_t all = digits<S>(fixed[i]);
            const int weight = transposed ? z.dosage(i, row) : z.dosage(row, i);
            for (size_t s = 0; s < S; s++) sums[s] += weight * int8_t(all >> 8 * s);
        }
        Total total{};
        total.add<S>(sums);
        out[row * k] = total.value<real>(scale);
    }
}

// out = Z V (n, k) or, transposed, Z'U (m, k); 1: no memory.
template <class real>
int product(const Panels& z, const void* x, size_t k, void* out, bool transposed) {
    constexpr size_t S = DIGITS<real>;
    const size_t inputs = transposed ? z.n : z.m;
    const panels::Owned<int64_t> fixed(inputs);
    if (!fixed) return 1;
    for (size_t c = 0; c < k; c++) {
        const auto* in = static_cast<const real*>(x) + c;
        auto* to = static_cast<real*>(out) + c;
        Extent extent;
        for (size_t i = 0; i < inputs; i++) extent.add(in[i * k]);
        const Scale scale = Scale::of<S>(extent);
        for (size_t i = 0; i < inputs; i++) fixed.data[i] = scale.fixed(in[i * k]);
        sum_digits<real, S>(z, transposed, fixed.data, scale, k, to);
        add_non_finite(z, transposed, extent, in, k, to);
    }
    return 0;
}

}  // namespace slices
