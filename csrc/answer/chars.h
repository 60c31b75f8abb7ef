/* The characters that only answers know, besides those of text/chars.h. */
#ifndef QRFT_ANSWER_CHARS_H
#define QRFT_ANSWER_CHARS_H

#include "text/chars.h"

static inline bool is_letter(uint8_t byte) {
    return (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z';
}

static inline bool has_letter(const uint8_t *at, const uint8_t *end) {
    return at < end && is_letter(*at);
}

/* Marks of Markdown, which may stand around an answer. */
static inline bool has_mark(const uint8_t *at, const uint8_t *end) {
    return at < end && (*at == '*' || *at == '_' || *at == '`');
}

static inline int blank_length(const uint8_t *at, const uint8_t *end) {
    if (has_byte(at, end, ' ') || has_byte(at, end, '\t')) return 1;
    return wide_space_length(at, end);
}

/* Stays within the line, for an answer does not reach over a line break. */
static inline const uint8_t *skip_blanks(const uint8_t *at, const uint8_t *end) {
    for (int length; (length = blank_length(at, end));) at += length;
    return at;
}

/* The dashes that stand for a minus: U+2010 to U+2013, U+FE63, U+FF0D. */
static inline int dash_length(const uint8_t *at, const uint8_t *end) {
    if (end - at < 3 || *at < 0xE2) return 0;
    if (at[0] == 0xE2 && at[1] == 0x80) return at[2] >= 0x90 && at[2] <= 0x93 ? 3 : 0;
    return wide_sign_length(at, end, 0xEF, 0xB9, 0xA3) | wide_sign_length(at, end, 0xEF, 0xBC, 0x8D);
}

static inline int sign_length(const uint8_t *at, const uint8_t *end) {
    int length = has_byte(at, end, '+') ? 1 : minus_length(at, end);
    return length ? length : dash_length(at, end);
}

/* The length of a currency in an answer, where a dollar may be escaped, as LaTeX wants it. */
static inline int answer_currency_length(const uint8_t *at, const uint8_t *end) {
    return has_byte(at, end, '\\') && has_byte(at + 1, end, '$') ? 2 : currency_length(at, end);
}

#endif
