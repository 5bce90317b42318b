// The C interface of slices.h, or of the plain loops of scalar.h.
#if defined(__AVX2__)
#include "slices/slices.h"
#else
#include "slices/scalar.h"
#endif
#include "_panels/interface.h"

namespace {

int multiply(const void* z, const void* x, size_t k, void* out, bool transposed) {
    const auto& matrix = *static_cast<const panels::Panels*>(z);
    return (matrix.real == 8 ? slices::product<double> : slices::product<float>)(matrix, x, k, out, transposed);
}

}  // namespace

int gmk_matmul(const void* z, const void* v, size_t k, void* out) { return multiply(z, v, k, out, false); }
int gmk_rmatmul(const void* z, const void* u, size_t k, void* out) { return multiply(z, u, k, out, true); }
