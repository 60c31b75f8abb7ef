/*
 * The C core without Python: a few known results, and many made texts in blocks of memory of exactly their size, so
 * that the sanitizers see any byte read outside. What the results should be is for the Python tests to say.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qrft.h"
#include "select/lanes.h"
#include "select/levenshtein.h"
#include "text/buffer.h"
#include "text/cpu.h"

#define NUM_ROUNDS 20000
#define ROWS       8

static const char *const PIECES[] = {"####",
                                     "#",
                                     " ",
                                     "<<",
                                     ">>",
                                     "<",
                                     ">",
                                     "=",
                                     "+",
                                     "-",
                                     "*",
                                     "/",
                                     "(",
                                     ")",
                                     "%",
                                     "$",
                                     ",",
                                     ".",
                                     "0",
                                     "1",
                                     "7",
                                     "12",
                                     "100",
                                     "1,000",
                                     ",000",
                                     "0.5",
                                     "3/4",
                                     "x",
                                     "\n",
                                     "\t",
                                     "e5",
                                     "=2",
                                     "1=1",
                                     "2+3",
                                     "\xE2\x88",
                                     "\x92",
                                     "\xE2\x82",
                                     "\xAC",
                                     "\xC2\xA3",
                                     "\xFF",
                                     "\0",
                                     "((",
                                     "))",
                                     "48/2=24",
                                     "99999999999999999999",
                                     "\xC3\x97",
                                     "\xC3\xB7",
                                     "\xF0\x9F\x98\x80",
                                     "\\boxed{",
                                     "\\boxed ",
                                     "}",
                                     "{",
                                     "{,}",
                                     ",\\!",
                                     "\\frac",
                                     "{3}",
                                     "\\frac{1}{2}",
                                     "\\text{",
                                     "\\(",
                                     "\\)",
                                     "\\",
                                     "**",
                                     "`",
                                     "answer is ",
                                     "<answer>",
                                     "</answer>",
                                     "Answer:",
                                     "=> ",
                                     "x 10^3",
                                     "^\\circ",
                                     "x+1",
                                     "\nQuestion",
                                     "Solution 2:\n",
                                     "pi",
                                     "\\%",
                                     "^",
                                     "2^9",
                                     "(1+2)*3",
                                     "<think>",
                                     "</think>",
                                     "<<think>",
                                     "\xC2\xBD",
                                     "\xC2\xB2",
                                     "\xE2\x80\x89",
                                     "\xE2\x80\x99",
                                     "\xE2\x80\x93",
                                     "\xE2\x88\x9A",
                                     "\xF0\x9D\x9F\x8E",
                                     " and ",
                                     ", ",
                                     " feet",
                                     "(old)",
                                     "_2",
                                     "...",
                                     " base 2",
                                     " = ",
                                     "3 x 4 = 12",
                                     "<<2+3=5>>5",
                                     "<<5*0.5=2.5>>",
                                     "twenty-",
                                     "thirds",
                                     " hundred ",
                                     "half",
                                     "percent",
                                     " weeks"};
#define NUM_PIECES (sizeof PIECES / sizeof *PIECES)

static uint64_t state = 88172645463325252u;

static uint64_t next_random(void) { /* xorshift64 */
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* A text in a block of its own, so that one byte too far is a fault. */
static uint8_t *make_text(int64_t *length) {
    char text[1024];
    size_t used = 0;
    for (uint64_t i = next_random() % 40; i > 0; i--) {
        const char *piece = PIECES[next_random() % NUM_PIECES];
        size_t size = *piece ? strlen(piece) : 1;
        memcpy(text + used, piece, size);
        used += size;
    }
    uint8_t *block = malloc(used ? used : 1);
    memcpy(block, text, used);
    *length = (int64_t)used;
    return block;
}

static qrft_options options; /* the default; the made texts are graded by every rule */

typedef struct {
    int64_t starts[ROWS], ends[ROWS];
    uint8_t statuses[ROWS], correct[ROWS], equations[ROWS], keys[16 * ROWS], sources[ROWS], soundness[ROWS];
    int32_t counts[ROWS];
    qrft_value values[ROWS];
} outputs;

static qrft_grades grades_of(outputs *out) {
    return (qrft_grades){out->starts,    out->ends, out->statuses, out->correct,  out->counts,
                         out->equations, out->keys, out->sources,  out->soundness};
}

static qrft_answers answers_of(outputs *out) {
    return (qrft_answers){out->starts, out->ends, out->statuses, out->values};
}

static void grade_one(const char *text, const char *gold, outputs *out) {
    static outputs gold_out;
    int64_t text_offsets[2] = {0, (int64_t)strlen(text)}, gold_offsets[2] = {0, (int64_t)strlen(gold)};
    qrft_texts texts = {(const uint8_t *)text, NULL, text_offsets, 1};
    qrft_texts golds = {(const uint8_t *)gold, NULL, gold_offsets, 1};
    qrft_answers answers = answers_of(&gold_out);
    qrft_grades grades = grades_of(out);
    assert(qrft_numbers_parse(&golds, &options, 1, &answers) == QRFT_DONE);
    assert(qrft_texts_grade(&texts, &answers, NULL, NULL, &options, 1, &grades) == QRFT_DONE);
}

static void test_known(void) {
    outputs out;
    grade_one("48/2 = <<48/2=24>>24\n#### $72.", "72", &out);
    assert(out.statuses[0] == QRFT_ANSWER_OK && out.correct[0] && out.counts[0] == 1);
    assert(out.equations[0] == QRFT_EQUATION_OK && out.starts[0] == 26 && out.ends[0] == 29);
    grade_one("<<1/0=1>> #### 3", "4", &out);
    assert(out.equations[0] == QRFT_EQUATION_DIVISION_BY_ZERO && !out.correct[0]);
    grade_one("so 2 + 3 = 5\n#### 5", "5", &out);
    assert(out.counts[0] == 0 && out.sources[0] == QRFT_PATH_RUNNING_TEXT);
    grade_one("five\n#### 5", "5", &out);
    assert(out.sources[0] == QRFT_PATH_TEXT && strcmp(qrft_path_source_name(out.sources[0]), "text") == 0);
    assert(qrft_path_source_name(3) == NULL);
    assert(qrft_texts_distance((const uint8_t *)"kitten", 6, (const uint8_t *)"sitting", 7) == 3);
    assert(strcmp(qrft_equation_status_name(QRFT_EQUATION_TOO_DEEP), "too_deep") == 0);
    qrft_options no_marker = {.answer_format = QRFT_FORMAT_MARKER, .marker = (const uint8_t *)"A", .marker_length = -1};
    int64_t offsets[2] = {0, 2};
    qrft_texts texts = {(const uint8_t *)"A3", NULL, offsets, 1};
    qrft_answers answers = answers_of(&out);
    assert(qrft_answers_extract(&texts, &no_marker, 1, &answers) == QRFT_DONE);
    assert(out.statuses[0] == QRFT_ANSWER_NO_MARKER);
    assert(qrft_answer_status_name(99) == NULL && qrft_equation_status_name(-1) == NULL);
}

/* A row, then three with another key, chosen with these numbers; `kept` has a 1 for each row kept. */
static void check_choice(qrft_selection selection, const char *kept) {
    static const char text[] = "dabbccc"; /* d, a, bb, ccc */
    static const int64_t offsets[] = {0, 1, 2, 4, 7}, order[] = {0, 1, 2, 3}, group_offsets[] = {0, 4};
    static const uint8_t eligible[] = {1, 1, 1, 1};
    uint8_t keys[4 * 16] = {0}, verdicts[4];
    keys[0] = 1;
    qrft_texts texts = {(const uint8_t *)text, NULL, offsets, 4};
    qrft_groups groups = {order, group_offsets, NULL, 1};
    if (selection.keep != QRFT_KEEP_FARTHEST && selection.keep != QRFT_KEEP_RANDOM) texts.bytes = NULL;
    assert(qrft_paths_curate(&texts, &groups, eligible, keys, &selection, 1, verdicts, NULL) == QRFT_DONE);
    for (int i = 0; i < 4; i++) assert((verdicts[i] == QRFT_VERDICT_KEPT) == (kept[i] == '1'));
}

static void test_choices(void) {
    check_choice((qrft_selection){QRFT_KEEP_FIRST, 0, 0}, "1100");
    check_choice((qrft_selection){99, 0, 0}, "1100");
    check_choice((qrft_selection){-1, 0, 0}, "1100");
    check_choice((qrft_selection){QRFT_KEEP_SHORTEST, 1, 0}, "1000");
    check_choice((qrft_selection){QRFT_KEEP_LONGEST, -1, 0}, "1001");
    check_choice((qrft_selection){QRFT_KEEP_RANDOM, 0, 0}, "1100"); /* 0x8555.., 0xfa47.., 0xdf5f.. */
    check_choice((qrft_selection){QRFT_KEEP_ALL, INT64_MIN, 0}, "1111");
    check_choice((qrft_selection){QRFT_KEEP_FARTHEST, 0, 1}, "1100");
    check_choice((qrft_selection){QRFT_KEEP_FARTHEST, 0, INT64_MAX}, "1001");
    check_choice((qrft_selection){QRFT_KEEP_FARTHEST, 0, INT64_MIN}, "1001");
}

/* The header's figures hold because a buffer takes what is asked, rounded up, and not more when it grows. */
static void test_memory(void) {
    static const size_t SIZES[] = {0, 1, 64, 1000, 999, 2000, 100000};
    qrft_buffer buffer = {0};
    size_t largest = 0;
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        uint8_t *memory = buffer_reserve(&buffer, SIZES[i], 1);
        largest = SIZES[i] > largest ? SIZES[i] : largest;
        assert(memory && (uintptr_t)memory % 64 == 0);
        assert(buffer.capacity >= largest && buffer.capacity <= largest + 64);
        memset(memory, 1, buffer.capacity);
    }
    assert(!buffer_reserve(&buffer, SIZE_MAX, 1) && !buffer_reserve(&buffer, SIZE_MAX / 2, 3));
    buffer_free(&buffer);
}

static void check_known(const qrft_texts *questions, qrft_known *known) {
    assert(qrft_questions_read(questions, 1, known) == QRFT_DONE);
    assert(known->num_values >= 0 && known->num_values <= QRFT_MAX_KNOWN);
    for (int i = 0; i < known->num_values; i++) {
        assert(known->values[i] > 0 && known->values[i] < INT64_C(1) << 62);
        for (int j = 0; j < i; j++) assert(known->values[j] != known->values[i]);
    }
}

/* One text a column: its block ends where the text ends. */
static void check_in_format(const uint8_t *text, int64_t length, int format) {
    static outputs out, gold;
    int64_t offsets[2] = {0, length};
    qrft_texts texts = {text, NULL, offsets, 1};
    qrft_answers answers = answers_of(&gold);
    qrft_grades grades = grades_of(&out);
    static qrft_known known;
    const qrft_questions questions = {&known, NULL};
    options.answer_format = format;
    assert(qrft_answers_extract(&texts, &options, 1, &answers) == QRFT_DONE);
    check_known(&texts, &known); /* the text is its own question too */
    assert(qrft_texts_grade(&texts, &answers, NULL, &questions, &options, 1, &grades) == QRFT_DONE);
    assert(qrft_soundness_name(out.soundness[0]));
    assert(!options.paper_mode || out.soundness[0] == QRFT_SOUND_NOT_JUDGED);
    assert(out.correct[0] == (gold.statuses[0] == QRFT_ANSWER_OK));
    assert(out.starts[0] >= -1 && out.starts[0] <= out.ends[0] && out.ends[0] <= length);
    assert(qrft_numbers_parse(&texts, &options, 1, &answers) == QRFT_DONE);
}

static void check_text(const uint8_t *text, int64_t length) {
    options.marker = (const uint8_t *)"=> ";
    options.marker_length = 3;
    options.trace_opening = (const uint8_t *)"<think>";
    options.trace_opening_length = 7;
    options.trace_closing = (const uint8_t *)"</think>";
    options.trace_closing_length = 8;
    for (int format = 0; format < QRFT_NUM_FORMATS; format++) {
        check_in_format(text, length, format);
        options.trace_is_open = 1;
        check_in_format(text, length, format);
        options.trace_is_open = 0;
        options.trace_closing_length = 1; /* "<": found by a search of its own */
        check_in_format(text, length, format);
        options.trace_closing_length = 8;
    }
    options.answer_format = QRFT_FORMAT_GSM8K;
    assert(qrft_texts_distance(text, length, text, length) == 0);
}

/* A column of several, curated as one problem. */
static void check_column(const uint8_t *text, int64_t length) {
    static outputs out;
    uint8_t eligible[ROWS], verdicts[ROWS];
    int64_t order[ROWS], group_offsets[2] = {0, ROWS};
    int32_t offsets[ROWS + 1];
    for (int i = 0; i <= ROWS; i++) offsets[i] = (int32_t)(length * i / ROWS);
    for (int i = 0; i < ROWS; i++) {
        order[i] = i, eligible[i] = next_random() % 4 != 0, verdicts[i] = 99;
        memset(out.keys + 16 * i, (int)(next_random() % 3), 16);
    }
    qrft_texts texts = {text, offsets, NULL, ROWS};
    qrft_groups groups = {order, group_offsets, next_random() % 2 ? out.keys : NULL, 1};
    qrft_selection selection = {(int)(next_random() % 5), (int64_t)(next_random() % 4), 1 << 20};
    assert(qrft_paths_curate(&texts, &groups, eligible, out.keys, &selection, 2, verdicts, NULL) == QRFT_DONE);
    for (int i = 0; i < ROWS; i++) assert((verdicts[i] == 99) == !eligible[i]);
}

static void choose_rules(size_t choice) {
    options.paper_mode = choice % 5 == 4;
    options.equation_source = choice & 1 ? QRFT_EQUATIONS_ANYWHERE : QRFT_EQUATIONS_MARKED;
    options.key_order = choice & 2 ? QRFT_ORDER_COMMUTATIVE : QRFT_ORDER_EXACT;
}

static void test_made(void) {
    for (size_t round = 0; round < NUM_ROUNDS; round++) {
        int64_t length;
        choose_rules(round);
        uint8_t *text = make_text(&length);
        check_text(text, length);
        check_column(text, length);
        free(text);
    }
}

/* Deep, long or endless: each must end soon, and without a deep stack. */
static void test_long(void) {
    static const char *const UNITS[] = {"<<",
                                        "(",
                                        "#### ",
                                        "9",
                                        "<<(",
                                        "-",
                                        "1/3+",
                                        "#### a ",
                                        "0.0",
                                        "\xE2\x88",
                                        "\\boxed{",
                                        "answer is $",
                                        "=> (",
                                        "{",
                                        "\\frac{1",
                                        "2^",
                                        "1=",
                                        "x ",
                                        "<answer>",
                                        "</answer>",
                                        "<answer>5</answer>",
                                        "=0.5 ",
                                        "hundred ",
                                        "seven thirds ",
                                        "<<1+1=2>>#### 2 =0.2 ",
                                        "<<1+   2=3>>#### 3 "};
    const size_t size = 1 << 18;
    char *text = malloc(size + 2);
    for (size_t round = 0; round < 5 * sizeof UNITS / sizeof *UNITS; round++) {
        size_t i = round / 5;
        choose_rules(round);
        size_t unit = strlen(UNITS[i]);
        for (size_t at = 0; at < size; at++) text[at] = UNITS[i][at % unit];
        check_text((const uint8_t *)text, (int64_t)size);
        memcpy(text, "<<", 2);
        memcpy(text + size, ">>", 2);
        check_text((const uint8_t *)text, (int64_t)size + 2);
    }
    free(text);
}

/* A path of random symbols, or the one before it with some changed, so that distances of all sizes come. */
static int64_t make_path(uint32_t *symbols, const uint32_t *before, int64_t length, uint32_t num_symbols) {
    if (before && next_random() % 4 != 0) {
        int64_t used = 0, max_length = length;
        for (int64_t i = 0; i < max_length; i++) {
            if (next_random() % 16 != 0) symbols[used++] = before[i];
            if (next_random() % 16 == 0 && used < max_length) symbols[used++] = (uint32_t)(next_random() % num_symbols);
            if (used == max_length) break;
        }
        return used;
    }
    for (int64_t i = 0; i < length; i++) symbols[i] = (uint32_t)(next_random() % num_symbols);
    return length;
}

#define MAX_PATH 700

/* Every kind of vectors gives the distances that one pair at a time gives, and bounds do what they promise. */
static void check_lanes(qrft_distancer *distancer, uint64_t *masks, uint64_t *lanes_state, enum vector_kind kind) {
    static const int64_t LENGTHS[] = {0, 1, 63, 64, 65, 100, 127, 128, 129, 130, 300, MAX_PATH};
    static uint32_t symbols[QRFT_LANES + 1][MAX_PATH];
    const uint32_t num_symbols = 20;
    qrft_lanes lanes;
    qrft_path path = {NULL, 0};
    lanes_begin(&lanes, masks, lanes_state, num_symbols);
    int num_lanes = 1 + (int)(next_random() % QRFT_LANES);
    for (int lane = 0; lane < num_lanes; lane++) {
        int64_t length = LENGTHS[next_random() % (sizeof LENGTHS / sizeof *LENGTHS)];
        const uint32_t *before = length <= path.length ? path.symbols : NULL;
        path = (qrft_path){symbols[lane], make_path(symbols[lane], before, length, num_symbols)};
        lanes_add(&lanes, path);
    }
    int64_t length = LENGTHS[next_random() % (sizeof LENGTHS / sizeof *LENGTHS)];
    const uint32_t *before = length <= path.length ? path.symbols : NULL;
    qrft_path text = {symbols[num_lanes], make_path(symbols[num_lanes], before, length, num_symbols)};
    int64_t bound = (int64_t)(next_random() % 2 ? next_random() % 150 : 2 * MAX_PATH), distances[QRFT_LANES];
    lanes_distances(&lanes, kind, text, bound, distances);
    for (int lane = 0; lane < num_lanes; lane++) {
        int64_t exact = distancer_distance(distancer, text, lanes.paths[lane]);
        assert(distances[lane] == exact || (distances[lane] > exact && exact > bound));
    }
    lanes_clear(&lanes);
}

static void test_lanes(void) {
    qrft_distancer distancer = {0};
    qrft_buffer masks_buffer = {0}, state_buffer = {0};
    size_t num_words = (size_t)lanes_num_words(MAX_PATH), num_masks = num_words * 20 * QRFT_LANES;
    uint64_t *masks = buffer_reserve(&masks_buffer, num_masks, sizeof *masks);
    uint64_t *lanes_state = buffer_reserve(&state_buffer, num_words * 2 * QRFT_LANES, sizeof *lanes_state);
    assert(masks && lanes_state && distancer_begin(&distancer, 20, MAX_PATH));
    memset(masks, 0, num_masks * sizeof *masks);
    for (int kind = 0; kind < NUM_VECTOR_KINDS; kind++) {
        if (!cpu_has((enum vector_kind)kind)) continue;
        printf("native: lanes of kind %d\n", kind);
        for (int round = 0; round < 3000; round++) check_lanes(&distancer, masks, lanes_state, (enum vector_kind)kind);
    }
    for (size_t i = 0; i < num_masks; i++) assert(masks[i] == 0);
    buffer_free(&masks_buffer);
    buffer_free(&state_buffer);
    distancer_free(&distancer);
}

int main(void) {
    test_known();
    test_choices();
    test_memory();
    test_made();
    test_long();
    test_lanes();
    puts("native: all passed");
    return 0;
}
