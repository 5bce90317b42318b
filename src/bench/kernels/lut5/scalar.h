// The scheme of lut5.h without vectors, tiles or assembly: what the other targets are checked against.
#pragma once
#include "_panels/panels.h"

namespace lut5 {

using panels::Panels;

// out[row] += the sum of five inputs weighted by the row's dosages: one of 243 sums, looked up by the base-3 number
// that the five dosages make.
template <class real>
void add_five(const Panels& z, bool transposed, size_t input, size_t inputs, size_t rows, const real* x, size_t k,
              real* out) {
    const size_t count = std::min<size_t>(5, inputs - input);
    real table[243] = {};
    size_t size = 1;
    for (size_t s = 0; s < count; s++, size *= 3)
        for (size_t e = 0; e < 2 * size; e++) table[size + e] = table[e] + x[(input + s) * k];
#pragma omp parallel for num_threads(z.threads)
    for (size_t row = 0; row < rows; row++) {
        size_t code = 0;
        for (size_t s = count; s-- > 0;)
            code = 3 * code + (transposed ? z.dosage(input + s, row) : z.dosage(row, input + s));
        out[row * k] += table[code];
    }
}

template <class real>
int product(const Panels& z, const void* x, size_t k, void* out, bool transposed) {
    const size_t rows = transposed ? z.m : z.n, inputs = transposed ? z.n : z.m;
    const auto* in = static_cast<const real*>(x);
    auto* to = static_cast<real*>(out);
    std::fill_n(to, rows * k, real(0));
    for (size_t c = 0; c < k; c++)
        for (size_t input = 0; input < inputs; input += 5)
            add_five(z, transposed, input, inputs, rows, in + c, k, to + c);
    return 0;
}

}  // namespace lut5
