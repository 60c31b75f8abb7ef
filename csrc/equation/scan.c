/* Finds the equations of a text, judges each, and hashes their list. */
#include <string.h>

#include "core.h"

const uint8_t *find_opening(const uint8_t *at, const uint8_t *end) {
    while (end - at >= 2 && (at = memchr(at, '<', (size_t)(end - at - 1)))) {
        if (at[1] == '<') return at;
        at++;
    }
    return end;
}

/* The first << or >> at or after `at`, or the end. */
static const uint8_t *find_mark(const uint8_t *at, const uint8_t *end) {
    for (; end - at >= 2; at++) {
        if ((*at == '<' || *at == '>') && at[1] == *at) return at;
    }
    return end;
}

static void note(qrft_equations *list, enum qrft_equation_status status) {
    if (list->status == QRFT_EQUATION_OK) list->status = status;
    if (list->count < INT32_MAX) list->count++;
}

void equations_add(qrft_equations *list, const uint8_t *at, const uint8_t *end, enum qrft_equation_status status,
                   const qrft_options *options) {
    note(list, status);
    if (options->key_order == QRFT_ORDER_COMMUTATIVE) {
        hash_sorted_equation(&list->hash, at, end, status);
    } else {
        hash_equation(&list->hash, at, end);
    }
}

/* Judges and adds the equation opened before `start`; returns where the text goes on. */
static const uint8_t *take_equation(qrft_equations *list, const uint8_t *start, const uint8_t *end,
                                    const qrft_options *options) {
    enum qrft_equation_status status;
    const uint8_t *mark = equation_skip_plain(start, end, &status);
    if (mark && options->key_order != QRFT_ORDER_COMMUTATIVE) { /* nearly always: the short way of equations_add */
        note(list, status);
        hash_plain_equation(&list->hash, start, mark, end);
        return mark + 2;
    }
    if (!mark) {
        mark = find_mark(start, end);
        if (mark == end || *mark == '<') {
            note(list, QRFT_EQUATION_UNCLOSED);
            return mark;
        }
        status = equation_check(start, mark);
    }
    equations_add(list, start, mark, status, options);
    return mark + 2;
}

void equations_check(qrft_equations *list, const uint8_t *text, const uint8_t *end, const qrft_options *options) {
    list->count = 0;
    list->status = QRFT_EQUATION_OK;
    hash_begin(&list->hash);
    if (options->paper_mode) {
        paper_equations_check(list, text, end);
        return;
    }
    for (const uint8_t *at = text;;) {
        const uint8_t *opening = find_opening(at, end);
        if (options->equation_source == QRFT_EQUATIONS_ANYWHERE) {
            running_text_check(list, (qrft_cursor){at, opening}, at == text, opening < end, options);
        }
        if (opening == end) return;
        at = take_equation(list, opening + 2, end, options);
    }
}
