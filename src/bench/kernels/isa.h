// Whether this processor has the instructions that a library was compiled for: a library from another machine is then
// an error in words, not an illegal instruction.
#pragma once
#if defined(__AVXVNNI__)
#include <cpuid.h>
#endif

inline int isa_runs() {
    int runs = 1;
#if defined(__AVX2__)
    runs = runs && __builtin_cpu_supports("avx2");
#endif
#if defined(__FMA__)
    runs = runs && __builtin_cpu_supports("fma");
#endif
#if defined(__BMI2__)
    runs = runs && __builtin_cpu_supports("bmi2");
#endif
#if defined(__AVXVNNI__)
    // clang 14 does not know the name "avxvnni". AVX2, above, has asked whether the system keeps the registers.
    unsigned features = 0, b, c, d;
    runs = runs && __get_cpuid_count(7, 1, &features, &b, &c, &d) && (features >> 4 & 1);
#endif
#if defined(__AVX512F__)
    runs = runs && __builtin_cpu_supports("avx512f");
#endif
#if defined(__AVX512BW__)
    runs = runs && __builtin_cpu_supports("avx512bw");
#endif
#if defined(__AVX512VL__)
    runs = runs && __builtin_cpu_supports("avx512vl");
#endif
#if defined(__AVX512DQ__)
    runs = runs && __builtin_cpu_supports("avx512dq");
#endif
#if defined(__AVX512VBMI__)
    runs = runs && __builtin_cpu_supports("avx512vbmi");
#endif
#if defined(__AVX512VNNI__)
    runs = runs && __builtin_cpu_supports("avx512vnni");
#endif
    return runs;
}
