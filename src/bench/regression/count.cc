// Products of one kernel library, for callgrind to count: count LIBRARY BED N M REPEATS DIRECTION:K ...
//
// Callgrind is told to write its counts after each call of `counted_*`, and to begin anew before it, so that loading,
// reading and inputs are not in them: one part for the preparation, then REPEATS parts for each product.
#include "gmk.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

extern "C" {
__attribute__((noinline)) void* counted_prepare(decltype(&gmk_prepare) prepare, const uint8_t* bed, size_t n, size_t m) {
    void* z = prepare(bed, (n + 3) / 4, n, m, 1, 8);
    asm volatile("" : : "r"(z) : "memory");
    return z;
}

__attribute__((noinline)) int counted_product(decltype(&gmk_matmul) product, const void* z, const double* x, size_t k,
                                              double* out) {
    const int failed = product(z, x, k, out);
    asm volatile("" : : "r"(failed) : "memory");
    return failed;
}
}

namespace {

[[noreturn]] void fail(const char* what, const char* why) {
    std::fprintf(stderr, "%s: %s\n", what, why);
    std::exit(1);
}

template <class F>
F symbol(void* library, const char* name) {
    void* found = dlsym(library, name);
    if (!found) fail(name, "the library has no such function");
    return reinterpret_cast<F>(found);
}

std::vector<uint8_t> read_bed(const char* path, size_t bytes) {
    std::vector<uint8_t> codes(bytes);
    std::FILE* file = std::fopen(path, "rb");
    if (!file || std::fseek(file, 3, SEEK_SET) || std::fread(codes.data(), 1, bytes, file) != bytes)
        fail(path, "cannot be read");
    std::fclose(file);
    return codes;
}

// Values in (-1, 1) that are the same in every run.
std::vector<double> inputs(size_t count) {
    std::vector<double> x(count);
    uint64_t state = 1;
    for (double& value : x) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        value = double(int64_t(state)) / 9223372036854775808.0;
    }
    return x;
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 7) fail(arguments[0], "needs LIBRARY BED N M REPEATS DIRECTION:K ...");
    void* library = dlopen(arguments[1], RTLD_NOW);
    if (!library) fail(arguments[1], dlerror());
    if (symbol<decltype(&gmk_abi)>(library, "gmk_abi")() != GMK_ABI) fail(arguments[1], "speaks another kernel ABI");
    const size_t n = std::atol(arguments[3]), m = std::atol(arguments[4]), repeats = std::atol(arguments[5]);
    const std::vector<uint8_t> codes = read_bed(arguments[2], m * ((n + 3) / 4));
    void* z = counted_prepare(symbol<decltype(&gmk_prepare)>(library, "gmk_prepare"), codes.data(), n, m);
    if (!z) fail(arguments[1], "no memory to prepare the genotypes");
    for (int i = 6; i < count; i++) {
        const bool matmul = std::strncmp(arguments[i], "matmul:", 7) == 0;
        const size_t k = std::atol(std::strchr(arguments[i], ':') + 1);
        const auto product = symbol<decltype(&gmk_matmul)>(library, matmul ? "gmk_matmul" : "gmk_rmatmul");
        const std::vector<double> x = inputs((matmul ? m : n) * k);
        std::vector<double> out((matmul ? n : m) * k);
        for (size_t repeat = 0; repeat < repeats; repeat++)
            if (counted_product(product, z, x.data(), k, out.data())) fail(arguments[i], "no memory for the product");
    }
    symbol<decltype(&gmk_free)>(library, "gmk_free")(z);
    return 0;
}
