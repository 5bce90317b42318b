// Numbers of a column as integers of S signed base-256 digits, and sums of such integers as numbers again.
//
// A column x is multiplied by a power of two 2^p, the same for all its numbers, and rounded to integers that S digits
// from -128 to 127 express. p is the largest for which the largest number fits, so an input is off by at most 2^-(p+1),
// and a sum by at most its dosages times that:
//   |error| <= 2.01 * 256^-S * max|x| * sum of the row's dosages
// The sums themselves are exact integers, rounded once, when they become a double: they depend neither on the order of
// the inputs nor on the number of threads.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "_panels/panels.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace slices {

using panels::Panels;

// Digits of a column of doubles: the largest error of a product is then near that of a sum of doubles. Of floats: four
// digits express the 24 bits of every input larger than 2^-8 of the largest, so results are rounded once, to a float.
#if defined(SLICES)
static_assert(3 <= SLICES && SLICES <= 7, "a column has 3 to 7 digits");
template <class real>
constexpr size_t DIGITS = SLICES;
#else
template <class real>
constexpr size_t DIGITS = sizeof(real) == 8 ? 6 : 4;
#endif

// Inputs whose digits, at most 128 times a dosage of 2, are summed in 32 bits before the sum is taken over to 64.
#if !defined(SLICES_FLUSH)
#define SLICES_FLUSH (size_t(1) << 22)
#endif
constexpr size_t FLUSH = SLICES_FLUSH;
static_assert(FLUSH <= size_t(1) << 22 && FLUSH % panels::PANEL == 0, "a 32-bit sum must not overflow");

// 0x80 in each of S digits. Adding it makes them 0 .. 255 without a carry; its complement of each digit undoes that.
template <size_t S>
constexpr int64_t BIAS = 0x80808080808080 >> 8 * (7 - S);
template <size_t S>
constexpr int64_t LARGEST = 0x7f7f7f7f7f7f7f >> 8 * (7 - S);

constexpr uint64_t INFINITE = 0x7ff0000000000000;  // the bits of infinity; those of NaN are above

// The bits of |x|, which are ordered as the numbers are.
inline uint64_t magnitude(double x) {
    uint64_t bits;
    std::memcpy(&bits, &x, 8);
    return bits & ~(uint64_t(1) << 63);
}

// The nearest integer.
inline int64_t round(double x) {
#if defined(__AVX2__)
    return _mm_cvtsd_si64(_mm_set_sd(x));  // std::llrint is a call, for the sake of errno
#else
    return std::llrint(x);
#endif
}

// The largest numbers of a column, as bits.
struct Extent {
    uint64_t finite = 0, any = 0;

    void add(double x) {
        const uint64_t bits = magnitude(x);
        any = std::max(any, bits);
        finite = std::max(finite, bits < INFINITE ? bits : 0);
    }
    void add(const Extent& o) {
        any = std::max(any, o.any);
        finite = std::max(finite, o.finite);
    }
    bool has_nan() const { return any > INFINITE; }
    bool is_finite() const { return any < INFINITE; }
};

// 2^p and 2^-p as two factors each: p is beyond the exponents of a double where a column is tiny or huge.
struct Scale {
    double up[2], down[2];

    static Scale power(int p) {
        const int half = p / 2, rest = p - half;
        return {{std::ldexp(1, half), std::ldexp(1, rest)}, {std::ldexp(1, -half), std::ldexp(1, -rest)}};
    }
    template <size_t S>
    static Scale of(const Extent& extent) {
        double largest;
        int exponent;
        std::memcpy(&largest, &extent.finite, 8);
        std::frexp(largest, &exponent);
        const int p = int(8 * S) - 1 - exponent;
        return power(round(std::ldexp(largest, p)) > LARGEST<S> ? p - 1 : p);
    }

    int64_t fixed(double x) const { return magnitude(x) < INFINITE ? round(x * up[0] * up[1]) : 0; }
};

// S digits of `value`, the lowest in the lowest byte, as two's complements.
template <size_t S>
uint64_t digits(int64_t value) {
    return uint64_t(value + BIAS<S>) ^ BIAS<S>;
}

// The sum of a row, from the sums of its digits: in two parts, which together exceed 64 bits.
struct Total {
    static constexpr size_t LOW = 3;  // digits
    int64_t high, low;

    template <size_t S, class integer>
    void add(const integer* sums) {
        for (size_t s = 0; s < LOW; s++) low += sums[s] * (int64_t(1) << 8 * s);
        for (size_t s = LOW; s < S; s++) high += sums[s] * (int64_t(1) << 8 * (s - LOW));
    }
    template <class real>
    real value(const Scale& scale) const {
        return real((double(high) * double(1 << 8 * LOW) + double(low)) * scale.down[0] * scale.down[1]);
    }
};

// What the infinities and NaN among the inputs x of a column change: they were left out, and count as in a dense
// product, where 0 times NaN or infinity is NaN. x and out have a stride of k.
template <class real>
void add_non_finite(const Panels& z, bool transposed, const Extent& extent, const real* x, size_t k, real* out) {
    const size_t rows = transposed ? z.m : z.n, inputs = transposed ? z.n : z.m;
    if (extent.has_nan())
        for (size_t row = 0; row < rows; row++) out[row * k] = std::numeric_limits<real>::quiet_NaN();
    else if (!extent.is_finite())
        for (size_t i = 0; i < inputs; i++)
            if (std::isinf(x[i * k]))
                for (size_t row = 0; row < rows; row++)
                    out[row * k] += real(transposed ? z.dosage(i, row) : z.dosage(row, i)) * x[i * k];
}

}  // namespace slices
