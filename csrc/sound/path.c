#include <string.h>

#include "sound/known.h"
#include "sound/path.h"
#include "text/literal.h"

/* The results stay as they are: clearing their kilobytes would take longer than following most paths. */
void path_begin(qrft_path *path, const qrft_known *known) {
    path->known = known;
    path->fault = known->is_full ? QRFT_UNSOUND_TOO_LONG : QRFT_SOUND;
    path->num_steps = path->num_results = path->num_values = path->last = 0;
    path->has_decimals = false;
    memcpy(path->counted, known->counted, sizeof path->counted);
}

void path_blame(qrft_path *path, enum qrft_soundness fault) {
    if (path->fault == QRFT_SOUND) path->fault = fault;
}

void path_count(qrft_path *path) {
    if (path->num_steps++ == PATH_MAX_STEPS) path_blame(path, QRFT_UNSOUND_TOO_LONG);
}

/* -------------------------------------------------------------------------------------------------- operands ---- */

/* The place of the first value from `first` on that a number is; mostly all are whole, and need only be equal. */
static int find_value(const qrft_path *path, int64_t number, int first) {
    int i = first;
    if (path->has_decimals || number % UNIT != 0) {
        while (i < path->num_values && !serves(number, path->values[i])) i++;
    } else {
        while (i < path->num_values && number != path->values[i]) i++;
    }
    return i;
}

/* Counts a use of the results that are this number; false when there is none. */
static bool use_results(qrft_path *path, int64_t value) {
    int owner = -1;
    for (int i = -1; (i = find_value(path, value, i + 1)) < path->num_values;) {
        if (path->owners[i] == owner) continue;
        owner = path->owners[i];
        path_result *result = &path->results[owner];
        if (result->step != path->num_steps) result->uses_in_step = 0;
        result->step = path->num_steps;
        result->uses++;
        if (++result->uses_in_step > result->most_at_once) result->most_at_once = result->uses_in_step;
    }
    return owner >= 0;
}

static void use(qrft_path *path, int64_t value) {
    if (value == NO_NUMBER) {
        path_blame(path, QRFT_UNSOUND_UNKNOWN_NUMBER);
        return;
    }
    bool is_known = use_results(path, value) || is_counted(path->counted, value);
    if (!is_known && !known_has(path->known, path->counted, value)) path_blame(path, QRFT_UNSOUND_UNKNOWN_NUMBER);
}

/* ---------------------------------------------------------------------------------------------------- results ---- */

/* Whether two equations have the same text, white space apart. */
static bool same_text(qrft_cursor a, qrft_cursor b) {
    for (;;) {
        a.at = skip_space(a.at, a.end);
        b.at = skip_space(b.at, b.end);
        if (a.at == a.end || b.at == b.end) return a.at == a.end && b.at == b.end;
        if (*a.at++ != *b.at++) return false;
    }
}

/* An earlier result with these values and this text, or NULL. */
static path_result *find_copy(qrft_path *path, qrft_cursor text, const int64_t *values, int num_values) {
    for (int i = 0; i < path->num_results; i++) {
        path_result *result = &path->results[i];
        if (!result->text.at || result->num_values != num_values) continue;
        if (num_values > 0 && path->values[result->first_value] != values[0]) continue;
        if (same_text(result->text, text)) return result;
    }
    return NULL;
}

/* Adds a result; text.at is NULL for what running text shows. */
static void add(qrft_path *path, qrft_cursor text, const int64_t *values, int num_values, bool is_derived) {
    path_result *copy = text.at ? find_copy(path, text, values, num_values) : NULL;
    if (copy) {
        copy->num_copies++;
        copy->uses_before_copy = copy->uses;
        path->last = (int)(copy - path->results);
        return;
    }
    if (path->num_results == PATH_MAX_RESULTS) {
        path_blame(path, QRFT_UNSOUND_TOO_LONG);
        return;
    }
    path->last = path->num_results++;
    path->results[path->last] = (path_result){.text = text,
                                              .first_value = path->num_values,
                                              .num_values = num_values,
                                              .is_derived = is_derived,
                                              .num_copies = 1,
                                              .step = -1};
    for (int i = 0; i < num_values; i++) {
        path->has_decimals |= values[i] % UNIT != 0;
        path->owners[path->num_values] = (uint8_t)path->last;
        path->values[path->num_values++] = values[i];
    }
}

/* ------------------------------------------------------------------------------------------------------ steps ---- */

/* Moves to the next literal; false when there is none. */
static inline bool next_literal(qrft_cursor *text) {
    while (text->at < text->end && !literal_starts(text->at, text->end)) text->at++;
    return text->at < text->end;
}

/* The numbers of an equation, those before its last = first. */
typedef struct {
    int64_t numbers[PATH_MAX_OPERANDS + PATH_MAX_VALUES];
    int num_numbers;
    int num_operands;
    int num_terms; /* one more than its plus signs */
} step;

/* False when there are more numbers than are followed. */
static bool read_step(step *s, qrft_cursor equation) {
    int num_plus = 0;
    s->num_numbers = s->num_operands = s->num_terms = 0;
    while (equation.at < equation.end) {
        if (literal_starts(equation.at, equation.end)) {
            if (s->num_numbers == PATH_MAX_OPERANDS + PATH_MAX_VALUES) return false;
            s->numbers[s->num_numbers++] = millionths_read(&equation);
            continue;
        }
        num_plus += *equation.at == '+';
        if (*equation.at++ == '=') {
            s->num_operands = s->num_numbers;
            s->num_terms = num_plus + 1;
        }
    }
    return s->num_operands <= PATH_MAX_OPERANDS && s->num_numbers - s->num_operands <= PATH_MAX_VALUES;
}

static void add_result(qrft_path *path, const step *s, qrft_cursor equation) {
    int64_t values[PATH_MAX_VALUES];
    int num_values = 0;
    for (int i = s->num_operands; i < s->num_numbers; i++) {
        if (s->numbers[i] != NO_NUMBER) values[num_values++] = s->numbers[i];
    }
    add(path, equation, values, num_values, s->num_operands > 1);
}

void path_take(qrft_path *path, qrft_cursor equation, bool is_shown) {
    step s;
    if (!read_step(&s, equation)) {
        path_blame(path, QRFT_UNSOUND_TOO_LONG);
        return;
    }
    if (s.num_operands > 1 || !is_shown) {
        for (int i = 0; i < s.num_operands; i++) use(path, s.numbers[i]);
    }
    /* What adds five numbers makes five known, to divide by for a mean. */
    if (s.num_terms <= PATH_MAX_OPERANDS) path->counted[0] |= UINT64_C(1) << s.num_terms;
    add_result(path, &s, equation);
}

/* ---------------------------------------------------------------------------------------------- running text ---- */

static const uint8_t *back_over_blanks(const uint8_t *start, const uint8_t *at) {
    while (at > start && (at[-1] == ' ' || at[-1] == '\t')) at--;
    return at;
}

/* Where what stands before a number ends, without the currency and the minus that belong to it. */
static const uint8_t *back_over_signs(const uint8_t *start, const uint8_t *at) {
    const uint8_t *end = back_over_blanks(start, at);
    for (int length = 1; length <= 3 && end - start >= length; length++) {
        if (currency_length(end - length, end) != length) continue;
        end = back_over_blanks(start, end - length);
        break;
    }
    for (int length = 1; length <= 3 && end - start >= length; length += 2) {
        if (minus_length(end - length, end) != length) continue;
        return back_over_blanks(start, end - length);
    }
    return end;
}

bool path_ends_in_equals(qrft_cursor text) {
    const uint8_t *end = back_over_signs(text.at, text.end);
    return end > text.at && end[-1] == '=';
}

static void mention(qrft_path *path, int64_t value) {
    for (int i = -1; (i = find_value(path, value, i + 1)) < path->num_values;) {
        path->results[path->owners[i]].is_mentioned = true;
    }
}

void path_take_text(qrft_path *path, qrft_cursor text, bool follows_mark) {
    const uint8_t *start = text.at;
    while (next_literal(&text)) {
        const uint8_t *before = back_over_signs(start, text.at);
        int64_t value = millionths_read(&text);
        if (value == NO_NUMBER || (follows_mark && before == start)) continue; /* <<2+3=5>>5 says it again */
        mention(path, value);
        if (before > start && before[-1] == '=') add(path, (qrft_cursor){NULL, NULL}, &value, 1, false);
    }
}

/* --------------------------------------------------------------------------------------------------- the end ---- */

static bool is_answer(const qrft_path *path, const path_result *result, int64_t answer) {
    if (answer == NO_NUMBER) return false;
    for (int i = 0; i < result->num_values; i++) {
        if (serves(answer, path->values[result->first_value + i])) return true;
    }
    return false;
}

static bool is_needed(const qrft_path *path, const path_result *result, int64_t answer) {
    return result->uses > 0 || result->is_mentioned || !result->is_derived || is_answer(path, result, answer);
}

/* Whether a copy was needless: no step uses all of them, nor was each used before the next was made. */
static bool is_repeated(const path_result *result) {
    if (result->num_copies == 1 || result->most_at_once >= result->num_copies) return false;
    return result->uses == result->uses_before_copy || result->uses_before_copy < result->num_copies - 1;
}

enum qrft_soundness path_status(const qrft_path *path, int64_t answer) {
    if (path->fault != QRFT_SOUND) return path->fault;
    if (path->num_steps == 0 || path->num_results == 0) return QRFT_UNSOUND_NO_EQUATIONS;
    if (answer != NO_NUMBER && !is_answer(path, &path->results[path->last], answer)) return QRFT_UNSOUND_OTHER_RESULT;
    for (int i = 0; i < path->num_results; i++) {
        if (i != path->last && !is_needed(path, &path->results[i], answer)) return QRFT_UNSOUND_UNUSED_RESULT;
    }
    for (int i = 0; i < path->num_results; i++) {
        if (is_repeated(&path->results[i])) return QRFT_UNSOUND_REPEATED;
    }
    return QRFT_SOUND;
}
