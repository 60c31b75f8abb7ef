/* What vectors this processor has. The code that uses them is compiled for each kind, and all give the same results. */
#ifndef QRFT_TEXT_CPU_H
#define QRFT_TEXT_CPU_H

#include <stdbool.h>

enum vector_kind {
    VECTORS_PORTABLE = 0, /* of 16 bytes, on any processor */
    VECTORS_AVX2 = 1,
    VECTORS_AVX512 = 2, /* with VBMI2 */
    NUM_VECTOR_KINDS = 3
};

/* Whether code for this kind runs here. */
bool cpu_has(enum vector_kind kind);

/* The widest kind that runs here. */
enum vector_kind cpu_best(void);

#endif
