// What miraculix documents of its C interface, by brute force: a stand-in for tests, with no line of miraculix.
// It ends the process where the interface is broken, counts matrices, and hands out what it was given.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

struct Matrix {
    int snps, indiv, columns;
    std::vector<unsigned char> codes;    // as .bed rows
    std::vector<unsigned char> recoded;  // room of the second copy
};

int options[10];
int live = 0;
double frequencies = 0;

void demand(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "miraculix stand-in: %s\n", what);
    std::abort();
}

int code(const unsigned char* rows, size_t stride, int row, int i) { return rows[row * stride + i / 4] >> 2 * (i % 4) & 3; }

}  // namespace

extern "C" {

void stand_in_state(int* chosen, int* matrices, double* sum_of_frequencies) {
    std::memcpy(chosen, options, sizeof options);
    *matrices = live;
    *sum_of_frequencies = frequencies;
}

void setOptions_compressed(int gpu, int cores, int floats, int mean, int ignore_missings, int not_center,
                           int normalize, int own_frequency, int variant, int print) {
    const int given[10] = {gpu, cores, floats, mean, ignore_missings, not_center, normalize, own_frequency, variant, print};
    std::memcpy(options, given, sizeof options);
}

void plink2compressed(char* plink, char* transposed, int snps, int indiv, double* f, int max_n, void** compressed) {
    const unsigned char* rows = reinterpret_cast<unsigned char*>(plink);
    const unsigned char* columns = reinterpret_cast<unsigned char*>(transposed);
    const size_t stride = (indiv + 3) / 4, width = (snps + 3) / 4;
    frequencies = 0;
    for (int j = 0; j < snps; j++) {
        for (int i = 0; i < indiv; i++) {
            demand(code(rows, stride, j, i) != 1, "a missing call");
            demand(code(rows, stride, j, i) == code(columns, width, i, j), "the two layouts differ");
        }
        for (int i = indiv; i < 4 * int(stride); i++) demand(!code(rows, stride, j, i), "a code after the last one");
        frequencies += f[j];
    }
    for (int i = 0; i < indiv; i++)
        for (int j = snps; j < 4 * int(width); j++) demand(!code(columns, width, i, j), "a code after the last SNP");
    Matrix* z = new Matrix{snps, indiv, max_n, {rows, rows + snps * stride}, {}};
    z->recoded.assign(indiv * width, 1);
    *compressed = z;
    live++;
}

void dgemm_compressed(char* trans, void* compressed, int n, double* B, int ldb, double* C, int ldc) {
    const Matrix& z = *static_cast<Matrix*>(compressed);
    const bool transposed = *trans == 'T';
    demand(transposed || *trans == 'N', "trans is neither N nor T");
    const int rows = transposed ? z.snps : z.indiv, inputs = transposed ? z.indiv : z.snps;
    demand(n > 0 && n <= z.columns, "more columns than were announced");
    demand(ldb == inputs && ldc == rows, "a leading dimension is wrong");
    const size_t stride = (z.indiv + 3) / 4;
    for (int c = 0; c < n; c++) std::fill_n(C + size_t(c) * ldc, rows, 0.0);
    std::vector<int> individuals(z.indiv);
    std::vector<double> dosages(z.indiv);
    for (int j = 0; j < z.snps; j++) {
        int kept = 0;  // zeros are left out: zero times infinity is no zero
        for (int i = 0; i < z.indiv; i++) {
            const int found = code(z.codes.data(), stride, j, i);
            // Dosage minus twice the frequency where centring was not switched off would be seen as wrong.
            dosages[kept] = (found > 1 ? found - 1 : 0) - (options[5] ? 0.0 : 0.5);
            individuals[kept] = i;
            kept += dosages[kept] != 0;
        }
        for (int c = 0; c < n; c++) {
            const double* b = B + size_t(c) * ldb;
            double* sums = C + size_t(c) * ldc;
            for (int e = 0; e < kept; e++)
                if (transposed) sums[j] += dosages[e] * b[individuals[e]];
                else sums[individuals[e]] += dosages[e] * b[j];
        }
    }
}

void free_compressed(void** compressed) {
    delete static_cast<Matrix*>(*compressed);
    *compressed = nullptr;
    live--;
}
}
