/* Exact fractions in 128-bit integers. */
#ifndef QRFT_TEXT_RATIONAL_H
#define QRFT_TEXT_RATIONAL_H

#include <stdbool.h>
#include <stdint.h>

#ifndef __SIZEOF_INT128__
#error "The core computes in 128-bit integers: compile for a 64-bit processor, with GCC or Clang."
#endif

/* __extension__ because 128-bit integers are not in ISO C; GCC and Clang both have them. */
__extension__ typedef __int128 i128;
__extension__ typedef unsigned __int128 u128;

/*
 * A rational in lowest terms, d > 0, |n| < 2^127, d < 2^127. The operations return false where the result, or a
 * step that docs/semantics.md names, leaves these bounds; *result is then undefined.
 */
typedef struct {
    i128 n;
    i128 d;
} qrft_rational;

qrft_rational rational_make(u128 n, u128 d); /* n / d, reduced; n < 2^127, 0 < d < 2^127 */
bool rational_add(qrft_rational a, qrft_rational b, qrft_rational *result);
bool rational_subtract(qrft_rational a, qrft_rational b, qrft_rational *result);
bool rational_multiply(qrft_rational a, qrft_rational b, qrft_rational *result);
bool rational_divide(qrft_rational a, qrft_rational b, qrft_rational *result); /* b != 0 */
bool rational_power(qrft_rational base, i128 exponent, qrft_rational *result); /* base != 0 or exponent >= 0; 0^0 = 1 */

static inline bool rational_equal(qrft_rational a, qrft_rational b) {
    return a.n == b.n && a.d == b.d;
}

static inline u128 magnitude(i128 value) {
    return value < 0 ? (u128)0 - (u128)value : (u128)value;
}

#endif
