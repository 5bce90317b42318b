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

#include "_panels/bytes.h"

namespace panels {

constexpr size_t PANEL = 256;       // individuals
constexpr size_t LINE = PANEL / 4;  // bytes of a SNP in a panel
constexpr size_t BLOCK = 128;       // SNPs that are packed for all panels in turn
constexpr size_t AHEAD = 2;         // panels whose lines are fetched beforehand
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

// Where share `part` of `parts` contiguous shares of `count` begins, as even as they can be.
inline size_t share(size_t count, size_t part, size_t parts) { return count * part / parts; }

struct Panels {
    size_t n, m;
    int threads, real;
    uint8_t* codes;  // [panel][SNP][LINE], then TAIL lines of zeros; padding individuals are 0
    size_t most;     // SNPs that `codes` has memory for

    size_t count() const { return (n + PANEL - 1) / PANEL; }
    size_t bytes() const { return (count() * m + TAIL) * LINE; }
    const uint8_t* line(size_t panel, size_t snp) const { return codes + (panel * m + snp) * LINE; }
    size_t individuals(size_t panel) const { return std::min(PANEL, n - panel * PANEL); }
    int dosage(size_t individual, size_t snp) const {
        const size_t i = individual % PANEL;
        return line(individual / PANEL, snp)[i / 4] >> 2 * (i % 4) & 3;
    }
};

// .bed codes 0, 1 (missing), 2, 3 as dosages 0, 0, 1, 2: the high bit says that the allele is there, the low bit then
// that it is there twice.
inline Bytes dosages(Bytes codes) {
    const Bytes there = codes.right<1>() & Bytes::repeat(0x55);
    return there + (there & codes);
}

// A panel's lines of SNPs [begin, end) from the .bed rows. Lines go past the caches: nothing reads them soon.
inline void pack_lines(const uint8_t* bed, size_t stride, size_t panel, size_t begin, size_t end, uint8_t* lines) {
    for (size_t j = begin; j < end; j++) {
        const uint8_t* from = bed + j * stride + panel * LINE;
        // As a number, because it may lie past the end of the row, where a pointer must not point.
        __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(from) + AHEAD * LINE));
        for (size_t i = 0; i < LINE; i += Bytes::WIDTH) dosages(Bytes::load(from + i)).stream(lines + j * LINE + i);
    }
}

// The same of a panel that is not full: `bytes` bytes of a row may be read, of the last one the bits `used`.
inline void pack_part(const uint8_t* bed, size_t stride, size_t panel, size_t begin, size_t end, size_t bytes,
                      uint8_t used, uint8_t* lines) {
    for (size_t j = begin; j < end; j++) {
        alignas(64) uint8_t line[LINE] = {};
        std::memcpy(line, bed + j * stride + panel * LINE, bytes);
        line[bytes - 1] &= used;
        pack_lines(line, 0, 0, 0, 1, lines + j * LINE);
    }
}

// Packs a .bed payload of z->m SNPs. A thread packs the panels that it later multiplies, so that their pages are near
// it. It goes through the file's rows a block of SNPs at a time: their lines stay in the cache until every panel has
// taken its own.
inline void fill(Panels* z, const uint8_t* bed, size_t stride) {
    const size_t m = z->m;
    std::memset(z->codes + z->bytes() - TAIL * LINE, 0, TAIL * LINE);
#pragma omp parallel num_threads(z->threads)
    {
        const size_t me = omp_get_thread_num(), all = omp_get_num_threads();
        const size_t first = share(z->count(), me, all), last = share(z->count(), me + 1, all);
        for (size_t begin = 0; begin < m; begin += BLOCK)
            for (size_t panel = first; panel < last; panel++) {
                const size_t individuals = z->individuals(panel), bytes = (individuals + 3) / 4;
                const size_t end = std::min(m, begin + BLOCK);
                uint8_t* lines = z->codes + panel * m * LINE;
                if (individuals == PANEL)
                    pack_lines(bed, stride, panel, begin, end, lines);
                else
                    pack_part(bed, stride, panel, begin, end, bytes, 0xff >> 2 * (4 * bytes - individuals), lines);
            }
#if defined(__AVX2__)
        _mm_sfence();  // streamed lines are seen by every thread
#endif
    }
}

// A .bed payload as panels. Null: no memory.
inline Panels* pack(const uint8_t* bed, size_t stride, size_t n, size_t m, int threads, int real) {
    auto* z = new (std::nothrow) Panels{n, m, threads, real, nullptr, m};
    if (!z) return nullptr;
    z->codes = allocate<uint8_t>(z->bytes());
    if (!z->codes) {
        delete z;
        return nullptr;
    }
    fill(z, bed, stride);
    return z;
}

// Other SNPs in the same memory; false if there are more than it was made for.
inline bool refill(Panels* z, const uint8_t* bed, size_t stride, size_t m) {
    if (m > z->most) return false;
    z->m = m;
    fill(z, bed, stride);
    return true;
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
