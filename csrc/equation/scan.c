#include <stddef.h>

#include "equation/check.h"
#include "equation/marks.h"
#include "equation/paper.h"
#include "equation/plain.h"
#include "equation/running_text.h"
#include "equation/scan.h"

/* Judges and adds the equation opened before `start`; returns where the text goes on. */
static const uint8_t *take_equation(qrft_equations *list, const uint8_t *start, const uint8_t *end,
                                    const qrft_options *options) {
    enum qrft_equation_status status;
    const uint8_t *mark = equation_skip_plain(start, end, &status);
    if (mark && options->key_order != QRFT_ORDER_COMMUTATIVE) { /* nearly always: the short way of equations_add */
        equations_count(list, status);
        hash_solid_line(&list->hash, start, mark, end);
        return mark + 2;
    }
    if (!mark) {
        mark = mark_find(start, end);
        if (mark == end || *mark == '<') {
            equations_count(list, QRFT_EQUATION_UNCLOSED);
            return mark;
        }
        status = equation_check(start, mark);
    }
    equations_add(list, start, mark, status, options);
    return mark + 2;
}

/*
 * The key of a text in which no equation was found: that of the equations in its running text, or else of its words.
 * They count for nothing else.
 */
static void key_without_equations(qrft_equations *list, qrft_cursor text, const qrft_options *options) {
    qrft_equations running;
    equations_begin(&running);
    if (options->equation_source != QRFT_EQUATIONS_ANYWHERE) running_text_check(&running, text, true, false, options);
    if (running.count > 0) {
        list->hash = running.hash;
        list->source = QRFT_PATH_RUNNING_TEXT;
    } else {
        hash_words(&list->hash, text.at, text.end);
        list->source = QRFT_PATH_TEXT;
    }
}

void equations_check(qrft_equations *list, const uint8_t *text, const uint8_t *end, const qrft_options *options) {
    equations_begin(list);
    if (options->paper_mode) {
        paper_equations_check(list, text, end);
        return;
    }
    for (const uint8_t *at = text;;) {
        const uint8_t *opening = mark_find_opening(at, end);
        if (options->equation_source == QRFT_EQUATIONS_ANYWHERE) {
            running_text_check(list, (qrft_cursor){at, opening}, at == text, opening < end, options);
        }
        if (opening == end) break;
        at = take_equation(list, opening + 2, end, options);
    }
    if (list->count == 0) key_without_equations(list, (qrft_cursor){text, end}, options);
}
