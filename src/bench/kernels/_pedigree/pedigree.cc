// Recursions over a pedigree whose animals stand in order, parents before their offspring. A parent is its row, or
// -1 where it is unknown. Arrays of several columns are row by row.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <new>
#include <numeric>
#include <vector>

#include "isa.h"

namespace {

struct Pedigree {
    size_t n;
    const int32_t *sire, *dam;
};

// The longest way from an animal up to a founder.
std::vector<int32_t> depths(const Pedigree& p) {
    std::vector<int32_t> depth(p.n, 0);
    for (size_t i = 0; i < p.n; i++)
        for (int32_t parent : {p.sire[i], p.dam[i]})
            if (parent >= 0) depth[i] = std::max(depth[i], depth[parent] + 1);
    return depth;
}

// The share of Mendelian sampling in the variance of each animal, from its parents' inbreeding.
double mendelian(const Pedigree& p, size_t i, const double* inbreeding) {
    const auto of = [&](int32_t parent) { return parent < 0 ? -1.0 : inbreeding[parent]; };
    return 0.5 - 0.25 * (of(p.sire[i]) + of(p.dam[i]));
}

// A thread's way up through the ancestors of one animal after another.
struct Ancestors {
    std::vector<double> path;                  // sum over all ways of 2^-length; 0 where none leads
    std::vector<std::vector<int32_t>> waiting;  // ancestors that were reached and not left, by depth

    Ancestors(size_t n, size_t levels) : path(n, 0.0), waiting(levels) {}

    void reach(int32_t animal, double by, const int32_t* depth) {
        if (animal < 0) return;
        if (path[animal] == 0) waiting[depth[animal]].push_back(animal);
        path[animal] += by;
    }

    // Sum over all ancestors of path^2 times their Mendelian sampling (Meuwissen & Luo 1992). An ancestor is left
    // when all ways to it have been walked: all that lead to it come from greater depths.
    double variance(const Pedigree& p, size_t i, const int32_t* depth, const double* sampling) {
        reach(p.sire[i], 0.5, depth);
        reach(p.dam[i], 0.5, depth);
        double sum = 0;
        for (int32_t level = depth[i] - 1; level >= 0; level--) {
            for (int32_t j : waiting[level]) {
                const double by = path[j];
                sum += by * by * sampling[j];
                path[j] = 0;
                reach(p.sire[j], by / 2, depth);
                reach(p.dam[j], by / 2, depth);
            }
            waiting[level].clear();
        }
        return sum;
    }
};

// Animals by depth, full sibs side by side; `first` is where each depth begins.
struct Levels {
    std::vector<int32_t> animals;
    std::vector<size_t> first;

    Levels(const Pedigree& p, const std::vector<int32_t>& depth) : animals(p.n) {
        const size_t levels = p.n ? *std::max_element(depth.begin(), depth.end()) + 1 : 0;
        first.assign(levels + 1, 0);
        for (int32_t d : depth) first[d + 1]++;
        std::partial_sum(first.begin(), first.end(), first.begin());
        std::vector<size_t> next(first.begin(), first.end());
        for (size_t i = 0; i < p.n; i++) animals[next[depth[i]]++] = i;
        for (size_t level = 0; level < levels; level++)
            std::sort(animals.begin() + first[level], animals.begin() + first[level + 1], [&](int32_t a, int32_t b) {
                return std::make_pair(p.sire[a], p.dam[a]) < std::make_pair(p.sire[b], p.dam[b]);
            });
    }

    size_t count() const { return first.size() - 1; }
};

bool full_sibs(const Pedigree& p, int32_t a, int32_t b) { return p.sire[a] == p.sire[b] && p.dam[a] == p.dam[b]; }

void fill_inbreeding(const Pedigree& p, int threads, double* inbreeding, double* sampling) {
    const std::vector<int32_t> depth = depths(p);
    const Levels levels(p, depth);
    std::vector<Ancestors> ways(threads, Ancestors(p.n, levels.count()));
    for (size_t level = 0; level < levels.count(); level++) {
        const int32_t* animals = levels.animals.data() + levels.first[level];
        const int64_t size = levels.first[level + 1] - levels.first[level];
        // All ancestors are of lower depth: their inbreeding is known.
#pragma omp parallel for schedule(dynamic, 256) num_threads(threads)
        for (int64_t at = 0; at < size; at++) {
            const int32_t i = animals[at];
            sampling[i] = mendelian(p, i, inbreeding);
            inbreeding[i] = 0;
            if (p.sire[i] < 0 || p.dam[i] < 0) continue;
            // Full sibs stand side by side; what the same chunk, and so the same thread, has found is there already.
            if (at % 256 && full_sibs(p, i, animals[at - 1]))
                inbreeding[i] = inbreeding[animals[at - 1]];
            else
                inbreeding[i] = ways[omp_get_thread_num()].variance(p, i, depth.data(), sampling) + sampling[i] - 1;
        }
    }
}

// A symmetric matrix's lower triangle by rows, columns ascending, so that the diagonal ends its row.
struct Lower {
    size_t n;
    const int64_t* first;
    const int32_t* column;
    double* value;

    double& diagonal(size_t i) const { return value[first[i + 1] - 1]; }

    // Sum of the products of what stands in rows i and j left of column j, where i's entry at j is `end`.
    double product(int64_t end, size_t i, size_t j) const {
        double sum = 0;
        int64_t a = first[i], b = first[j];
        while (a < end && b < first[j + 1] - 1)
            if (column[a] == column[b])
                sum += value[a++] * value[b++];
            else
                column[a] < column[b] ? a++ : b++;
        return sum;
    }
};

}  // namespace

// 1 if this processor has the instructions that this library was compiled for.
extern "C" int pedigree_runs() { return isa_runs(); }

// inbreeding, sampling: (n,), to be filled. 1: no memory.
extern "C" int pedigree_inbreeding(size_t n, const int32_t* sire, const int32_t* dam, int threads, double* inbreeding,
                                   double* sampling) {
    try {
        fill_inbreeding({n, sire, dam}, threads, inbreeding, sampling);
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}

// x (n, k) becomes A x: up to the ancestors, times the Mendelian sampling, and down again (Colleau 2002).
extern "C" void pedigree_multiply(size_t n, const int32_t* sire, const int32_t* dam, const double* sampling, double* x,
                                  size_t k) {
    for (size_t i = n; i-- > 0;)
        for (int32_t parent : {sire[i], dam[i]})
            if (parent >= 0)
                for (size_t c = 0; c < k; c++) x[parent * k + c] += 0.5 * x[i * k + c];
    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < k; c++) x[i * k + c] *= sampling[i];
        for (int32_t parent : {sire[i], dam[i]})
            if (parent >= 0)
                for (size_t c = 0; c < k; c++) x[i * k + c] += 0.5 * x[parent * k + c];
    }
}

// The incomplete Cholesky factor with the pattern of the matrix, in its place. Answers how many pivots were not
// positive and were replaced by a thousandth of the diagonal.
extern "C" size_t incomplete_cholesky(size_t n, const int64_t* first, const int32_t* column, double* value) {
    const Lower l{n, first, column, value};
    size_t replaced = 0;
    for (size_t i = 0; i < n; i++) {
        const double diagonal = l.diagonal(i);
        for (int64_t at = first[i]; at < first[i + 1] - 1; at++) {
            const size_t j = column[at];
            value[at] = (value[at] - l.product(at, i, j)) / l.diagonal(j);
        }
        double pivot = diagonal;
        for (int64_t at = first[i]; at < first[i + 1] - 1; at++) pivot -= value[at] * value[at];
        if (!(pivot > 0)) {
            pivot = 1e-3 * diagonal;
            replaced++;
        }
        l.diagonal(i) = std::sqrt(pivot);
    }
    return replaced;
}

// x (n, k) becomes (L L')^-1 x.
extern "C" void incomplete_solve(size_t n, const int64_t* first, const int32_t* column, const double* value, double* x,
                                 size_t k) {
    for (size_t i = 0; i < n; i++) {
        const double pivot = 1 / value[first[i + 1] - 1];
        for (int64_t at = first[i]; at < first[i + 1] - 1; at++)
            for (size_t c = 0; c < k; c++) x[i * k + c] -= value[at] * x[column[at] * k + c];
        for (size_t c = 0; c < k; c++) x[i * k + c] *= pivot;
    }
    for (size_t i = n; i-- > 0;) {
        const double pivot = 1 / value[first[i + 1] - 1];
        for (size_t c = 0; c < k; c++) x[i * k + c] *= pivot;
        for (int64_t at = first[i]; at < first[i + 1] - 1; at++)
            for (size_t c = 0; c < k; c++) x[column[at] * k + c] -= value[at] * x[i * k + c];
    }
}

// x (n, k), independent standard normals, becomes a draw from N(0, A) in each column: an animal is the mean of its
// parents and its Mendelian sampling. Parents at rows from n on, should x have such rows, are taken as they are.
extern "C" void pedigree_descend(size_t n, const int32_t* sire, const int32_t* dam, const double* sampling, double* x,
                                 size_t k) {
    for (size_t i = 0; i < n; i++) {
        const double root = std::sqrt(sampling[i]);
        for (size_t c = 0; c < k; c++) x[i * k + c] *= root;
        for (int32_t parent : {sire[i], dam[i]})
            if (parent >= 0)
                for (size_t c = 0; c < k; c++) x[i * k + c] += 0.5 * x[parent * k + c];
    }
}
