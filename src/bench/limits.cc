// The limits of the machine that kernels are held against: multiply-adds per second, bytes read and copied
// per second. Each function does the work and says how much it did; the caller holds the clock.
#include <omp.h>

#include <cstdint>
#include <cstring>

namespace {

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX2__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;  // what every x86-64 and arm64 has, and what the kernels' scalar builds use
#endif

// The widest vector of the target.
template <class item>
struct Widest {
    static constexpr int LANES = VECTOR_BYTES / sizeof(item);
    typedef item type __attribute__((vector_size(VECTOR_BYTES)));
};

// A fused multiply-add takes 4 to 5 cycles, a multiply and an add 6 to 8, and there are 2 units for them:
// 10 to 16 independent chains saturate them; 12 leave room in 16 registers.
constexpr int CHAINS = 12;

// Multiply-adds of `iterations` rounds over independent chains, as fast as one core makes them.
template <class real>
uint64_t fma_chains(uint64_t iterations) {
    using vec = typename Widest<real>::type;
    vec chain[CHAINS], factor = vec{} + real(0.999), term = vec{} + real(0.001);
    // The values are read back at run time, so the chains cannot be folded into a constant.
    asm volatile("" : "+m"(factor), "+m"(term));
    for (auto& c : chain) c = term;
    for (uint64_t i = 0; i < iterations; i++)
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) chain[c] = chain[c] * factor + term;
    for (auto& c : chain) asm volatile("" : : "m"(c));  // the result is used
    return iterations * CHAINS * Widest<real>::LANES;
}

// The part [first, last) of `count` that falls to this thread.
void my_share(uint64_t count, uint64_t& first, uint64_t& last) {
    const uint64_t threads = omp_get_num_threads(), me = omp_get_thread_num();
    first = count * me / threads;
    last = count * (me + 1) / threads;
}

}  // namespace

extern "C" {

// Scalar multiply-adds done by all threads together; real: 4 or 8 bytes.
uint64_t limits_fma(int threads, uint64_t iterations, int real) {
    uint64_t done = 0;
#pragma omp parallel num_threads(threads) reduction(+ : done)
    done += real == 8 ? fma_chains<double>(iterations) : fma_chains<float>(iterations);
    return done;
}

// Reads the whole 64-byte lines of `buffer` once and returns the xor of their words: nothing can be skipped.
// Each thread walks four streams, which keeps more lines in flight than one.
uint64_t limits_read(const void* buffer, uint64_t bytes, int threads) {
    using vec = Widest<uint64_t>::type;
    constexpr int STREAMS = 4;
    const auto at = [buffer](uint64_t i) {
        vec v;
        std::memcpy(&v, static_cast<const char*>(buffer) + i * sizeof v, sizeof v);
        return v;
    };
    uint64_t checksum = 0;
#pragma omp parallel num_threads(threads) reduction(^ : checksum)
    {
        uint64_t first, last;
        my_share(bytes / 64 * 64 / sizeof(vec), first, last);
        const uint64_t quarter = (last - first) / STREAMS;
        vec sum[STREAMS] = {};
        for (uint64_t i = first; i < first + quarter; i++)
            for (int s = 0; s < STREAMS; s++) sum[s] ^= at(i + s * quarter);
        for (uint64_t i = first + STREAMS * quarter; i < last; i++) sum[0] ^= at(i);
        uint64_t words[sizeof sum / 8];
        std::memcpy(words, sum, sizeof sum);
        for (const uint64_t word : words) checksum ^= word;
    }
    return checksum;
}

// Copies `bytes` bytes, a contiguous share a thread, and returns the bytes moved: read plus written.
uint64_t limits_copy(void* to, const void* from, uint64_t bytes, int threads) {
#pragma omp parallel num_threads(threads)
    {
        uint64_t first, last;
        my_share(bytes, first, last);
        std::memcpy(static_cast<char*>(to) + first, static_cast<const char*>(from) + first, last - first);
    }
    return 2 * bytes;
}
}
