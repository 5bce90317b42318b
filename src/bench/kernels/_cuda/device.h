// What the kernels ask of the GPU, a function an instruction. tests/emulation/emulator.h has the same functions for a
// CPU, so that the kernels are checked without a GPU. Fragments are those of the PTX ISA, 9.7.14.
#pragma once

using u8 = unsigned char;
using s8 = signed char;
using u16 = unsigned short;
using u32 = unsigned int;
using i64 = long long;
using u64 = unsigned long long;

#ifdef BENCH_EMULATED
#include "emulator.h"
#else

#define DEVICE __device__ __forceinline__
#define SHARED(name) extern __shared__ __align__(1024) char name[]

DEVICE u32 shared_address(const void* p) { return u32(__cvta_generic_to_shared(p)); }

// Four 8 × 8 matrices of 16-bit units; lane 8i + r gives the address of row r of matrix i.
DEVICE void load_matrices(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)));
}
DEVICE void load_matrices_transposed(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)));
}
DEVICE void load_matrices(u32 (&r)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(row)));
}

// c (16 × 8) += a (16 × 32, unsigned bytes) b (32 × 8, signed bytes).
DEVICE void multiply_add(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// The same with unsigned bytes in b.
DEVICE void multiply_add_unsigned(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// 16 bytes to shared memory, past the registers and the first-level cache.
DEVICE void copy_async(void* to, const void* from) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from));
}
// 4, 8 or 16 bytes, or as many zeros where `there` is false; `from` is then not read.
template <int BYTES>
DEVICE void copy_async_or_zero(void* to, const void* from, bool there) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(to)), "l"(from), "n"(BYTES),
                 "r"(there ? BYTES : 0));
}
DEVICE void commit_copies() { asm volatile("cp.async.commit_group;"); }
// Until at most N of this thread's groups of copies are under way.
template <int N>
DEVICE void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N));
}

// What copies wrote to shared memory becomes visible to wgmma, which reads it through another proxy.
DEVICE void fence_for_wgmma() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
DEVICE void begin_wgmma() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void end_wgmma() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
}
#endif

// b's descriptor: K contiguous in rows of 128 bytes whose 16-byte chunks are XORed with the row's number modulo 8, groups
// of 8 rows 1024 bytes apart. PTX ISA, "Matrix descriptor format": address, leading and stride offset in 16 bytes, swizzle.
DEVICE u64 wgmma_descriptor(const void* b) {
    const u64 address = (shared_address(b) & 0x3FFFF) >> 4, leading = 1, stride = 1024 >> 4, swizzle128 = 1;
    return address | leading << 16 | stride << 32 | swizzle128 << 62;
}
