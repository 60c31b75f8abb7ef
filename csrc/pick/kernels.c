#include <math.h>
#include <string.h>

#include "pick/kernels.h"

#define ROUND (0x1.8p23f + 127)

/* Tokens after which lanes are added up in doubles. */
#define FLUSH 1024

/* Bytes ahead. The processor's own prefetching ends at each page of 4 KiB, and rows come from beyond the L2 cache. */
#define PREFETCH 4096

/*
 * 2^r on [-1/2, 1/2], 1 at 0; the maximum of the relative error is least (0.9e-7, before rounding). One degree less
 * would save a tenth of the time and be 3e-6 off.
 */
#define POWER_1 0x1.62e42ap-1f
#define POWER_2 0x1.ebf9bcp-3f
#define POWER_3 0x1.c6b752p-5f
#define POWER_4 0x1.3cea88p-7f
#define POWER_5 0x1.5bba14p-10f

/* A float or a token, whichever the words are. */
static inline void copy_word(void *to, int64_t to_index, const void *from, int64_t from_index) {
    uint32_t word;
    memcpy(&word, (const char *)from + 4 * from_index, sizeof word);
    memcpy((char *)to + 4 * to_index, &word, sizeof word);
}

#ifdef __x86_64__
#include <immintrin.h>

#define NAME(name)   name##_portable
#define VECTOR_BYTES 16
#define TARGET
#define MAX(a, b)         ((floats_portable)_mm_max_ps((__m128)(a), (__m128)(b)))
#define AT_LEAST(at, low) ((uint32_t)_mm_movemask_ps(_mm_cmpge_ps(_mm_loadu_ps(at), _mm_set1_ps(low))))
#include "pick/kernels.inc"

#undef NAME
#undef VECTOR_BYTES
#undef TARGET
#undef MAX
#undef AT_LEAST
#define NAME(name)   name##_avx2
#define VECTOR_BYTES 32
#define TARGET       __attribute__((target("avx2")))
#define MAX(a, b)    ((floats_avx2)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define AT_LEAST(at, low)                                                                                              \
    ((uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(at), _mm256_set1_ps(low), _CMP_GE_OQ)))
#include "pick/kernels.inc"

#undef NAME
#undef VECTOR_BYTES
#undef TARGET
#undef MAX
#undef AT_LEAST
#define NAME(name)         name##_avx512
#define VECTOR_BYTES       64
#define TARGET             __attribute__((target("avx512f")))
#define MAX(a, b)          ((floats_avx512)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define AT_LEAST(at, low)  ((uint32_t)_mm512_cmp_ps_mask(_mm512_loadu_ps(at), _mm512_set1_ps(low), _CMP_GE_OQ))
#define PUT(to, at, found) _mm512_storeu_ps(to, _mm512_maskz_compress_ps((__mmask16)(found), _mm512_loadu_ps(at)))
#define PUT_PLACES(to, first, found)                                                                                   \
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(                                                               \
                                (__mmask16)(found), _mm512_add_epi32(_mm512_set1_epi32(first),                         \
                                                                     _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9,   \
                                                                                       10, 11, 12, 13, 14, 15))))
#include "pick/kernels.inc"
#else
/* Any processor: the compiler makes of vectors what it has. */
#define NAME(name)   name##_portable
#define VECTOR_BYTES 16
#define TARGET
#define MAX(a, b)         max_portable(a, b)
#define AT_LEAST(at, low) at_least_portable(at, low)

typedef float four_floats __attribute__((vector_size(16)));
typedef uint32_t four_words __attribute__((vector_size(16)));

/* Gives the second of a NaN and a number, as x86's instruction does. */
static inline four_floats max_portable(four_floats a, four_floats b) {
    four_words is_first = (four_words)(a > b);
    return (four_floats)(((four_words)a & is_first) | ((four_words)b & ~is_first));
}

static inline uint32_t at_least_portable(const float *at, float low) {
    uint32_t found = 0;
    for (int i = 0; i < 4; i++) found |= (uint32_t)(at[i] >= low) << i;
    return found;
}

#include "pick/kernels.inc"
#define kernels_avx2   kernels_portable
#define kernels_avx512 kernels_portable
#endif

const pick_kernels *pick_kernels_of(enum vector_kind kind) {
    static const pick_kernels *const KERNELS[NUM_VECTOR_KINDS] = {&kernels_portable, &kernels_avx2, &kernels_avx512};
    return KERNELS[kind];
}
