#include <stddef.h>

#include "equation/scan.h"
#include "soundness.h"
#include "text/trace.h"

/* Follows the equations that the rules found, and nothing else. */
static void follow_equations(qrft_path *path, const qrft_equations *equations) {
    for (int32_t i = 0; i < equations->count && path->fault == QRFT_SOUND; i++) {
        path_count(path);
        if (i < equations->max_kept) path_take(path, equations->kept[i].text, false);
    }
}

static int marks_before(qrft_cursor stretch, const uint8_t *at) {
    return at - stretch.at >= 2 && at[-1] == '<' && at[-2] == '<' ? 2 : 0;
}

/* Follows all equations of a stretch, and what its running text says; skips_wrong: a wrong one is running text. */
static void follow_stretch(qrft_path *path, qrft_cursor stretch, bool skips_wrong) {
    qrft_equation kept[SOUNDNESS_MAX_KEPT];
    qrft_equations all = {.kept = kept, .max_kept = SOUNDNESS_MAX_KEPT};
    equations_find_all(&all, stretch);
    const uint8_t *at = stretch.at;
    bool follows_mark = false;
    for (int32_t i = 0; i < all.count && path->fault == QRFT_SOUND; i++) {
        path_count(path);
        if (i >= all.max_kept) continue;
        const qrft_equation *equation = &kept[i];
        if (equation->status != QRFT_EQUATION_OK) {
            if (!skips_wrong) path_blame(path, QRFT_UNSOUND_WRONG_EQUATION);
            continue;
        }
        int marks = marks_before(stretch, equation->text.at);
        qrft_cursor before = {at, equation->text.at - marks};
        path_take_text(path, before, follows_mark);
        path_take(path, equation->text, path_ends_in_equals(before));
        at = equation->text.end + marks;
        follows_mark = marks > 0;
    }
    if (path->fault == QRFT_SOUND) path_take_text(path, (qrft_cursor){at, stretch.end}, follows_mark);
}

enum qrft_soundness soundness_of(qrft_cursor text, const qrft_known *question, const qrft_equations *equations,
                                 const qrft_answer *answer, const qrft_options *traces) {
    int64_t value = answer->status == QRFT_ANSWER_OK ? millionths_of(answer->value) : NO_NUMBER;
    qrft_path path;
    path_begin(&path, question);
    follow_equations(&path, equations);
    enum qrft_soundness alone = path_status(&path, value);
    bool is_decided = alone == QRFT_UNSOUND_REPEATED || alone == QRFT_UNSOUND_TOO_LONG;
    if (alone == QRFT_SOUND || is_decided) return alone; /* nearly always */
    path_begin(&path, question);
    bool has_equations = alone != QRFT_UNSOUND_NO_EQUATIONS;
    qrft_stretches walk = stretches_of(text.at, text.end, traces);
    for (qrft_cursor stretch; stretches_next(&walk, &stretch);) follow_stretch(&path, stretch, has_equations);
    enum qrft_soundness whole = path_status(&path, value);
    return whole == QRFT_SOUND || !has_equations ? whole : alone;
}
