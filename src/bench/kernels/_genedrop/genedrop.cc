// Genes dropped through a pedigree: from the haplotypes of founders to the gametes of every animal. An animal is a
// row; a parent is its row, or -1 where it is unknown, and the gamete then comes from the founders' population.
//
// A gamete is `words` words of 64 sites, the first site in the lowest bit, and animal i has gametes 2i (of its sire)
// and 2i+1. What a gamete inherits is drawn from a stream of random numbers of its own (seed, animal, sire or dam) and
// in Morgans: other sites, other animals beside it and any number of threads give the same crossovers.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "isa.h"

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
    for (size_t word = begin / 64; 64 * word < end; word++) {
        uint64_t mask = ~uint64_t{0};
        if (64 * word < begin) mask &= mask << begin % 64;
        if (64 * (word + 1) > end) mask &= ~uint64_t{0} >> (64 - end % 64);
        to[word] = (to[word] & ~mask) | (from[word] & mask);
    }
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

// Bit c of row r becomes bit r of row c (Warren, Hacker's Delight, 7-3).
void transpose(uint64_t* rows) {
    uint64_t mask = 0x00000000FFFFFFFF;
    for (int half = 32; half; half >>= 1, mask ^= mask << half)
        for (int row = 0; row < 64; row = ((row | half) + 1) & ~half) {
            const uint64_t swapped = ((rows[row] >> half) ^ rows[row | half]) & mask;
            rows[row | half] ^= swapped;
            rows[row] ^= swapped << half;
        }
}

// Pairs of bits, an animal's two alleles, as the codes of a .bed file: 0, 2 and 3 for none, one and two.
uint64_t bed_codes(uint64_t alleles) {
    const uint64_t low = 0x5555555555555555, first = alleles & low, second = alleles >> 1 & low;
    return (first & second) | (first | second) << 1;
}

}  // namespace

// 1 if this processor has the instructions that this library was compiled for.
extern "C" int genedrop_runs() { return isa_runs(); }

// gametes: (n, 2, words), zeros, to be filled. animal: (n,) which streams are the animals'. first: (cohorts + 1,) where
// each cohort begins; parents stand in earlier ones. founders: (haplotypes, words); a founder gamete changes from one
// of them to another `switches` times a Morgan.
extern "C" void genedrop_drop(size_t cohorts, const int64_t* first, const int64_t* animal, const int32_t* sire,
                              const int32_t* dam, size_t count, const double* morgans, double length,
                              size_t haplotypes, const uint64_t* founders, double switches, uint64_t seed, int threads,
                              uint64_t* gametes) {
    const Sites sites{count, morgans, length};
    const size_t words = sites.words();
    for (size_t cohort = 0; cohort < cohorts; cohort++)
#pragma omp parallel for schedule(static) num_threads(threads)
        for (int64_t gamete = 2 * first[cohort]; gamete < 2 * first[cohort + 1]; gamete++) {
            const int64_t i = gamete / 2, side = gamete % 2;
            const int64_t parent = side ? dam[i] : sire[i];
            Stream stream(seed, 2 * animal[i] + side);
            uint64_t* out = gametes + gamete * words;
            if (parent < 0) {
                const auto any = [&] { return founders + stream.below(haplotypes) * words; };
                join(sites, stream, switches, any, out);
            } else {
                uint64_t which = stream.next() >> 63;
                const auto other = [&] { return gametes + (2 * parent + (which ^= 1)) * words; };
                join(sites, stream, 1.0, other, out);
            }
        }
}

// codes: (count, stride), the genotypes of the animals `rows` as in a .bed file, to be filled.
extern "C" void genedrop_pack(size_t count, const uint64_t* gametes, size_t n, const int64_t* rows, int threads,
                              uint8_t* codes) {
    const size_t words = (count + 63) / 64, stride = (n + 3) / 4;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (size_t begin = 0; begin < n; begin += 32) {
        const size_t animals = std::min<size_t>(32, n - begin), bytes = (animals + 3) / 4;
        for (size_t word = 0; word < words; word++) {
            uint64_t block[64] = {};
            for (size_t a = 0; a < 2 * animals; a++)
                block[a] = gametes[(2 * rows[begin + a / 2] + a % 2) * words + word];
            transpose(block);
            for (size_t site = 64 * word; site < std::min(count, 64 * (word + 1)); site++) {
                const uint64_t packed = bed_codes(block[site % 64]);
                std::memcpy(codes + site * stride + begin / 4, &packed, bytes);
            }
        }
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
