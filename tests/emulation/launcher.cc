// A compilation of kernels as a shared library: SOURCE is their .cu file, KERNELS a list of X(name).
#include SOURCE

#include <cstring>
#include <utility>

namespace {
template <class... A, size_t... I>
std::string call(void (*kernel)(A...), dim3 grid, dim3 block, size_t shared, void** arguments, bool lazy, unsigned seed,
                 std::index_sequence<I...>) {
    return emulator::launch(grid, block, shared, [=] { kernel(*(A*)arguments[I]...); }, lazy, seed);
}
template <class... A>
std::string call(void (*kernel)(A...), dim3 grid, dim3 block, size_t shared, void** arguments, bool lazy, unsigned seed) {
    return call(kernel, grid, block, shared, arguments, lazy, seed, std::index_sequence_for<A...>{});
}
}  // namespace

// Arguments as in cuLaunchKernel. What went wrong, empty if nothing did; null if there is no such kernel.
extern "C" const char* emulated_launch(const char* name, unsigned gx, unsigned gy, unsigned threads, size_t shared,
                                       void** arguments, int lazy, unsigned seed) {
    static std::string failure;
#define X(kernel)                                                                               \
    if (!std::strcmp(name, #kernel)) {                                                          \
        failure = call(kernel, dim3(gx, gy), dim3(threads), shared, arguments, lazy != 0, seed); \
        return failure.c_str();                                                                 \
    }
    KERNELS
#undef X
    return nullptr;
}
extern "C" void emulated_counts(uint64_t* out) {
    std::memcpy(out, &emulator::device().counts, sizeof(emulator::Counts));
    emulator::device().counts = {};
}
