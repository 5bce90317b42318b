// The C interface of lut5.h, or of the plain loops of scalar.h.
#if defined(LUT5_SCALAR)
#include "lut5/scalar.h"
#else
#include "lut5/lut5.h"
#endif
#include "_panels/interface.h"

namespace {

int multiply(const void* z, const void* x, size_t k, void* out, bool transposed) {
    const auto& matrix = *static_cast<const panels::Panels*>(z);
    return (matrix.real == 8 ? lut5::product<double> : lut5::product<float>)(matrix, x, k, out, transposed);
}

}  // namespace

int gmk_matmul(const void* z, const void* v, size_t k, void* out) { return multiply(z, v, k, out, false); }
int gmk_rmatmul(const void* z, const void* u, size_t k, void* out) { return multiply(z, u, k, out, true); }
