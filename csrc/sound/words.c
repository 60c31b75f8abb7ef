#include <string.h>

#include "sound/millionths.h"
#include "sound/words.h"

#define NUMBER(name, value) {name, WORD_NUMBER, (value) * UNIT, {0}}
#define SCALE(name, value)                                                                                             \
    {                                                                                                                  \
        name, WORD_SCALE, value, {                                                                                     \
            (value) * UNIT                                                                                             \
        }                                                                                                              \
    }
#define PARTS(name, value)                                                                                             \
    {                                                                                                                  \
        name, WORD_PARTS, (value) * UNIT, {                                                                            \
            (value) * UNIT                                                                                             \
        }                                                                                                              \
    }
#define FACTS(names, ...)                                                                                              \
    {                                                                                                                  \
        names, WORD_OTHER, 0, {                                                                                        \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    }

/* docs/semantics.md lists the same. */
static const qrft_word WORDS[] = {
    NUMBER("zero", 0),
    NUMBER("one", 1),
    NUMBER("two", 2),
    NUMBER("three", 3),
    NUMBER("four", 4),
    NUMBER("five", 5),
    NUMBER("six", 6),
    NUMBER("seven", 7),
    NUMBER("eight", 8),
    NUMBER("nine", 9),
    NUMBER("ten", 10),
    NUMBER("eleven", 11),
    NUMBER("twelve", 12),
    NUMBER("thirteen", 13),
    NUMBER("fourteen", 14),
    NUMBER("fifteen", 15),
    NUMBER("sixteen", 16),
    NUMBER("seventeen", 17),
    NUMBER("eighteen", 18),
    NUMBER("nineteen", 19),
    NUMBER("twenty", 20),
    NUMBER("thirty", 30),
    NUMBER("forty", 40),
    NUMBER("fifty", 50),
    NUMBER("sixty", 60),
    NUMBER("seventy", 70),
    NUMBER("eighty", 80),
    NUMBER("ninety", 90),
    SCALE("hundred", 100),
    SCALE("thousand", 1000),
    SCALE("million", 1000000),
    SCALE("dozen", 12),
    PARTS("third", 3),
    PARTS("fourth", 4),
    PARTS("fifth", 5),
    PARTS("sixth", 6),
    PARTS("seventh", 7),
    PARTS("eighth", 8),
    PARTS("ninth", 9),
    PARTS("tenth", 10),
    PARTS("eleventh", 11),
    PARTS("twelfth", 12),
    {"quarter", WORD_PARTS, 4 * UNIT, {4 * UNIT, UNIT / 4, 25 * UNIT, 3 * UNIT}},
    {"half", WORD_HALF, 0, {2 * UNIT, UNIT / 2}},
    {"percent", WORD_PERCENT, 0, {100 * UNIT}},
    {"and a", WORD_JOINT, 0, {0}},
    FACTS("halve halved halfway", 2 * UNIT, UNIT / 2),
    FACTS("twice double doubled doubling both pair couple twin", 2 * UNIT),
    FACTS("thrice triple tripled tripling trio triplet triangle tricycle", 3 * UNIT),
    FACTS("quadruple quadrupled", 4 * UNIT),
    FACTS("second", 2 * UNIT, 60 * UNIT),
    FACTS("minute", 60 * UNIT, UNIT / 2, UNIT / 4),
    FACTS("hour hourly", 60 * UNIT, 24 * UNIT),
    FACTS("day daily", 7 * UNIT, 24 * UNIT, 30 * UNIT, 365 * UNIT),
    FACTS("week weekly", 7 * UNIT, 4 * UNIT, 52 * UNIT, 5 * UNIT),
    FACTS("month monthly", 12 * UNIT, 30 * UNIT, 31 * UNIT),
    FACTS("year yearly annual annually", 12 * UNIT, 365 * UNIT, 52 * UNIT),
    FACTS("decade", 10 * UNIT),
    FACTS("century centuries", 100 * UNIT),
    FACTS("january march may july august october december", 31 * UNIT),
    FACTS("april june september november", 30 * UNIT),
    FACTS("february", 28 * UNIT, 29 * UNIT),
    FACTS("noon midnight pm am", 12 * UNIT, 24 * UNIT),
    FACTS("percentage cent penny pennies", 100 * UNIT),
    FACTS("nickel", 5 * UNIT),
    FACTS("dime", 10 * UNIT),
    FACTS("inch inches foot feet", 12 * UNIT),
    FACTS("yard", 3 * UNIT, 36 * UNIT),
    FACTS("mile", 5280 * UNIT, 1760 * UNIT),
    FACTS("ounce oz pound lb", 16 * UNIT, 2000 * UNIT),
    FACTS("ton", 2000 * UNIT, 1000 * UNIT),
    FACTS("cup pint quart gallon", 2 * UNIT, 4 * UNIT, 8 * UNIT, 16 * UNIT),
    FACTS("km kilometer kilometre kg kilogram gram liter litre ml milliliter millilitre", 1000 * UNIT),
    FACTS("meter metre cm centimeter centimetre", 10 * UNIT, 100 * UNIT, 1000 * UNIT),
    FACTS("circle", 360 * UNIT),
    FACTS("finger toe", 10 * UNIT, 20 * UNIT),
    FACTS("insect ant hexagon", 6 * UNIT),
    FACTS("spider octopus octagon", 8 * UNIT),
};

#define MAX_LETTERS 16 /* no name is longer */

static uint8_t lower(uint8_t letter) {
    return letter | 0x20;
}

static uint32_t slot_of(const uint8_t *at, int length) { /* FNV-1a */
    uint32_t hash = 2166136261u;
    for (int i = 0; i < length; i++) hash = (hash ^ lower(at[i])) * 16777619u;
    return (hash ^ hash >> 16) % NUM_WORD_SLOTS;
}

static void put(qrft_words *words, const qrft_word *word, const char *name, int length) {
    uint32_t slot = slot_of((const uint8_t *)name, length);
    words->lengths[name[0] & 31] |= UINT32_C(1) << length;
    while (words->slots[slot].word) slot = (slot + 1) % NUM_WORD_SLOTS;
    words->slots[slot].word = word;
    words->slots[slot].name = name;
    words->slots[slot].length = length;
}

void words_index(qrft_words *words) {
    memset(words, 0, sizeof *words);
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++) {
        for (const char *name = WORDS[i].names; *name;) {
            int length = (int)strcspn(name, " ");
            put(words, &WORDS[i], name, length);
            name += length + (name[length] == ' ');
        }
    }
}

static bool is_name(const char *name, const uint8_t *at, int length) {
    for (int i = 0; i < length; i++) {
        if (lower(at[i]) != (uint8_t)name[i]) return false;
    }
    return true;
}

static const qrft_word *find(const qrft_words *words, const uint8_t *at, int length) {
    if (!(words->lengths[at[0] & 31] >> length & 1)) return NULL; /* nearly always */
    for (uint32_t slot = slot_of(at, length); words->slots[slot].word; slot = (slot + 1) % NUM_WORD_SLOTS) {
        if (words->slots[slot].length == length && is_name(words->slots[slot].name, at, length)) {
            return words->slots[slot].word;
        }
    }
    return NULL;
}

const qrft_word *words_find(const qrft_words *words, qrft_cursor letters) {
    if (letters.end - letters.at > MAX_LETTERS) return NULL;
    int length = (int)(letters.end - letters.at);
    const qrft_word *word = NULL;
    if (lower(letters.end[-1]) == 's') word = find(words, letters.at, length - 1);
    return word ? word : find(words, letters.at, length);
}
