/* Whether a right path is sound: docs/semantics.md, "Sound paths". */
#ifndef QRFT_SOUNDNESS_H
#define QRFT_SOUNDNESS_H

#include "answer/answer.h"
#include "equation/list.h"
#include "qrft.h"
#include "sound/path.h"

/* How many equations of a text the list must keep, if there are as many. */
#define SOUNDNESS_MAX_KEPT PATH_MAX_STEPS

/*
 * Follows the path of a text that answers the question, by its equations, which are right, and its answer. traces: the
 * options that name its traces, whose equations don't count; NULL where there are none.
 */
enum qrft_soundness soundness_of(qrft_cursor text, const qrft_known *question, const qrft_equations *equations,
                                 const qrft_answer *answer, const qrft_options *traces);

#endif
