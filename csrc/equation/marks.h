/* Where << and >> stand, between which models write their equations. */
#ifndef QRFT_EQUATION_MARKS_H
#define QRFT_EQUATION_MARKS_H

#include <stdint.h>
#include <string.h>

/* The first << at or after `at`, or the end. */
static inline const uint8_t *mark_find_opening(const uint8_t *at, const uint8_t *end) {
    while (end - at >= 2 && (at = memchr(at, '<', (size_t)(end - at - 1)))) {
        if (at[1] == '<') return at;
        at++;
    }
    return end;
}

/* The first << or >> at or after `at`, or the end. */
static inline const uint8_t *mark_find(const uint8_t *at, const uint8_t *end) {
    for (; end - at >= 2; at++) {
        if ((*at == '<' || *at == '>') && at[1] == *at) return at;
    }
    return end;
}

#endif
