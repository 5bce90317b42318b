// Genes dropped through a pedigree: from the haplotypes of founders to the gametes of every animal. An animal is a
// row; a parent is its row, or -1 where it is unknown, and the gamete then comes from the founders' population.
//
// A gamete is `words` words of 64 sites, the first site in the lowest bit, and animal i has gametes 2i (of its sire)
// and 2i+1. What a gamete inherits is drawn from a stream of random numbers of its own (seed, animal, sire or dam) and
// in Morgans: other sites, other animals beside it and any number of threads give the same crossovers.
#if defined(__SSE2__)
#include <immintrin.h>
#endif
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "isa.h"

// Lines of 64 bytes are passed by value below AVX-512 as well, within this file alone.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace {

// splitmix64 (Steele, Lea and Flood 2014): one stream for each gamete.
class Stream {
  public:
    Stream(uint64_t seed, uint64_t gamete) : state(seed) {
        state = next() ^ gamete;
        state = next();
    }

    uint64_t next() {
        uint64_t z = state += 0x9E3779B97F4A7C15;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
        z = (z ^ z >> 27) * 0x94D049BB133111EB;
        return z ^ z >> 31;
    }

    double exponential() { return -std::log(((next() >> 11) + 0.5) * 0x1p-53); }

    size_t below(size_t count) { return static_cast<unsigned __int128>(next()) * count >> 64; }

  private:
    uint64_t state;
};

struct Sites {
    size_t count;
    const double* morgans;  // ascending
    double length;          // of the chromosome, in Morgans

    size_t words() const { return (count + 63) / 64; }

    size_t up_to(double position) const {
        return position >= length ? count : std::lower_bound(morgans, morgans + count, position) - morgans;
    }
};

// Sites begin to end - 1 of one gamete into another.
void copy(const uint64_t* from, uint64_t* to, size_t begin, size_t end) {
    if (begin >= end) return;
    const size_t first = begin / 64, last = (end - 1) / 64;
    const uint64_t from_begin = ~uint64_t{0} << begin % 64, to_end = ~uint64_t{0} >> (63 - (end - 1) % 64);
    const auto blend = [&](size_t word, uint64_t mask) { to[word] = (to[word] & ~mask) | (from[word] & mask); };
    if (first == last) return blend(first, from_begin & to_end);
    blend(first, from_begin);
    std::memcpy(to + first + 1, from + first + 1, 8 * (last - first - 1));
    blend(last, to_end);
}

// A gamete out of pieces of others: `next` says which one follows at each switch, of which there are `rate` a Morgan.
template <class Next>
void join(const Sites& sites, Stream& stream, double rate, Next next, uint64_t* gamete) {
    double position = 0;
    for (size_t begin = 0; begin < sites.count;) {
        const uint64_t* from = next();
        position += stream.exponential() / rate;
        const size_t end = sites.up_to(position);
        copy(from, gamete, begin, end);
        begin = end;
    }
}

// Eight neighbouring words of 64 sites each, a cache line of a gamete: what is done to one is done to all eight.
constexpr size_t LANES = 8;
typedef uint64_t Line __attribute__((vector_size(64)));

// One of the six stages of `transpose`, of rows that stand `apart` in `rows`: bits that are `shift` places to the left
// in a row change places with those to the right in its partner.
template <int apart, int shift>
inline void exchange(Line* rows) {
    constexpr uint64_t mask = ~uint64_t{0} / ((uint64_t{1} << shift) + 1);  // shift bits set, as many not, and so on
#pragma GCC unroll 4
    for (int pair = 0; pair < 4; pair++) {
        const int row = pair / apart * 2 * apart + pair % apart;
        const Line swapped = ((rows[row] >> shift) ^ rows[row + apart]) & mask;
        rows[row + apart] ^= swapped;
        rows[row] ^= swapped << shift;
    }
}

// In each lane bit c of row r becomes bit r of row c (Warren, Hacker's Delight, 7-3), eight rows in registers at a time.
void transpose(Line* rows) {
    for (int first = 0; first < 8; first++) {
        Line eight[8];
        for (int k = 0; k < 8; k++) eight[k] = rows[first + 8 * k];
        exchange<4, 32>(eight);
        exchange<2, 16>(eight);
        exchange<1, 8>(eight);
        for (int k = 0; k < 8; k++) rows[first + 8 * k] = eight[k];
    }
    for (int first = 0; first < 64; first += 8) {
        exchange<4, 4>(rows + first);
        exchange<2, 2>(rows + first);
        exchange<1, 1>(rows + first);
    }
}

// Pairs of bits, an animal's two alleles, as the codes of a .bed file: 0, 2 and 3 for none, one and two.
Line bed_codes(Line alleles) {
    constexpr uint64_t low = 0x5555555555555555;
    const Line first = alleles & low, second = alleles >> 1 & low;
    return (first & second) | (first | second) << 1;
}

// A line to where nobody reads it soon: past the caches, which would fetch what was there first.
inline void stream_out(uint8_t* to, Line line) {
#if defined(__SSE2__)
    __m128i parts[4];
    std::memcpy(parts, &line, sizeof line);
    for (int part = 0; part < 4; part++) _mm_stream_si128(reinterpret_cast<__m128i*>(to) + part, parts[part]);
#else
    std::memcpy(to, &line, sizeof line);
#endif
}

// The words `at` of a (0 to 7) and b (8 to 15).
template <int... at>
inline Line picked(Line a, Line b) {
#if defined(__clang__) || __GNUC__ >= 12
    return __builtin_shufflevector(a, b, at...);
#else
    return Line{(at < 8 ? a[at % 8] : b[at % 8])...};
#endif
}

// Word b of line a becomes word a of line b.
void transpose_words(Line* lines) {
    const auto pairs = [lines](int half, auto lower, auto upper) {
        for (int line = 0; line < 8; line = ((line | half) + 1) & ~half) {
            const Line a = lines[line], b = lines[line | half];
            lines[line] = lower(a, b);
            lines[line | half] = upper(a, b);
        }
    };
    pairs(4, [](Line a, Line b) { return picked<0, 1, 2, 3, 8, 9, 10, 11>(a, b); },
          [](Line a, Line b) { return picked<4, 5, 6, 7, 12, 13, 14, 15>(a, b); });
    pairs(2, [](Line a, Line b) { return picked<0, 1, 8, 9, 4, 5, 12, 13>(a, b); },
          [](Line a, Line b) { return picked<2, 3, 10, 11, 6, 7, 14, 15>(a, b); });
    pairs(1, [](Line a, Line b) { return picked<0, 8, 2, 10, 4, 12, 6, 14>(a, b); },
          [](Line a, Line b) { return picked<1, 9, 3, 11, 5, 13, 7, 15>(a, b); });
}

constexpr size_t TOGETHER = 32;             // animals whose alleles fill a word
constexpr size_t GROUP = LANES * TOGETHER;  // animals whose codes at a site fill a line

// The alleles of up to TOGETHER animals at the sites of `lanes` words, each animal's two in a row each.
void gather(const uint64_t* gametes, size_t words, const int64_t* rows, size_t left, size_t word, size_t lanes,
            Line* block) {
    // Later rows are asked for early: what is genotyped may be anywhere.
    constexpr size_t AHEAD = 2 * TOGETHER;
    const size_t animals = std::min(TOGETHER, left);
    if (animals < TOGETHER || lanes < LANES) std::memset(block, 0, 64 * sizeof(Line));
    for (size_t a = 0; a < animals; a++)
        for (size_t side = 0; side < 2; side++) {
            const uint64_t* gamete = gametes + (2 * rows[a] + side) * words + word;
            if (a + AHEAD < left) {
                const uint64_t* later = gametes + (2 * rows[a + AHEAD] + side) * words + word;
                __builtin_prefetch(later);
            }
            if (lanes == LANES)
                std::memcpy(&block[2 * a + side], gamete, sizeof(Line));
            else
                for (size_t lane = 0; lane < lanes; lane++) block[2 * a + side][lane] = gamete[lane];
        }
}

// Codes of up to GROUP animals at the sites of `lanes` words, the first being `word`, a line for each of `sites` sites.
void pack_group(const uint64_t* gametes, size_t words, const int64_t* rows, size_t animals, size_t word, size_t lanes,
                size_t sites, uint8_t* to, size_t stride) {
    alignas(64) Line blocks[LANES][64];
    for (size_t b = 0; b < LANES; b++) {
        const size_t begin = b * TOGETHER, left = begin < animals ? animals - begin : 0;
        gather(gametes, words, rows + begin, left, word, lanes, blocks[b]);
        if (left) transpose(blocks[b]);
    }
    for (size_t site = 0; site < 64; site++) {
        Line lines[LANES];
        for (size_t b = 0; b < LANES; b++) lines[b] = bed_codes(blocks[b][site]);
        transpose_words(lines);
        for (size_t at = site, lane = 0; at < sites; at += 64, lane++) stream_out(to + at * stride, lines[lane]);
    }
}

}  // namespace

// 1 if this processor has the instructions that this library was compiled for.
extern "C" int genedrop_runs() { return isa_runs(); }

// gametes: (n, 2, words), zeros, to be filled. animal: (n,) which streams are the animals'. first: (cohorts + 1,) where
// each cohort begins; parents stand in earlier ones. pool: (n,) which founders an animal's unknown parents come from;
// pools: (pools, 2) the first haplotype of each and one past its last. doubled: (n,) whether the gamete of the dam is
// a copy of the sire's, as in a doubled haploid. founders: (haplotypes, words); a founder gamete changes from one of its
// pool to another `switches` times a Morgan.
extern "C" void genedrop_drop(size_t cohorts, const int64_t* first, const int64_t* animal, const int32_t* sire,
                              const int32_t* dam, const uint8_t* pool, const uint8_t* doubled, size_t count,
                              const double* morgans, double length, const int64_t* pools, const uint64_t* founders,
                              double switches, uint64_t seed, int threads, uint64_t* gametes) {
    const Sites sites{count, morgans, length};
    const size_t words = sites.words();
    for (size_t cohort = 0; cohort < cohorts; cohort++)
#pragma omp parallel for schedule(static) num_threads(threads)
        for (int64_t gamete = 2 * first[cohort]; gamete < 2 * first[cohort + 1]; gamete += 2) {
            const int64_t i = gamete / 2;
            for (int64_t side = 0; side < 2; side++) {
                const int64_t parent = side ? dam[i] : sire[i];
                Stream stream(seed, 2 * animal[i] + side);
                uint64_t* out = gametes + (gamete + side) * words;
                if (side && doubled[i]) {
                    std::memcpy(out, out - words, 8 * words);
                } else if (parent < 0) {
                    const int64_t* range = pools + 2 * pool[i];
                    const auto any = [&] { return founders + (range[0] + stream.below(range[1] - range[0])) * words; };
                    join(sites, stream, switches, any, out);
                } else {
                    uint64_t which = stream.next() >> 63;
                    const auto other = [&] { return gametes + (2 * parent + (which ^= 1)) * words; };
                    join(sites, stream, 1.0, other, out);
                }
            }
        }
}

// codes: (count, stride), to be filled with the genotypes of the animals `rows` as in a .bed file, each site's beginning a
// line; stride is a multiple of 64 and leaves room for whole lines.
extern "C" void genedrop_pack(size_t count, const uint64_t* gametes, size_t n, const int64_t* rows, size_t stride,
                              int threads, uint8_t* codes) {
    const size_t words = (count + 63) / 64;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (size_t at = 0; at < n; at += GROUP)
            for (size_t word = 0; word < words; word += LANES) {
                const size_t lanes = std::min(LANES, words - word), sites = std::min(count - 64 * word, 64 * lanes);
                pack_group(gametes, words, rows + at, std::min(GROUP, n - at), word, lanes, sites,
                           codes + 64 * word * stride + at / 4, stride);
            }
#if defined(__SSE2__)
        _mm_sfence();
#endif
    }
}

// values: (n, traits) += the sum over sites of the number of alleles times the site's effects, (count, traits).
extern "C" void genedrop_values(size_t n, size_t count, const uint64_t* gametes, size_t traits, const double* effects,
                                int threads, double* values) {
    const size_t words = (count + 63) / 64;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (size_t i = 0; i < n; i++)
        for (size_t at = 0; at < 2 * words; at++)
            for (uint64_t left = gametes[2 * i * words + at]; left; left &= left - 1) {
                const size_t site = 64 * (at % words) + __builtin_ctzll(left);
                for (size_t t = 0; t < traits; t++) values[i * traits + t] += effects[site * traits + t];
            }
}
