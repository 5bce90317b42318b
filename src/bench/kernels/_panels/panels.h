// The one stored copy of the kernels that serve both directions from it: dosages at 2 bits, panel by panel.
//
// A panel holds 256 individuals: 64 bytes, one cache line, of each SNP. The bytes are those of the .bed file
// with its code replaced by the dosage, so that no product has to do it: 0, 1, 2; a missing call is 0.
#pragma once
#include <omp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

namespace panels {

constexpr size_t PANEL = 256;       // individuals
constexpr size_t LINE = PANEL / 4;  // bytes of a SNP in a panel
constexpr size_t TAIL = 64;         // SNPs of zeros after the last one: tiles may be read whole

// Cache-line aligned memory for `count` items, in huge pages where it spans some: without them the strides
// between panels miss the TLB (Zen 4, virtualised: unpacking a tile took 3.8 cycles a word, 1.6 with them).
// Null when there is no memory.
template <class T>
T* allocate(size_t count) {
    constexpr size_t HUGE_PAGE = size_t(2) << 20;
    const size_t bytes = std::max<size_t>(64, count * sizeof(T));
    const size_t align = bytes >= HUGE_PAGE ? HUGE_PAGE : 64;
    const size_t whole = (bytes + align - 1) / align * align;
    void* memory = std::aligned_alloc(align, whole);
    if (memory && align == HUGE_PAGE) madvise(memory, whole, MADV_HUGEPAGE);
    return static_cast<T*>(memory);
}

// Memory that goes when its scope ends.
template <class T>
struct Owned {
    T* data;
    explicit Owned(size_t count) : data(allocate<T>(count)) {}
    ~Owned() { std::free(data); }
    Owned(const Owned&) = delete;
    Owned& operator=(const Owned&) = delete;
    explicit operator bool() const { return data; }
};

// Item `part` of `parts` contiguous shares of `count`, as even as they can be.
inline size_t share(size_t count, size_t part, size_t parts) { return count * part / parts; }

struct Panels {
    size_t n, m;
    int threads, real;
    uint8_t* codes;  // [panel][SNP][LINE], then TAIL lines of zeros; padding individuals are 0

    size_t count() const { return (n + PANEL - 1) / PANEL; }
    size_t bytes() const { return (count() * m + TAIL) * LINE; }
    const uint8_t* line(size_t panel, size_t snp) const { return codes + (panel * m + snp) * LINE; }
    size_t individuals(size_t panel) const { return std::min(PANEL, n - panel * PANEL); }
};

// Eight bytes of .bed codes 0, 1 (missing), 2, 3 as dosages 0, 0, 1, 2: the high bit says that the allele is
// there, the low bit then that it is there twice.
inline uint64_t dosages(uint64_t codes) {
    const uint64_t carries = codes >> 1 & 0x5555555555555555, twice = carries & codes;
    return carries + twice;
}

// A line from the `bytes` bytes of .bed codes of up to 256 individuals; `last` keeps the used bits of the last.
inline void recode(const uint8_t* bed, size_t bytes, uint8_t last, uint8_t* line) {
    alignas(64) uint64_t words[LINE / 8] = {};
    std::memcpy(words, bed, bytes);
    reinterpret_cast<uint8_t*>(words)[bytes - 1] &= last;
    for (uint64_t& word : words) word = dosages(word);
    std::memcpy(line, words, LINE);
}

// Packs a .bed payload. A thread packs the panels that it later multiplies, so that their pages are near it.
// Reading goes through the file's rows a block of SNPs at a time, which keeps the source's pages in the cache
// while every panel takes its 64 bytes of them. Null: no memory.
inline Panels* pack(const uint8_t* bed, size_t stride, size_t n, size_t m, int threads, int real) {
    constexpr size_t BLOCK = 64;  // SNPs: their .bed rows stay in the second-level cache up to n = 30,000
    auto* z = new (std::nothrow) Panels{n, m, threads, real, nullptr};
    if (!z) return nullptr;
    z->codes = allocate<uint8_t>(z->bytes());
    if (!z->codes) {
        delete z;
        return nullptr;
    }
    std::memset(z->codes + z->bytes() - TAIL * LINE, 0, TAIL * LINE);
#pragma omp parallel num_threads(threads)
    {
        const size_t me = omp_get_thread_num(), all = omp_get_num_threads();
        const size_t first = share(z->count(), me, all), last = share(z->count(), me + 1, all);
        for (size_t start = 0; start < m; start += BLOCK)
            for (size_t panel = first; panel < last; panel++) {
                const size_t individuals = z->individuals(panel), bytes = (individuals + 3) / 4;
                const uint8_t used = 0xff >> 2 * (4 * bytes - individuals);
                for (size_t j = start; j < std::min(m, start + BLOCK); j++)
                    recode(bed + j * stride + panel * LINE, bytes, used, z->codes + (panel * m + j) * LINE);
            }
    }
    return z;
}

inline void release(Panels* z) {
    std::free(z->codes);
    delete z;
}

// The second-level cache of a core in bytes; 1 MB where the system does not say.
inline size_t second_level_cache() {
#ifdef _SC_LEVEL2_CACHE_SIZE
    const long size = sysconf(_SC_LEVEL2_CACHE_SIZE);
    if (size > 0) return size;
#endif
    return size_t(1) << 20;
}

}  // namespace panels
