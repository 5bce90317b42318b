// For each product the faster of the schemes that share the one stored copy.
#include "_panels/interface.h"
#include "lut5/lut5.h"

#include <cmath>

#if defined(__AVX512VNNI__)
#include "slices/slices.h"
#endif

using panels::Panels;

namespace {

// 8-bit dot products (VNNI) take six steps for each column of doubles, a table lookup as long for one column as for
// four. Zen 4, G/s at 1, 2 and 3 columns: slices 34, 33, 35; lut5 14, 27, 51.
bool by_slices(size_t k, int real) {
#if defined(__AVX512VNNI__)
    return k <= 2 && real == 8;
#else
    return (void)k, (void)real, false;
#endif
}

template <class real>
int multiply(const Panels& z, const void* x, size_t k, void* out, bool transposed) {
#if defined(__AVX512VNNI__)
    // NaN and infinity have no digits. Lookups take them, so that they spread alike for any number of columns.
    const auto *first = static_cast<const real*>(x), *last = first + (transposed ? z.n : z.m) * k;
    if (by_slices(k, z.real) && std::all_of(first, last, [](real value) { return std::isfinite(value); }))
        return slices::product<real>(z, x, k, out, transposed);
#endif
    return lut5::product<real>(z, x, k, out, transposed);
}

int multiply(const void* z, const void* x, size_t k, void* out, bool transposed) {
    const auto& matrix = *static_cast<const Panels*>(z);
    return (matrix.real == 8 ? multiply<double> : multiply<float>)(matrix, x, k, out, transposed);
}

}  // namespace

int gmk_matmul(const void* z, const void* v, size_t k, void* out) { return multiply(z, v, k, out, false); }
int gmk_rmatmul(const void* z, const void* u, size_t k, void* out) { return multiply(z, u, k, out, true); }

// The name of the kernel whose scheme a product of k columns goes through. Both directions choose alike today.
extern "C" const char* auto_scheme(size_t k, int real, int /*transposed*/) {
    return by_slices(k, real) ? "slices" : "lut5";
}
