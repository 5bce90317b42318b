// Sums of products of dosages and digits in vectors of the width that the build's instruction set has.
#pragma once
#include "_panels/bytes.h"
#include "slices/fixed_point.h"

namespace slices {

using panels::Bytes;

constexpr size_t LANES = Bytes::WIDTH / 4;  // 32-bit sums of a vector

#if defined(__AVX512BW__)
// Four bytes, in all lanes.
inline Bytes spread(const uint8_t* p) {
    int32_t four;
    std::memcpy(&four, p, 4);
    return {_mm512_set1_epi32(four)};
}

// Adds `v` to sums in memory.
inline void add_to(int32_t* sums, __m512i v) { _mm512_store_si512(sums, _mm512_add_epi32(_mm512_load_si512(sums), v)); }
#else
inline Bytes spread(const uint8_t* p) {
    int32_t four;
    std::memcpy(&four, p, 4);
    return {_mm256_set1_epi32(four)};
}

inline void add_to(int32_t* sums, __m256i v) {
    auto* to = reinterpret_cast<__m256i*>(sums);
    _mm256_store_si256(to, _mm256_add_epi32(_mm256_load_si256(to), v));
}
#endif

// LANES sums of groups of four products. MOST times products can be added.
#if defined(__AVX512VNNI__)
struct Sums {
    static constexpr size_t MOST = FLUSH / 4;
    __m512i v;

    void add(Bytes dosages, Bytes digits) { v = _mm512_dpbusd_epi32(v, dosages.v, digits.v); }
    __m512i wide() const { return v; }
};
#elif defined(__AVX512BW__)
struct Sums {
    static constexpr size_t MOST = 63;  // pairs of products, of at most 512, in 16 bits
    __m512i v;

    void add(Bytes dosages, Bytes digits) { v = _mm512_add_epi16(v, _mm512_maddubs_epi16(dosages.v, digits.v)); }
    __m512i wide() const { return _mm512_madd_epi16(v, _mm512_set1_epi16(1)); }
};
#elif defined(__AVXVNNI__)
struct Sums {
    static constexpr size_t MOST = FLUSH / 4;
    __m256i v;

    void add(Bytes dosages, Bytes digits) { v = _mm256_dpbusd_avx_epi32(v, dosages.v, digits.v); }
    __m256i wide() const { return v; }
};
#else
struct Sums {
    static constexpr size_t MOST = 63;
    __m256i v;

    void add(Bytes dosages, Bytes digits) { v = _mm256_add_epi16(v, _mm256_maddubs_epi16(dosages.v, digits.v)); }
    __m256i wide() const { return _mm256_madd_epi16(v, _mm256_set1_epi16(1)); }
};
#endif

// Keeps a value in a register: gcc would load it again for every use.
inline void pin(Bytes& x) { asm("" : "+v"(x.v)); }

// Field `plane` of every byte.
template <size_t PLANE>
Bytes plane(Bytes x) {
    return x.template right<2 * PLANE>() & Bytes::repeat(0x03);
}

}  // namespace slices
