#include "text/cpu.h"

#ifdef __x86_64__
bool cpu_has(enum vector_kind kind) {
    if (kind == VECTORS_AVX512) return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vbmi2");
    return kind != VECTORS_AVX2 || __builtin_cpu_supports("avx2") != 0;
}
#else
bool cpu_has(enum vector_kind kind) {
    return kind == VECTORS_PORTABLE;
}
#endif

enum vector_kind cpu_best(void) {
    if (cpu_has(VECTORS_AVX512)) return VECTORS_AVX512;
    return cpu_has(VECTORS_AVX2) ? VECTORS_AVX2 : VECTORS_PORTABLE;
}
