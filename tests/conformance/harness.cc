// A kernel's products against plain loops, for machines where Python is not at hand: small integers, so that both
// must agree to the last bit.
#include <cstdint>
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

struct Genotypes {
    size_t n, m, stride;
    std::vector<uint8_t> bed;
    std::vector<int8_t> dosages;  // of all individuals at the first SNP, then at the second

    Genotypes(size_t n, size_t m) : n(n), m(m), stride((n + 3) / 4), bed(stride * m), dosages(n * m) {
        std::mt19937 random(n * 1000 + m);
        for (auto& byte : bed) byte = random();
        for (size_t j = 0; j < m; j++)
            for (size_t i = 0; i < n; i++) {
                const int code = bed[j * stride + i / 4] >> 2 * (i % 4) & 3;
                dosages[j * n + i] = code > 1 ? code - 1 : 0;
            }
    }
};

template <class real>
bool exact(const Genotypes& of, size_t k) {
    const size_t n = of.n, m = of.m;
    std::mt19937 random(k);
    std::vector<real> v(m * k), u(n * k), zv(n * k), ztu(m * k), wanted_zv(n * k), wanted_ztu(m * k);
    for (auto& x : v) x = int(random() % 19) - 9;
    for (auto& x : u) x = int(random() % 19) - 9;
    const real *const in_v = v.data(), *const in_u = u.data();
    real *const out_v = wanted_zv.data(), *const out_u = wanted_ztu.data();
    for (size_t j = 0; j < m; j++)
        for (size_t i = 0; i < n; i++) {
            const real dosage = of.dosages[j * n + i];
            for (size_t c = 0; c < k; c++) {
                out_v[i * k + c] += dosage * in_v[j * k + c];
                out_u[j * k + c] += dosage * in_u[i * k + c];
            }
        }
    void* z = gmk_prepare(of.bed.data(), of.stride, n, m, 2, sizeof(real));
    const bool failed = gmk_matmul(z, v.data(), k, zv.data()) || gmk_rmatmul(z, u.data(), k, ztu.data());
    gmk_free(z);
    return !failed && zv == wanted_zv && ztu == wanted_ztu;
}

}  // namespace

int main() {
    int products = 0;
    // Fewer than 2,048 rows, and as many: tables of four inputs and of five (lut5.h); five panels of 256 individuals.
    const size_t sizes[][2] = {{5, 7}, {5, 130}, {299, 7}, {299, 130}, {1281, 7}, {2100, 130}, {1281, 2049}};
    for (const auto& [n, m] : sizes) {
        const Genotypes genotypes(n, m);
        for (const size_t k : {1, 3, 10}) {
            if (m == 2049 && k == 10) continue;  // 7 in 10 of all the work; other sizes have 10 columns
            if (!gmk_runs() || !exact<double>(genotypes, k) || !exact<float>(genotypes, k)) {
                std::printf("wrong: n %zu, m %zu, k %zu\n", n, m, k);
                return 1;
            }
            products += 2;
        }
    }
    std::printf("%d products are exact\n", products);
}
