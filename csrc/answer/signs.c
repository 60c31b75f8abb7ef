#include <stddef.h>

#include "answer/signs.h"

typedef struct {
    uint32_t first, last;
} range;

static bool is_among(uint32_t code, const range *ranges, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (ranges[i].first <= code && code <= ranges[i].last) return true;
    }
    return false;
}

#define IS_AMONG(code, ranges) is_among(code, ranges, sizeof(ranges) / sizeof *(ranges))

/* The bits of the continuation bytes after a lead byte's own, or 0 when one is missing. */
static uint32_t continued(const uint8_t *at, int length, uint32_t code) {
    for (int i = 1; i < length; i++) {
        if ((at[i] & 0xC0) != 0x80) return 0;
        code = code << 6 | (at[i] & 0x3F);
    }
    return code;
}

qrft_sign sign_at(const uint8_t *at, const uint8_t *end) {
    const qrft_sign none = {0, 0};
    if (at >= end || *at < 0xC2 || *at > 0xF4) return none;
    int length = *at < 0xE0 ? 2 : *at < 0xF0 ? 3 : 4;
    if (end - at < length) return none;
    uint32_t code = continued(at, length, *at & (0x7Fu >> length));
    static const uint32_t LEAST[] = {0, 0, 0x80, 0x800, 0x10000}; /* below it, the form is longer than it may be */
    return code < LEAST[length] ? none : (qrft_sign){code, length};
}

bool sign_is_fraction(uint32_t code, int *numerator, int *denominator) {
    static const uint8_t QUARTERS[][2] = {{1, 4}, {1, 2}, {3, 4}}; /* U+00BC */
    static const uint8_t OTHERS[][2] = {{1, 7}, {1, 9}, {1, 10}, {1, 3}, {2, 3}, {1, 5}, {2, 5}, {3, 5},
                                        {4, 5}, {1, 6}, {5, 6},  {1, 8}, {3, 8}, {5, 8}, {7, 8}}; /* U+2150 */
    const uint8_t *fraction = NULL;
    if (0xBC <= code && code <= 0xBE) fraction = QUARTERS[code - 0xBC];
    if (0x2150 <= code && code <= 0x215E) fraction = OTHERS[code - 0x2150];
    if (!fraction) return false;
    *numerator = fraction[0];
    *denominator = fraction[1];
    return true;
}

int sign_superscript(uint32_t code) {
    if (code == 0xB2 || code == 0xB3) return (int)code - 0xB0;
    if (code == 0xB9) return 1;
    return code == 0x2070 || (0x2074 <= code && code <= 0x2079) ? (int)code - 0x2070 : -1;
}

bool sign_makes_expression(uint32_t code) {
    static const range SIGNS[] = {{0xB2, 0xB3},     {0xB9, 0xB9},     {0x3C0, 0x3C0},
                                  {0x2070, 0x209C}, {0x221A, 0x221C}, {0x221E, 0x221E}};
    return IS_AMONG(code, SIGNS);
}

bool sign_is_numeric(uint32_t code) {
    static const range SIGNS[] = {
        {0xBC, 0xBE},   {0x300, 0x36F}, {0x660, 0x66C},   {0x6F0, 0x6F9},   {0x966, 0x96F},   {0x9E6, 0x9EF},
        {0xA66, 0xA6F}, {0xAE6, 0xAEF}, {0xB66, 0xB6F},   {0xBE6, 0xBEF},   {0xC66, 0xC6F},   {0xCE6, 0xCEF},
        {0xD66, 0xD6F}, {0xE50, 0xE59}, {0x20D0, 0x20F0}, {0x2150, 0x2189}, {0xFF10, 0xFF19}, {0x1D7CE, 0x1D7FF},
    };
    return IS_AMONG(code, SIGNS);
}

bool sign_is_operator(uint32_t code) {
    static const range SIGNS[] = {{0xB1, 0xB1},     {0xB7, 0xB7},     {0x2022, 0x2022}, {0x2044, 0x2044},
                                  {0x2190, 0x21FF}, {0x2213, 0x2219}, {0x2223, 0x2223}, {0x2236, 0x2236},
                                  {0x223C, 0x223C}, {0x2248, 0x2248}, {0x2260, 0x226B}, {0x22C5, 0x22C5}};
    return IS_AMONG(code, SIGNS);
}
