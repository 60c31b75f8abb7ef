/*
 * Traces: what a reasoning model thinks before it answers, between two tags such as <think> and </think>.
 * docs/semantics.md says what they are.
 */
#ifndef QRFT_TEXT_TRACE_H
#define QRFT_TEXT_TRACE_H

#include <stdbool.h>

#include "qrft.h"
#include "text/chars.h"

/* Whether the options name both tags. */
static inline bool traces_are_known(const qrft_options *options) {
    return !options->paper_mode && options->trace_opening && options->trace_closing &&
           options->trace_opening_length > 0 && options->trace_closing_length > 0;
}

/* The first tag from `at` that begins before `stop`, or NULL. */
const uint8_t *trace_find_tag(const qrft_options *options, const uint8_t *at, const uint8_t *stop, const uint8_t *end);

static inline bool tag_is_marked(const uint8_t *bytes, int64_t length) {
    return length > 1 && bytes[0] == '<' && bytes[1] != '<' && bytes[1] != '.' && !is_digit(bytes[1]);
}

/*
 * Whether the scan for << may look for the tags, which are known, in passing: each begins with a < that no << and no
 * plain equation holds.
 */
static inline bool traces_are_marked(const qrft_options *options) {
    return tag_is_marked(options->trace_opening, options->trace_opening_length) &&
           tag_is_marked(options->trace_closing, options->trace_closing_length);
}

/* Whether a tag begins at `at`. */
bool trace_has_tag(const qrft_options *options, const uint8_t *at, const uint8_t *end);

/* A walk over the stretches of a text that lie outside its traces. */
typedef struct {
    qrft_cursor rest;
    const qrft_options *options;
    bool is_inside; /* the rest begins inside a trace */
    bool is_done;
    bool is_unclosed; /* once it is done: the last trace never closes */
} qrft_stretches;

/* options == NULL: all of the text is one stretch. */
qrft_stretches stretches_of(const uint8_t *text, const uint8_t *end, const qrft_options *options);

/* Moves to the next stretch; false when there is none. A trace follows each but the last. */
bool stretches_next(qrft_stretches *walk, qrft_cursor *stretch);

#endif
