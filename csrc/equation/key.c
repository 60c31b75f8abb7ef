/*
 * The text of an equation with the operands of + and * in order, so that 3+2=5 and 2+3=5 have one key.
 *
 * It works in place on a copy of the equation without white space: sorting the operands of a sum moves bytes about, but
 * never changes how many there are. It is called for equations that are in the grammar, so it need not look for faults;
 * on any other bytes it would only sort them differently.
 */
#include <stdbool.h>
#include <string.h>

#include "equation/key.h"
#include "text/chars.h"
#include "text/literal.h"

/* Bytes of an equation without white space. The longest of GSM8K has 36; longer ones count as they are. */
#define CAPACITY 256

typedef struct {
    uint16_t start;
    uint16_t end;
} span;

/* A place of the text begins at most one term and one factor, so twice as many operands are never open at once. */
typedef struct {
    uint8_t text[CAPACITY];
    uint8_t scratch[CAPACITY];
    span operands[2 * CAPACITY]; /* of the sums and products being read, a stack */
    span sorted[2 * CAPACITY];
    int num_operands;
    qrft_cursor cursor;
} sorter;

static uint16_t place(const sorter *s) {
    return (uint16_t)(s->cursor.at - s->text);
}

/* ---------------------------------------------------------------------------------------------------- sorting ---- */

static bool is_after(const sorter *s, span a, span b) {
    int a_length = a.end - a.start, b_length = b.end - b.start;
    int order = memcmp(s->text + a.start, s->text + b.start, (size_t)(a_length < b_length ? a_length : b_length));
    return order > 0 || (order == 0 && a_length > b_length);
}

/* Sorts by insertion: two or three operands are the rule, and CAPACITY bounds the rest. */
static void sort(sorter *s, const span *places, int count) {
    for (int i = 0; i < count; i++) {
        int at = i;
        for (; at > 0 && is_after(s, s->sorted[at - 1], places[i]); at--) s->sorted[at] = s->sorted[at - 1];
        s->sorted[at] = places[i];
    }
}

static uint8_t *copy(const sorter *s, uint8_t *out, uint16_t start, uint16_t end) {
    memcpy(out, s->text + start, (size_t)(end - start));
    return out + (end - start);
}

/* Puts the operands from `first` on into order; what stands between them stays. */
static void arrange(sorter *s, int first) {
    const span *places = s->operands + first;
    int count = s->num_operands - first;
    s->num_operands = first;
    if (count < 2) return;
    sort(s, places, count);
    uint8_t *out = s->scratch;
    for (int i = 0; i < count; i++) {
        out = copy(s, out, s->sorted[i].start, s->sorted[i].end);
        if (i + 1 < count) out = copy(s, out, places[i].end, places[i + 1].start);
    }
    memcpy(s->text + places[0].start, s->scratch, (size_t)(out - s->scratch));
}

/* ---------------------------------------------------------------------------------------------------- reading ---- */

static void read_sum(sorter *s);

static void read_factor(sorter *s) {
    while (take(&s->cursor, minus_length(s->cursor.at, s->cursor.end)) || take_byte(&s->cursor, '+') ||
           take(&s->cursor, currency_length(s->cursor.at, s->cursor.end)))
        continue;
    if (take_byte(&s->cursor, '(')) {
        read_sum(s);
        take_byte(&s->cursor, ')');
    }
    if (literal_starts(s->cursor.at, s->cursor.end)) s->cursor.at = literal_read(s->cursor.at, s->cursor.end).end;
    take_byte(&s->cursor, '.'); /* of "5." */
    if (!take_byte(&s->cursor, '%')) take(&s->cursor, currency_length(s->cursor.at, s->cursor.end));
    bool is_power = has_byte(s->cursor.at, s->cursor.end, '*') && has_byte(s->cursor.at + 1, s->cursor.end, '*');
    if (take(&s->cursor, is_power * 2) || take_byte(&s->cursor, '^')) read_factor(s);
}

static void push(sorter *s, uint16_t start) {
    s->operands[s->num_operands++] = (span){start, place(s)};
}

/* The multiplied factors change places; what divides stays. */
static void read_product(sorter *s) {
    int first = s->num_operands;
    for (bool multiplies = true;;) {
        uint16_t start = place(s);
        read_factor(s);
        if (multiplies) push(s, start);
        multiplies = take(&s->cursor, times_length(s->cursor.at, s->cursor.end));
        if (!multiplies && !take(&s->cursor, divide_length(s->cursor.at, s->cursor.end))) break;
    }
    arrange(s, first);
}

/* The added terms change places; what is subtracted stays. */
static void read_sum(sorter *s) {
    int first = s->num_operands;
    for (bool adds = true;;) {
        uint16_t start = place(s);
        read_product(s);
        if (adds) push(s, start);
        adds = take_byte(&s->cursor, '+');
        if (!adds && !take(&s->cursor, minus_length(s->cursor.at, s->cursor.end))) break;
    }
    arrange(s, first);
}

static bool is_in_grammar(enum qrft_equation_status status) {
    return status != QRFT_EQUATION_MALFORMED && status != QRFT_EQUATION_TOO_DEEP && status != QRFT_EQUATION_EMPTY;
}

void key_add_sorted(qrft_hash *hash, const uint8_t *at, const uint8_t *end, enum qrft_equation_status status) {
    sorter s;
    size_t length = 0;
    for (const uint8_t *byte = at; byte < end && length <= CAPACITY; byte++) {
        if (is_space(*byte)) continue;
        if (length < CAPACITY) s.text[length] = *byte;
        length++;
    }
    if (!is_in_grammar(status) || length > CAPACITY) {
        hash_line(hash, at, end);
        return;
    }
    s.cursor = (qrft_cursor){s.text, s.text + length};
    s.num_operands = 0;
    do read_sum(&s);
    while (take_byte(&s.cursor, '='));
    hash_line(hash, s.text, s.text + length);
}
