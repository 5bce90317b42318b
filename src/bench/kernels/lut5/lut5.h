// Table lookups for five dosages at a time, in both directions, from the one 2-bit copy of panels.h.
//
// Five dosages take one of 3^5 = 243 values. To sum five inputs weighted by five dosages for every output row, the
// 243 possible sums are tabulated once and each row looks its own up (Freudenberg et al. 2023 store the
// values, a byte each, once for each direction). Here the values are formed on the fly: the dosages of a tile are
// regrouped from 2 bits to eight bytes, one 64-bit word, for each output row; each byte is
// the base-3 number of four inputs plus 81 times the dosage of a fifth. Tables are small (15.5 KB at eight columns)
// and their popular entries, given allele frequencies, stay in the first-level cache.
//
// A row of eight lookups costs eight vector loads with an addition each, and one load and one store of its sum; on
// Zen 4 (one 64-byte load a cycle) at least 9 cycles for 320 multiply-adds, of which 10.3 are reached.
// Words are taken out of vector registers: a scalar load beside each lookup would take load slots.
//
// A dosage of 0 skips its input: unlike in a dense product, 0 times NaN or infinity counts as 0. A sum is formed in
// an order that depends on the numbers of rows and inputs alone: results do not depend on the number of threads.
#pragma once
#include <utility>

#include "_panels/bytes.h"
#include "_panels/panels.h"

namespace lut5 {

using panels::Bytes;
using panels::LINE;
using panels::PANEL;
using panels::Panels;
using panels::WORDS;

constexpr size_t CODES = 8;          // codes of a word, one for each of eight tables
constexpr size_t FOUR = 81;          // entries of the table of four inputs
constexpr size_t FIVE = 3 * FOUR;    // and of five
constexpr size_t COLUMNS = 32;       // that share the regrouped words, at the most
constexpr size_t SHORT_ROWS = 2048;  // below, tables of four inputs: a table of five is not paid back

// ---- Codes ------------------------------------------------------------------------------------------------------

#if defined(__AVX2__)
// Four dosages at 2 bits as the base-3 number 0 .. 80, in every byte.
inline Bytes base3(Bytes x) {
    constexpr uint8_t ONES[16] = {0, 1, 2, 0, 3, 4, 5, 0, 6, 7, 8};
    constexpr uint8_t NINES[16] = {0, 9, 18, 0, 27, 36, 45, 0, 54, 63, 72};
    const Bytes nibble = Bytes::repeat(0x0f);
    return (x & nibble).look_up(ONES) + (x.right<4>() & nibble).look_up(NINES);
}

// 81 times field FIELD of every byte.
template <size_t FIELD>
inline Bytes times81(Bytes x) {
    constexpr uint8_t LOW[16] = {0, 81, 162, 0, 0, 81, 162, 0, 0, 81, 162, 0};
    constexpr uint8_t HIGH[16] = {0, 0, 0, 0, 81, 81, 81, 81, 162, 162, 162, 162};
    return (x.template right<FIELD / 2 * 4>() & Bytes::repeat(0x0f)).look_up(FIELD % 2 ? HIGH : LOW);
}
#else
inline Bytes base3(Bytes x) {
    // A nibble 4a + b becomes 3a + b, then the byte 16c + d becomes 9c + d.
    const Bytes pairs = x - (x.right<2>() & Bytes::repeat(0x33));
    const Bytes c = pairs.right<4>() & Bytes::repeat(0x0f);
    return pairs + c - c.left<3>();
}

template <size_t FIELD>
inline Bytes times81(Bytes x) {
    const Bytes field = x.template right<2 * FIELD>() & Bytes::repeat(0x03);
    return field + field.template left<4>() + field.template left<6>();
}
#endif

// Where regroup_snps puts the word of individual i of a panel.
inline size_t position(size_t i) {
    const size_t byte = i / 4 % Bytes::WIDTH, lane = byte / 16, in_lane = byte % 16;
    return i / (4 * Bytes::WIDTH) * 4 * Bytes::WIDTH + i % 4 * Bytes::WIDTH + in_lane / 2 * WORDS + 2 * lane +
           in_lane % 2;
}

// The words of a panel's 256 individuals for a group of SNPs. Byte g is the code of SNPs 4g .. 4g + 3 and, of a
// group of 40, SNP 32 + g. The words are permuted by `position`, which only the output undoes.
template <bool WITH_FIFTH>
void regroup_snps(const uint8_t* lines, uint64_t* words) {
    constexpr size_t QUADS = WITH_FIFTH ? 10 : 8;
    for (size_t offset = 0; offset < LINE; offset += Bytes::WIDTH) {
        Bytes quads[4][QUADS];  // [individual % 4][SNPs / 4]
        for (size_t q = 0; q < QUADS; q++) {
            Bytes x[4];
            for (size_t i = 0; i < 4; i++) x[i] = Bytes::load(lines + (4 * q + i) * LINE + offset);
            transpose_fields(x);
            for (size_t i = 0; i < 4; i++) quads[i][q] = x[i];
        }
        for (size_t i = 0; i < 4; i++) {
            const Bytes* quad = quads[i];
            Bytes x[8], y[8];
            for (size_t g = 0; g < CODES; g++) x[g] = base3(quad[g]);
            if constexpr (WITH_FIFTH)
                for (size_t h = 0; h < 2; h++) {
                    x[4 * h] = x[4 * h] + times81<0>(quad[8 + h]);
                    x[4 * h + 1] = x[4 * h + 1] + times81<1>(quad[8 + h]);
                    x[4 * h + 2] = x[4 * h + 2] + times81<2>(quad[8 + h]);
                    x[4 * h + 3] = x[4 * h + 3] + times81<3>(quad[8 + h]);
                }
            for (size_t h = 0; h < 4; h++) {
                y[h] = Bytes::low8(x[2 * h], x[2 * h + 1]);
                y[4 + h] = Bytes::high8(x[2 * h], x[2 * h + 1]);
            }
            for (size_t h = 0; h < 4; h++) {
                const size_t to = h / 2 * 4 + h % 2;
                x[to] = Bytes::low16(y[2 * h], y[2 * h + 1]);
                x[to + 2] = Bytes::high16(y[2 * h], y[2 * h + 1]);
            }
            for (size_t h = 0; h < 4; h++) {
                Bytes::low32(x[2 * h], x[2 * h + 1]).store(words + 2 * h * WORDS);
                Bytes::high32(x[2 * h], x[2 * h + 1]).store(words + (2 * h + 1) * WORDS);
            }
            words += 8 * WORDS;
        }
    }
}

// The words of `snps` SNPs (rounded up to a vector of words) for a panel: word q, of individuals 32q .. 32q + 31, is
// words[q * ld + snp]. Byte g is the code of individuals 4g .. 4g + 3 and, if PART < 4, of one individual of a
// further panel, `fifth`: the one in field PART of the same byte.
template <size_t PART>
void regroup_individuals(const uint8_t* lines, const uint8_t* fifth, size_t snps, uint64_t* words, size_t ld) {
    for (size_t j = 0; j < snps; j += WORDS)
        for (size_t offset = 0; offset < LINE; offset += Bytes::WIDTH) {
            Bytes x[WORDS];
            for (size_t i = 0; i < WORDS; i++) {
                x[i] = base3(Bytes::load(lines + (j + i) * LINE + offset));
                if constexpr (PART < 4) x[i] = x[i] + times81<PART>(Bytes::load(fifth + (j + i) * LINE + offset));
            }
            transpose_words(x);
            for (size_t i = 0; i < WORDS; i++) x[i].store(words + (offset / 8 + i) * ld + j);
        }
}

// ---- Tables -----------------------------------------------------------------------------------------------------

#if defined(__AVX512F__)
constexpr size_t REGISTER = 64;
#elif defined(__AVX2__)
constexpr size_t REGISTER = 32;
#else
constexpr size_t REGISTER = 16;  // every x86-64 and arm64 has it
#endif

// A table entry or an accumulator: BYTES / sizeof(real) columns.
template <class real, size_t BYTES>
struct Entry {
    static constexpr size_t PARTS = BYTES < REGISTER ? 1 : BYTES / REGISTER;
    typedef real vec __attribute__((vector_size(BYTES / PARTS)));
    vec part[PARTS];

    Entry operator+(const Entry& o) const {
        Entry sum;
        for (size_t p = 0; p < PARTS; p++) sum.part[p] = part[p] + o.part[p];
        return sum;
    }
};

// The inputs of a word's tables: input s < 4 of table g is row first + 4g + s of x, the fifth is row
// fifth + g * step. Rows from `rows` on are zeros.
template <class real>
struct Inputs {
    const real* x;  // (rows, k)
    size_t rows, k, first, fifth, step;

    template <class E>
    E take(size_t row, size_t column, size_t columns) const {
        E entry = {};
        if (row < rows) std::memcpy(&entry, x + row * k + column, columns * sizeof(real));
        return entry;
    }
};

// Eight tables: entry e has dosage e / 3^s % 3 of input s.
template <class real, size_t BYTES, bool WITH_FIFTH>
void tabulate(const Inputs<real>& inputs, size_t column, size_t columns, Entry<real, BYTES>* table) {
    using E = Entry<real, BYTES>;
    for (size_t g = 0; g < CODES; g++, table += FIVE) {
        table[0] = E{};
        size_t size = 1;
        for (size_t s = 0; s < 4; s++, size *= 3) {
            const E x = inputs.template take<E>(inputs.first + 4 * g + s, column, columns);
            for (size_t e = 0; e < 2 * size; e++) table[size + e] = table[e] + x;
        }
        if constexpr (WITH_FIFTH) {
            const E x = inputs.template take<E>(inputs.fifth + g * inputs.step, column, columns);
            for (size_t e = 0; e < FOUR; e++) {
                const E once = table[e] + x;
                table[FOUR + e] = once;
                table[2 * FOUR + e] = once + x;
            }
        }
    }
}

// ---- Lookups ----------------------------------------------------------------------------------------------------

// Eight or four words, taken out one by one.
#if defined(__AVX512F__)
struct Words {
    __m512i v;
    explicit Words(const uint64_t* p) : v(_mm512_load_si512(p)) { asm volatile("" : "+v"(v)); }
    template <size_t H>
    uint64_t get() const {
        const __m128i pair = H / 2 ? _mm512_extracti64x2_epi64(v, H / 2) : _mm512_castsi512_si128(v);
        return H % 2 ? _mm_extract_epi64(pair, 1) : _mm_cvtsi128_si64(pair);
    }
};
#elif defined(__AVX2__)
struct Words {
    __m256i v;
    explicit Words(const uint64_t* p) : v(_mm256_load_si256((const __m256i*)p)) { asm volatile("" : "+x"(v)); }
    template <size_t H>
    uint64_t get() const {
        const __m128i pair = H / 2 ? _mm256_extracti128_si256(v, 1) : _mm256_castsi256_si128(v);
        return H % 2 ? _mm_extract_epi64(pair, 1) : _mm_cvtsi128_si64(pair);
    }
};
#endif

// acc[row] += the eight table entries that the row's word names.
#if defined(__AVX2__)
// In assembly because compilers load each byte of the word from memory: then eight scalar loads compete with the
// entries' for load slots (Zen 4: 13.0 cycles a row in place of 10.7).
template <class real, size_t BYTES, size_t G>
inline void add_entry(uint64_t word, const void* tables, uint64_t mask, typename Entry<real, BYTES>::vec& sum) {
    constexpr int SHIFT = BYTES == 64 ? 6 : BYTES == 32 ? 5 : 4;
    uint64_t index;
    asm("rorx %[by], %[word], %[index]\n\tand %[mask], %[index]"
        : [index] "=&r"(index)
        : [by] "i"((8 * G + 64 - SHIFT) % 64), [word] "r"(word), [mask] "r"(mask)
        : "cc");
    if constexpr (sizeof(real) == 8)
        asm volatile("vaddpd %c[table](%[tables],%[index]), %[sum], %[sum]"
                     : [sum] "+v"(sum)
                     : [tables] "r"(tables), [index] "r"(index), [table] "i"(G * FIVE * BYTES));
    else
        asm volatile("vaddps %c[table](%[tables],%[index]), %[sum], %[sum]"
                     : [sum] "+v"(sum)
                     : [tables] "r"(tables), [index] "r"(index), [table] "i"(G * FIVE * BYTES));
}

// Two chains of additions: one would wait for itself.
template <class real, size_t BYTES, size_t... G>
inline void add_row(std::index_sequence<G...>, uint64_t word, const Entry<real, BYTES>* tables, uint64_t mask,
                    Entry<real, BYTES>& acc) {
    typename Entry<real, BYTES>::vec sums[2] = {acc.part[0], {}};
    (add_entry<real, BYTES, G>(word, tables, mask, sums[G % 2]), ...);
    acc.part[0] = sums[0] + sums[1];
}

// Words of two rows are taken out ahead: the way from a word to an address is longer than a row takes.
template <class real, size_t BYTES, size_t... H>
inline void add_rows(std::index_sequence<H...>, const Words& now, const Words& next, uint64_t (&ahead)[2],
                     const Entry<real, BYTES>* tables, uint64_t mask, Entry<real, BYTES>* acc) {
    const auto row = [&](auto h) __attribute__((always_inline)) {
        constexpr size_t I = decltype(h)::value, LATER = (I + 2) % WORDS;
        const uint64_t word = ahead[I % 2];
        uint64_t later = I + 2 < WORDS ? now.template get<LATER>() : next.template get<LATER>();
        asm volatile("" : "+r"(later));
        ahead[I % 2] = later;
        add_row<real, BYTES>(std::make_index_sequence<CODES>(), word, tables, mask, acc[I]);
    };
    (row(std::integral_constant<size_t, H>()), ...);
}

template <class real, size_t BYTES>
void look_up(const uint64_t* words, size_t rows, const Entry<real, BYTES>* tables, Entry<real, BYTES>* acc) {
    uint64_t mask = 0xff * BYTES;
    asm volatile("" : "+r"(tables), "+r"(mask) : : "memory");  // the tables are read out of the compiler's sight
    Words now(words);
    uint64_t ahead[2] = {now.get<0>(), now.get<1>()};
    for (size_t row = 0; row < rows; row += WORDS) {
        const Words next(words + row + WORDS);
        add_rows<real, BYTES>(std::make_index_sequence<WORDS>(), now, next, ahead, tables, mask, acc + row);
        now = next;
    }
}
#else
template <class real, size_t BYTES>
void look_up(const uint64_t* words, size_t rows, const Entry<real, BYTES>* tables, Entry<real, BYTES>* acc) {
    for (size_t row = 0; row < rows; row++) {
        Entry<real, BYTES> even = acc[row], odd = {};
        for (size_t g = 0; g < CODES; g += 2) {
            even = even + tables[g * FIVE + (words[row] >> 8 * g & 0xff)];
            odd = odd + tables[(g + 1) * FIVE + (words[row] >> 8 * (g + 1) & 0xff)];
        }
        acc[row] = even + odd;
    }
}
#endif

// ---- Sweeps: the columns that one pass over the words takes ------------------------------------------------------

// Lines that the next tile will read: they are fetched while this one is multiplied.
struct Ahead {
    const uint8_t* lines[2] = {nullptr, nullptr};
    size_t count = 0;

    void fetch() const {
        for (const uint8_t* from : lines)
            for (size_t i = 0; from && i < count; i++) __builtin_prefetch(from + i * LINE, 0, 2);
    }
};

// Columns `column` .. `column + columns - 1` of a product, in entries of `bytes` bytes.
template <class real>
struct Sweep {
    size_t column, columns, bytes;
    void (*tabulate)(const Inputs<real>&, bool with_fifth, size_t column, size_t columns, char* tables);
    void (*look_up)(const uint64_t* words, size_t row, size_t rows, const char* tables, char* acc);
};

template <class real, size_t BYTES>
Sweep<real> sweep(size_t column, size_t left) {
    using E = Entry<real, BYTES>;
    return {column, std::min(left, BYTES / sizeof(real)), BYTES,
            [](const Inputs<real>& inputs, bool with_fifth, size_t column, size_t columns, char* tables) {
                const auto fill = with_fifth ? tabulate<real, BYTES, true> : tabulate<real, BYTES, false>;
                fill(inputs, column, columns, reinterpret_cast<E*>(tables));
            },
            [](const uint64_t* words, size_t row, size_t rows, const char* tables, char* acc) {
                look_up<real, BYTES>(words, rows, reinterpret_cast<const E*>(tables), reinterpret_cast<E*>(acc) + row);
            }};
}

// Cuts columns into sweeps of a whole register and, for a rest, of a half or a quarter of 64 bytes. Both parts of ten
// columns in one pass, with the row's word taken apart once, is no faster (Zen 4: 74 / 66 G/s against 73 / 71).
template <class real>
struct Plan {
    static constexpr size_t WIDEST = REGISTER == 32 ? 32 : 64;
    Sweep<real> sweeps[COLUMNS];
    size_t count = 0, bytes = 0;  // bytes: of all sweeps' accumulators of a row

    explicit Plan(size_t columns) {
        for (size_t column = 0; column < columns; column += sweeps[count++].columns) {
            const size_t left = columns - column, bytes_left = left * sizeof(real);
            sweeps[count] = bytes_left > 32 && WIDEST == 64 ? sweep<real, WIDEST>(column, left)
                            : bytes_left > 16               ? sweep<real, 32>(column, left)
                                                            : sweep<real, 16>(column, left);
            bytes += sweeps[count].bytes;
        }
    }
};

// ---- Products ---------------------------------------------------------------------------------------------------

constexpr size_t ROWS = 10240;                   // of a block, at the most
constexpr size_t TABLE_BYTES = CODES * FIVE * 64;

// What a thread works in: the words of a block's rows (`words_per_row` of each), eight tables, accumulators.
struct Work {
    uint64_t* words;
    char *tables, *acc;

    static size_t bytes(size_t rows, size_t words_per_row, size_t acc_bytes) {
        return (words_per_row * (rows + WORDS) * sizeof(uint64_t) + TABLE_BYTES + rows * acc_bytes + 255) / 64 * 64;
    }
    Work(char* memory, size_t rows, size_t words_per_row)
        : words(reinterpret_cast<uint64_t*>(memory)),
          tables(memory + words_per_row * (rows + WORDS) * sizeof(uint64_t)),
          acc(tables + TABLE_BYTES) {}
};

// Rows of a block such that the sums, the words and the tables of one sweep stay in the second-level cache.
inline size_t block_rows(size_t bytes_a_row) {
    const size_t room = panels::second_level_cache() - TABLE_BYTES;
    return std::min(ROWS, std::max(PANEL, room / bytes_a_row / PANEL * PANEL));
}

// The rows of one block meet the words of one table set: tables, then lookups, for every sweep.
template <class real>
void multiply_words(const Plan<real>& plan, const Inputs<real>& inputs, bool with_fifth, const uint64_t* words,
                    size_t rows, const Work& work, const Ahead* ahead) {
    char* acc = work.acc;
    for (size_t s = 0; s < plan.count; acc += plan.sweeps[s].bytes * rows, s++) {
        const Sweep<real>& sweep = plan.sweeps[s];
        sweep.tabulate(inputs, with_fifth, sweep.column, sweep.columns, work.tables);
        for (size_t row = 0; row < rows; row += PANEL) {
            if (s == 0) ahead[row / PANEL].fetch();
            sweep.look_up(words + row, row, std::min(PANEL, rows - row), work.tables, acc);
        }
    }
}

template <class real>
void put(const Plan<real>& plan, const Work& work, size_t row, size_t rows, real* out) {
    const char* acc = work.acc;
    for (size_t s = 0; s < plan.count; acc += plan.sweeps[s].bytes * rows, s++) {
        const Sweep<real>& sweep = plan.sweeps[s];
        std::memcpy(out + sweep.column, acc + row * sweep.bytes, sweep.columns * sizeof(real));
    }
}

// Individuals of panels `first` to `last` of out (n, k) = Z V.
template <class real>
void matmul_block(const Panels& z, size_t first, size_t last, const Plan<real>& plan, const real* v, size_t k,
                  real* out, const Work& work) {
    const bool with_fifth = z.n >= SHORT_ROWS;
    const size_t group = with_fifth ? 40 : 32, count = last - first, rows = count * PANEL;
    Ahead ahead[ROWS / PANEL];
    std::memset(work.acc, 0, rows * plan.bytes);
    for (size_t j = 0; j < z.m; j += group) {
        for (size_t p = 0; p < count; p++) {
            (with_fifth ? regroup_snps<true> : regroup_snps<false>)(z.line(first + p, j), work.words + p * PANEL);
            if (j + group < z.m) ahead[p] = {{z.line(first + p, j + group), nullptr}, group};
            else ahead[p] = {};
        }
        multiply_words<real>(plan, {v, z.m, k, j, j + 32, 1}, with_fifth, work.words, rows, work, ahead);
    }
    for (size_t p = 0; p < count; p++)
        for (size_t i = 0; i < z.individuals(first + p); i++)
            put(plan, work, p * PANEL + position(i), rows, out + ((first + p) * PANEL + i) * k);
}

// SNPs `first` to `last` of out (m, k) = Z'U. Of five panels the last one gives the fifth individuals of the others'
// codes; panels that are left over have codes of four.
template <class real>
void rmatmul_block(const Panels& z, size_t first, size_t last, const Plan<real>& plan, const real* u, size_t k,
                   real* out, const Work& work) {
    const size_t snps = last - first, rows = (snps + WORDS - 1) / WORDS * WORDS, ld = rows + WORDS;
    const size_t in_fives = z.m >= SHORT_ROWS ? z.count() / 5 * 5 : 0;
    constexpr auto REGROUP = regroup_individuals<4>;
    constexpr decltype(REGROUP) WITH_FIFTH[4] = {regroup_individuals<0>, regroup_individuals<1>,
                                                 regroup_individuals<2>, regroup_individuals<3>};
    Ahead ahead[ROWS / PANEL];
    std::memset(work.acc, 0, rows * plan.bytes);
    for (size_t panel = 0; panel < z.count(); panel++) {
        const size_t part = panel % 5, fifth = panel - part + 4, next = panel + 1 + (panel + 1 < in_fives && part == 3);
        const bool with_fifth = panel < in_fives;
        if (with_fifth && part == 4) continue;
        (with_fifth ? WITH_FIFTH[part] : REGROUP)(z.line(panel, first), with_fifth ? z.line(fifth, first) : nullptr,
                                                  snps, work.words, ld);
        for (size_t q = 0; q < LINE / 8; q++) {
            const size_t from = panel * PANEL + 32 * q, fifth_from = fifth * PANEL + 32 * q + part;
            if (from >= z.n) break;
            // An eighth of the next panel's lines beside each eighth of this one.
            for (size_t row = 0; row < rows; row += PANEL) {
                const size_t at = first + std::min(snps, q * (snps / 8) + row / 8);
                ahead[row / PANEL] = {};
                if (next < z.count())
                    ahead[row / PANEL] = {{z.line(next, at), next < in_fives ? z.line(next / 5 * 5 + 4, at) : nullptr},
                                          std::min(PANEL / 8, first + snps - at)};
            }
            multiply_words<real>(plan, {u, z.n, k, from, fifth_from, 4}, with_fifth, work.words + q * ld, rows, work,
                                 ahead);
        }
    }
    for (size_t j = 0; j < snps; j++) put(plan, work, j, rows, out + (first + j) * k);
}

// Z V or Z'U for up to COLUMNS columns; 1: no memory.
template <class real>
int multiply_columns(const Panels& z, const real* x, size_t columns, size_t k, real* out, bool transposed) {
    const Plan<real> plan(columns);
    size_t widest = 0;
    for (size_t s = 0; s < plan.count; s++) widest = std::max(widest, plan.sweeps[s].bytes);
    const size_t units = transposed ? (z.m + WORDS - 1) / WORDS : z.count(), unit = transposed ? WORDS : PANEL;
    const size_t words_per_row = transposed ? LINE / 8 : 1;
    const size_t most = block_rows(widest + words_per_row * sizeof(uint64_t));
    const size_t parts = z.threads, units_each = (units + parts - 1) / parts;
    const size_t blocks = (units_each * unit + most - 1) / most;  // of each thread
    const size_t rows = (units_each + blocks - 1) / blocks * unit;
    const size_t each = Work::bytes(rows, words_per_row, plan.bytes);
    const panels::Owned<char> memory(each * parts);
    if (!memory) return 1;
#pragma omp parallel num_threads(z.threads)
    {
        const size_t me = omp_get_thread_num(), all = omp_get_num_threads();
        const Work work(memory.data + each * me, rows, words_per_row);
        const size_t first = panels::share(units, me, all), last = panels::share(units, me + 1, all);
        for (size_t unit_first = first; unit_first < last; unit_first += rows / unit) {
            const size_t unit_last = std::min(last, unit_first + rows / unit);
            if (transposed)
                rmatmul_block(z, unit_first * unit, std::min(z.m, unit_last * unit), plan, x, k, out, work);
            else
                matmul_block(z, unit_first, unit_last, plan, x, k, out, work);
        }
    }
    return 0;
}

// out = Z V (n, k) or, transposed, Z'U (m, k); 1: no memory.
template <class real>
int product(const Panels& z, const void* x, size_t k, void* out, bool transposed) {
    for (size_t c = 0; c < k; c += COLUMNS)
        if (multiply_columns(z, static_cast<const real*>(x) + c, std::min(COLUMNS, k - c), k,
                             static_cast<real*>(out) + c, transposed))
            return 1;
    return 0;
}

}  // namespace lut5
