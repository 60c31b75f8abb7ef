/* The pass over the problems: of the paths with equal keys, keep one. */
#include <string.h>

#include "core.h"

/* Groups differ much in cost, so threads take few at a time. */
#define GRAIN 16

/* For more masks than this the distances of a group are computed one by one. 64 MiB are some 10,000 usual paths. */
#define MAX_MASK_BYTES ((int64_t)1 << 26)

/* An eligible row of the group; its entry is the number of its key, counted in order of first appearance. */
typedef struct {
    int64_t row;
    int64_t entry;
    qrft_path path;
} member;

/* A key of the group with the member now kept for it, and the sum of that one's distances to the other kept ones. */
typedef struct {
    const uint8_t *key;
    const member *kept;
    int64_t sum; /* over the first num_summed entries, its own left out */
    int64_t num_summed;
    int64_t distance; /* from the path being measured */
    int64_t unsure;   /* set in the first entry of a vector being measured: the largest distance if it is not sure */
} entry;

typedef struct {
    const qrft_texts *texts;
    const qrft_groups *groups;
    const uint8_t *eligible;
    const uint8_t *keys;
    const qrft_selection *selection;
    uint8_t *verdicts;
} curate_job;

/* What a thread works with; it grows to the largest group of the range. */
typedef struct {
    const curate_job *job;
    qrft_buffer members_buffer, entries_buffer, table_buffer, symbols_buffer, lanes_buffer, masks_buffer, state_buffer;
    qrft_alphabet alphabet;
    qrft_distancer distancer;
    enum lanes_kind lanes_kind;
    member *members;
    entry *entries;
    qrft_lanes *lanes; /* the kept paths, entry k in lane k % 8 of lanes[k / 8]; NULL when they need too much memory */
    int64_t *table;    /* entry numbers by key, -1 where free */
    size_t table_size;
    int64_t num_members, num_entries;
    int64_t num_present; /* the entries whose first member has come */
    int64_t kept_length; /* of their kept paths together */
    int64_t num_cells;   /* spent on comparisons */
} curator;

static void curator_free(curator *c) {
    buffer_free(&c->members_buffer);
    buffer_free(&c->entries_buffer);
    buffer_free(&c->table_buffer);
    buffer_free(&c->symbols_buffer);
    buffer_free(&c->lanes_buffer);
    buffer_free(&c->masks_buffer);
    buffer_free(&c->state_buffer);
    alphabet_free(&c->alphabet);
    distancer_free(&c->distancer);
}

/* ------------------------------------------------------------------------------------------------------- keys ---- */

static bool reserve_group(curator *c, size_t num_rows) {
    c->table_size = 16;
    while (c->table_size < 2 * num_rows) c->table_size *= 2;
    c->members = buffer_reserve(&c->members_buffer, num_rows, sizeof *c->members);
    c->entries = buffer_reserve(&c->entries_buffer, num_rows, sizeof *c->entries);
    c->table = buffer_reserve(&c->table_buffer, c->table_size, sizeof *c->table);
    if (!c->members || !c->entries || !c->table) return false;
    memset(c->table, 0xFF, c->table_size * sizeof *c->table);
    c->num_members = c->num_entries = 0;
    return true;
}

/* The number of the key's entry, a new one if need be. Keys are hashes already: their first bytes are the place. */
static int64_t entry_of(curator *c, const uint8_t *key) {
    uint64_t place;
    memcpy(&place, key, sizeof place);
    for (;; place++) {
        int64_t *slot = &c->table[place & (c->table_size - 1)];
        if (*slot < 0) {
            c->entries[c->num_entries] = (entry){.key = key};
            return *slot = c->num_entries++;
        }
        if (memcmp(c->entries[*slot].key, key, 16) == 0) return *slot;
    }
}

static int64_t num_bytes(const curator *c, int64_t row) {
    return text_offset(c->job->texts, row + 1) - text_offset(c->job->texts, row);
}

/* Whether the row replaces the kept one by what can be told at once. */
static bool is_better(const curator *c, int64_t row, int64_t kept) {
    if (c->job->selection->keep == QRFT_KEEP_SHORTEST) return num_bytes(c, row) < num_bytes(c, kept);
    return c->job->selection->keep == QRFT_KEEP_LONGEST && num_bytes(c, row) > num_bytes(c, kept);
}

static void keep_instead(const curator *c, entry *own, const member *m) {
    if (own->kept) c->job->verdicts[own->kept->row] = QRFT_VERDICT_DUPLICATE;
    c->job->verdicts[m->row] = QRFT_VERDICT_KEPT;
    own->kept = m;
}

static void take_row(curator *c, int64_t row, const uint8_t *gold_key) {
    const uint8_t *key = c->job->keys + 16 * row;
    if (gold_key && memcmp(gold_key, key, 16) == 0) {
        c->job->verdicts[row] = QRFT_VERDICT_DUPLICATE_OF_GOLD;
        return;
    }
    int64_t number = entry_of(c, key);
    entry *own = &c->entries[number];
    member *m = &c->members[c->num_members++];
    *m = (member){.row = row, .entry = number};
    c->job->verdicts[row] = QRFT_VERDICT_DUPLICATE;
    if (!own->kept || is_better(c, row, own->kept->row)) keep_instead(c, own, m);
}

/* -------------------------------------------------------------------------------------------------- distances ---- */

static bool encode_members(curator *c, int64_t *max_length) {
    size_t num_symbols = 0;
    int64_t num_wide = 0;
    for (int64_t i = 0; i < c->num_members; i++) {
        qrft_cursor text = text_at(c->job->texts, c->members[i].row);
        num_symbols += (size_t)(text.end - text.at);
        num_wide += count_wide_bytes(text);
    }
    uint32_t *symbols = buffer_reserve(&c->symbols_buffer, num_symbols, sizeof *symbols);
    if (!symbols || !alphabet_begin(&c->alphabet, num_wide)) return false;
    *max_length = 0;
    for (int64_t i = 0; i < c->num_members; i++) {
        qrft_cursor text = text_at(c->job->texts, c->members[i].row);
        int64_t length = alphabet_encode(&c->alphabet, text, symbols);
        c->members[i].path = (qrft_path){symbols, length};
        symbols += length;
        if (length > *max_length) *max_length = length;
    }
    return true;
}

/* False when there is no memory; no lanes, and a distancer in their place, when they would need too much. */
static bool reserve_lanes(curator *c, int64_t max_length) {
    int64_t num_blocks = (c->num_entries + QRFT_LANES - 1) / QRFT_LANES, num_words = lanes_num_words(max_length);
    int64_t word_size = (int64_t)sizeof(uint64_t) * QRFT_LANES, block_size;
    c->lanes = NULL;
    bool is_huge = __builtin_mul_overflow(num_words * word_size, (int64_t)c->alphabet.num_symbols, &block_size);
    if (is_huge || block_size > MAX_MASK_BYTES / num_blocks) {
        return distancer_begin(&c->distancer, c->alphabet.num_symbols, max_length);
    }
    qrft_lanes *lanes = buffer_reserve(&c->lanes_buffer, (size_t)num_blocks, sizeof *lanes);
    uint8_t *masks = buffer_reserve(&c->masks_buffer, (size_t)num_blocks, (size_t)block_size);
    uint64_t *state = buffer_reserve(&c->state_buffer, (size_t)num_words, 2 * (size_t)word_size);
    if (!lanes || !masks || !state) return false;
    memset(masks, 0, (size_t)(num_blocks * block_size));
    for (int64_t i = 0; i < num_blocks; i++) {
        lanes_begin(&lanes[i], (uint64_t *)(void *)(masks + i * block_size), state, c->alphabet.num_symbols);
    }
    c->lanes = lanes;
    return true;
}

/* The range of entries that distances are taken to; the entry `own` is left out. */
typedef struct {
    int64_t first, end, own;
} others;

/* Notes the distances to the others that share a vector with entry `from`; returns the largest if it may be too large.
 */
static int64_t measure_block(curator *c, qrft_path path, others range, int64_t from, int64_t bound) {
    int64_t distances[QRFT_LANES], largest = 0, start = from - from % QRFT_LANES;
    int64_t exact = lanes_distances(&c->lanes[from / QRFT_LANES], c->lanes_kind, path, bound, distances);
    for (int64_t k = from; k < range.end && k < start + QRFT_LANES; k++) {
        c->entries[k].distance = distances[k - start];
        if (k != range.own && distances[k - start] > largest) largest = distances[k - start];
    }
    return largest > exact ? largest : 0;
}

static int64_t sum_of(const curator *c, others range) {
    int64_t sum = 0;
    for (int64_t k = range.first; k < range.end; k++) sum += k == range.own ? 0 : c->entries[k].distance;
    return sum;
}

/*
 * Notes the distances from the path to the others and returns their sum. Numbers that are too large are good enough
 * when even their sum is at most `enough`. Those beyond `bound` may be, and are computed again otherwise, now with a
 * bound that cannot fail.
 */
static int64_t measure(curator *c, qrft_path path, others range, int64_t bound, int64_t enough) {
    if (!c->lanes) {
        for (int64_t k = range.first; k < range.end; k++) {
            if (k != range.own)
                c->entries[k].distance = distancer_distance(&c->distancer, path, c->entries[k].kept->path);
        }
        return sum_of(c, range);
    }
    bool is_exact = true;
    for (int64_t k = range.first; k < range.end; k += QRFT_LANES - k % QRFT_LANES) {
        c->entries[k].unsure = measure_block(c, path, range, k, bound);
        is_exact = is_exact && !c->entries[k].unsure;
    }
    int64_t sum = sum_of(c, range);
    if (is_exact || sum <= enough) return sum;
    for (int64_t k = range.first; k < range.end; k += QRFT_LANES - k % QRFT_LANES) {
        if (c->entries[k].unsure) measure_block(c, path, range, k, c->entries[k].unsure);
    }
    return sum_of(c, range);
}

/* --------------------------------------------------------------------------------------------------- farthest ---- */

static void set_kept(curator *c, const member *m) {
    if (c->lanes) lanes_set(&c->lanes[m->entry / QRFT_LANES], (int)(m->entry % QRFT_LANES), m->path);
}

/* A guess at the distances of a path whose like has this sum. A wrong one costs time only. */
static int64_t guess_bound(int64_t sum, int64_t count) {
    int64_t mean = count > 0 ? sum / count : 64;
    return mean + mean / 4 + 16;
}

/* The sum of the entry's kept path, brought up to the entries that have come since. */
static int64_t own_sum(curator *c, int64_t number) {
    entry *own = &c->entries[number];
    if (own->num_summed < c->num_present) {
        others newer = {own->num_summed, c->num_present, number};
        own->sum += measure(c, own->kept->path, newer, guess_bound(own->sum, own->num_summed), -1);
        own->num_summed = c->num_present;
    }
    return own->sum;
}

/* Adds the distances just measured to the sums that hold entry `changed` (sign 1), or takes them away (sign -1). */
static void update_sums(curator *c, int64_t changed, int sign) {
    for (int64_t k = 0; k < c->num_present; k++) {
        if (k != changed && c->entries[k].num_summed > changed) c->entries[k].sum += sign * c->entries[k].distance;
    }
}

static void replace(curator *c, const member *m, int64_t sum) {
    entry *own = &c->entries[m->entry];
    others all = {0, c->num_present, m->entry};
    update_sums(c, m->entry, 1);
    measure(c, own->kept->path, all, guess_bound(own->sum, c->num_present - 1), -1);
    update_sums(c, m->entry, -1);
    c->kept_length += m->path.length - own->kept->path.length;
    keep_instead(c, own, m);
    own->sum = sum;
    set_kept(c, m);
}

static bool same_path(qrft_path a, qrft_path b) {
    return a.length == b.length && memcmp(a.symbols, b.symbols, (size_t)a.length * sizeof *a.symbols) == 0;
}

/* Whether the comparison may be made; notes its cost. */
static bool can_compare(curator *c, const member *m, const member *kept) {
    int64_t max_cells = c->job->selection->max_cells, cells;
    if (max_cells == 0) return true;
    if (__builtin_mul_overflow(m->path.length + kept->path.length, c->kept_length - kept->path.length, &cells) ||
        cells > max_cells - c->num_cells) {
        return false;
    }
    c->num_cells += cells;
    return true;
}

static void compare(curator *c, const member *m) {
    others all = {0, c->num_present, m->entry};
    int64_t old = own_sum(c, m->entry);
    int64_t sum = measure(c, m->path, all, guess_bound(old, c->num_present - 1), old);
    if (sum > old) replace(c, m, sum);
}

/* Plays the rule in sample order: what is kept at each moment decides, so the order matters. */
static void keep_farthest(curator *c) {
    c->num_present = c->kept_length = c->num_cells = 0;
    for (int64_t i = 0; i < c->num_members; i++) {
        const member *m = &c->members[i];
        const member *kept = c->entries[m->entry].kept;
        if (m->entry == c->num_present) {
            c->num_present++;
            c->kept_length += m->path.length;
            set_kept(c, m);
        } else if (!same_path(m->path, kept->path)) { /* the same path has the same sum */
            if (!can_compare(c, m, kept)) return;
            compare(c, m);
        }
    }
}

/* --------------------------------------------------------------------------------------------------- the whole ---- */

/* Chooses among rows first .. last - 1 of the order. */
static bool choose_paths(curator *c, int64_t first, int64_t last, const uint8_t *gold_key) {
    if (!reserve_group(c, (size_t)(last - first))) return false;
    for (int64_t i = first; i < last; i++) {
        int64_t row = c->job->groups->order[i];
        if (c->job->eligible[row]) take_row(c, row, gold_key);
    }
    bool is_settled = c->num_entries < 2 || c->num_entries == c->num_members; /* no sums, or no choice */
    if (c->job->selection->keep != QRFT_KEEP_FARTHEST || is_settled) return true;
    int64_t max_length;
    if (!encode_members(c, &max_length) || !reserve_lanes(c, max_length)) return false;
    keep_farthest(c);
    return true;
}

static void choose_all(const curate_job *job, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++) {
        int64_t row = job->groups->order[i];
        if (job->eligible[row]) job->verdicts[row] = QRFT_VERDICT_KEPT;
    }
}

static void apply_limit(const curate_job *job, int64_t first, int64_t last) {
    int64_t num_kept = 0;
    for (int64_t i = first; i < last; i++) {
        int64_t row = job->groups->order[i];
        if (!job->eligible[row] || job->verdicts[row] != QRFT_VERDICT_KEPT) continue;
        if (++num_kept > job->selection->max_per_group) job->verdicts[row] = QRFT_VERDICT_OVER_LIMIT;
    }
}

static bool curate_group(curator *c, int64_t group) {
    const curate_job *job = c->job;
    int64_t first = job->groups->group_offsets[group], last = job->groups->group_offsets[group + 1];
    const uint8_t *gold_key = job->groups->gold_keys ? job->groups->gold_keys + 16 * group : NULL;
    if (job->selection->keep == QRFT_KEEP_ALL) {
        choose_all(job, first, last);
    } else if (!choose_paths(c, first, last, gold_key)) {
        return false;
    }
    if (job->selection->max_per_group > 0) apply_limit(job, first, last);
    return true;
}

static bool curate_range(void *context, int64_t first, int64_t last) {
    curator c = {.job = context, .lanes_kind = lanes_best()};
    bool done = true;
    for (int64_t group = first; group < last && done; group++) done = curate_group(&c, group);
    curator_free(&c);
    return done;
}

int qrft_paths_curate(const qrft_texts *texts, const qrft_groups *groups, const uint8_t *eligible, const uint8_t *keys,
                      const qrft_selection *selection, int num_threads, uint8_t *verdicts) {
    curate_job job = {texts, groups, eligible, keys, selection, verdicts};
    return parallel_run(curate_range, &job, groups->num_groups, GRAIN, num_threads);
}
