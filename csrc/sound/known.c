#include <string.h>

#include "sound/known.h"
#include "text/literal.h"

#define COUNTED_BY_PEOPLE 0x7F /* 0 to 6: people count so far without saying it */

typedef struct {
    qrft_known *known;
    const qrft_words *words;
    int64_t before; /* the number just said: nothing but white space, hyphens, "and", "a" behind it */
    int64_t whole;  /* the one before that: the 1 of "1 1/2", while 1/2 is read */
    bool is_worded; /* `before` was said in words */
} reader;

/* ------------------------------------------------------------------------------------------------ the numbers ---- */

static bool is_listed(const qrft_known *known, const uint64_t counted[4], int64_t value) {
    if (is_counted(counted, value)) return true;
    for (int i = 0; i < known->num_values; i++) {
        if (known->values[i] == value) return true;
    }
    return false;
}

bool known_has(const qrft_known *known, const uint64_t counted[4], int64_t value) {
    if (is_listed(known, counted, value)) return true;
    bool has_decimals = value % UNIT != 0;
    if (has_decimals && value <= NUMBER_LIMIT / 100 && is_listed(known, counted, value * 100)) return true;
    return value % 100 == 0 && (has_decimals || value / 100 % UNIT != 0) && is_listed(known, counted, value / 100);
}

static void add(reader *r, int64_t value) {
    qrft_known *known = r->known;
    if (value < 0 || value >= NUMBER_LIMIT || is_listed(known, known->counted, value)) return;
    if (value % UNIT == 0 && value / UNIT < NUM_COUNTED) {
        known->counted[value / UNIT >> 6] |= UINT64_C(1) << (value / UNIT & 63);
    } else if (known->num_values < QRFT_MAX_KNOWN) {
        known->values[known->num_values++] = value;
    } else {
        known->is_full = 1;
    }
}

/* ------------------------------------------------------------------------------------------------- what is said ----
 */

static void say(reader *r, int64_t value, bool is_worded) {
    add(r, value);
    r->whole = r->before;
    r->before = value;
    r->is_worded = is_worded;
}

static void say_percent(reader *r) {
    add(r, 100 * UNIT);
    if (r->before != NO_NUMBER) {
        int64_t rest = 100 * UNIT - r->before, more = 100 * UNIT + r->before;
        add(r, r->before / 100);
        if (rest >= 0) {
            add(r, rest);
            add(r, rest / 100);
        }
        add(r, more);
        add(r, more / 100);
    }
    r->before = NO_NUMBER;
}

/* Adds the share that `before` of so many parts are, what they leave and what they make: 3/4, and 1 and 7. */
static void say_parts(reader *r, int64_t parts) {
    if (r->before != NO_NUMBER && parts > 0) {
        u128 share = (u128)r->before * (u128)UNIT / (u128)parts;
        bool is_small = share < (u128)NUMBER_LIMIT;
        if (is_small) add(r, (int64_t)share);
        add(r, parts > r->before ? parts - r->before : r->before - parts);
        add(r, parts + r->before);
        if (is_small && r->whole != NO_NUMBER) add(r, r->whole + (int64_t)share);
    }
    r->before = NO_NUMBER;
}

/* A number in words with what stands before it, if that leaves room for it: the 25 of twenty-five. */
static int64_t with_room_for(const reader *r, int64_t value) {
    int64_t room = (value < 10 * UNIT ? 10 : 100) * UNIT;
    return r->is_worded && r->before > 0 && r->before % room == 0 ? value + r->before : value;
}

static void scale(reader *r, int64_t factor) {
    int64_t value = r->before == NO_NUMBER ? UNIT : r->before;
    if (__builtin_mul_overflow(value, factor, &value) || value >= NUMBER_LIMIT) value = NO_NUMBER;
    say(r, value, true);
}

static void hear(reader *r, const qrft_word *word) {
    enum word_kind kind = word ? word->kind : WORD_OTHER;
    for (int i = 0; word && i < MAX_FACTS && word->facts[i]; i++) add(r, word->facts[i]);
    if (kind == WORD_NUMBER) {
        say(r, with_room_for(r, word->number), true);
    } else if (kind == WORD_SCALE) {
        scale(r, word->number);
    } else if (kind == WORD_PERCENT) {
        say_percent(r);
    } else if (kind == WORD_PARTS) {
        say_parts(r, word->number);
    } else if (kind != WORD_JOINT) {
        if (kind == WORD_HALF && r->before != NO_NUMBER) add(r, r->before + UNIT / 2); /* two and a half */
        r->before = NO_NUMBER;
    }
}

/* --------------------------------------------------------------------------------------------------- reading ---- */

static bool is_letter(uint8_t byte) {
    return (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z';
}

static void read_word(reader *r, qrft_cursor *text) {
    qrft_cursor letters = {text->at, text->at};
    while (letters.end < text->end && is_letter(*letters.end)) letters.end++;
    text->at = letters.end;
    hear(r, words_find(r->words, letters));
}

static void read_denominator(reader *r, qrft_cursor *text) {
    text->at++;
    while (text->at < text->end && (*text->at == ' ' || *text->at == '\t')) text->at++;
    int64_t parts = literal_starts(text->at, text->end) ? millionths_read(text) : NO_NUMBER;
    add(r, parts);
    say_parts(r, parts);
}

static void read_sign(reader *r, qrft_cursor *text) {
    uint8_t sign = *text->at++;
    if (sign == '%') say_percent(r);
    if (!is_space(sign) && sign != '-') r->before = NO_NUMBER;
}

void known_read(qrft_known *known, qrft_cursor question, const qrft_words *words) {
    memset(known, 0, sizeof *known);
    known->counted[0] = COUNTED_BY_PEOPLE;
    reader r = {known, words, NO_NUMBER, NO_NUMBER, false};
    while (question.at < question.end) {
        if (is_letter(*question.at)) {
            read_word(&r, &question);
        } else if (literal_starts(question.at, question.end)) {
            say(&r, millionths_read(&question), false);
        } else if (*question.at == '/' && r.before != NO_NUMBER) {
            read_denominator(&r, &question);
        } else {
            read_sign(&r, &question);
        }
    }
}
