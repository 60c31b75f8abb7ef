/*
 * Reading bytes: the cursor, and the digits, white space, signs, currencies and operators that answers and equations
 * share. Every function takes the end of the text, and reads nothing at or after it.
 */
#ifndef QRFT_TEXT_CHARS_H
#define QRFT_TEXT_CHARS_H

#include <stdbool.h>
#include <stdint.h>

/* A range of bytes being read; at == end means that nothing is left. Nothing ever reads *end. */
typedef struct {
    const uint8_t *at;
    const uint8_t *end;
} qrft_cursor;

static inline bool is_digit(uint8_t byte) {
    return byte >= '0' && byte <= '9';
}

/* The six white-space bytes of ASCII, whatever the locale says. */
static inline bool is_space(uint8_t byte) {
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static inline bool has_digit(const uint8_t *at, const uint8_t *end) {
    return at < end && is_digit(*at);
}

static inline bool has_byte(const uint8_t *at, const uint8_t *end, uint8_t byte) {
    return at < end && *at == byte;
}

static inline const uint8_t *skip_space(const uint8_t *at, const uint8_t *end) {
    while (at < end && is_space(*at)) at++;
    return at;
}

/* Moves over what stands at the cursor, whose length is 0 when it is nothing. Returns whether it is something. */
static inline bool take(qrft_cursor *cursor, int length) {
    cursor->at += length;
    return length > 0;
}

static inline bool take_byte(qrft_cursor *cursor, uint8_t byte) {
    return take(cursor, has_byte(cursor->at, cursor->end, byte));
}

/* The length of the sign of these bytes at `at`, or 0; third is 0 for a sign of two bytes. */
static inline int wide_sign_length(const uint8_t *at, const uint8_t *end, uint8_t first, uint8_t second,
                                   uint8_t third) {
    int length = third ? 3 : 2;
    if (end - at < length || at[0] != first || at[1] != second) return 0;
    return third == 0 || at[2] == third ? length : 0;
}

/* A space beyond ASCII: U+00A0, U+2000 to U+200A, U+202F, U+205F, U+3000. */
static inline int wide_space_length(const uint8_t *at, const uint8_t *end) {
    if (at >= end || *at < 0x80) return 0;
    if (wide_sign_length(at, end, 0xC2, 0xA0, 0)) return 2;
    if (wide_sign_length(at, end, 0xE2, 0x81, 0x9F) || wide_sign_length(at, end, 0xE3, 0x80, 0x80)) return 3;
    if (end - at < 3 || at[0] != 0xE2 || at[1] != 0x80) return 0;
    return (at[2] >= 0x80 && at[2] <= 0x8A) || at[2] == 0xAF ? 3 : 0;
}

/* The lengths in bytes of the sign, currency or operator at `at`; 0 when there is none. */
static inline int minus_length(const uint8_t *at, const uint8_t *end) {
    return has_byte(at, end, '-') ? 1 : wide_sign_length(at, end, 0xE2, 0x88, 0x92); /* U+2212 */
}

static inline int currency_length(const uint8_t *at, const uint8_t *end) {
    if (at >= end) return 0;
    if (*at < 0x80) return *at == '$';
    if (wide_sign_length(at, end, 0xC2, 0xA3, 0) || wide_sign_length(at, end, 0xC2, 0xA5, 0)) return 2; /* U+00A3, A5 */
    return wide_sign_length(at, end, 0xE2, 0x82, 0xAC); /* U+20AC, the euro */
}

static inline int cross_length(const uint8_t *at, const uint8_t *end) {
    return wide_sign_length(at, end, 0xC3, 0x97, 0); /* U+00D7, the times sign */
}

static inline int obelus_length(const uint8_t *at, const uint8_t *end) {
    return wide_sign_length(at, end, 0xC3, 0xB7, 0); /* U+00F7, the divide sign */
}

static inline int times_length(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, '*') || has_byte(at, end, 'x') || has_byte(at, end, 'X')) return 1;
    return cross_length(at, end);
}

static inline int divide_length(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, '/')) return has_byte(at + 1, end, '/') ? 2 : 1;
    return obelus_length(at, end);
}

#endif
