/*
 * libFuzzer: any bytes, under any options, are graded inside their bounds, and every result is one that the header
 * allows. The input's first byte chooses the options; a marker, where there is one, is the text's first three bytes.
 * The text lies in a block of its own size, so that ASan sees a read outside it.
 *
 * Outside mode paper the tags of traces are those of the rules' default.
 *
 * The first byte of a kept input means the same for ever, whatever formats are added:
 *
 *     bit   7       6 5        4      3       2 1 0
 *           paper   format's   order  source  format's    the enumerators' own numbers;
 *           mode    high bits                 low bits    in mode paper the rest of the byte counts for nothing
 */
#undef NDEBUG
#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "qrft.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
    int64_t start, end;
    uint8_t status, correct, equations, key[16], source, soundness;
    int32_t count;
} grade;

static bool may_be_sound(const grade *result, const qrft_options *options) {
    bool is_right = result->status == QRFT_ANSWER_OK || result->status == QRFT_ANSWER_EXPRESSION;
    return !options->paper_mode && is_right && result->equations == QRFT_EQUATION_OK;
}

static grade grade_text(const qrft_texts *texts, const qrft_options *options) {
    grade result;
    int64_t gold_index = 0, gold_start, gold_end;
    uint8_t gold_status;
    qrft_value gold_value;
    qrft_answers gold = {&gold_start, &gold_end, &gold_status, &gold_value};
    qrft_grades grades = {&result.start,     &result.end, &result.status, &result.correct,  &result.count,
                          &result.equations, result.key,  &result.source, &result.soundness};
    qrft_known known;
    const qrft_questions questions = {&known, NULL};
    assert(qrft_questions_read(texts, 1, &known) == QRFT_DONE);
    assert(qrft_answers_extract(texts, options, 1, &gold) == QRFT_DONE);
    assert(qrft_texts_grade(texts, &gold, &gold_index, &questions, options, 1, &grades) == QRFT_DONE);
    assert(result.start == gold_start && result.end == gold_end && result.status == gold_status);
    assert(result.correct == (gold_status == QRFT_ANSWER_OK)); /* it is its own gold answer, and its own question */
    assert((result.soundness == QRFT_SOUND_NOT_JUDGED) == !may_be_sound(&result, options));
    return result;
}

/* False for a format that does not exist yet: such an input reaches nothing, so that the fuzzer keeps none of them. */
static bool read_options(uint8_t byte, qrft_options *options) {
    *options = (qrft_options){.paper_mode = byte >> 7};
    if (options->paper_mode) return true;
    options->answer_format = (byte & 7) | (byte >> 2 & 24);
    options->equation_source = byte >> 3 & 1;
    options->key_order = byte >> 4 & 1;
    static const uint8_t OPENING[] = "<think>", CLOSING[] = "</think>";
    options->trace_opening = OPENING;
    options->trace_opening_length = sizeof OPENING - 1;
    options->trace_closing = CLOSING;
    options->trace_closing_length = sizeof CLOSING - 1;
    return options->answer_format < QRFT_NUM_FORMATS;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    qrft_options options;
    if (size == 0 || !read_options(data[0], &options)) return 0;
    size_t length = size - 1;
    uint8_t *text = malloc(length ? length : 1);
    assert(text);
    memcpy(text, data + 1, length);
    options.marker = text;
    options.marker_length = length < 3 ? (int64_t)length : 3;
    int64_t offsets[2] = {0, (int64_t)length};
    qrft_texts texts = {text, NULL, offsets, 1};
    grade result = grade_text(&texts, &options);
    bool answer_open = options.paper_mode && result.status == QRFT_ANSWER_UNDECIDED;
    bool equations_open = options.paper_mode && result.equations == QRFT_EQUATION_UNDECIDED;
    assert(answer_open || qrft_answer_status_name(result.status));
    assert(qrft_path_source_name(result.source) && (result.source == QRFT_PATH_EQUATIONS || result.count == 0));
    assert(qrft_soundness_name(result.soundness));
    assert(result.soundness != QRFT_SOUND || result.count > 0 || result.source == QRFT_PATH_RUNNING_TEXT);
    assert(equations_open || qrft_equation_status_name(result.equations));
    assert((result.start == -1 && result.end == -1) || (0 <= result.start && result.start <= result.end));
    assert(result.end <= (int64_t)length && result.count >= 0);
    free(text);
    return 0;
}
