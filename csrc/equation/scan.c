#include <stddef.h>
#include <string.h>

#include "equation/check.h"
#include "equation/marks.h"
#include "equation/paper.h"
#include "equation/plain.h"
#include "equation/running_text.h"
#include "equation/scan.h"
#include "text/trace.h"

/* The first << at or after `at`, or the end; NULL when a tag of the watched traces comes before it. */
static inline const uint8_t *find_opening(const uint8_t *at, const uint8_t *end, const qrft_options *watched) {
    while (end - at >= 2 && (at = memchr(at, '<', (size_t)(end - at - 1)))) {
        if (at[1] == '<') return at;
        if (watched && trace_has_tag(watched, at, end)) return NULL;
        at++;
    }
    return end;
}

/* Judges and adds the equation opened before `start`; returns where the text goes on, or NULL as find_opening does. */
static inline const uint8_t *take_equation(qrft_equations *list, const uint8_t *start, const uint8_t *end,
                                           const qrft_options *options, const qrft_options *watched) {
    enum qrft_equation_status status;
    const uint8_t *mark = equation_skip_plain(start, end, &status);
    if (mark && options->key_order != QRFT_ORDER_COMMUTATIVE) { /* nearly always: the short way of equations_add */
        equations_count(list, start, mark, status);
        hash_solid_line(&list->hash, start, mark, end);
        return mark + 2;
    }
    if (!mark) {
        mark = mark_find(start, end);
        if (watched && trace_find_tag(watched, start - 1, mark, end)) return NULL;
        if (mark == end || *mark == '<') {
            equations_count(list, start, mark, QRFT_EQUATION_UNCLOSED);
            return mark;
        }
        status = equation_check(start, mark);
    }
    equations_add(list, start, mark, status, options);
    return mark + 2;
}

/* Adds the equations of a stretch; false when it comes upon a tag of the watched traces, NULL for none. */
static bool add_equations(qrft_equations *list, qrft_cursor text, const qrft_options *options,
                          const qrft_options *watched) {
    for (const uint8_t *at = text.at;;) {
        const uint8_t *opening = find_opening(at, text.end, watched);
        if (!opening) return false;
        if (options->equation_source == QRFT_EQUATIONS_ANYWHERE) {
            running_text_check(list, (qrft_cursor){at, opening}, at == text.at, opening < text.end, options);
        }
        if (opening == text.end) return true;
        at = take_equation(list, opening + 2, text.end, options, watched);
        if (!at) return false;
    }
}

/* Whether the text has no traces. Then its equations are in the list, which is otherwise empty. */
static bool add_untraced(qrft_equations *list, qrft_cursor text, const qrft_options *options) {
    bool is_known = traces_are_known(options), is_watched = is_known && traces_are_marked(options);
    if (is_known && options->trace_is_open) return false;
    if (is_known && !is_watched && trace_find_tag(options, text.at, text.end, text.end)) return false;
    if (add_equations(list, text, options, is_watched ? options : NULL)) return true; /* nearly always */
    equations_begin(list);
    return false;
}

/*
 * The key of stretches in which no equation was found: that of the equations in their running text, or else of their
 * words. They count for nothing else.
 */
static void key_without_equations(qrft_equations *list, qrft_stretches walk, const qrft_options *options) {
    qrft_equations running;
    qrft_cursor stretch;
    running.kept = NULL;
    equations_begin(&running);
    if (options->equation_source != QRFT_EQUATIONS_ANYWHERE) {
        for (qrft_stretches again = walk; stretches_next(&again, &stretch);) {
            running_text_check(&running, stretch, true, false, options);
        }
    }
    if (running.count > 0) {
        list->hash = running.hash;
        list->source = QRFT_PATH_RUNNING_TEXT;
    } else {
        while (stretches_next(&walk, &stretch)) hash_words(&list->hash, stretch.at, stretch.end);
        list->source = QRFT_PATH_TEXT;
    }
}

void equations_find_all(qrft_equations *list, qrft_cursor stretch) {
    static const qrft_options ANYWHERE = {.equation_source = QRFT_EQUATIONS_ANYWHERE};
    equations_begin(list);
    add_equations(list, stretch, &ANYWHERE, NULL);
}

bool equations_check(qrft_equations *list, const uint8_t *text, const uint8_t *end, const qrft_options *options) {
    equations_begin(list);
    if (options->paper_mode) {
        paper_equations_check(list, text, end);
        return false;
    }
    bool has_traces = !add_untraced(list, (qrft_cursor){text, end}, options);
    if (!has_traces && list->count > 0) return false; /* nearly always */
    qrft_stretches walk = stretches_of(text, end, has_traces && !options->trace_equations ? options : NULL);
    if (has_traces) {
        qrft_cursor stretch;
        for (qrft_stretches again = walk; stretches_next(&again, &stretch);) {
            add_equations(list, stretch, options, NULL);
        }
    }
    if (list->count == 0) key_without_equations(list, walk, options);
    return has_traces;
}
