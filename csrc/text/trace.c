#include <string.h>

#include "text/trace.h"

/* A tag that was found; at == NULL: none. */
typedef struct {
    const uint8_t *at;
    const uint8_t *after;
    bool is_closing;
} tag;

static bool has(const uint8_t *at, const uint8_t *end, const uint8_t *bytes, int64_t length) {
    return end - at >= length && *at == *bytes && memcmp(at, bytes, (size_t)length) == 0;
}

static tag tag_at(const qrft_options *options, const uint8_t *at, const uint8_t *end) {
    if (has(at, end, options->trace_closing, options->trace_closing_length)) {
        return (tag){at, at + options->trace_closing_length, true};
    }
    if (has(at, end, options->trace_opening, options->trace_opening_length)) {
        return (tag){at, at + options->trace_opening_length, false};
    }
    return (tag){NULL, NULL, false};
}

bool trace_has_tag(const qrft_options *options, const uint8_t *at, const uint8_t *end) {
    return tag_at(options, at, end).at != NULL;
}

static tag find_tag(const qrft_options *options, const uint8_t *at, const uint8_t *stop, const uint8_t *end) {
    for (; at < stop; at++) {
        tag found = tag_at(options, at, end);
        if (found.at) return found;
    }
    return (tag){NULL, NULL, false};
}

const uint8_t *trace_find_tag(const qrft_options *options, const uint8_t *at, const uint8_t *stop, const uint8_t *end) {
    return find_tag(options, at, stop, end).at;
}

qrft_stretches stretches_of(const uint8_t *text, const uint8_t *end, const qrft_options *options) {
    return (qrft_stretches){{text, end}, options, options && options->trace_is_open, false, false};
}

/* Moves behind the tag that closes the trace; false when none does. */
static bool leave_trace(qrft_stretches *walk) {
    tag found = {walk->rest.at, walk->rest.at, false};
    while (found.at && !found.is_closing) {
        found = find_tag(walk->options, found.after, walk->rest.end, walk->rest.end);
    }
    walk->is_inside = false;
    walk->rest.at = found.after;
    return found.at != NULL;
}

bool stretches_next(qrft_stretches *walk, qrft_cursor *stretch) {
    if (walk->is_done) return false;
    if (walk->is_inside && !leave_trace(walk)) {
        walk->is_done = walk->is_unclosed = true;
        return false;
    }
    const uint8_t *end = walk->rest.end;
    *stretch = walk->rest;
    for (;;) {
        tag found = {NULL, NULL, false};
        if (walk->options) found = find_tag(walk->options, stretch->at, end, end);
        if (!found.at) {
            walk->is_done = true;
            return true;
        }
        if (found.is_closing) { /* a prompt opened it: what stands before is a trace too */
            stretch->at = found.after;
            continue;
        }
        stretch->end = found.at;
        walk->rest.at = found.after;
        walk->is_inside = true;
        return true;
    }
}
