// The stored copy of the genotypes. Panels of 512 individuals; in a panel a row of 128 bytes for each SNP, so that a
// block of a product reads contiguous memory in both directions. Two bits a genotype, the first in the lowest: its
// dosage, 3 for a missing call, 0 past the last individual and past the last SNP.
#pragma once
#include "device.h"

constexpr int PANEL = 512;                 // individuals
constexpr int ROW = PANEL / 4;             // bytes of a SNP in a panel
constexpr u32 LOW_BITS = 0x55555555u;      // of each genotype of a word

// The two bits of individual i at SNP j; `panel` is the distance of two panels in bytes.
DEVICE int code_at(const u8* panels, i64 panel, i64 i, i64 j) {
    const i64 within = i % PANEL;
    return panels[i / PANEL * panel + j * ROW + within / 4] >> 2 * (within % 4) & 3;
}

// PLINK's codes of individuals 16 word … 16 word + 15 of n, in a .bed file's row; 0 past the last one, whose byte may end
// in anything.
DEVICE u32 plink_codes(const u8* row, i64 word, i64 n) {
    const i64 left = n - 16 * word;
    u32 codes = 0;
    for (int b = 0; b < 4; b++)
        if (4 * b < left) codes |= u32(row[4 * word + b]) << 8 * b;
    return left < 16 ? codes & (left > 0 ? (1u << 2 * int(left)) - 1 : 0) : codes;
}

// What a product counts a code as.
enum Decode { DOSAGES, CALLED_DOSAGES, MISSING_CALLS };

// 16 codes as what they count: as they are, with missing calls (3) as 0, or 1 for a missing call and 0 for another.
template <int decode>
DEVICE u32 decoded(u32 codes) {
    if (decode == DOSAGES) return codes;
    const u32 missing = codes & codes >> 1 & LOW_BITS;
    return decode == MISSING_CALLS ? missing : codes ^ (missing | missing << 1);
}
