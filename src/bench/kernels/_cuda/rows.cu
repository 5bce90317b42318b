// Upload: rows of a .bed file → rows in which the genotypes that a sum runs over follow each other.
#include "panels.h"

// `bed` holds `snps` rows of `stride` bytes of n individuals; they are the SNPs first, first + 1, … of the matrix.
// *missing becomes 1 if a call is missing.

// Dosages of PLINK's codes 0, 1, 2, 3: 0, a missing call (3 if `marked`, else 0), 1 and 2.
DEVICE u32 dosages_of(u32 codes, bool marked, i64* missing) {
    const u32 h = codes >> 1 & LOW_BITS, l = codes & LOW_BITS, absent = l & ~h;
    if (absent) *missing = 1;
    return (h & l) << 1 | (h & ~l) | (marked ? absent | absent << 1 : 0);
}

// A row of `pitch` bytes for each SNP. A thread writes a word, of 16 individuals.
extern "C" __global__ void by_snp(const u8* bed, i64 stride, i64 snps, i64 first, i64 n, u8* rows, i64 pitch,
                                  i64 marked, i64* missing) {
    const i64 words = (n + 15) / 16, thread = i64(blockIdx.x) * blockDim.x + threadIdx.x;
    if (thread >= snps * words) return;
    const i64 snp = thread / words, word = thread % words;
    *(u32*)(rows + (first + snp) * pitch + 4 * word) =
        dosages_of(plink_codes(bed + snp * stride, word, n), marked, missing);
}

// Field f of word w ↔ field w of word f, of fields of 2 bits: halves are exchanged, then quarters, and so on.
DEVICE void transpose(u32 (&words)[16]) {
    const u32 masks[4] = {0x33333333u, 0x0f0f0f0fu, 0x00ff00ffu, 0x0000ffffu};
#pragma unroll
    for (int step = 3; step >= 0; step--)
#pragma unroll
        for (int w = 0; w < 16; w++) {
            const int far = 1 << step;
            if (w & far) continue;
            const u32 changed = (words[w] >> 2 * far ^ words[w + far]) & masks[step];
            words[w + far] ^= changed;
            words[w] ^= changed << 2 * far;
        }
}

// A row of `pitch` bytes for each individual. A thread writes a word, of 16 SNPs, to each of 16 rows; eight threads beside
// each other write 32 bytes to a row. first: a multiple of 16.
extern "C" __global__ void by_individual(const u8* bed, i64 stride, i64 snps, i64 first, i64 n, u8* rows, i64 pitch,
                                         i64 marked, i64* missing) {
    const i64 words = (n + 15) / 16, thread = i64(blockIdx.x) * blockDim.x + threadIdx.x;
    const i64 word = thread / 8 % words, group = thread / 8 / words * 8 + thread % 8;
    if (16 * group >= snps) return;
    u32 fields[16];
#pragma unroll
    for (int s = 0; s < 16; s++) {
        const i64 snp = 16 * group + s;
        fields[s] = snp < snps ? dosages_of(plink_codes(bed + snp * stride, word, n), marked, missing) : 0;
    }
    transpose(fields);
#pragma unroll
    for (int i = 0; i < 16; i++)
        if (16 * word + i < n) *(u32*)(rows + (16 * word + i) * pitch + (first / 16 + group) * 4) = fields[i];
}

// Numbers, n of a SNP after another. A thread writes one.
template <class Real>
DEVICE void unpack(const u8* bed, i64 stride, i64 snps, i64 first, i64 n, Real* out, i64* missing) {
    const i64 thread = i64(blockIdx.x) * blockDim.x + threadIdx.x;
    if (thread >= snps * n) return;
    const i64 snp = thread / n, i = thread % n;
    out[first * n + thread] = Real(dosages_of(bed[snp * stride + i / 4] >> 2 * (i % 4) & 3, false, missing));
}
extern "C" __global__ void unpack_f4(const u8* bed, i64 stride, i64 snps, i64 first, i64 n, float* out, i64* missing) {
    unpack(bed, stride, snps, first, n, out, missing);
}
extern "C" __global__ void unpack_f8(const u8* bed, i64 stride, i64 snps, i64 first, i64 n, double* out, i64* missing) {
    unpack(bed, stride, snps, first, n, out, missing);
}
