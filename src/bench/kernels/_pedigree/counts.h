// What a sparse Cholesky factor will cost, from the pattern alone.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

struct Cost {
    int64_t nonzeros = 0;
    double flops = 0;
};

// The factor's entries by columns, by walking each row's branches of the elimination tree (Davis 2006, 4.1 and 4.4).
// order: the row that is eliminated first, second and so on. Gives up as soon as there are more than `limit` entries.
inline Cost factor_cost(size_t n, const int64_t* first, const int32_t* column, const int32_t* order, int64_t limit) {
    std::vector<int32_t> place(n), parent(n, -1), reached_by(n, -1);
    std::vector<int64_t> count(n, 1);
    for (size_t i = 0; i < n; i++) place[order[i]] = i;
    Cost cost;
    cost.nonzeros = n;
    for (size_t i = 0; i < n && cost.nonzeros <= limit; i++) {
        reached_by[i] = i;
        for (int64_t at = first[order[i]]; at < first[order[i] + 1]; at++)
            for (int32_t j = place[column[at]]; j >= 0 && size_t(j) < i && reached_by[j] != int32_t(i); j = parent[j]) {
                if (parent[j] < 0) parent[j] = i;
                reached_by[j] = i;
                count[j]++;
                cost.nonzeros++;
            }
    }
    for (int64_t entries : count) cost.flops += double(entries) * entries;
    return cost;
}

}  // namespace
