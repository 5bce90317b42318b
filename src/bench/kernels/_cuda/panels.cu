// Upload: rows of a .bed file → panels.
#include "panels.h"

// `bed` holds `snps` rows of `stride` bytes, of which (n + 3) / 4 count; they become the SNPs first, first + 1, … of the
// panels. A thread writes a word. *missing becomes 1 if a call is missing.
// PLINK's codes 0, 1, 2, 3 are dosage 0, a missing call, dosage 1 and 2: of the bits h and l, the new high one is l, and
// the new low one h ^ l.
extern "C" __global__ void pack(const u8* bed, i64 stride, i64 snps, i64 first, i64 n, i64 panel_count, u8* panels,
                                i64 panel, i64* missing) {
    const i64 words = panel_count * (ROW / 4);
    const i64 thread = i64(blockIdx.x) * blockDim.x + threadIdx.x;
    if (thread >= i64(snps) * words) return;
    const i64 snp = thread / words, word = thread % words;
    const u32 codes = plink_codes(bed + snp * stride, word, n);
    const u32 h = codes >> 1 & LOW_BITS, l = codes & LOW_BITS, absent = l & ~h;
    if (absent) *missing = 1;
    *(u32*)(panels + word / (ROW / 4) * panel + (first + snp) * ROW + 4 * (word % (ROW / 4))) =
        (l << 1) | (h ^ l);
}
