// Recursions over a pedigree whose animals stand in order, parents before their offspring. A parent is its row, or
// n + k where it is unknown and of group k, or -1 where it is unknown. Arrays of several columns are row by row.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <new>
#include <numeric>
#include <vector>

#include "_pedigree/counts.h"
#include "_pedigree/incomplete.h"
#include "_pedigree/inverse.h"
#include "isa.h"

namespace {

// The longest way from an animal up to a founder.
std::vector<int32_t> depths(const Pedigree& p) {
    std::vector<int32_t> depth(p.n, 0);
    for (size_t i = 0; i < p.n; i++)
        for (int32_t parent : {p.sire[i], p.dam[i]})
            if (p.is_animal(parent)) depth[i] = std::max(depth[i], depth[parent] + 1);
    return depth;
}

// The share of Mendelian sampling in the variance of each animal, from its parents' inbreeding; a metafounder's is its
// relationship with itself less 1 (Legarra et al. 2015).
double mendelian(const Pedigree& p, size_t i, const double* inbreeding) {
    const auto of = [&](int32_t parent) {
        if (parent < 0) return -1.0;
        return p.is_animal(parent) ? inbreeding[parent] : p.gamma[(parent - p.n) * (p.groups + 1)] - 1;
    };
    return 0.5 - 0.25 * (of(p.sire[i]) + of(p.dam[i]));
}

// A thread's way up through the ancestors of one animal after another.
struct Ancestors {
    const Pedigree& p;
    const int32_t* depth;
    std::vector<double> path;                   // sum over all ways of 2^-length; 0 where none leads
    std::vector<std::vector<int32_t>> waiting;  // ancestors that were reached and not left, by depth
    std::vector<double> group_path;
    std::vector<int32_t> groups_reached;
    size_t visited = 0;

    Ancestors(const Pedigree& p, const int32_t* depth, size_t levels)
        : p(p), depth(depth), path(p.n, 0.0), waiting(levels), group_path(p.groups, 0.0) {}

    void reach(int32_t parent, double by) {
        if (parent < 0) return;
        const bool animal = p.is_animal(parent);
        double& way = animal ? path[parent] : group_path[parent - p.n];
        if (way == 0) (animal ? waiting[depth[parent]] : groups_reached).push_back(parent);
        way += by;
    }

    // Sum over all ancestors of path^2 times their Mendelian sampling (Meuwissen & Luo 1992), and of the products of
    // the metafounders' paths times their relationships. An ancestor is left when all ways to it have been walked:
    // all that lead to it come from greater depths.
    double variance(size_t i, const double* sampling) {
        reach(p.sire[i], 0.5);
        reach(p.dam[i], 0.5);
        double sum = 0;
        for (int32_t level = depth[i] - 1; level >= 0; level--) {
            for (int32_t j : waiting[level]) {
                const double by = path[j];
                sum += by * by * sampling[j];
                path[j] = 0;
                reach(p.sire[j], by / 2);
                reach(p.dam[j], by / 2);
            }
            visited += waiting[level].size();
            waiting[level].clear();
        }
        return sum + of_metafounders();
    }

    double of_metafounders() {
        double sum = 0;
        for (int32_t a : groups_reached)
            for (int32_t b : groups_reached)
                sum += group_path[a - p.n] * group_path[b - p.n] * p.gamma[(a - p.n) * p.groups + b - p.n];
        for (int32_t a : groups_reached) group_path[a - p.n] = 0;
        groups_reached.clear();
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

// The way up from every animal; full sibs are done once.
void walk_up(const Pedigree& p, const std::vector<int32_t>& depth, const Levels& levels, int threads,
             double* inbreeding, double* sampling) {
    std::vector<Ancestors> ways(threads, Ancestors(p, depth.data(), levels.count()));
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
                inbreeding[i] = ways[omp_get_thread_num()].variance(i, sampling) + sampling[i] - 1;
        }
    }
}

// A sire's relationships with all dams at once: a column of A, up to its ancestors and down again (Colleau 2002) in the
// pedigree of parents alone; half of that with the dam is an offspring's inbreeding (the idea of Sargolzaei et al. 2005).
class BySires {
    static constexpr int K = 2;  // columns at once: more no longer fit the cache
    const Pedigree& p;
    std::vector<int32_t> parents, place;  // animals that are parents, and where an animal or group stands among them
    std::vector<int32_t> sire, dam;       // of parents, by place
    std::vector<double> sampling;         // of parents; 0 while it is not known, as for all that cannot be ancestors
    std::vector<size_t> first;            // where each sire's offspring begin, by place
    std::vector<int32_t> offspring;

    void columns(const int32_t* sires, int count, std::vector<double>& x, double* inbreeding) const {
        const size_t m = parents.size();
        size_t top = 0, last = 0;
        std::fill(x.begin(), x.end(), 0.0);
        for (int c = 0; c < count; c++) {
            x[sires[c] * K + c] = 1;
            if (size_t(sires[c]) < m) top = std::max<size_t>(top, sires[c] + 1);
            for (size_t at = first[sires[c]]; at < first[sires[c] + 1]; at++)
                if (const size_t d = place[p.dam[offspring[at]]]; d < m) last = std::max(last, d + 1);
        }
        for (size_t i = top; i-- > 0;)
            for (int32_t parent : {sire[i], dam[i]})
                if (parent >= 0)
                    for (int c = 0; c < K; c++) x[parent * K + c] += 0.5 * x[i * K + c];
        const std::vector<double> up(x.begin() + m * K, x.end());
        for (size_t a = 0; a < p.groups && p.gamma; a++)
            for (int c = 0; c < K; c++) {
                double& sum = x[(m + a) * K + c] = 0;
                for (size_t b = 0; b < p.groups; b++) sum += p.gamma[a * p.groups + b] * up[b * K + c];
            }
        for (size_t i = 0; i < last; i++)
            for (int c = 0; c < K; c++) {
                double sum = sampling[i] * x[i * K + c];
                if (sire[i] >= 0) sum += 0.5 * x[sire[i] * K + c];
                if (dam[i] >= 0) sum += 0.5 * x[dam[i] * K + c];
                x[i * K + c] = sum;
            }
        for (int c = 0; c < count; c++)
            for (size_t at = first[sires[c]]; at < first[sires[c] + 1]; at++)
                inbreeding[offspring[at]] = 0.5 * x[place[p.dam[offspring[at]]] * K + c];
    }

   public:
    size_t sires = 0;

    explicit BySires(const Pedigree& p) : p(p), place(p.n + p.groups, -1) {
        for (size_t i = 0; i < p.n; i++)
            for (int32_t parent : {p.sire[i], p.dam[i]})
                if (parent >= 0) place[parent] = 0;
        for (size_t i = 0; i < p.n; i++)
            if (place[i] == 0) {
                place[i] = parents.size();
                parents.push_back(i);
            }
        for (size_t g = 0; g < p.groups; g++) place[p.n + g] = parents.size() + g;
        sampling.assign(parents.size(), 0.0);
        const auto at = [&](int32_t parent) { return parent < 0 ? -1 : place[parent]; };
        for (int32_t i : parents) sire.push_back(at(p.sire[i])), dam.push_back(at(p.dam[i]));
        first.assign(parents.size() + p.groups + 1, 0);
        const auto both = [&](size_t i) { return p.sire[i] >= 0 && p.dam[i] >= 0; };
        for (size_t i = 0; i < p.n; i++)
            if (both(i)) first[place[p.sire[i]] + 1]++;
        for (size_t s = 0; s + 1 < first.size(); s++) {
            sires += first[s + 1] > 0;
            first[s + 1] += first[s];
        }
        offspring.resize(first.back());
        std::vector<size_t> next(first.begin(), first.end() - 1);
        for (size_t i = 0; i < p.n; i++)
            if (both(i)) offspring[next[place[p.sire[i]]]++] = i;
    }

    double rows() const { return double(sires) * parents.size(); }

    void fill(const Levels& levels, int threads, double* inbreeding, double* sampling_of_all) {
        std::vector<std::vector<double>> x(threads, std::vector<double>((parents.size() + p.groups) * K));
        std::fill(inbreeding, inbreeding + p.n, 0.0);
        std::vector<int32_t> now;  // the sires of a depth, first the groups: all their ancestors are of lower depth
        const auto add = [&](size_t s) {
            if (first[s] < first[s + 1]) now.push_back(s);
        };
        for (size_t g = 0; g < p.groups; g++) add(parents.size() + g);
        for (size_t level = 0; level <= levels.count(); level++) {
            const int64_t batches = (now.size() + K - 1) / K;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
            for (int64_t b = 0; b < batches; b++)
                columns(now.data() + b * K, std::min<size_t>(K, now.size() - b * K), x[omp_get_thread_num()],
                        inbreeding);
            now.clear();
            if (level == levels.count()) break;
            for (size_t at = levels.first[level]; at < levels.first[level + 1]; at++) {
                const int32_t i = levels.animals[at];
                sampling_of_all[i] = mendelian(p, i, inbreeding);
                if (place[i] < 0) continue;
                sampling[place[i]] = sampling_of_all[i];
                add(place[i]);
            }
        }
    }
};

// How many ancestors are met when every 4096th animal's way up is walked, and all animals' by proportion.
double visits(const Pedigree& p, const std::vector<int32_t>& depth, const Levels& levels, double* sampling) {
    Ancestors way(p, depth.data(), levels.count());
    for (size_t i = 0; i < p.n; i += 4096)
        if (p.sire[i] >= 0 && p.dam[i] >= 0) way.variance(i, sampling);
    size_t families = 0;
    for (size_t at = 0; at < p.n; at++) families += at == 0 || !full_sibs(p, levels.animals[at], levels.animals[at - 1]);
    return double(way.visited) / ((p.n + 4095) / 4096) * families;
}

// method 1: by the way up; 2: by sires; 0: the cheaper. A visit of an ancestor took 30 ns, a row of a sire's column 2.
void fill_inbreeding(const Pedigree& p, int threads, int method, double* inbreeding, double* sampling) {
    const std::vector<int32_t> depth = depths(p);
    const Levels levels(p, depth);
    if (method == 1) return walk_up(p, depth, levels, threads, inbreeding, sampling);
    BySires by_sires(p);
    if (method == 0 && 30 * visits(p, depth, levels, sampling) < 2 * by_sires.rows())
        return walk_up(p, depth, levels, threads, inbreeding, sampling);
    by_sires.fill(levels, threads, inbreeding, sampling);
}

}  // namespace

// 1 if this processor has the instructions that this library was compiled for.
extern "C" int pedigree_runs() { return isa_runs(); }

// inbreeding, sampling: (n,), to be filled. gamma: null without metafounders. 1: no memory.
extern "C" int pedigree_inbreeding(size_t n, const int32_t* sire, const int32_t* dam, size_t groups,
                                   const double* gamma, int threads, int method, double* inbreeding,
                                   double* sampling) {
    try {
        fill_inbreeding({n, sire, dam, groups, gamma}, threads, method, inbreeding, sampling);
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}

// x (n + groups, k) becomes A x: up to the ancestors, times the Mendelian sampling, and down again (Colleau 2002);
// metafounders, at the top, are multiplied by their relationships.
extern "C" void pedigree_multiply(size_t n, const int32_t* sire, const int32_t* dam, size_t groups,
                                  const double* gamma, const double* sampling, double* x, size_t k) {
    for (size_t i = n; i-- > 0;)
        for (int32_t parent : {sire[i], dam[i]})
            if (parent >= 0)
                for (size_t c = 0; c < k; c++) x[parent * k + c] += 0.5 * x[i * k + c];
    const std::vector<double> up(x + n * k, x + (n + groups) * k);
    for (size_t a = 0; a < groups; a++)
        for (size_t c = 0; c < k; c++) {
            double sum = 0;
            for (size_t b = 0; b < groups; b++) sum += gamma[a * groups + b] * up[b * k + c];
            x[(n + a) * k + c] = sum;
        }
    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < k; c++) x[i * k + c] *= sampling[i];
        for (int32_t parent : {sire[i], dam[i]})
            if (parent >= 0)
                for (size_t c = 0; c < k; c++) x[i * k + c] += 0.5 * x[parent * k + c];
    }
}

// The inverse by Henderson's rules, (n + groups) rows, into arrays for 7 n + groups (groups + 1) entries; first:
// (n + groups + 1,). corner (groups, groups): what the groups' own block begins with. Answers the number of entries,
// or -1: no memory.
extern "C" int64_t pedigree_inverse(size_t n, const int32_t* sire, const int32_t* dam, size_t groups,
                                    const double* sampling, const double* corner, int threads, int32_t* first,
                                    int32_t* column, double* value) {
    try {
        return Inverse({n, sire, dam, groups, nullptr}, sampling, corner).write(threads, first, column, value);
    } catch (const std::bad_alloc&) {
        return -1;
    }
}

// The lower triangle of a symmetric matrix (rows with their columns) in the order of elimination, by columns, and its
// incomplete Cholesky factor with the reciprocals of its diagonal. matrix: null where it is not wanted. shrunk: how
// many rows had to be. 1: no memory; 2: not symmetric, or an element of the diagonal is missing; 3: one is not positive.
extern "C" int incomplete_factor(size_t n, const int64_t* row_first, const int32_t* column, const double* value,
                                 const int32_t* order, int64_t* first, int32_t* row, double* matrix, double* factor,
                                 int64_t* shrunk) {
    try {
        if (!lower_columns(n, row_first, column, value, order, first, row, factor)) return 2;
        const Columns columns{n, first, row};
        if (matrix) std::copy(factor, factor + first[n], matrix);
        Rows rows(columns, factor);
        if ((*shrunk = rows.factor()) < 0) return 3;
        rows.each(columns, [&](int64_t in_columns, int64_t in_rows, int32_t j) {
            factor[in_columns] = in_columns == first[j] ? 1 / rows.value[in_rows] : rows.value[in_rows];
        });
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}

// x (n, k) becomes (L L')^-1 x; rows are those of the matrix.
extern "C" int incomplete_solve_factor(size_t n, const int64_t* first, const int32_t* row, const double* factor,
                                       const int32_t* order, double* x, size_t k) {
    try {
        std::vector<double> ordered(n * k);
        for (size_t i = 0; i < n; i++) std::copy_n(x + order[i] * k, k, ordered.data() + i * k);
        solve_factor({n, first, row}, factor, ordered.data(), k);
        for (size_t i = 0; i < n; i++) std::copy_n(ordered.data() + i * k, k, x + order[i] * k);
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}

// x (n, k) becomes the solution of A X = x, several columns at once and these groups of columns on different threads.
// steps, residual: the most that a group needed, the largest that is left. 1: no memory, 2: not positive definite.
extern "C" int incomplete_pcg(size_t n, const int64_t* first, const int32_t* row, const double* matrix,
                              const double* factor, const int32_t* order, double* x, size_t k, double rtol,
                              int64_t max_steps, int threads, int64_t* steps, double* residual) {
    const size_t width = std::min<size_t>(AT_ONCE, (k + threads - 1) / threads);
    const int64_t parts = width ? (k + width - 1) / width : 0;
    bool no_memory = false, indefinite = false;
    *steps = 0, *residual = 0;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t part = 0; part < parts; part++) {
        const size_t from = part * width, columns = std::min(width, k - from);
        try {
            std::vector<double> some(n * columns);
            for (size_t i = 0; i < n; i++)
                std::copy_n(x + order[i] * k + from, columns, some.data() + i * columns);
            const Outcome out = solve({n, first, row}, matrix, factor, some.data(), columns, rtol, max_steps);
            for (size_t i = 0; i < n; i++)
                std::copy_n(some.data() + i * columns, columns, x + order[i] * k + from);
#pragma omp critical
            {
                *steps = std::max(*steps, out.steps);
                *residual = std::max(*residual, out.residual);
                indefinite |= out.indefinite;
            }
        } catch (const std::bad_alloc&) {
#pragma omp critical
            no_memory = true;
        }
    }
    return no_memory ? 1 : indefinite ? 2 : 0;
}

// Entries and multiplications of the Cholesky factor in this order, or more than `limit` entries. 1: no memory.
extern "C" int cholesky_cost(size_t n, const int64_t* first, const int32_t* column, const int32_t* order,
                             int64_t limit, int64_t* nonzeros, double* flops) {
    try {
        const Cost cost = factor_cost(n, first, column, order, limit);
        *nonzeros = cost.nonzeros, *flops = cost.flops;
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
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
