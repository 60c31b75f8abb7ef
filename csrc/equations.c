/* Finds the equations of a text, judges each, and hashes their list. */
#include <string.h>

#include "core.h"

/* The first << or >> at or after `at`, or NULL. */
static const uint8_t *find_mark(const uint8_t *at, const uint8_t *end) {
    for (; end - at >= 2; at++) {
        if ((*at == '<' || *at == '>') && at[1] == *at) return at;
    }
    return NULL;
}

static const uint8_t *find_opening(const uint8_t *at, const uint8_t *end) {
    while (end - at >= 2 && (at = memchr(at, '<', (size_t)(end - at - 1)))) {
        if (at[1] == '<') return at;
        at++;
    }
    return NULL;
}

/* Judges and hashes the equation opened before `start`; returns the next opening. */
static const uint8_t *take_equation(qrft_equations *list, const uint8_t *start, const uint8_t *end) {
    enum qrft_equation_status status;
    const uint8_t *mark = equation_skip_plain(start, end, &status);
    if (mark) {
        equations_note(list, status);
        hash_plain_equation(&list->hash, start, mark, end);
        return find_opening(mark + 2, end);
    }
    mark = find_mark(start, end);
    if (!mark || *mark == '<') {
        equations_note(list, QRFT_EQUATION_UNCLOSED);
        return mark;
    }
    equations_note(list, equation_check(start, mark));
    hash_equation(&list->hash, start, mark);
    return find_opening(mark + 2, end);
}

void equations_check(qrft_equations *list, const uint8_t *text, const uint8_t *end, const qrft_options *options) {
    list->count = 0;
    list->status = QRFT_EQUATION_OK;
    hash_begin(&list->hash);
    if (options->paper_mode) {
        paper_equations_check(list, text, end);
        return;
    }
    if (options->equation_source == QRFT_EQUATIONS_ANYWHERE || options->key_order == QRFT_ORDER_COMMUTATIVE) {
        equations_check_by_rule(list, text, end, options);
        return;
    }
    const uint8_t *opening = find_opening(text, end);
    while (opening) opening = take_equation(list, opening + 2, end);
}
