/*
 * Exact fractions in 128-bit integers.
 *
 * Every operation has a short way for whole numbers of 62 bits, which is nearly all that word problems hold, and
 * the general way. Both give the same result; the general way alone decides what overflows.
 */
#include "text/rational.h"

/* The sum and the difference of two such numbers fit in 64 bits. */
#define SMALL_INTEGER ((i128)1 << 62)

static bool is_small_integer(qrft_rational a) {
    return a.d == 1 && a.n > -SMALL_INTEGER && a.n < SMALL_INTEGER;
}

static bool fits(u128 value) {
    return value >> 127 == 0;
}

static uint64_t gcd64(uint64_t a, uint64_t b) {
    while (b != 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Euclid; the division of 128 by 128 bits is slow, so it goes on in 64 bits as soon as both fit. */
static u128 gcd(u128 a, u128 b) {
    while (b != 0 && ((a | b) >> 64) != 0) {
        u128 rest = a % b;
        a = b;
        b = rest;
    }
    return b == 0 ? a : gcd64((uint64_t)a, (uint64_t)b);
}

static bool multiply(u128 a, u128 b, u128 *product) {
    return !__builtin_mul_overflow(a, b, product) && fits(*product);
}

static i128 with_sign(u128 value, bool negative) {
    return negative ? -(i128)value : (i128)value;
}

qrft_rational rational_make(u128 n, u128 d) {
    if (d == 1) return (qrft_rational){(i128)n, 1};
    if ((n | d) >> 64 == 0) { /* divisions of 64 bits are many times cheaper */
        uint64_t divisor = gcd64((uint64_t)n, (uint64_t)d);
        return (qrft_rational){(uint64_t)n / divisor, (uint64_t)d / divisor};
    }
    u128 common = gcd(n, d);
    return (qrft_rational){(i128)(n / common), (i128)(d / common)};
}

/* Sums the magnitudes a and b with the signs of their numbers. */
static bool add_signed(u128 a, bool a_negative, u128 b, bool b_negative, i128 *sum) {
    if (a_negative != b_negative) {
        bool a_larger = a >= b;
        *sum = with_sign(a_larger ? a - b : b - a, a_larger ? a_negative : b_negative);
        return true;
    }
    u128 total = a + b; /* two numbers below 2^127: below 2^128 */
    if (!fits(total)) return false;
    *sum = with_sign(total, a_negative);
    return true;
}

static bool add_general(qrft_rational a, qrft_rational b, qrft_rational *result) {
    u128 common = a.d == 1 || b.d == 1 ? 1 : gcd((u128)a.d, (u128)b.d);
    u128 a_scale = (u128)b.d / common;
    u128 b_scale = (u128)a.d / common;
    u128 left, right, d;
    if (!multiply(magnitude(a.n), a_scale, &left) || !multiply(magnitude(b.n), b_scale, &right)) return false;
    if (!multiply((u128)a.d, a_scale, &d)) return false;
    i128 sum;
    if (!add_signed(left, a.n < 0, right, b.n < 0, &sum)) return false;
    if (common == 1) { /* then the sum is in lowest terms too */
        *result = (qrft_rational){sum, (i128)d};
        return true;
    }
    *result = rational_make(magnitude(sum), d);
    if (sum < 0) result->n = -result->n;
    return true;
}

bool rational_add(qrft_rational a, qrft_rational b, qrft_rational *result) {
    if (is_small_integer(a) && is_small_integer(b)) {
        *result = (qrft_rational){(int64_t)a.n + (int64_t)b.n, 1};
        return true;
    }
    return add_general(a, b, result);
}

bool rational_subtract(qrft_rational a, qrft_rational b, qrft_rational *result) {
    b.n = -b.n;
    return rational_add(a, b, result);
}

/* Crosswise reduction first: the products are then in lowest terms, and overflow only if the result does. */
static bool multiply_general(qrft_rational a, qrft_rational b, qrft_rational *result) {
    u128 an = magnitude(a.n), bn = magnitude(b.n);
    u128 first = gcd(an, (u128)b.d), second = gcd(bn, (u128)a.d);
    u128 n, d;
    if (!multiply(an / first, bn / second, &n)) return false;
    if (!multiply((u128)a.d / second, (u128)b.d / first, &d)) return false;
    result->n = with_sign(n, (a.n < 0) != (b.n < 0));
    result->d = (i128)d;
    return true;
}

bool rational_multiply(qrft_rational a, qrft_rational b, qrft_rational *result) {
    if (is_small_integer(a) && is_small_integer(b)) {
        *result = (qrft_rational){a.n * b.n, 1}; /* 62 + 62 bits */
        return true;
    }
    return multiply_general(a, b, result);
}

/* The last square is left out: it is not part of the result, and might be too big. */
static bool power(u128 base, u128 exponent, u128 *result) {
    *result = 1;
    for (; exponent > 0; exponent >>= 1) {
        if (exponent % 2 == 1 && !multiply(*result, base, result)) return false;
        if (exponent > 1 && !multiply(base, base, &base)) return false;
    }
    return true;
}

bool rational_power(qrft_rational base, i128 exponent, qrft_rational *result) {
    u128 n, d, times = magnitude(exponent);
    if (!power(magnitude(base.n), times, &n) || !power((u128)base.d, times, &d)) return false;
    bool negative = base.n < 0 && times % 2 == 1;
    *result = (qrft_rational){with_sign(exponent < 0 ? d : n, negative), (i128)(exponent < 0 ? n : d)};
    return true;
}

bool rational_divide(qrft_rational a, qrft_rational b, qrft_rational *result) {
    if (is_small_integer(a) && is_small_integer(b) && (int64_t)a.n % (int64_t)b.n == 0) {
        *result = (qrft_rational){(int64_t)a.n / (int64_t)b.n, 1};
        return true;
    }
    qrft_rational inverse = {b.n < 0 ? -b.d : b.d, (i128)magnitude(b.n)};
    return multiply_general(a, inverse, result);
}
