/* The pass over the problems: of the paths with equal keys, keep one. */
#include <string.h>

#include "select/farthest.h"
#include "text/column.h"
#include "text/hash.h"
#include "text/parallel.h"

/* Groups differ much in cost, so threads take few at a time. */
#define GRAIN 16

typedef struct {
    const qrft_texts *texts;
    const qrft_groups *groups;
    const uint8_t *eligible;
    const uint8_t *keys;
    const qrft_selection *selection;
    uint8_t *verdicts;
    int64_t *first_rows;
} curate_job;

/* What a thread works with; it grows to the largest group of the range. */
typedef struct {
    const curate_job *job;
    qrft_buffer members_buffer, entries_buffer, table_buffer;
    qrft_farthest farthest;
    qrft_member *members;
    qrft_entry *entries;
    int64_t *table; /* entry numbers by key, -1 where free */
    size_t table_size;
    int64_t num_members, num_entries;
} curator;

static void curator_free(curator *c) {
    buffer_free(&c->members_buffer);
    buffer_free(&c->entries_buffer);
    buffer_free(&c->table_buffer);
    farthest_free(&c->farthest);
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

/* All 16 bytes count, wherever the keys differ: a caller's keys need not be hashes. The factor is 2^64 / golden ratio.
 */
static uint64_t place_of(const uint8_t *key) {
    const uint64_t factor = 0x9E3779B97F4A7C15u;
    uint64_t halves[2];
    memcpy(halves, key, sizeof halves);
    uint64_t place = halves[0] * factor ^ halves[1];
    place = (place ^ place >> 32) * factor;
    return place ^ place >> 32;
}

/* The number of the key's entry, a new one if need be. */
static int64_t entry_of(curator *c, const uint8_t *key) {
    for (uint64_t place = place_of(key);; place++) {
        int64_t *slot = &c->table[place & (c->table_size - 1)];
        if (*slot < 0) {
            c->entries[c->num_entries] = (qrft_entry){.key = key};
            return *slot = c->num_entries++;
        }
        if (memcmp(c->entries[*slot].key, key, 16) == 0) return *slot;
    }
}

static int64_t num_bytes(const curator *c, int64_t row) {
    return text_offset(c->job->texts, row + 1) - text_offset(c->job->texts, row);
}

/* What decides at once between the rows of a key: of the kept one it is the least. Of equal ones the first is kept. */
static uint64_t rank_of(const curator *c, int64_t row) {
    switch (c->job->selection->keep) {
    case QRFT_KEEP_SHORTEST:
        return (uint64_t)num_bytes(c, row);
    case QRFT_KEEP_LONGEST:
        return UINT64_MAX - (uint64_t)num_bytes(c, row);
    case QRFT_KEEP_RANDOM:
        return hash_first_word(text_at(c->job->texts, row));
    default:
        return 0;
    }
}

static void take_row(curator *c, int64_t row, const uint8_t *gold_key) {
    const uint8_t *key = c->job->keys + 16 * row;
    if (gold_key && memcmp(gold_key, key, 16) == 0) {
        c->job->verdicts[row] = QRFT_VERDICT_DUPLICATE_OF_GOLD;
        return;
    }
    int64_t number = entry_of(c, key);
    qrft_entry *own = &c->entries[number];
    qrft_member *m = &c->members[c->num_members++];
    *m = (qrft_member){.row = row, .entry = number};
    uint64_t rank = rank_of(c, row);
    if (!own->kept) own->first_row = row;
    if (!own->kept || rank < own->rank) own->kept = m, own->rank = rank;
}

/* --------------------------------------------------------------------------------------------------- the whole ---- */

static void write_verdicts(const curator *c) {
    for (int64_t i = 0; i < c->num_members; i++) c->job->verdicts[c->members[i].row] = QRFT_VERDICT_DUPLICATE;
    for (int64_t k = 0; k < c->num_entries; k++) {
        int64_t row = c->entries[k].kept->row;
        c->job->verdicts[row] = QRFT_VERDICT_KEPT;
        if (c->job->first_rows) c->job->first_rows[row] = c->entries[k].first_row;
    }
}

/* Chooses among rows first .. last - 1 of the order. */
static bool choose_paths(curator *c, int64_t first, int64_t last, const uint8_t *gold_key) {
    if (!reserve_group(c, (size_t)(last - first))) return false;
    for (int64_t i = first; i < last; i++) {
        int64_t row = c->job->groups->order[i];
        if (c->job->eligible[row]) take_row(c, row, gold_key);
    }
    bool has_choice = c->num_entries > 1 && c->num_entries < c->num_members; /* else no sums, or one a key */
    if (c->job->selection->keep == QRFT_KEEP_FARTHEST && has_choice) {
        qrft_group group = {c->job->texts,  c->members,     c->entries,
                            c->num_members, c->num_entries, c->job->selection->max_cells};
        if (!farthest_choose(&c->farthest, &group)) return false;
    }
    write_verdicts(c);
    return true;
}

static void choose_all(const curate_job *job, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++) {
        int64_t row = job->groups->order[i];
        if (!job->eligible[row]) continue;
        job->verdicts[row] = QRFT_VERDICT_KEPT;
        if (job->first_rows) job->first_rows[row] = row;
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
    curator c = {.job = context};
    bool done = true;
    for (int64_t group = first; group < last && done; group++) done = curate_group(&c, group);
    curator_free(&c);
    return done;
}

int qrft_paths_curate(const qrft_texts *texts, const qrft_groups *groups, const uint8_t *eligible, const uint8_t *keys,
                      const qrft_selection *selection, int num_threads, uint8_t *verdicts, int64_t *first_rows) {
    curate_job job = {texts, groups, eligible, keys, selection, verdicts, first_rows};
    return parallel_run(curate_range, &job, groups->num_groups, GRAIN, num_threads);
}
