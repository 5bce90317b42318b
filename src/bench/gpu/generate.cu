// Genotypes of unrelated individuals in Hardy-Weinberg proportions, as rows of a .bed file. Every number is a function of
// the seed, the SNP and the individual, so that any part of a matrix can be made anywhere.
#include "device.h"

// The finaliser of splitmix64 (Steele et al. 2014, doi:10.1145/2660193.2660195).
DEVICE u64 mixed(u64 x) {
    x += 0x9E3779B97F4A7C15ull;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ x >> 27) * 0x94D049BB133111EBull;
    return x ^ x >> 31;
}

// The SNPs first … first + snps − 1 of n individuals, a row of `stride` bytes each; a thread makes a byte. `missing`: of
// 2^24 calls so many are missing. Frequencies lie between .05 and .95, in 65536ths. What stands past the last
// individual is genotypes as well, as in a .bed file it may be.
extern "C" __global__ void generate(i64 seed, i64 first, i64 snps, i64 stride, i64 missing, u8* bed) {
    const i64 thread = i64(blockIdx.x) * blockDim.x + threadIdx.x;
    if (thread >= snps * stride) return;
    const u64 key = mixed(u64(seed)), snp = u64(first + thread / stride), byte = u64(thread % stride);
    const u32 frequency = 3277u + u32((mixed(key ^ snp) & 0xffff) * 58982u >> 16);
    u32 codes = 0;
    for (int i = 0; i < 4; i++) {
        const u64 bits = mixed(key + (snp << 32 | (4 * byte + i)));
        const u32 dosage = (u32(bits & 0xffff) < frequency) + (u32(bits >> 16 & 0xffff) < frequency);
        const u32 code = (bits >> 32 & 0xffffff) < u64(missing) ? 1 : dosage ? dosage + 1 : 0;  // PLINK's
        codes |= code << 2 * i;
    }
    bed[thread] = u8(codes);
}
