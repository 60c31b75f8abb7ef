#include <string.h>

#include "answer/chars.h"
#include "answer/find.h"
#include "answer/follow.h"
#include "answer/latex.h"
#include "answer/number.h"
#include "answer/paper.h"
#include "answer/read.h"
#include "text/literal.h"
#include "text/trace.h"

/* A text, or the part of it that counts. */
typedef struct {
    const uint8_t *text;
    const uint8_t *end;
    const qrft_options *options;
} solution;

/* Where the reading should begin behind the next marker at or after `at`, or NULL. */
typedef const uint8_t *(*marker_finder)(const solution *s, const uint8_t *at);

static const qrft_answer NO_ANSWER = {.status = QRFT_ANSWER_NO_MARKER};

static bool is_found(const qrft_answer *answer) {
    return answer->status != QRFT_ANSWER_NO_MARKER && answer->status != QRFT_ANSWER_NOT_A_NUMBER;
}

/* ------------------------------------------------------------------------------------------------- the markers ---- */

/* A run of four or more #. */
static const uint8_t *after_hashes(const solution *s, const uint8_t *at) {
    while (at < s->end && (at = memchr(at, '#', (size_t)(s->end - at)))) {
        const uint8_t *start = at;
        while (has_byte(at, s->end, '#')) at++;
        if (at - start >= 4) return at;
    }
    return NULL;
}

/* The caller's own bytes. */
static const uint8_t *after_given(const solution *s, const uint8_t *at) {
    const uint8_t *marker = s->options->marker;
    int64_t length = s->options->marker_length;
    if (!marker || length <= 0) return NULL;
    while (s->end - at >= length && (at = memchr(at, marker[0], (size_t)(s->end - at - length + 1)))) {
        if (memcmp(at, marker, (size_t)length) == 0) return at + length;
        at++;
    }
    return NULL;
}

/* \boxed{ itself, because the reading knows it; when a literal follows without braces, what is behind \boxed. */
static const uint8_t *at_box(const solution *s, const uint8_t *at) {
    while (at < s->end && (at = memchr(at, '\\', (size_t)(s->end - at)))) {
        int name = command_length(at, s->end, "boxed fbox");
        if (name && box_content(at, s->end)) return at;
        if (name && literal_starts(skip_blanks(at + name, s->end), s->end)) return skip_blanks(at + name, s->end);
        at++;
    }
    return NULL;
}

/* The length of the word at `at`, any case, if it is this one; else 0. */
static int word_length(const uint8_t *at, const uint8_t *end, const char *word) {
    int length = 0;
    for (; word[length]; length++) {
        if (!has_letter(at + length, end) || (at[length] | 0x20) != (uint8_t)word[length]) return 0;
    }
    return has_letter(at + length, end) ? 0 : length;
}

static const uint8_t *skip_blanks_and_marks(const uint8_t *at, const uint8_t *end) {
    for (;;) {
        const uint8_t *start = at;
        at = skip_blanks(at, end);
        while (has_mark(at, end)) at++;
        if (at == start) return at;
    }
}

/* "is:", ":" or "=" after the word answer; NULL when it is none of these. */
static const uint8_t *after_is(const uint8_t *at, const uint8_t *end) {
    at = skip_blanks_and_marks(at, end);
    if (has_byte(at, end, ':') || has_byte(at, end, '=')) return at + 1;
    int is = word_length(at, end, "is");
    if (is == 0) return NULL;
    const uint8_t *colon = skip_blanks(at + is, end);
    return has_byte(colon, end, ':') ? colon + 1 : at + is;
}

/* "The answer is", "**Final Answer:**", "answer =": the word, and what makes it an announcement. */
static const uint8_t *after_answer_is(const solution *s, const uint8_t *at) {
    for (; at < s->end; at++) {
        if ((*at | 0x20) != 'a' || (at > s->text && is_letter(at[-1]))) continue;
        int length = word_length(at, s->end, "answer");
        const uint8_t *after = length ? after_is(at + length, s->end) : NULL;
        if (after) return after;
    }
    return NULL;
}

/* ------------------------------------------------------------------------------------------ the first solution ---- */

static const char *const NEW_PROBLEM[] = {"question", "problem", "q", "instruction", "exercise", "human", "user", NULL};
static const char *const NEW_SOLUTION[] = {"solution", "response", NULL};

static int heading_word_length(const uint8_t *at, const uint8_t *end, const char *const *words) {
    int length = 0;
    while (*words && length == 0) length = word_length(at, end, *words++);
    return length;
}

/* Whether a line that begins at `at` is a heading such as "### Question 2:" or "Problem". */
static bool is_heading(const uint8_t *at, const uint8_t *end, bool solutions_too) {
    int blank;
    while ((blank = blank_length(at, end)) || has_mark(at, end) || has_byte(at, end, '#') || has_byte(at, end, '>')) {
        at += blank ? blank : 1;
    }
    int word = heading_word_length(at, end, NEW_PROBLEM);
    if (word == 0 && solutions_too) word = heading_word_length(at, end, NEW_SOLUTION);
    if (word == 0) return false;
    at += word;
    while (at < end && (is_digit(*at) || has_mark(at, end) || strchr(" \t\r.", *at)) && *at != 0) at++;
    return at == end || *at == ':' || *at == '\n';
}

/* The end of the line before the first heading after `at`, or of the text. */
static const uint8_t *solution_end(const uint8_t *at, const uint8_t *end, bool solutions_too) {
    for (; at < end && (at = memchr(at, '\n', (size_t)(end - at))); at++) {
        if (is_heading(at + 1, end, solutions_too)) return at;
    }
    return end;
}

/* --------------------------------------------------------------------------------------------- behind a marker ---- */

/*
 * The opening behind the next marker, or from == NULL when there is none. The search for the one after it goes on
 * where this reading stopped, so that no byte is read more than a few times, whatever the text and the marker are.
 */
static inline qrft_opening next_opening(const solution *s, marker_finder find, const uint8_t *at) {
    at = find(s, at);
    return at ? opening_read(s->text, at, s->end) : (qrft_opening){0};
}

/* Skips openings of no answer, from this one on; from == NULL when no other comes. */
static inline qrft_opening skip_unanswered(const solution *s, marker_finder find, qrft_opening opening) {
    while (opening.from && opening.kind == QRFT_NOTHING) opening = next_opening(s, find, opening.at);
    return opening;
}

/* A whole number of so many digits fits in 63 bits. */
#define MAX_SHORT_DIGITS 18

/* Digits alone on the rest of the line, which nearly every answer is: the short way to the same result. */
static bool read_alone(const uint8_t *at, const uint8_t *end, qrft_answer *answer) {
    at = skip_blanks(at, end);
    const uint8_t *stop = at;
    uint64_t whole = 0; /* it may wrap; then it goes unused */
    for (; has_digit(stop, end); stop++) whole = whole * 10 + (uint64_t)(*stop - '0');
    if (stop == at || stop - at > MAX_SHORT_DIGITS || (stop < end && *stop != '\n')) return false;
    *answer = (qrft_answer){at, stop, QRFT_ANSWER_OK, {(i128)whole, 1}};
    return true;
}

static inline qrft_answer first_answer(const solution *s, marker_finder find) {
    const uint8_t *first = find(s, s->text);
    qrft_answer answer = NO_ANSWER;
    if (!first || read_alone(first, s->end, &answer)) return answer;
    qrft_opening opening = skip_unanswered(s, find, opening_read(s->text, first, s->end));
    return opening.from ? opening_answer(&opening, s->end) : answer_missing(first, s->end);
}

/* The last answer of the first solution, which ends at the first heading after the first answer. */
static qrft_answer last_answer(const solution *s, marker_finder find) {
    qrft_opening first = next_opening(s, find, s->text);
    if (!first.from) return NO_ANSWER;
    qrft_opening opening = skip_unanswered(s, find, first);
    if (!opening.from) return answer_missing(first.from, s->end);
    solution one = {s->text, solution_end(opening.from, s->end, true), s->options};
    qrft_opening last = {0};
    for (opening = opening_read(s->text, opening.from, one.end); opening.from;
         opening = next_opening(&one, find, opening.at)) {
        if (opening.kind != QRFT_NOTHING) last = opening;
    }
    return last.from ? opening_answer(&last, one.end) : answer_missing(first.from, one.end);
}

/* --------------------------------------------------------------------------------------------------------- tag ---- */

/* The length of the <answer> or, with a slash, </answer> at `at`, any case; 0 when it is none. */
static int tag_length(const uint8_t *at, const uint8_t *end, bool has_slash) {
    if (!has_byte(at, end, '<') || (has_slash && !has_byte(at + 1, end, '/'))) return 0;
    int start = 1 + has_slash, word = word_length(at + start, end, "answer");
    return word && has_byte(at + start + word, end, '>') ? start + word + 1 : 0;
}

/* The next </answer>, or NULL. Most texts have many < for their equations, but few slashes. */
static const uint8_t *find_closing_tag(const uint8_t *at, const uint8_t *end) {
    for (const uint8_t *slash = at; slash < end && (slash = memchr(slash, '/', (size_t)(end - slash))); slash++) {
        if (slash > at && tag_length(slash - 1, end, true)) return slash - 1;
    }
    return NULL;
}

/* What follows the last <answer> between the two, or NULL. */
static const uint8_t *after_last_opening_tag(const uint8_t *at, const uint8_t *end) {
    const uint8_t *last = NULL;
    for (; at < end && (at = memchr(at, '<', (size_t)(end - at))); at++) {
        int length = tag_length(at, end, false);
        if (length) last = at + length;
    }
    return last;
}

/* What stands in the next tag that is closed; at == NULL when there is none. */
static qrft_cursor next_tag(const uint8_t *at, const uint8_t *end) {
    for (const uint8_t *closing; (closing = find_closing_tag(at, end)); at = closing + 1) {
        const uint8_t *content = after_last_opening_tag(at, closing);
        if (content) return (qrft_cursor){content, closing};
    }
    return (qrft_cursor){NULL, NULL};
}

/* All of the text is the answer, but for white space before it. */
static qrft_answer read_whole(const uint8_t *text, const uint8_t *end, bool is_math) {
    text = skip_space(text, end);
    qrft_opening opening = opening_read_whole(text, end, is_math);
    return opening.kind == QRFT_NOTHING ? answer_missing(text, end) : opening_answer(&opening, end);
}

static qrft_answer answer_in_tag(const solution *s, qrft_cursor tag) {
    solution content = {tag.at, tag.end, s->options};
    qrft_answer boxed = last_answer(&content, at_box);
    return is_found(&boxed) ? boxed : read_whole(tag.at, tag.end, true);
}

/* The last tag of the first solution, which ends at the first heading after the first tag that holds an answer. */
static qrft_answer last_tag(const solution *s) {
    qrft_answer found = NO_ANSWER, missing = NO_ANSWER;
    const uint8_t *end = s->end;
    for (qrft_cursor tag = next_tag(s->text, end); tag.at; tag = next_tag(tag.end, end)) {
        qrft_answer answer = answer_in_tag(s, tag);
        if (is_found(&answer)) {
            if (!is_found(&found)) end = solution_end(tag.end, end, true);
            found = answer;
        } else if (!missing.start) {
            missing = answer;
        }
    }
    return is_found(&found) ? found : missing;
}

/* ------------------------------------------------------------------------------------------------- last number ---- */

static bool is_alphanumeric(uint8_t byte) {
    return is_letter(byte) || is_digit(byte);
}

/* Skips a sign and a currency, in either order, without blanks. */
static const uint8_t *skip_lead(const uint8_t *at, const uint8_t *end, bool *is_negative) {
    int currency = answer_currency_length(at, end);
    int sign = sign_length(at + currency, end);
    *is_negative = sign && at[currency] != '+';
    at += currency + sign;
    return currency ? at : at + answer_currency_length(at, end);
}

/* Whether what stands before `at` lets a number begin there; a sign after a value is an operator. */
static bool can_begin(const uint8_t *text, const uint8_t *at, const uint8_t *end) {
    if (at == text) return true;
    if (has_byte(at, end, '.')) return !is_alphanumeric(at[-1]);
    if (!sign_length(at, end)) return true;
    return !is_alphanumeric(at[-1]) && at[-1] != ')' && at[-1] != ']' && at[-1] != '}';
}

/* The 2 of H2O and of m^2. */
static bool is_in_word(const uint8_t *text, const uint8_t *at) {
    if (at == text) return false;
    if (is_digit(*at) && is_letter(at[-1])) return true;
    return at[-1] == '^' || (at[-1] == '{' && at - text > 1 && at[-2] == '^');
}

/* The last number from `at` to `end`, where no number reaches over either. */
static qrft_answer last_number_between(const solution *s, const uint8_t *at, const uint8_t *end) {
    qrft_answer answer = NO_ANSWER;
    while (at < end) {
        bool is_negative;
        const uint8_t *digits = skip_lead(at, end, &is_negative);
        if (!number_starts(digits, end) || !can_begin(s->text, at, end)) {
            at++;
            continue;
        }
        qrft_number number = number_read(digits, end);
        const uint8_t *tail = number_tail(digits, number.end, end);
        if (tail || number_is_head(digits, number.end, end)) number.status = QRFT_ANSWER_NOT_A_NUMBER;
        if (tail) number.end = tail;
        if (is_negative) number.value.n = -number.value.n;
        if (!is_in_word(s->text, at)) answer = (qrft_answer){at, number.end, number.status, number.value};
        at = number.end;
    }
    return answer;
}

/* A digit, or a sign such as ½. */
static bool has_numeral(const uint8_t *at, const uint8_t *end) {
    return is_digit(*at) || (*at >= 0xC2 && number_starts(at, end));
}

/* The beginning of the last line that holds a numeral, or NULL. */
static const uint8_t *last_line_with_numeral(const uint8_t *text, const uint8_t *end) {
    const uint8_t *at = end;
    while (at > text && !has_numeral(at - 1, end)) at--;
    if (at == text) return NULL;
    end = at;
    while (end > text && end[-1] != '\n') end--;
    return end;
}

/* Reads the lines from the last one on backwards, for no number reaches over a line break. */
static qrft_answer last_number(const solution *s) {
    const uint8_t *digit = s->text;
    while (digit < s->end && !has_numeral(digit, s->end)) digit++;
    const uint8_t *end = solution_end(digit, s->end, false);
    for (const uint8_t *line; (line = last_line_with_numeral(s->text, end)); end = line) {
        qrft_answer answer = last_number_between(s, line, end);
        if (answer.status == QRFT_ANSWER_NOT_A_NUMBER) return answer_missing(answer.start, end);
        if (answer.status != QRFT_ANSWER_NO_MARKER) return answer;
    }
    return NO_ANSWER;
}

/* --------------------------------------------------------------------------------------------------- the whole ---- */

static qrft_answer find_in_format(const solution *s, int format) {
    switch (format) {
    case QRFT_FORMAT_BOXED:
        return last_answer(s, at_box);
    case QRFT_FORMAT_ANSWER_IS:
        return last_answer(s, after_answer_is);
    case QRFT_FORMAT_ANSWER_TAG:
        return last_tag(s);
    case QRFT_FORMAT_LAST_NUMBER:
        return last_number(s);
    case QRFT_FORMAT_MARKER:
        return first_answer(s, after_given);
    default:
        return first_answer(s, after_hashes);
    }
}

/* The first of these formats that finds an answer; without one, the first that has a marker. */
static qrft_answer find_in_any_format(const solution *s) {
    static const int FORMATS[] = {QRFT_FORMAT_ANSWER_TAG, QRFT_FORMAT_GSM8K, QRFT_FORMAT_BOXED, QRFT_FORMAT_ANSWER_IS,
                                  QRFT_FORMAT_LAST_NUMBER};
    qrft_answer marked = NO_ANSWER;
    for (size_t i = 0; i < sizeof FORMATS / sizeof *FORMATS; i++) {
        qrft_answer answer = find_in_format(s, FORMATS[i]);
        if (is_found(&answer)) return answer;
        if (marked.status == QRFT_ANSWER_NO_MARKER) marked = answer;
    }
    return marked;
}

qrft_answer answer_find(const uint8_t *text, const uint8_t *end, const qrft_options *options) {
    if (options->paper_mode) return paper_answer_find(text, end);
    solution s = {text, end, options};
    if (options->answer_format == QRFT_FORMAT_AUTO) return find_in_any_format(&s);
    return find_in_format(&s, options->answer_format);
}

/* Whether a new problem's heading follows the answer: what is then thought about is not the question asked. */
static bool is_over(const qrft_answer *answer, const uint8_t *end) {
    return is_found(answer) && solution_end(answer->end, end, false) < end;
}

qrft_answer answer_find_behind_traces(const uint8_t *text, const uint8_t *end, const qrft_options *options) {
    qrft_stretches walk = stretches_of(text, end, options);
    qrft_answer answer = NO_ANSWER;
    for (qrft_cursor stretch; stretches_next(&walk, &stretch);) {
        answer = answer_find(stretch.at, stretch.end, options);
        if (is_over(&answer, stretch.end)) return answer;
    }
    return walk.is_unclosed ? (qrft_answer){.status = QRFT_ANSWER_OPEN_TRACE} : answer;
}

qrft_answer answer_read(const uint8_t *text, const uint8_t *end, const qrft_options *options) {
    if (options->paper_mode) return paper_answer_read(text, end);
    int format = options->answer_format;
    return read_whole(text, end,
                      format == QRFT_FORMAT_BOXED || format == QRFT_FORMAT_ANSWER_TAG || format == QRFT_FORMAT_AUTO);
}
