// Z V and Z'U for few columns by int8 multiply-adds, in both directions, from the one 2-bit copy of panels.h.
//
// Each column becomes integers of S signed digits of 8 bits (fixed_point.h). A vector instruction multiplies dosages,
// as bytes, with the digits of one slice (the digits of one place) and adds groups of four products to 32-bit sums
// (vpdpbusd; without VNNI vpmaddubsw, in 16 bits): S instructions where doubles would take eight fused multiply-adds.
//
// A line of Z (64 bytes, the dosages of 256 individuals at one SNP) is cut into four planes, plane f the dosages of
// individuals 4b + f in bytes b, by a shift and a mask.
// - Z'U sums over individuals: the planes meet digits in the same order, loaded from memory and shared by ROWS SNPs.
// - Z V sums over SNPs: the bytes of four SNPs' lines are interleaved first, so that the four bytes of a lane are the
//   same individuals at four SNPs; a plane of that meets the four digits of those SNPs in all its lanes.
// The sums of ROWS vectors and S slices stay in registers.
//
// The bound is the rate of vpdpbusd: on Zen 4 one of 64 products a cycle, 39 G/s for six slices at 3.66 GHz, of which 34
// are reached at one column, 36 at ten (docs/slices.md).
#pragma once
#include "slices/sums.h"

namespace slices {

using panels::LINE;
using panels::PANEL;

constexpr size_t PARTS = LINE / Bytes::WIDTH;  // vectors of a line
constexpr size_t PLANES = 4;
constexpr size_t COLUMNS = 8;                     // that share a pass over Z, at the most
constexpr size_t DIGIT_BYTES = size_t(32) << 20;  // of those columns, if there is more than one

// Vectors of dosages that share a load of digits: as many as registers hold sums for.
template <size_t S>
constexpr size_t ROWS = Bytes::WIDTH == 32 ? 2 : S < 7 ? 4 : 3;

// ---- Digits -----------------------------------------------------------------------------------------------------

// The digits of the inputs of COLUMNS columns at the most, each padded with zeros to whole panels.
template <size_t S>
struct Digits {
    static constexpr size_t PANEL_BYTES = PANEL * S;
    size_t inputs, columns, column_bytes;
    Scale scales[COLUMNS];
    Extent extents[COLUMNS];
    uint8_t* bytes;

    const uint8_t* of(size_t column, size_t input) const { return bytes + column * column_bytes + input * S; }
};

// Where digit s of input i of a panel goes: in the order in which the planes of a line meet them (Z'U), or four
// inputs after each other (Z V).
template <size_t S, bool TRANSPOSED>
constexpr size_t place(size_t i, size_t s) {
    constexpr size_t W = Bytes::WIDTH;
    return TRANSPOSED ? ((i / 4 / W * PLANES + i % 4) * S + s) * W + i / 4 % W : (i / 4 * S + s) * 4 + i % 4;
}

template <class real, size_t S>
void measure(Digits<S>& to, const real* x, size_t k, int threads) {
#pragma omp parallel num_threads(threads)
    {
        Extent mine[COLUMNS];
#pragma omp for nowait
        for (size_t i = 0; i < to.inputs; i++)
            for (size_t c = 0; c < to.columns; c++) mine[c].add(x[i * k + c]);
#pragma omp critical
        for (size_t c = 0; c < to.columns; c++) to.extents[c].add(mine[c]);
    }
    for (size_t c = 0; c < to.columns; c++) to.scales[c] = Scale::of<S>(to.extents[c]);
}

template <class real, size_t S, bool TRANSPOSED>
void fill(Digits<S>& to, const real* x, size_t k, int threads) {
    measure(to, x, k, threads);
#pragma omp parallel for num_threads(threads)
    for (size_t start = 0; start < to.inputs; start += PANEL)
        for (size_t c = 0; c < to.columns; c++) {
            uint64_t all[PANEL] = {};
            for (size_t i = 0; i < std::min(PANEL, to.inputs - start); i++)
                all[i] = digits<S>(to.scales[c].fixed(x[(start + i) * k + c]));
            uint8_t* bytes = const_cast<uint8_t*>(to.of(c, start));
            for (size_t i = 0; i < PANEL; i++)
                for (size_t s = 0; s < S; s++) bytes[place<S, TRANSPOSED>(i, s)] = all[i] >> 8 * s;
        }
}

// ---- Z V --------------------------------------------------------------------------------------------------------

constexpr size_t QUADS = std::min<size_t>(Sums::MOST, 128);  // groups of four SNPs that are interleaved at once
constexpr size_t FETCH = 128;                                // SNPs after them, whose lines are fetched meanwhile

// The lines of four SNPs, byte by byte: lane l of vector v holds bytes `interleaved_byte(v, l)` of the four.
inline void interleave(const uint8_t* lines, uint8_t* quads) {
    for (size_t part = 0; part < PARTS; part++) {
        const uint8_t* from = lines + part * Bytes::WIDTH;
        if (part == 0) each<4>([&](auto i) INLINE { __builtin_prefetch(from + (FETCH + i) * LINE, 0, 2); });
        const Bytes a = Bytes::load(from), b = Bytes::load(from + LINE);
        const Bytes c = Bytes::load(from + 2 * LINE), d = Bytes::load(from + 3 * LINE);
        const Bytes ab = Bytes::low8(a, b), AB = Bytes::high8(a, b);
        const Bytes cd = Bytes::low8(c, d), CD = Bytes::high8(c, d);
        uint8_t* to = quads + part * 4 * QUADS * Bytes::WIDTH;
        Bytes::low16(ab, cd).store(to);
        Bytes::high16(ab, cd).store(to + QUADS * Bytes::WIDTH);
        Bytes::low16(AB, CD).store(to + 2 * QUADS * Bytes::WIDTH);
        Bytes::high16(AB, CD).store(to + 3 * QUADS * Bytes::WIDTH);
    }
}
constexpr size_t interleaved_byte(size_t v, size_t lane) {
    return v / 4 * Bytes::WIDTH + lane / 4 * 16 + v % 4 * 4 + lane % 4;
}
constexpr size_t VECTORS = 4 * PARTS;

// The next lines to interleave: a group at a time between the sums of these, because shuffles alone leave the
// multipliers idle (25 G/s, 34 so).
struct Ahead {
    const uint8_t* lines;
    uint8_t* quads;
    size_t left;

    [[gnu::always_inline]] void step() {
        if (!left) return;
        interleave(lines, quads);
        lines += 4 * LINE;
        quads += Bytes::WIDTH;
        left--;
    }
};

// Adds `count` quads of a vector to the sums of R of its planes: sums[plane][slice][lane].
template <size_t S, size_t FIRST, size_t R>
void add_quads(const uint8_t* quads, size_t count, const uint8_t* digits, int32_t* sums, Ahead& ahead) {
    Block<R, S> block;
    for (size_t q = 0; q < count; q++, quads += Bytes::WIDTH, digits += 4 * S) {
        if (q % 4 == 0) ahead.step();
        const Bytes x = Bytes::load(quads);
        Bytes dosages[R];
        each<R>([&](auto r) INLINE { dosages[r] = plane<FIRST + r>(x); });
        block.add(dosages, [&](auto s) INLINE { return spread(digits + 4 * s); });
    }
    block.put(sums, true);
}

// What a thread works in for Z V: interleaved lines, and the sums of a panel.
template <size_t S>
struct MatmulWork {
    alignas(64) uint8_t quads[2][VECTORS][QUADS][Bytes::WIDTH];
    alignas(64) int32_t sums[COLUMNS][VECTORS][PLANES][S][LANES];
    Total totals[COLUMNS][PANEL];
};

// The sums of a panel over SNPs `first` to `last`.
template <size_t S>
void sum_snps(const Panels& z, size_t panel, size_t first, size_t last, const Digits<S>& in, MatmulWork<S>& work) {
    const auto count = [&](size_t j) { return j < last ? (std::min(last, j + 4 * QUADS) - j + 3) / 4 : 0; };
    Ahead ahead{z.line(panel, first), work.quads[0][0][0], count(first)};
    while (ahead.left) ahead.step();
    for (size_t j = first, block = 0; j < last; j += 4 * QUADS, block = !block) {
        ahead = {z.line(panel, j + 4 * QUADS), work.quads[!block][0][0], count(j + 4 * QUADS)};
        for (size_t c = 0; c < in.columns; c++)
            for (size_t v = 0; v < VECTORS; v++) {
                const uint8_t *quads = work.quads[block][v][0], *digits = in.of(c, j);
                auto& sums = work.sums[c][v];
                if constexpr (ROWS<S> == 4) add_quads<S, 0, 4>(quads, count(j), digits, sums[0][0], ahead);
                else {
                    add_quads<S, 0, 2>(quads, count(j), digits, sums[0][0], ahead);
                    add_quads<S, 2, 2>(quads, count(j), digits, sums[2][0], ahead);
                }
            }
    }
}

template <size_t S>
void add_to_totals(const Digits<S>& in, MatmulWork<S>& work) {
    for (size_t c = 0; c < in.columns; c++)
        for (size_t v = 0; v < VECTORS; v++)
            for (size_t f = 0; f < PLANES; f++)
                for (size_t lane = 0; lane < LANES; lane++) {
                    int64_t sums[S];
                    for (size_t s = 0; s < S; s++) sums[s] = work.sums[c][v][f][s][lane];
                    work.totals[c][4 * interleaved_byte(v, lane) + f].template add<S>(sums);
                }
}

// The individuals of a panel of out (n, k) = Z V.
template <class real, size_t S>
void matmul_panel(const Panels& z, size_t panel, const Digits<S>& in, size_t k, real* out, MatmulWork<S>& work) {
    std::memset(work.totals, 0, sizeof work.totals);
    for (size_t first = 0; first < z.m; first += FLUSH) {
        std::memset(work.sums, 0, in.columns * sizeof work.sums[0]);
        sum_snps(z, panel, first, std::min(z.m, first + FLUSH), in, work);
        add_to_totals(in, work);
    }
    for (size_t i = 0; i < z.individuals(panel); i++)
        for (size_t c = 0; c < in.columns; c++)
            out[(panel * PANEL + i) * k + c] = work.totals[c][i].template value<real>(in.scales[c]);
}

// ---- Z'U --------------------------------------------------------------------------------------------------------

template <size_t S>
constexpr size_t SNPS = 64 * ROWS<S>;  // whose totals a thread keeps
constexpr size_t MOST_PANELS = 64;  // that are summed in registers
constexpr size_t NEXT = 8;          // SNPs ahead, whose lines of the same panels are fetched: 19 G/s without, 32 with

// Sums `count` panels of R SNPs: sums[SNP][slice][lane], or adds to these sums.
template <size_t S, size_t R>
void add_lines(const Panels& z, size_t panel, size_t count, size_t snp, const uint8_t* digits, bool add,
               int32_t* sums) {
    Block<R, S> block;
    for (size_t p = panel; p < panel + count; p++)
        for (size_t part = 0; part < PARTS; part++) {
            const uint8_t* lines = z.line(p, snp) + part * Bytes::WIDTH;
            if (part == 0) each<R>([&](auto r) INLINE { __builtin_prefetch(lines + (NEXT + r) * LINE, 0, 2); });
            each<PLANES>([&](auto f) INLINE {
                Bytes dosages[R];
                each<R>([&](auto r) INLINE { dosages[r] = plane<f>(Bytes::load(lines + r * LINE)); });
                block.add(dosages, [&](auto s) INLINE { return Bytes::load(digits + s * Bytes::WIDTH); });
                digits += S * Bytes::WIDTH;
            });
        }
    block.put(sums, add);
}

template <size_t S>
struct RmatmulWork {
    Total totals[SNPS<S>][COLUMNS];
};

// Adds panels `first` to `last` to the totals of ROWS SNPs and one column.
template <size_t S>
void sum_individuals(const Panels& z, size_t first, size_t last, size_t snp, const Digits<S>& in, size_t column,
                     Total (*totals)[COLUMNS]) {
    constexpr size_t AT_ONCE = std::min(MOST_PANELS, Sums::MOST / (PLANES * PARTS));
    constexpr size_t FOURS = (ROWS<S> * S + 3) / 4;
    alignas(64) int32_t sums[FOURS][4][LANES];
    for (size_t panel = first; panel < last; panel += AT_ONCE)
        add_lines<S, ROWS<S>>(z, panel, std::min(AT_ONCE, last - panel), snp, in.of(column, panel * PANEL),
                              panel != first, sums[0][0]);
    alignas(16) int32_t rows[FOURS][4];
    for (size_t i = 0; i < FOURS; i++) _mm_store_si128(reinterpret_cast<__m128i*>(rows[i]), add_lanes(sums[i]));
    for (size_t r = 0; r < ROWS<S>; r++) totals[r][column].add<S>(rows[0] + r * S);
}

// SNPs `first` to `last`, at most SNPS<S>, of out (m, k) = Z'U.
template <class real, size_t S>
void rmatmul_snps(const Panels& z, size_t first, size_t last, const Digits<S>& in, size_t k, real* out,
                  RmatmulWork<S>& work) {
    const size_t digits = in.columns * Digits<S>::PANEL_BYTES;
    const size_t at_once = std::clamp<size_t>(panels::second_level_cache() / 2 / digits, 8, MOST_PANELS);
    std::memset(work.totals, 0, sizeof work.totals);
    for (size_t panel = 0; panel < z.count(); panel += at_once)
        for (size_t j = first; j < last; j += ROWS<S>)
            for (size_t c = 0; c < in.columns; c++)
                sum_individuals(z, panel, std::min(z.count(), panel + at_once), j, in, c, work.totals + (j - first));
    for (size_t j = first; j < last; j++)
        for (size_t c = 0; c < in.columns; c++)
            out[j * k + c] = work.totals[j - first][c].template value<real>(in.scales[c]);
}

// ---- Products ---------------------------------------------------------------------------------------------------

template <class real, size_t S>
void matmul(const Panels& z, const Digits<S>& in, size_t k, real* out, MatmulWork<S>* work) {
#pragma omp parallel num_threads(z.threads)
    {
        const size_t me = omp_get_thread_num(), all = omp_get_num_threads();
        for (size_t panel = panels::share(z.count(), me, all); panel < panels::share(z.count(), me + 1, all); panel++)
            matmul_panel(z, panel, in, k, out, work[me]);
    }
}

template <class real, size_t S>
void rmatmul(const Panels& z, const Digits<S>& in, size_t k, real* out, RmatmulWork<S>* work) {
    const size_t groups = (z.m + ROWS<S> - 1) / ROWS<S>;
#pragma omp parallel num_threads(z.threads)
    {
        const size_t me = omp_get_thread_num(), all = omp_get_num_threads();
        const size_t first = panels::share(groups, me, all) * ROWS<S>;
        const size_t last = std::min(z.m, panels::share(groups, me + 1, all) * ROWS<S>);
        for (size_t j = first; j < last; j += SNPS<S>)
            rmatmul_snps(z, j, std::min(last, j + SNPS<S>), in, k, out, work[me]);
    }
}

// Some columns of Z V or Z'U; 1: no memory.
template <class real, size_t S, bool TRANSPOSED>
int multiply_columns(const Panels& z, const real* x, Digits<S>& in, size_t k, real* out) {
    using Work = std::conditional_t<TRANSPOSED, RmatmulWork<S>, MatmulWork<S>>;
    const panels::Owned<uint8_t> digits(in.columns * in.column_bytes);
    const panels::Owned<Work> work(z.threads);
    if (!digits || !work) return 1;
    in.bytes = digits.data;
    fill<real, S, TRANSPOSED>(in, x, k, z.threads);
    if constexpr (TRANSPOSED) rmatmul(z, in, k, out, work.data);
    else matmul(z, in, k, out, work.data);
    for (size_t c = 0; c < in.columns; c++) add_non_finite(z, TRANSPOSED, in.extents[c], x + c, k, out + c);
    return 0;
}

// out = Z V (n, k) or, transposed, Z'U (m, k); 1: no memory.
template <class real>
int product(const Panels& z, const void* x, size_t k, void* out, bool transposed) {
    constexpr size_t S = DIGITS<real>;
    const size_t inputs = transposed ? z.n : z.m;
    const size_t column_bytes = (inputs + PANEL - 1) / PANEL * Digits<S>::PANEL_BYTES;
    const size_t most = std::clamp<size_t>(DIGIT_BYTES / column_bytes, 1, COLUMNS);
    for (size_t c = 0; c < k; c += most) {
        Digits<S> in{inputs, std::min(most, k - c), column_bytes, {}, {}, nullptr};
        const auto multiply = transposed ? multiply_columns<real, S, true> : multiply_columns<real, S, false>;
        if (multiply(z, static_cast<const real*>(x) + c, in, k, static_cast<real*>(out) + c)) return 1;
    }
    return 0;
}

}  // namespace slices
