// Columns of doubles ↔ the fixed point of the products (Ozaki's scheme). Column c of X becomes the integers
// q = rint(x 2^-e), e such that the largest |q| has 8 S − 2 bits, and these S signed digits to the base 256. Integer sums
// of products with dosages are exact in any order; what is lost is q's rounding, 2^(1 − 8 S) of the column's largest |x|.
#pragma once
#include "device.h"

constexpr u64 INFINITE = 0x7ff0000000000000ull;  // the bits of infinity: those of a NaN's magnitude are above

// e of a column: 2^e is what the integer 1 stands for. 0 for a column of zeros, and for one that is not finite.
DEVICE int exponent_of(u64 largest, int slices) {
    if (largest == 0 || largest >= INFINITE) return 0;
    int exponent;
    frexp(__longlong_as_double(i64(largest)), &exponent);
    return exponent - (8 * slices - 2);
}

// The integer high 2^32 + low, in units of 2^e. Both parts are exact doubles, so their sum is the only rounding.
DEVICE double rounded(i64 high, i64 low, int exponent) {
    high += low >> 32;
    return ldexp(double(high) * 4294967296.0 + double(low & 0xffffffffll), exponent);
}
