// A kernel's products against plain loops, for machines where Python is not at hand: small integers, so that both
// must agree to the last bit.
#include <cstdio>
#include <random>
#include <vector>

extern "C" {
int gmk_runs(void);
void* gmk_prepare(const uint8_t* bed, size_t stride, size_t n, size_t m, int threads, int real);
int gmk_matmul(const void* z, const void* v, size_t k, void* out);
int gmk_rmatmul(const void* z, const void* u, size_t k, void* out);
void gmk_free(void* z);
}

namespace {

template <class real>
bool exact(size_t n, size_t m, size_t k) {
    std::mt19937 random(n * 1000 + m);
    const size_t stride = (n + 3) / 4;
    std::vector<uint8_t> bed(stride * m);
    for (auto& byte : bed) byte = random();
    const auto dosage = [&](size_t i, size_t j) {
        const int code = bed[j * stride + i / 4] >> 2 * (i % 4) & 3;
        return code > 1 ? code - 1 : 0;
    };
    std::vector<real> v(m * k), u(n * k), zv(n * k), ztu(m * k), wanted_zv(n * k), wanted_ztu(m * k);
    for (auto& x : v) x = int(random() % 19) - 9;
    for (auto& x : u) x = int(random() % 19) - 9;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < m; j++)
            for (size_t c = 0; c < k; c++) {
                wanted_zv[i * k + c] += dosage(i, j) * v[j * k + c];
                wanted_ztu[j * k + c] += dosage(i, j) * u[i * k + c];
            }
    void* z = gmk_prepare(bed.data(), stride, n, m, 2, sizeof(real));
    const bool failed = gmk_matmul(z, v.data(), k, zv.data()) || gmk_rmatmul(z, u.data(), k, ztu.data());
    gmk_free(z);
    return !failed && zv == wanted_zv && ztu == wanted_ztu;
}

}  // namespace

int main() {
    int products = 0;
    // Fewer than 2,048 rows, and as many: tables of four inputs and of five (lut5.h); five panels of 256 individuals.
    const size_t sizes[][2] = {{5, 7}, {5, 130}, {299, 7}, {299, 130}, {1281, 7}, {2100, 130}, {1281, 2049}};
    for (const auto& [n, m] : sizes)
        for (const size_t k : {1, 3, 10}) {
            if (!gmk_runs() || !exact<double>(n, m, k) || !exact<float>(n, m, k)) {
                std::printf("wrong: n %zu, m %zu, k %zu\n", n, m, k);
                return 1;
            }
            products += 2;
        }
    std::printf("%d products are exact\n", products);
}
