// The one C ABI of every native genotype-matrix kernel.
//
// Z is the n x m matrix of dosages 0, 1, 2 of the counted (second .bim) allele. It comes as the payload
// of a PLINK .bed file, SNP-major: individual i of SNP j is in bits 2(i%4), 2(i%4)+1 of byte
// bed[j*stride + i/4], with code 0 -> dosage 0, 1 -> missing (counts as 0), 2 -> 1, 3 -> 2.
// Codes past individual n-1 may hold anything; bytes past (n+3)/4 of a row are not to be read.
//
// Values are row-major float (real = 4) or double (real = 8): V (m,k), U (n,k), and so are the results.
// A kernel may keep the pointer `bed`: the caller lets it live as long as the matrix.
#pragma once
#include <cstddef>
#include <cstdint>

#include "isa.h"

#define GMK_ABI 1

extern "C" {
int gmk_abi(void);  // returns GMK_ABI

// Prepares the matrix for products with `threads` threads. NULL: not enough memory.
void* gmk_prepare(const uint8_t* bed, size_t stride, size_t n, size_t m, int threads, int real);

// Optional, for matrices that pass by in chunks: the SNPs of another payload take the place of those of z, in the
// memory that it has. They are not more than gmk_prepare was given. 0, or 1: they are, and nothing was done.
int gmk_refill(void* z, const uint8_t* bed, size_t stride, size_t m);

size_t gmk_bytes(const void* z);  // what the matrix keeps allocated, the caller's bed not counted

int gmk_matmul(const void* z, const void* v, size_t k, void* out);   // out (n,k) = Z V;  0, or 1: no memory
int gmk_rmatmul(const void* z, const void* u, size_t k, void* out);  // out (m,k) = Z'U;  0, or 1: no memory

void gmk_free(void* z);

// Whether this processor has the instructions that the library was compiled for: every kernel has it from here.
__attribute__((weak)) int gmk_runs(void) { return isa_runs(); }
}
