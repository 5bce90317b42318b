// A pedigree, and the inverse of its relationships by Henderson's rules (1976): animal i with the parents s and d adds
// w w' / d_i at the rows i, s, d, where w = (1, -1/2, -1/2).
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

namespace {

// gamma: the relationships of the groups (groups x groups), which are then metafounders.
struct Pedigree {
    size_t n;
    const int32_t *sire, *dam;
    size_t groups;
    const double* gamma;

    bool is_animal(int32_t parent) const { return parent >= 0 && size_t(parent) < n; }
};

class Inverse {
    struct Entry {
        int32_t column;
        double value;
    };
    const Pedigree p;
    std::vector<double> diagonal, corner;
    std::vector<size_t> first;  // where each row's entries begin; without the diagonal, columns may stand there twice
    std::vector<Entry> entries;
    std::vector<size_t> next;

    void add(int32_t row, int32_t column, double value) { entries[next[row]++] = {column, value}; }

    // Two different rows, each of which gets the entry; groups have a dense block of their own, founders all add to it.
    template <class Put>
    void pair(int32_t a, int32_t b, double value, Put put) {
        if (a < 0 || b < 0) return;
        if (!p.is_animal(a) && !p.is_animal(b)) {
            corner[(a - p.n) * p.groups + b - p.n] += value;
            corner[(b - p.n) * p.groups + a - p.n] += value;
        } else if (a == b) {
            diagonal[a] += 2 * value;
        } else {
            put(a, b, value);
            put(b, a, value);
        }
    }

    template <class Put>
    void pairs(const double* sampling, Put put) {
        for (size_t i = 0; i < p.n; i++) {
            const double by = 1 / sampling[i];
            diagonal[i] += by;
            for (int32_t parent : {p.sire[i], p.dam[i]}) {
                pair(i, parent, -by / 2, put);
                if (p.is_animal(parent)) diagonal[parent] += by / 4;
                if (parent >= 0 && !p.is_animal(parent)) corner[(parent - p.n) * (p.groups + 1)] += by / 4;
            }
            pair(p.sire[i], p.dam[i], by / 4, put);
        }
    }

    // Sorts a row and adds up what stands at the same column; answers how many are left.
    size_t merged(size_t row) {
        Entry* const begin = entries.data() + first[row];
        Entry* const end = entries.data() + first[row + 1];
        // By the value too: then row b sums the entries at a in the order in which row a sums those at b.
        std::sort(begin, end, [](const Entry& a, const Entry& b) {
            return std::make_pair(a.column, a.value) < std::make_pair(b.column, b.value);
        });
        Entry* last = begin;
        for (Entry* at = begin; at != end; at++)
            if (last != begin && last[-1].column == at->column)
                last[-1].value += at->value;
            else
                *last++ = *at;
        return last - begin;
    }

    void write_row(size_t row, size_t size, int32_t* column, double* value) const {
        size_t at = 0;
        const auto put = [&](int32_t c, double v) { column[at] = c, value[at++] = v; };
        const bool animal = p.is_animal(row);
        bool diagonal_written = !animal;
        for (size_t e = first[row]; e < first[row] + size; e++) {
            if (!diagonal_written && entries[e].column > int32_t(row)) {
                put(row, diagonal[row]);
                diagonal_written = true;
            }
            put(entries[e].column, entries[e].value);
        }
        if (!diagonal_written) put(row, diagonal[row]);
        if (!animal)
            for (size_t b = 0; b < p.groups; b++) put(p.n + b, corner[(row - p.n) * p.groups + b]);
    }

   public:
    Inverse(const Pedigree& pedigree, const double* sampling, const double* corner_begins)
        : p(pedigree), diagonal(p.n, 0.0), corner(corner_begins, corner_begins + p.groups * p.groups) {
        first.assign(p.n + p.groups + 1, 0);
        pairs(sampling, [&](int32_t row, int32_t, double) { first[row + 1]++; });
        std::partial_sum(first.begin(), first.end(), first.begin());
        entries.resize(first.back());
        next.assign(first.begin(), first.end() - 1);
        std::fill(diagonal.begin(), diagonal.end(), 0.0);
        corner.assign(corner_begins, corner_begins + p.groups * p.groups);
        pairs(sampling, [&](int32_t row, int32_t column, double value) { add(row, column, value); });
    }

    int64_t write(int threads, int32_t* out_first, int32_t* column, double* value) {
        const int64_t rows = p.n + p.groups;
        std::vector<size_t> size(rows);
#pragma omp parallel for schedule(dynamic, 4096) num_threads(threads)
        for (int64_t row = 0; row < rows; row++) size[row] = merged(row);
        out_first[0] = 0;
        for (int64_t row = 0; row < rows; row++)
            out_first[row + 1] = out_first[row] + size[row] + (p.is_animal(row) ? 1 : p.groups);
#pragma omp parallel for schedule(static) num_threads(threads)
        for (int64_t row = 0; row < rows; row++)
            write_row(row, size[row], column + out_first[row], value + out_first[row]);
        return out_first[rows];
    }
};

}  // namespace
