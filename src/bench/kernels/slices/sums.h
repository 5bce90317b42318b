// Sums of products of dosages and digits in vectors of the width that the build's instruction set has.
#pragma once
#include <utility>

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

// sums = v, or += v
inline void store(int32_t* sums, __m512i v, bool add) {
    _mm512_store_si512(sums, add ? _mm512_add_epi32(_mm512_load_si512(sums), v) : v);
}

// The sum of the lanes of each of four vectors.
inline __m128i add_lanes(const int32_t (&sums)[4][LANES]) {
    const auto load = [&](size_t i) { return _mm512_load_si512(sums[i]); };
    const __m512i a = load(0), b = load(1), c = load(2), d = load(3);
    const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    const __m512i fours = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    const __m256i twos = _mm256_add_epi32(_mm512_castsi512_si256(fours), _mm512_extracti64x4_epi64(fours, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(twos), _mm256_extracti128_si256(twos, 1));
}
#else
inline Bytes spread(const uint8_t* p) {
    int32_t four;
    std::memcpy(&four, p, 4);
    return {_mm256_set1_epi32(four)};
}

inline void store(int32_t* sums, __m256i v, bool add) {
    auto* to = reinterpret_cast<__m256i*>(sums);
    _mm256_store_si256(to, add ? _mm256_add_epi32(_mm256_load_si256(to), v) : v);
}

inline __m128i add_lanes(const int32_t (&sums)[4][LANES]) {
    const auto load = [&](size_t i) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(sums[i])); };
    const __m256i twos = _mm256_hadd_epi32(_mm256_hadd_epi32(load(0), load(1)), _mm256_hadd_epi32(load(2), load(3)));
    return _mm_add_epi32(_mm256_castsi256_si128(twos), _mm256_extracti128_si256(twos, 1));
}
#endif

// LANES sums of groups of four products. MOST times products can be added.
#if defined(__AVX512VNNI__)
struct Sums {
    static constexpr size_t MOST = FLUSH / 4;
    __m512i v = _mm512_setzero_si512();

    void add(Bytes dosages, Bytes digits) { v = _mm512_dpbusd_epi32(v, dosages.v, digits.v); }
    __m512i wide() const { return v; }
};
#elif defined(__AVX512BW__)
struct Sums {
    static constexpr size_t MOST = 63;  // pairs of products, of at most 512, in 16 bits
    __m512i v = _mm512_setzero_si512();

    void add(Bytes dosages, Bytes digits) {
        // gcc would form many products before it adds them, and run out of registers: 17 instead of 25 G/s.
        __m512i sums = v, pairs;
        asm("vpmaddubsw %[digits], %[dosages], %[pairs]\n\tvpaddw %[pairs], %[sums], %[sums]"
            : [sums] "+v"(sums), [pairs] "=&v"(pairs)
            : [dosages] "v"(dosages.v), [digits] "v"(digits.v));
        v = sums;
    }
    __m512i wide() const { return _mm512_madd_epi16(v, _mm512_set1_epi16(1)); }
};
#elif defined(__AVXVNNI__)
struct Sums {
    static constexpr size_t MOST = FLUSH / 4;
    __m256i v = _mm256_setzero_si256();

    void add(Bytes dosages, Bytes digits) { v = _mm256_dpbusd_avx_epi32(v, dosages.v, digits.v); }
    __m256i wide() const { return v; }
};
#else
struct Sums {
    static constexpr size_t MOST = 63;
    __m256i v = _mm256_setzero_si256();

    void add(Bytes dosages, Bytes digits) {
        __m256i sums = v, pairs;
        asm("vpmaddubsw %[digits], %[dosages], %[pairs]\n\tvpaddw %[pairs], %[sums], %[sums]"
            : [sums] "+x"(sums), [pairs] "=&x"(pairs)
            : [dosages] "x"(dosages.v), [digits] "x"(digits.v));
        v = sums;
    }
    __m256i wide() const { return _mm256_madd_epi16(v, _mm256_set1_epi16(1)); }
};
#endif

// f(0), ..., f(N - 1) with constants: gcc keeps an array in registers only if its indices are constants from the start.
template <class F, size_t... I>
[[gnu::always_inline]] inline void each(std::index_sequence<I...>, F f) {
    (f(std::integral_constant<size_t, I>()), ...);
}
template <size_t N, class F>
[[gnu::always_inline]] inline void each(F f) {
    each(std::make_index_sequence<N>(), f);
}
#define INLINE __attribute__((always_inline))

// A block of R x S sums: `vectors` of dosages times S vectors of digits, digit(s) the one of slice s.
template <size_t R, size_t S>
struct Block {
    Sums sums[R][S];

    template <class Digit>
    [[gnu::always_inline]] void add(const Bytes (&dosages)[R], Digit digit) {
        each<S>([&](auto s) INLINE {
            Bytes y = digit(s);
            asm("" : "+v"(y.v));  // gcc would load it again for every use
            each<R>([&](auto r) INLINE { sums[r][s].add(dosages[r], y); });
        });
    }
    // to[r][s][lane] = the sums, or += them
    [[gnu::always_inline]] void put(int32_t* to, bool add) const {
        each<R>([&](auto r) INLINE {
            each<S>([&](auto s) INLINE { store(to + (r * S + s) * LANES, sums[r][s].wide(), add); });
        });
    }
};

// Field `plane` of every byte.
template <size_t PLANE>
Bytes plane(Bytes x) {
    return x.template right<2 * PLANE>() & Bytes::repeat(0x03);
}

}  // namespace slices
