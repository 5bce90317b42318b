// Products of native matrices as a custom call of XLA: straight on its buffers, without Python.
//
// A compiled program knows a matrix by a number, not by an address: a program that outlives its matrix gets an error.
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>

#include "isa.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

using Product = int (*)(const void* z, const void* x, size_t k, void* out);  // as in gmk.h

struct Matrix {
    const void* z;  // NULL: closed
    Product matmul, rmatmul;
    int64_t rows, columns;
    ffi::DataType type;
    std::shared_mutex used;  // shared by the products that run
};

std::mutex guard;  // of the two below
std::map<int64_t, std::shared_ptr<Matrix>> matrices;
int64_t last = 0;

std::shared_ptr<Matrix> find(int64_t id) {
    const std::lock_guard lock(guard);
    const auto found = matrices.find(id);
    return found == matrices.end() ? nullptr : found->second;
}

ffi::Error multiply(int64_t id, bool transposed, ffi::AnyBuffer x, ffi::Result<ffi::AnyBuffer> out) {
    const auto matrix = find(id);
    if (!matrix) return {ffi::ErrorCode::kFailedPrecondition, "this genotype matrix is closed"};
    const std::shared_lock lock(matrix->used);
    if (!matrix->z) return {ffi::ErrorCode::kFailedPrecondition, "this genotype matrix is closed"};
    const int64_t from = transposed ? matrix->rows : matrix->columns, to = transposed ? matrix->columns : matrix->rows;
    const auto given = x.dimensions(), wanted = out->dimensions();
    if (given.size() != 2 || wanted.size() != 2 || given[0] != from || wanted[0] != to || given[1] != wanted[1] ||
        x.element_type() != matrix->type || out->element_type() != matrix->type)
        return ffi::Error::InvalidArgument("operand or result is not of this genotype matrix's shape and type");
    const auto product = transposed ? matrix->rmatmul : matrix->matmul;
    if (product(matrix->z, x.untyped_data(), given[1], out->untyped_data()))
        return {ffi::ErrorCode::kResourceExhausted, "no memory for the work space of a product"};
    return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(jax_product, multiply,
                              ffi::Ffi::Bind()
                                  .Attr<int64_t>("matrix")
                                  .Attr<bool>("transposed")
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());

extern "C" {

int jax_runs(void) { return isa_runs(); }

// The number by which jax_product knows a (rows, columns) matrix of floats (real = 4) or doubles (real = 8).
int64_t jax_open(const void* z, Product matmul, Product rmatmul, size_t rows, size_t columns, int real) {
    const auto type = real == 8 ? ffi::F64 : ffi::F32;
    const std::lock_guard lock(guard);
    matrices[++last].reset(new Matrix{z, matmul, rmatmul, int64_t(rows), int64_t(columns), type, {}});
    return last;
}

// Returns when no product of the matrix runs; later ones are errors.
void jax_close(int64_t id) {
    const auto matrix = find(id);
    if (!matrix) return;
    {
        const std::lock_guard lock(matrix->used);
        matrix->z = nullptr;
    }
    const std::lock_guard lock(guard);
    matrices.erase(id);
}

}  // extern "C"
