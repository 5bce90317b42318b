// The C interface of lut5.h, or of the plain loops of scalar.h.
#if defined(LUT5_SCALAR)
#include "lut5/scalar.h"
#else
#include "lut5/lut5.h"
#endif

#include "gmk.h"

using panels::Panels;

int gmk_abi(void) { return GMK_ABI; }

void* gmk_prepare(const uint8_t* bed, size_t stride, size_t n, size_t m, int threads, int real) {
    return panels::pack(bed, stride, n, m, threads, real);
}

size_t gmk_bytes(const void* z) { return static_cast<const Panels*>(z)->bytes(); }

int gmk_matmul(const void* z, const void* v, size_t k, void* out) {
    const auto& matrix = *static_cast<const Panels*>(z);
    return (matrix.real == 8 ? lut5::product<double> : lut5::product<float>)(matrix, v, k, out, false);
}

int gmk_rmatmul(const void* z, const void* u, size_t k, void* out) {
    const auto& matrix = *static_cast<const Panels*>(z);
    return (matrix.real == 8 ? lut5::product<double> : lut5::product<float>)(matrix, u, k, out, true);
}

void gmk_free(void* z) { panels::release(static_cast<Panels*>(z)); }
