// What stands before and after the products: columns of doubles → digits, sums → doubles, and the columns that have no
// digits.
#include "digits.h"
#include "panels.h"

// largest[c] = the largest bits of |X(r, c)|, as an integer: magnitudes and their bits have one order. X (rows, k); largest
// is 0 before. Blocks share the rows, and there is one for each 32 columns.
extern "C" __global__ void largest_magnitudes(const double* X, i64 k, i64 rows, u64* largest) {
    const int rest = int(k) - 32 * int(blockIdx.y), columns = rest < 32 ? rest : 32;
    const int step = int(blockDim.x) / columns, row = int(threadIdx.x) / columns;
    const int column = 32 * int(blockIdx.y) + int(threadIdx.x) % columns;
    if (row >= step) return;
    u64 found = 0;
    for (i64 r = i64(blockIdx.x) * step + row; r < rows; r += i64(gridDim.x) * step) {
        const u64 bits = u64(__double_as_longlong(X[r * k + column])) & ~(1ull << 63);
        found = bits > found ? bits : found;
    }
    if (found) atomicMax(largest + column, found);
}

// The input that stands at position p of a column of digits. The products read their inputs in the order in which
// unpacking a word of genotypes gives them (product.cu), so that nothing is reordered there.
DEVICE i64 input_at(i64 p, bool transposed) {
    const int half = int(p >> 4) & 1, quarter = int(p >> 2) & 3, byte = int(p) & 3;
    if (transposed) return (p & ~63ll) + 16 * quarter + 4 * byte + 2 * (int(p >> 5) & 1) + half;
    return (p & ~31ll) + 16 * half + 8 * (byte >> 1) + 2 * quarter + (byte & 1);
}

// digits[(c S + s) padded + p]: digit s, the most significant first, of column c's input at position p < padded; 0 past
// the last row. A column that is not finite has digits of 0: `dense` makes its products.
extern "C" __global__ void to_digits(const double* X, i64 pitch, i64 rows, i64 padded, i64 width, i64 first, i64 slices,
                                     const u64* largest, i64 transposed, s8* digits) {
    const i64 p = i64(blockIdx.x) * blockDim.x + threadIdx.x;
    if (p >= padded) return;
    const i64 row = input_at(p, transposed != 0);
    for (int c = 0; c < width; c++) {
        i64 q = 0;
        if (row < rows && largest[c] < INFINITE)
            q = __double2ll_rn(ldexp(X[row * pitch + first + c], -exponent_of(largest[c], int(slices))));
        for (int s = int(slices) - 1; s >= 0; s--) {
            const s8 digit = s8(q & 0xff);
            digits[(i64(c) * slices + s) * padded + p] = digit;
            q = (q - digit) >> 8;
        }
    }
}

// out (rows, out_pitch) from column `first` on = sums (rows, width, 2), the integers high 2^32 + low, in units of 2^e.
extern "C" __global__ void to_doubles(const i64* sums, i64 rows, i64 width, i64 slices, const u64* largest,
                                      double* out, i64 out_pitch, i64 first) {
    const i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x;
    const i64 c = i % width;
    if (i >= rows * width || largest[c] >= INFINITE) return;
    out[i / width * out_pitch + first + c] =
        rounded(sums[2 * i], sums[2 * i + 1], exponent_of(largest[c], int(slices)));
}

// The products of the columns that are not finite, one thread an output, as a dense product has them: 0 times infinity
// and NaN is NaN. Leaves the others alone. `accumulate`: what is there are the products of other inputs.
extern "C" __global__ void dense(const u8* panels, i64 panel, const double* X, i64 pitch, i64 rows, i64 inputs,
                                 i64 first, const u64* largest, i64 transposed, i64 decode, i64 accumulate,
                                 double* out, i64 out_pitch) {
    const i64 c = blockIdx.y, r = i64(blockIdx.x) * blockDim.x + threadIdx.x;
    if (largest[c] < INFINITE || r >= rows) return;
    double sum = accumulate ? out[r * out_pitch + first + c] : 0.0;
    for (i64 d = 0; d < inputs; d++) {
        const int code = transposed ? code_at(panels, panel, d, r) : code_at(panels, panel, r, d);
        const int counted = decode == MISSING_CALLS ? code == 3 : code == 3 ? 0 : code;
        sum += counted * X[d * pitch + first + c];
    }
    out[r * out_pitch + first + c] = sum;
}
