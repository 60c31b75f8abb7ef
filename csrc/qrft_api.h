/*
 * The C core of qrft: every declaration, with its contract. docs/semantics.md says what the answers mean.
 *
 * This file is read by the C compiler (through qrft.h) and by cffi, so it holds declarations and comments only.
 *
 * Every function here
 *   - takes texts of any bytes: invalid UTF-8, NUL bytes and empty texts are input like any other;
 *   - never reads outside the bytes that the caller describes, and never writes outside the output arrays;
 *   - keeps no state between calls, uses no locale, and may be called from many threads at once;
 *   - takes time linear in the bytes of its texts, except where a larger bound is stated.
 * A pointer must not be NULL, and must be aligned for its type, except where NULL is mentioned.
 */

/* ---------------------------------------------------------------------------------------------------- texts ---- */

/*
 * A column of texts in Arrow's layout: text i is bytes[offsets[i]] up to, not including, bytes[offsets[i + 1]].
 * Exactly one of offsets32 and offsets64 is set, the other is NULL; it points at num_texts + 1 offsets that do not
 * decrease. A slice of a column is the same bytes with a later offsets pointer. bytes may be NULL when all are empty.
 */
typedef struct {
    const uint8_t *bytes;
    const int32_t *offsets32;
    const int64_t *offsets64;
    int64_t num_texts;
} qrft_texts;

/* What the functions return. */
enum {
    QRFT_DONE = 0,
    QRFT_NO_MEMORY = 1, /* outputs are then undefined, and nothing is leaked */
    QRFT_NOT_FINITE = 2 /* qrft_tokens_pick only */
};

/* -------------------------------------------------------------------------------------------------- options ---- */

/*
 * Where a text's answer stands. docs/semantics.md defines each. A new format gets the next number: the inputs that the
 * fuzzer kept hold these.
 */
enum qrft_answer_format {
    QRFT_FORMAT_GSM8K = 0,       /* after #### */
    QRFT_FORMAT_BOXED = 1,       /* in \boxed{} */
    QRFT_FORMAT_ANSWER_IS = 2,   /* after "The answer is" and the like */
    QRFT_FORMAT_LAST_NUMBER = 3, /* the last number */
    QRFT_FORMAT_AUTO = 4,        /* the first that finds an answer: of ANSWER_TAG and these four, in this order */
    QRFT_FORMAT_MARKER = 5,      /* after the marker that the options name */
    QRFT_FORMAT_ANSWER_TAG = 6,  /* between <answer> and </answer> */
    QRFT_NUM_FORMATS = 7         /* how many there are */
};

/* Which equations a text has. */
enum qrft_equation_source {
    QRFT_EQUATIONS_MARKED = 0,  /* those between << and >> */
    QRFT_EQUATIONS_ANYWHERE = 1 /* those too that stand in running text, such as 12 + 5 = 17 */
};

/* When two equation lists have the same key. */
enum qrft_key_order {
    QRFT_ORDER_EXACT = 0,      /* the same texts in the same order */
    QRFT_ORDER_COMMUTATIVE = 1 /* the same after the operands of + and * have been sorted */
};

/* How to judge. All zero, and marker NULL, is the default. */
typedef struct {
    int paper_mode;      /* not 0: decide as the paper's script does; the fields below are then not read */
    int answer_format;   /* enum qrft_answer_format; an unknown number counts as 0, as for the next two */
    int equation_source; /* enum qrft_equation_source */
    int key_order;       /* enum qrft_key_order */
    /*
     * For QRFT_FORMAT_MARKER; NULL or empty: no text has an answer. Any bytes. A text of n bytes takes O(n) for a
     * marker whose first byte is rare in it, and O(n * marker_length) at worst.
     */
    const uint8_t *marker;
    int64_t marker_length; /* in bytes; negative counts as 0 */
    /* The tags of reasoning traces, any bytes; a NULL or empty one: texts have no traces. */
    const uint8_t *trace_opening;
    int64_t trace_opening_length;
    const uint8_t *trace_closing;
    int64_t trace_closing_length;
    int trace_is_open;   /* not 0: every text begins inside a trace, which its prompt opened */
    int trace_equations; /* not 0: equations inside traces count as others do */
} qrft_options;

/* -------------------------------------------------------------------------------------------------- answers ---- */

enum qrft_answer_status {
    QRFT_ANSWER_OK = 0,
    QRFT_ANSWER_NO_MARKER = 1,    /* nothing of the format in the text */
    QRFT_ANSWER_NOT_A_NUMBER = 2, /* no answer where one should stand */
    QRFT_ANSWER_TOO_BIG = 3,      /* a number whose numerator or denominator needs more than 127 bits */
    QRFT_ANSWER_EXPRESSION = 4,   /* an answer, but no number: \sqrt{2}, (3, 4), 10 - 3 */
    QRFT_ANSWER_OPEN_TRACE = 5,   /* the text ends inside a trace, so it has no answer */
    QRFT_ANSWER_UNDECIDED = 255   /* paper_mode only, and no name: the caller has to decide the text */
};

/* The name of a status ("ok", "no_marker" ...), or NULL for a number that is none. A static string. */
const char *qrft_answer_status_name(int status);

/*
 * An exact value: numerator / denominator in lowest terms, two 128-bit two's complement integers in halves, the
 * denominator positive. In paper_mode a double: its bits as the numerator, never those of -0.0 or NaN, and the
 * denominator -2^127. Two values are equal exactly when their 32 bytes are. All zero: no value.
 */
typedef struct {
    uint64_t numerator_low;
    uint64_t numerator_high;
    uint64_t denominator_low;
    uint64_t denominator_high;
} qrft_value;

/*
 * Where each text's answer lies and what it is worth. Each pointer has room for num_texts entries.
 * The span is in bytes of the text, and -1, -1 for QRFT_ANSWER_NO_MARKER and QRFT_ANSWER_OPEN_TRACE. For
 * QRFT_ANSWER_NOT_A_NUMBER it is what stands there instead: the rest of the line, or the content of the box; in
 * paper_mode the run of digits, points and commas, with its minus.
 */
typedef struct {
    int64_t *starts;
    int64_t *ends;
    uint8_t *statuses;
    qrft_value *values; /* all zero where the status is not QRFT_ANSWER_OK */
} qrft_answers;

/* Finds the answer of each text. */
int qrft_answers_extract(const qrft_texts *texts, const qrft_options *options, int num_threads, qrft_answers *answers);

/* Reads each text as what would follow a marker or stand in a box, such as the gold answers "72" or "$1,000". */
int qrft_numbers_parse(const qrft_texts *texts, const qrft_options *options, int num_threads, qrft_answers *answers);

/* ------------------------------------------------------------------------------------------------ equations ---- */

/*
 * Also the status of a text: its first equation's trouble in text order, or QRFT_EQUATION_OK. In paper_mode a wrong
 * equation comes before the undecided ones.
 */
enum qrft_equation_status {
    QRFT_EQUATION_OK = 0,
    QRFT_EQUATION_WRONG = 1,            /* the sides differ */
    QRFT_EQUATION_MALFORMED = 2,        /* not in the grammar */
    QRFT_EQUATION_TOO_DEEP = 3,         /* more than QRFT_MAX_DEPTH open brackets and exponents */
    QRFT_EQUATION_UNCLOSED = 4,         /* << without >> before the next << or the end */
    QRFT_EQUATION_EMPTY = 5,            /* nothing but white space between << and >> */
    QRFT_EQUATION_DIVISION_BY_ZERO = 6, /* also of a power: 0^-1 */
    QRFT_EQUATION_OVERFLOW = 7,         /* an intermediate value needs more than 127 bits */
    QRFT_EQUATION_FRACTIONAL_POWER = 8, /* an exponent that is no whole number */
    QRFT_EQUATION_UNDECIDED = 255       /* paper_mode only, and no name: the caller has to decide the text */
};

/*
 * A level of brackets costs three C frames, together under 1 KiB; 64 levels fit in the smallest thread stack in
 * use (musl's 128 KiB). The deepest equation of GSM8K has 2.
 */
#define QRFT_MAX_DEPTH 64

/* The name of a status ("ok", "wrong" ...), or NULL for a number that is none. A static string. */
const char *qrft_equation_status_name(int status);

/* ---------------------------------------------------------------------------------------------------- grade ---- */

/* What a text's key was made from, which tells its path from others. */
enum qrft_path_source {
    QRFT_PATH_EQUATIONS = 0,    /* its equations, by the options; in paper_mode always */
    QRFT_PATH_RUNNING_TEXT = 1, /* it has none, but there are some in its running text */
    QRFT_PATH_TEXT = 2          /* its words: it holds no equation at all */
};

/* The name of a source ("equations" ...), or NULL for a number that is none. A static string. */
const char *qrft_path_source_name(int source);

/*
 * Whether what leads to an answer does, or the first thing that speaks against it. docs/semantics.md defines each under
 * "Sound paths".
 */
enum qrft_soundness {
    QRFT_SOUND = 0,
    QRFT_UNSOUND_UNKNOWN_NUMBER = 1, /* an operand is neither in the question nor derived */
    QRFT_UNSOUND_UNUSED_RESULT = 2,  /* a result is neither used nor the answer */
    QRFT_UNSOUND_REPEATED = 3,       /* an equation stands there again without need */
    QRFT_UNSOUND_OTHER_RESULT = 4,   /* the last result is not the answer */
    QRFT_UNSOUND_WRONG_EQUATION = 5, /* one of running text that the rules leave out, where there are no others */
    QRFT_UNSOUND_NO_EQUATIONS = 6,
    QRFT_UNSOUND_TOO_LONG = 7, /* it has more steps or numbers than are followed */
    QRFT_SOUND_NOT_JUDGED = 8  /* its answer or an equation is wrong, or there is no answer */
};

/* The name of a soundness ("sound", "unknown_number" ...), or NULL for a number that is none. A static string. */
const char *qrft_soundness_name(int soundness);

#define QRFT_MAX_KNOWN 28

/* The numbers that a question says, in digits and in words, and those that go without saying, in millionths. */
typedef struct {
    uint64_t counted[4]; /* the whole numbers below 256, bit by bit */
    int64_t values[QRFT_MAX_KNOWN];
    int32_t num_values;
    int32_t is_full; /* not 0: it says more; then its paths are too long */
} qrft_known;

/* Reads each question; known has room for num_texts entries. */
int qrft_questions_read(const qrft_texts *questions, int num_threads, qrft_known *known);

/* The questions that the texts answer: text i the one of known[index[i]], which must exist; index NULL: of known[i]. */
typedef struct {
    const qrft_known *known;
    const int64_t *index;
} qrft_questions;

/* One entry (for keys: 16 bytes) per text. num_equations stops counting at INT32_MAX. */
typedef struct {
    int64_t *answer_starts;
    int64_t *answer_ends;
    uint8_t *answer_statuses;
    uint8_t *is_correct; /* 1 when both answers are numbers and equal, else 0 */
    int32_t *num_equations;
    uint8_t *equation_statuses;
    uint8_t *equation_keys;
    uint8_t *path_sources;
    uint8_t *soundness; /* written where there are questions; without them it may be NULL */
} qrft_grades;

/*
 * Grades every text: its answer against the gold answer, its equations, the key of its path.
 * gold: statuses and values from qrft_numbers_parse; its starts and ends are not read and may be NULL.
 * gold_index: text i is compared with gold entry gold_index[i], which must exist; a negative index stands for no
 * gold answer, and then nothing is correct. NULL: with gold entry i.
 * questions: NULL when it is not asked whether the paths are sound. In paper_mode none is judged.
 * num_threads below 1 counts as 1. When threads can't be had, fewer do the same work.
 */
int qrft_texts_grade(const qrft_texts *texts, const qrft_answers *gold, const int64_t *gold_index,
                     const qrft_questions *questions, const qrft_options *options, int num_threads,
                     qrft_grades *grades);

/* --------------------------------------------------------------------------------------------------- curate ---- */

/*
 * Which of a group's eligible rows with equal keys is kept. Of equally good ones the first. An unknown number counts as
 * QRFT_KEEP_FIRST. The texts' bytes are read for QRFT_KEEP_FARTHEST and QRFT_KEEP_RANDOM only, their offsets also for
 * the lengths.
 */
enum qrft_keep {
    QRFT_KEEP_FIRST = 0,    /* the first */
    QRFT_KEEP_FARTHEST = 1, /* the paper's rule: a later one replaces it if it lies farther from the other kept paths */
    QRFT_KEEP_SHORTEST = 2, /* the one of the fewest bytes */
    QRFT_KEEP_LONGEST = 3,  /* the one of the most bytes */
    QRFT_KEEP_RANDOM = 4,   /* the one whose text's hash is the least: any of the different texts, in whatever order */
    QRFT_KEEP_ALL = 5       /* every eligible row; neither keys nor gold keys are read, and may be NULL */
};

enum qrft_verdict {
    QRFT_VERDICT_KEPT = 0,
    QRFT_VERDICT_DUPLICATE = 1,         /* another row with this key was chosen */
    QRFT_VERDICT_DUPLICATE_OF_GOLD = 2, /* the gold solution has this key */
    QRFT_VERDICT_OVER_LIMIT = 3         /* chosen, but the group has max_per_group kept rows before it */
};

typedef struct {
    int keep;              /* enum qrft_keep */
    int64_t max_per_group; /* the first so many of the chosen rows are kept; 0 or negative: all */
    int64_t max_cells;     /* for QRFT_KEEP_FARTHEST: see qrft_paths_curate; 0 or negative: no limit */
} qrft_selection;

/*
 * Rows by problem. Group g holds the rows order[group_offsets[g]] ... order[group_offsets[g + 1] - 1], in the
 * order in which the samples count; a row is in one group at most. group_offsets holds num_groups + 1 offsets that do
 * not decrease.
 */
typedef struct {
    const int64_t *order;
    const int64_t *group_offsets;
    const uint8_t *gold_keys; /* 16 bytes per group, or NULL: no key is taken beforehand */
    int64_t num_groups;
} qrft_groups;

/*
 * Chooses the kept rows of each group. eligible[i] != 0: row i may be kept (right answer, right equations). keys:
 * 16 bytes per row. verdicts[i] is written for eligible rows of a group, and left alone for the others. first_rows[i]
 * is written for chosen rows: the first row with i's key, or i itself when keys are not read. NULL: not wanted.
 *
 * A group costs time linear in its rows, and with QRFT_KEEP_FARTHEST and QRFT_KEEP_RANDOM in the bytes of its eligible
 * texts; with QRFT_KEEP_FARTHEST also its comparisons and the clearing of the memory for them that it is the first to
 * need. Keys from qrft_texts_grade are hashes; chosen ones can cost up to rows * keys.
 *
 * A row costs (its length + that of the row kept for its key, if there is one) * (sum of the lengths of the rows kept
 * for other keys) cells, in code points, each length counted as at least 64. From the first row on that would bring its
 * group over max_cells, nothing is replaced any more. 2^40 cells take about 5 seconds with AVX-512, up to 25 when the
 * texts are shorter than 200 code points, and up to 90 in a group of more than 2,896 keys or of texts that need more
 * than 64 MiB of masks.
 *
 * Memory per thread: about 100 bytes per row of the largest group; with QRFT_KEEP_FARTHEST also 5 for each byte of its
 * eligible texts, and at most 150 MiB for comparing.
 */
int qrft_paths_curate(const qrft_texts *texts, const qrft_groups *groups, const uint8_t *eligible, const uint8_t *keys,
                      const qrft_selection *selection, int num_threads, uint8_t *verdicts, int64_t *first_rows);

/*
 * The Levenshtein distance between two texts, in Unicode code points; a byte that is no part of valid UTF-8 counts
 * as a code point of its own. Takes up to (shorter / 64 + 1) * longer steps of about 4 ns, where these are the two
 * lengths, and reads both texts; 5 bytes of memory for each byte, and up to 14 MB more for characters beyond ASCII. -1
 * when there is no memory.
 */
int64_t qrft_texts_distance(const uint8_t *a, int64_t a_length, const uint8_t *b, int64_t b_length);

/* ----------------------------------------------------------------------------------------------------- pick ---- */

/*
 * Rows of num_vocab logits each: row i is values[rows[i] * num_vocab] and those after it; rows NULL: row i is the i-th.
 * num_vocab is 1 to INT32_MAX. -inf stands for a token that can't be picked.
 */
typedef struct {
    const float *values;
    const int32_t *rows;
    int64_t num_rows;
    int64_t num_vocab;
} qrft_logits;

/* How tokens are picked. The filters apply in this order, with the meaning that transformers' processors give them. */
typedef struct {
    double temperature; /* 0, less or NaN: the most likely token, of equals the first; the filters are not read */
    int64_t top_k;      /* only the top_k most likely, and all that equal the last of them; 0 or less: off */
    double top_p;       /* only the most likely whose sum reaches top_p; of equals the last; 1, more or NaN: off */
    double min_p;       /* only those at least min_p times as likely as the most likely one; 0, less or NaN: off */
    const double *temperatures; /* of each row, instead of temperature; NULL: that one for all */
} qrft_picking;

/* Row i is decided by number positions[i] of the stream keys[i], as qrft/sampling/backends/streams.py makes them. */
typedef struct {
    const uint64_t *keys;
    const int64_t *positions;
} qrft_streams;

/* The bytes of scratch that qrft_tokens_pick needs. */
int64_t qrft_tokens_scratch(int64_t num_vocab, int num_threads);

/*
 * Picks a token of each row: tokens[i], and in logprobs[i] its natural-log probability at temperature 1 without
 * filters. The logits stay as they are. Returns QRFT_DONE, or QRFT_NOT_FINITE when a row holds a NaN or +inf, or
 * nothing but -inf: its token is then -1 and its logprob NaN, the other rows are as ever.
 *
 * A row's token depends on its logits, its number, its temperature and the filters only. All sums are made in an order
 * that does not depend on the processor, from IEEE operations that round one by one: every machine picks the same
 * tokens.
 *
 * scratch: qrft_tokens_scratch bytes, aligned to 4; it may be NULL without filters, or where every row is at
 * temperature 0. A row costs about three passes; top_p and top_k up to ten more where most tokens are candidates.
 * num_threads below 1 counts as 1.
 */
int qrft_tokens_pick(const qrft_logits *logits, const qrft_picking *picking, const qrft_streams *streams,
                     int num_threads, void *scratch, int32_t *tokens, double *logprobs);

/*
 * Writes kept[i] = 1 for the tokens of one row that can be picked at `temperature`, 0 for the others. scratch as above,
 * never NULL. Returns as qrft_tokens_pick; where it does not return QRFT_DONE, kept is left alone.
 */
int qrft_tokens_keep(const float *values, int64_t num_vocab, const qrft_picking *picking, void *scratch, uint8_t *kept);
