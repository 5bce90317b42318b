// What is the same in the C interface (gmk.h) of every kernel that multiplies from panels.h alone.
#pragma once
#include "_panels/panels.h"
#include "gmk.h"

int gmk_abi(void) { return GMK_ABI; }

void* gmk_prepare(const uint8_t* bed, size_t stride, size_t n, size_t m, int threads, int real) {
    return panels::pack(bed, stride, n, m, threads, real);
}

int gmk_refill(void* z, const uint8_t* bed, size_t stride, size_t m) {
    return !panels::refill(static_cast<panels::Panels*>(z), bed, stride, m);
}

size_t gmk_bytes(const void* z) { return static_cast<const panels::Panels*>(z)->bytes(); }
void gmk_free(void* z) { panels::release(static_cast<panels::Panels*>(z)); }
