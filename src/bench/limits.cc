// The limits of the machine that kernels are held against, each per second: floating-point multiply-adds, table
// lookups, 8-bit multiply-adds, bytes read and copied. Each function does the work and says how much it did; the
// caller holds the clock. A checksum says that the work was done right.
#if defined(__SSE2__)
#include <immintrin.h>
#endif
#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

// gcc 12's AVX-512 header warns about its own undefined registers.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

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
uint64_t fma_chains(uint64_t iterations, double& checksum) {
    using vec = typename Widest<real>::type;
    vec chain[CHAINS], factor = vec{} + real(0.999), term = vec{} + real(0.001);
    // The values are read back at run time, so the chains cannot be folded into a constant.
    asm volatile("" : "+m"(factor), "+m"(term));
    for (auto& c : chain) c = term;
    for (uint64_t i = 0; i < iterations; i++)
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) chain[c] = chain[c] * factor + term;
    for (auto& c : chain)
        for (int lane = 0; lane < Widest<real>::LANES; lane++) checksum += c[lane];
    return iterations * CHAINS * Widest<real>::LANES;
}

// Lookups as the kernels with tables make them: a 64-bit word has the codes of eight tables, a table an entry of
// several doubles for each of 243 codes.
constexpr int CODES = 243, GROUPS = 8;
constexpr int WORDS = 512;  // 4 KB of codes: they stay in the first-level cache beside one table

// A vector of doubles; gcc 12 keeps a vector of one in memory.
template <int BYTES>
struct Doubles {
    typedef double type __attribute__((vector_size(BYTES)));
};
template <>
struct Doubles<sizeof(double)> {
    typedef double type;
};

// A table entry, as vectors of the widest register that divides it.
template <int COLUMNS>
struct Entry {
    static constexpr int BYTES = COLUMNS * sizeof(double), PART = std::min(VECTOR_BYTES, BYTES & -BYTES);
    static constexpr int PARTS = BYTES / PART;
    // Additions in flight, in at most 12 registers.
    static constexpr int SUMS = PARTS == 1 ? 8 : PARTS <= 3 ? 4 : 2;
    typename Doubles<PART>::type part[PARTS];
};

// Where in a table the entry of a word's code g begins, in bytes: a rotation and a mask, and a product unless the
// entry is a power of two.
template <class E>
inline uint64_t place(uint64_t word, int g) {
    constexpr int POWER = E::BYTES & -E::BYTES;
    const int by = (8 * g - __builtin_ctz(POWER)) & 63;
    return ((word >> by | word << (64 - by)) & (0xff * POWER)) * (E::BYTES / POWER);
}

// Every code equally often, in no order that a prefetcher could follow.
void fill_words(uint64_t* words) {
    for (uint64_t i = 0; i < WORDS; i++) {
        words[i] = 0;
        for (uint64_t g = 0; g < GROUPS; g++) words[i] |= (i * GROUPS + g) * 89 % CODES << 8 * g;
    }
}

// Column c of code e in table t holds 1 + e + 243 t + 1944 c: sums of these are exact.
template <class E>
void fill_tables(E* tables, int count) {
    constexpr int COLUMNS = E::BYTES / sizeof(double);
    for (int e = 0; e < count * CODES; e++) {
        double row[COLUMNS];
        for (int c = 0; c < COLUMNS; c++) row[c] = 1 + e + GROUPS * CODES * c;
        std::memcpy(&tables[e], row, sizeof row);
    }
}

template <int COLUMNS, int TABLES>
uint64_t look_up(uint64_t iterations, double& checksum) {
    using E = Entry<COLUMNS>;
    alignas(64) E tables[TABLES * CODES];
    alignas(64) uint64_t words[WORDS];
    fill_words(words);
    fill_tables(tables, TABLES);
    asm volatile("" : : "r"(tables), "r"(words) : "memory");
    E sums[E::SUMS];
    std::memset(sums, 0, sizeof sums);
    for (uint64_t i = 0; i < iterations; i++) {
        // Two words a round: with AVX-512 on Zen 4 that is a sixth faster at 2 and 4 columns than one.
        const uint64_t pair[2] = {words[2 * i % WORDS], words[2 * i % WORDS + 1]};
#pragma GCC unroll 16
        for (int g = 0; g < 2 * GROUPS; g++) {
            const auto* table = reinterpret_cast<const char*>(tables + g % TABLES * CODES);
            const auto* entry = reinterpret_cast<const E*>(table + place<E>(pair[g / GROUPS], g % GROUPS));
#pragma GCC unroll 8
            for (int v = 0; v < E::PARTS; v++) sums[g % E::SUMS].part[v] += entry->part[v];
        }
    }
    double values[E::SUMS * COLUMNS];
    std::memcpy(values, sums, sizeof sums);
    for (const double value : values) checksum += value;
    return iterations * 2 * GROUPS;
}

template <int TABLES>
uint64_t look_up(int columns, uint64_t iterations, double& checksum) {
    switch (columns) {
        case 1: return look_up<1, TABLES>(iterations, checksum);
        case 2: return look_up<2, TABLES>(iterations, checksum);
        case 4: return look_up<4, TABLES>(iterations, checksum);
        case 8: return look_up<8, TABLES>(iterations, checksum);
        case 12: return look_up<12, TABLES>(iterations, checksum);
    }
    return 0;
}

// Sums of products of unsigned and signed 8-bit integers in 32-bit lanes, by the target's shortest way.
// PRODUCTS: how many one step makes. load: `bytes` in the form that the step takes.
#if defined(__AVX512VNNI__)
using Bytes = __m512i;
constexpr int PRODUCTS = 64;
inline Bytes load(const int8_t* bytes) { return _mm512_loadu_si512(bytes); }
inline Bytes add_products(Bytes sum, Bytes z, Bytes x) { return _mm512_dpbusd_epi32(sum, z, x); }
#elif defined(__AVX512BW__)
using Bytes = __m512i;
constexpr int PRODUCTS = 64;
inline Bytes load(const int8_t* bytes) { return _mm512_loadu_si512(bytes); }
inline Bytes add_products(Bytes sum, Bytes z, Bytes x) {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(z, x), _mm512_set1_epi16(1)));
}
#elif defined(__AVX2__)
using Bytes = __m256i;
constexpr int PRODUCTS = 32;
inline Bytes load(const int8_t* bytes) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes)); }
inline Bytes add_products(Bytes sum, Bytes z, Bytes x) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(z, x), _mm256_set1_epi16(1)));
}
#elif defined(__SSE2__)
using Bytes = __m128i;  // as 16-bit integers: there is no shorter product
constexpr int PRODUCTS = 8;
inline Bytes load(const int8_t* b) { return _mm_setr_epi16(b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]); }
inline Bytes add_products(Bytes sum, Bytes z, Bytes x) { return _mm_add_epi32(sum, _mm_madd_epi16(z, x)); }
#else
typedef int32_t Bytes __attribute__((vector_size(16)));
constexpr int PRODUCTS = 4;
inline Bytes load(const int8_t* b) { return Bytes{b[0], b[1], b[2], b[3]}; }
inline Bytes add_products(Bytes sum, Bytes z, Bytes x) { return sum + z * x; }
#endif

// The compiler has to keep `value` in a vector register and may not know what it is.
inline void keep(Bytes& value) {
#if defined(__AVX512F__)
    asm volatile("" : "+v"(value));
#elif defined(__SSE2__)
    asm volatile("" : "+x"(value));
#elif defined(__aarch64__)
    asm volatile("" : "+w"(value));
#else
    asm volatile("" : "+m"(value));
#endif
}

// Byte i of the dosages is i % 3, of the other factor 37 i % 256 - 128. The sums wrap at 32 bits.
uint64_t int8_chains(uint64_t iterations, uint32_t& checksum) {
    int8_t dosages[64], values[64];
    for (int i = 0; i < 64; i++) {
        dosages[i] = i % 3;
        values[i] = 37 * i % 256 - 128;
    }
    Bytes z = load(dosages), x = load(values), sums[CHAINS];
    std::memset(sums, 0, sizeof sums);
    for (uint64_t i = 0; i < iterations; i++)
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) {
            keep(z);  // or one product would serve all sums
            sums[c] = add_products(sums[c], z, x);
        }
    uint32_t lanes[sizeof sums / 4];
    std::memcpy(lanes, sums, sizeof sums);
    for (const uint32_t lane : lanes) checksum += lane;
    return iterations * CHAINS * PRODUCTS;
}

// The part [first, last) of `count` that falls to this thread.
void my_share(uint64_t count, uint64_t& first, uint64_t& last) {
    const uint64_t threads = omp_get_num_threads(), me = omp_get_thread_num();
    first = count * me / threads;
    last = count * (me + 1) / threads;
}

}  // namespace

extern "C" {

// Scalar multiply-adds done by all threads together; real: 4 or 8 bytes. checksum: the sum of all chains' ends,
// each of which begins with t and is f times itself plus t in each round, f = 0.999 and t = 0.001.
uint64_t limits_fma(int threads, uint64_t iterations, int real, double* checksum) {
    uint64_t done = 0;
    double sum = 0;
#pragma omp parallel num_threads(threads) reduction(+ : done, sum)
    done += real == 8 ? fma_chains<double>(iterations, sum) : fma_chains<float>(iterations, sum);
    *checksum = sum;
    return done;
}

// Lookups done by all threads together: loads and additions of `columns` (1, 2, 4, 8, 12) doubles from one of
// `tables` (1 or 8) tables, `iterations` pairs of words of eight codes a thread. checksum: the sum of all entries looked up.
// 0 for other numbers of columns and tables.
uint64_t limits_lookups(int threads, uint64_t iterations, int columns, int tables, double* checksum) {
    uint64_t done = 0;
    double sum = 0;
#pragma omp parallel num_threads(threads) reduction(+ : done, sum)
    done += tables == 1   ? look_up<1>(columns, iterations, sum)
            : tables == 8 ? look_up<8>(columns, iterations, sum)
                          : 0;
    *checksum = sum;
    return done;
}

// 8-bit multiply-adds done by all threads together. checksum: the sum of all products, modulo 2^32.
uint64_t limits_int8(int threads, uint64_t iterations, uint32_t* checksum) {
    uint64_t done = 0;
    uint32_t sum = 0;
#pragma omp parallel num_threads(threads) reduction(+ : done, sum)
    done += int8_chains(iterations, sum);
    *checksum = sum;
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
