// The limits of the machine that kernels are held against: multiply-adds per second, bytes read and copied
// per second. Each function does the work and says how much it did; the caller holds the clock.
#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace {

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX2__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 0;  // one lane
#endif

// Latency 4 to 5 cycles times 2 units needs 10 independent chains; 12 leave room in 16 registers.
constexpr int CHAINS = 12;

// Multiply-adds of `iterations` rounds over independent chains, as fast as one core makes them.
template <class real>
uint64_t fma_chains(uint64_t iterations) {
    constexpr int LANES = VECTOR_BYTES ? VECTOR_BYTES / sizeof(real) : 1;
    typedef real vec __attribute__((vector_size(LANES * sizeof(real))));
    vec chain[CHAINS], factor, term;
    for (int l = 0; l < LANES; l++) factor[l] = real(0.999), term[l] = real(0.001);
    // The values are read back at run time, so the chains cannot be folded into a constant.
    asm volatile("" : "+m"(factor), "+m"(term));
    for (auto& c : chain) c = term;
    for (uint64_t i = 0; i < iterations; i++)
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) chain[c] = chain[c] * factor + term;
    for (auto& c : chain) asm volatile("" : : "m"(c));  // the result is used
    return iterations * CHAINS * LANES;
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

// Reads the whole 64-byte lines of `buffer` once and returns their xor: nothing that was read can be skipped.
// Each thread walks four streams, which keeps more lines in flight than one.
uint64_t limits_read(const void* buffer, uint64_t bytes, int threads) {
    typedef uint64_t line __attribute__((vector_size(64), aligned(8), may_alias));
    constexpr int STREAMS = 4;
    const auto* lines = static_cast<const line*>(buffer);
    uint64_t checksum = 0;
#pragma omp parallel num_threads(threads) reduction(^ : checksum)
    {
        uint64_t first, last;
        my_share(bytes / sizeof(line), first, last);
        const uint64_t quarter = (last - first) / STREAMS;
        line sum[STREAMS] = {};
        for (uint64_t i = first; i < first + quarter; i++)
            for (int s = 0; s < STREAMS; s++) sum[s] ^= lines[i + s * quarter];
        for (uint64_t i = first + STREAMS * quarter; i < last; i++) sum[0] ^= lines[i];
        for (const line& s : sum)
            for (int l = 0; l < 8; l++) checksum ^= s[l];
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
