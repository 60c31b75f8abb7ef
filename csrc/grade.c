/* The pass over a column of texts: answers, equations, keys. */
#include <string.h>

#include "answer/find.h"
#include "equation/scan.h"
#include "sound/known.h"
#include "soundness.h"
#include "text/column.h"
#include "text/parallel.h"
#include "text/trace.h"

/* About 0.2 ms of work a range: small enough to share well, large enough that taking one costs nothing. */
#define GRAIN 1024

/* -------------------------------------------------------------------------------------------------- the names ---- */

const char *qrft_answer_status_name(int status) {
    switch (status) {
    case QRFT_ANSWER_OK:
        return "ok";
    case QRFT_ANSWER_NO_MARKER:
        return "no_marker";
    case QRFT_ANSWER_NOT_A_NUMBER:
        return "not_a_number";
    case QRFT_ANSWER_TOO_BIG:
        return "too_big";
    case QRFT_ANSWER_EXPRESSION:
        return "expression";
    case QRFT_ANSWER_OPEN_TRACE:
        return "open_trace";
    default:
        return NULL;
    }
}

const char *qrft_equation_status_name(int status) {
    switch (status) {
    case QRFT_EQUATION_OK:
        return "ok";
    case QRFT_EQUATION_WRONG:
        return "wrong";
    case QRFT_EQUATION_MALFORMED:
        return "malformed";
    case QRFT_EQUATION_TOO_DEEP:
        return "too_deep";
    case QRFT_EQUATION_UNCLOSED:
        return "unclosed";
    case QRFT_EQUATION_EMPTY:
        return "empty";
    case QRFT_EQUATION_DIVISION_BY_ZERO:
        return "division_by_zero";
    case QRFT_EQUATION_OVERFLOW:
        return "overflow";
    case QRFT_EQUATION_FRACTIONAL_POWER:
        return "fractional_power";
    default:
        return NULL;
    }
}

const char *qrft_path_source_name(int source) {
    switch (source) {
    case QRFT_PATH_EQUATIONS:
        return "equations";
    case QRFT_PATH_RUNNING_TEXT:
        return "running_text";
    case QRFT_PATH_TEXT:
        return "text";
    default:
        return NULL;
    }
}

const char *qrft_soundness_name(int soundness) {
    switch (soundness) {
    case QRFT_SOUND:
        return "sound";
    case QRFT_UNSOUND_UNKNOWN_NUMBER:
        return "unknown_number";
    case QRFT_UNSOUND_UNUSED_RESULT:
        return "unused_result";
    case QRFT_UNSOUND_REPEATED:
        return "repeated";
    case QRFT_UNSOUND_OTHER_RESULT:
        return "other_result";
    case QRFT_UNSOUND_WRONG_EQUATION:
        return "wrong_equation";
    case QRFT_UNSOUND_NO_EQUATIONS:
        return "no_equations";
    case QRFT_UNSOUND_TOO_LONG:
        return "too_long";
    case QRFT_SOUND_NOT_JUDGED:
        return "not_judged";
    default:
        return NULL;
    }
}

/* ---------------------------------------------------------------------------------------------------- answers ---- */

typedef qrft_answer (*answer_reader)(const uint8_t *text, const uint8_t *end, const qrft_options *options);

typedef struct {
    const qrft_texts *texts;
    const qrft_options *options;
    answer_reader read;
    qrft_answers *answers;
} answers_job;

static qrft_value value_of(const qrft_answer *answer) {
    if (answer->status != QRFT_ANSWER_OK) return (qrft_value){0, 0, 0, 0};
    u128 n = (u128)answer->value.n, d = (u128)answer->value.d;
    return (qrft_value){(uint64_t)n, (uint64_t)(n >> 64), (uint64_t)d, (uint64_t)(d >> 64)};
}

static bool answers_range(void *context, int64_t first, int64_t last) {
    const answers_job *job = context;
    for (int64_t i = first; i < last; i++) {
        qrft_cursor text = text_at(job->texts, i);
        qrft_answer answer = job->read(text.at, text.end, job->options);
        job->answers->starts[i] = answer.start ? answer.start - text.at : -1;
        job->answers->ends[i] = answer.start ? answer.end - text.at : -1;
        job->answers->statuses[i] = (uint8_t)answer.status;
        job->answers->values[i] = value_of(&answer);
    }
    return true;
}

int qrft_answers_extract(const qrft_texts *texts, const qrft_options *options, int num_threads, qrft_answers *answers) {
    answer_reader find = traces_are_known(options) ? answer_find_behind_traces : answer_find;
    answers_job job = {texts, options, find, answers};
    return parallel_run(answers_range, &job, texts->num_texts, GRAIN, num_threads);
}

int qrft_numbers_parse(const qrft_texts *texts, const qrft_options *options, int num_threads, qrft_answers *answers) {
    answers_job job = {texts, options, answer_read, answers};
    return parallel_run(answers_range, &job, texts->num_texts, GRAIN, num_threads);
}

/* -------------------------------------------------------------------------------------------------- questions ---- */

typedef struct {
    const qrft_texts *questions;
    qrft_words words;
    qrft_known *known;
} questions_job;

static bool questions_range(void *context, int64_t first, int64_t last) {
    const questions_job *job = context;
    for (int64_t i = first; i < last; i++) known_read(&job->known[i], text_at(job->questions, i), &job->words);
    return true;
}

int qrft_questions_read(const qrft_texts *questions, int num_threads, qrft_known *known) {
    questions_job job = {.questions = questions, .known = known};
    words_index(&job.words);
    return parallel_run(questions_range, &job, questions->num_texts, GRAIN, num_threads);
}

/* ------------------------------------------------------------------------------------------------------ grade ---- */

typedef struct {
    const qrft_texts *texts;
    const qrft_answers *gold;
    const int64_t *gold_index;
    const qrft_questions *questions; /* NULL: not asked for */
    const qrft_options *options;
    qrft_grades *grades;
} grade_job;

static bool is_correct(const grade_job *job, int64_t row, const qrft_answer *answer) {
    int64_t gold = job->gold_index ? job->gold_index[row] : row;
    if (answer->status != QRFT_ANSWER_OK || gold < 0 || job->gold->statuses[gold] != QRFT_ANSWER_OK) return false;
    qrft_value value = value_of(answer);
    return memcmp(&value, &job->gold->values[gold], sizeof value) == 0;
}

/* Whether the answer may be right: it is, or it is left to whoever compares expressions. */
static bool may_be_correct(const grade_job *job, int64_t row, const qrft_answer *answer) {
    if (job->grades->is_correct[row] || answer->status == QRFT_ANSWER_EXPRESSION) return true;
    int64_t gold = job->gold_index ? job->gold_index[row] : row;
    return answer->status == QRFT_ANSWER_OK && gold >= 0 && job->gold->statuses[gold] == QRFT_ANSWER_EXPRESSION;
}

static enum qrft_soundness judge_path(const grade_job *job, int64_t row, qrft_cursor text, const qrft_equations *list,
                                      const qrft_answer *answer, bool has_traces) {
    const qrft_options *traces = has_traces && !job->options->trace_equations ? job->options : NULL;
    bool is_right = !job->options->paper_mode && list->status == QRFT_EQUATION_OK && may_be_correct(job, row, answer);
    if (!is_right) return QRFT_SOUND_NOT_JUDGED;
    int64_t question = job->questions->index ? job->questions->index[row] : row;
    return soundness_of(text, &job->questions->known[question], list, answer, traces);
}

static void grade_row(const grade_job *job, int64_t row) {
    const qrft_grades *grades = job->grades;
    qrft_cursor text = text_at(job->texts, row);
    qrft_equation kept[SOUNDNESS_MAX_KEPT];
    qrft_equations list;
    list.kept = job->questions ? kept : NULL;
    list.max_kept = SOUNDNESS_MAX_KEPT;
    bool has_traces = equations_check(&list, text.at, text.end, job->options);
    qrft_answer answer = has_traces ? answer_find_behind_traces(text.at, text.end, job->options)
                                    : answer_find(text.at, text.end, job->options);
    grades->answer_starts[row] = answer.start ? answer.start - text.at : -1;
    grades->answer_ends[row] = answer.start ? answer.end - text.at : -1;
    grades->answer_statuses[row] = (uint8_t)answer.status;
    grades->is_correct[row] = is_correct(job, row, &answer);
    grades->num_equations[row] = list.count;
    grades->equation_statuses[row] = (uint8_t)list.status;
    grades->path_sources[row] = (uint8_t)list.source;
    if (job->questions) grades->soundness[row] = (uint8_t)judge_path(job, row, text, &list, &answer, has_traces);
    hash_end(&list.hash, grades->equation_keys + 16 * row);
}

static bool grade_range(void *context, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) grade_row(context, row);
    return true;
}

int qrft_texts_grade(const qrft_texts *texts, const qrft_answers *gold, const int64_t *gold_index,
                     const qrft_questions *questions, const qrft_options *options, int num_threads,
                     qrft_grades *grades) {
    grade_job job = {texts, gold, gold_index, questions, options, grades};
    return parallel_run(grade_range, &job, texts->num_texts, GRAIN, num_threads);
}
