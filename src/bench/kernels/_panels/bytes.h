// A vector of bytes, of the width that the build's instruction set has, with the few operations that the
// regrouping of 2-bit dosages needs. Unpacking works within 16-byte lanes on every width.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif
#if defined(__GNUC__) && !defined(__clang__)
// gcc 12's AVX-512 header warns about its own undefined registers.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace panels {

#if defined(__AVX512BW__)
struct Bytes {
    static constexpr size_t WIDTH = 64;
    __m512i v;

    static Bytes load(const void* p) { return {_mm512_loadu_si512(p)}; }
    static Bytes repeat(uint8_t b) { return {_mm512_set1_epi8(char(b))}; }
    static Bytes zero() { return {_mm512_setzero_si512()}; }
    void store(void* p) const { _mm512_storeu_si512(p, v); }
    void stream(void* p) const { _mm512_stream_si512((__m512i*)p, v); }  // past the caches, to an aligned place
    template <int BITS> Bytes left() const { return {_mm512_slli_epi64(v, BITS)}; }
    template <int BITS> Bytes right() const { return {_mm512_srli_epi64(v, BITS)}; }
    Bytes operator&(Bytes o) const { return {_mm512_and_si512(v, o.v)}; }
    Bytes operator+(Bytes o) const { return {_mm512_add_epi8(v, o.v)}; }
    // where `mask` is set this, elsewhere o
    Bytes select(Bytes mask, Bytes o) const { return {_mm512_ternarylogic_epi64(mask.v, v, o.v, 0xca)}; }
    // table[nibble] for every byte, which must be below 16
    Bytes look_up(const uint8_t (&table)[16]) const {
        return {_mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)table)), v)};
    }
    static Bytes low8(Bytes a, Bytes b) { return {_mm512_unpacklo_epi8(a.v, b.v)}; }
    static Bytes high8(Bytes a, Bytes b) { return {_mm512_unpackhi_epi8(a.v, b.v)}; }
    static Bytes low16(Bytes a, Bytes b) { return {_mm512_unpacklo_epi16(a.v, b.v)}; }
    static Bytes high16(Bytes a, Bytes b) { return {_mm512_unpackhi_epi16(a.v, b.v)}; }
    static Bytes low32(Bytes a, Bytes b) { return {_mm512_unpacklo_epi32(a.v, b.v)}; }
    static Bytes high32(Bytes a, Bytes b) { return {_mm512_unpackhi_epi32(a.v, b.v)}; }
};

// The 8 x 8 words of eight vectors, transposed.
inline void transpose_words(Bytes (&b)[8]) {
    __m512i t[8], u[8];
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm512_unpacklo_epi64(b[2 * i].v, b[2 * i + 1].v);
        t[2 * i + 1] = _mm512_unpackhi_epi64(b[2 * i].v, b[2 * i + 1].v);
    }
    for (int h = 0; h < 2; h++)
        for (int i = 0; i < 2; i++) {
            u[h + 4 * i] = _mm512_shuffle_i64x2(t[h + 4 * i], t[h + 4 * i + 2], 0x88);
            u[h + 4 * i + 2] = _mm512_shuffle_i64x2(t[h + 4 * i], t[h + 4 * i + 2], 0xdd);
        }
    for (int h = 0; h < 4; h++) {
        b[h].v = _mm512_shuffle_i64x2(u[h], u[h + 4], 0x88);
        b[h + 4].v = _mm512_shuffle_i64x2(u[h], u[h + 4], 0xdd);
    }
}
#elif defined(__AVX2__)
struct Bytes {
    static constexpr size_t WIDTH = 32;
    __m256i v;

    static Bytes load(const void* p) { return {_mm256_loadu_si256((const __m256i*)p)}; }
    static Bytes repeat(uint8_t b) { return {_mm256_set1_epi8(char(b))}; }
    static Bytes zero() { return {_mm256_setzero_si256()}; }
    void store(void* p) const { _mm256_storeu_si256((__m256i*)p, v); }
    void stream(void* p) const { _mm256_stream_si256((__m256i*)p, v); }
    template <int BITS> Bytes left() const { return {_mm256_slli_epi64(v, BITS)}; }
    template <int BITS> Bytes right() const { return {_mm256_srli_epi64(v, BITS)}; }
    Bytes operator&(Bytes o) const { return {_mm256_and_si256(v, o.v)}; }
    Bytes operator+(Bytes o) const { return {_mm256_add_epi8(v, o.v)}; }
    Bytes select(Bytes mask, Bytes o) const {
        return {_mm256_xor_si256(o.v, _mm256_and_si256(mask.v, _mm256_xor_si256(v, o.v)))};
    }
    Bytes look_up(const uint8_t (&table)[16]) const {
        return {_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)table)), v)};
    }
    static Bytes low8(Bytes a, Bytes b) { return {_mm256_unpacklo_epi8(a.v, b.v)}; }
    static Bytes high8(Bytes a, Bytes b) { return {_mm256_unpackhi_epi8(a.v, b.v)}; }
    static Bytes low16(Bytes a, Bytes b) { return {_mm256_unpacklo_epi16(a.v, b.v)}; }
    static Bytes high16(Bytes a, Bytes b) { return {_mm256_unpackhi_epi16(a.v, b.v)}; }
    static Bytes low32(Bytes a, Bytes b) { return {_mm256_unpacklo_epi32(a.v, b.v)}; }
    static Bytes high32(Bytes a, Bytes b) { return {_mm256_unpackhi_epi32(a.v, b.v)}; }
};

// The 4 x 4 words of four vectors, transposed.
inline void transpose_words(Bytes (&b)[4]) {
    const __m256i low01 = _mm256_unpacklo_epi64(b[0].v, b[1].v), high01 = _mm256_unpackhi_epi64(b[0].v, b[1].v);
    const __m256i low23 = _mm256_unpacklo_epi64(b[2].v, b[3].v), high23 = _mm256_unpackhi_epi64(b[2].v, b[3].v);
    b[0].v = _mm256_permute2x128_si256(low01, low23, 0x20);
    b[1].v = _mm256_permute2x128_si256(high01, high23, 0x20);
    b[2].v = _mm256_permute2x128_si256(low01, low23, 0x31);
    b[3].v = _mm256_permute2x128_si256(high01, high23, 0x31);
}
#else
// 16 bytes, which every x86-64 and arm64 has, in the compilers' own vectors.
struct Bytes {
    static constexpr size_t WIDTH = 16;
    typedef uint8_t vec __attribute__((vector_size(16)));
    typedef uint64_t words __attribute__((vector_size(16)));
    vec v;

    static Bytes load(const void* p) {
        Bytes b;
        std::memcpy(&b.v, p, 16);
        return b;
    }
    static Bytes repeat(uint8_t b) { return {vec{} + b}; }
    static Bytes zero() { return {vec{}}; }
    void store(void* p) const { std::memcpy(p, &v, 16); }
    void stream(void* p) const { store(p); }
    template <int BITS> Bytes left() const { return {vec(words(v) << BITS)}; }
    template <int BITS> Bytes right() const { return {vec(words(v) >> BITS)}; }
    Bytes operator&(Bytes o) const { return {v & o.v}; }
    Bytes operator+(Bytes o) const { return {v + o.v}; }
    Bytes operator-(Bytes o) const { return {v - o.v}; }
    Bytes select(Bytes mask, Bytes o) const { return {(v & mask.v) | (o.v & ~mask.v)}; }
    static Bytes low8(Bytes a, Bytes b) {
        return {__builtin_shufflevector(a.v, b.v, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)};
    }
    static Bytes high8(Bytes a, Bytes b) {
        return {__builtin_shufflevector(a.v, b.v, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)};
    }
    static Bytes low16(Bytes a, Bytes b) {
        return {__builtin_shufflevector(a.v, b.v, 0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23)};
    }
    static Bytes high16(Bytes a, Bytes b) {
        return {__builtin_shufflevector(a.v, b.v, 8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31)};
    }
    static Bytes low32(Bytes a, Bytes b) {
        return {__builtin_shufflevector(a.v, b.v, 0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23)};
    }
    static Bytes high32(Bytes a, Bytes b) {
        return {__builtin_shufflevector(a.v, b.v, 8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31)};
    }
};

// The 2 x 2 words of two vectors, transposed.
inline void transpose_words(Bytes (&b)[2]) {
    const auto x = Bytes::words(b[0].v), y = Bytes::words(b[1].v);
    b[0].v = Bytes::vec(Bytes::words{x[0], y[0]});
    b[1].v = Bytes::vec(Bytes::words{x[1], y[1]});
}
#endif

constexpr size_t WORDS = Bytes::WIDTH / 8;  // 64-bit words of a vector

// Four vectors of 2-bit fields, their 4 x 4 blocks transposed: byte b of vector r then holds field r of byte b
// of each of the four.
inline void transpose_fields(Bytes (&x)[4]) {
    const Bytes pairs = Bytes::repeat(0x33), nibbles = Bytes::repeat(0x0f);
    const Bytes a = x[0].select(pairs, x[1].left<2>()), b = x[0].right<2>().select(pairs, x[1]);
    const Bytes c = x[2].select(pairs, x[3].left<2>()), d = x[2].right<2>().select(pairs, x[3]);
    x[0] = a.select(nibbles, c.left<4>());
    x[2] = a.right<4>().select(nibbles, c);
    x[1] = b.select(nibbles, d.left<4>());
    x[3] = b.right<4>().select(nibbles, d);
}

}  // namespace panels
