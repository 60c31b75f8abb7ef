/* The pass over the problems: of the paths with equal keys, keep one. */
#include <string.h>

#include "core.h"

/* Groups differ much in cost, so threads take few at a time. */
#define GRAIN 16

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
    int64_t sum;
    int64_t distance; /* from the member being looked at */
} entry;

typedef struct {
    const qrft_texts *texts;
    const qrft_groups *groups;
    const uint8_t *eligible;
    const uint8_t *keys;
    int keep;
    uint8_t *verdicts;
} curate_job;

/* What a thread works with; it grows to the largest group of the range. */
typedef struct {
    const curate_job *job;
    qrft_buffer members_buffer, entries_buffer, table_buffer, symbols_buffer;
    qrft_alphabet alphabet;
    qrft_distancer distancer;
    member *members;
    entry *entries;
    int64_t *table; /* entry numbers by key, -1 where free */
    size_t table_size;
    int64_t num_members, num_entries;
} curator;

static void curator_free(curator *c) {
    buffer_free(&c->members_buffer);
    buffer_free(&c->entries_buffer);
    buffer_free(&c->table_buffer);
    buffer_free(&c->symbols_buffer);
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
            c->entries[c->num_entries] = (entry){key, NULL, 0, 0};
            return *slot = c->num_entries++;
        }
        if (memcmp(c->entries[*slot].key, key, 16) == 0) return *slot;
    }
}

static void take_row(curator *c, int64_t row, const uint8_t *gold_key) {
    const uint8_t *key = c->job->keys + 16 * row;
    if (!c->job->eligible[row]) return;
    if (gold_key && memcmp(gold_key, key, 16) == 0) {
        c->job->verdicts[row] = QRFT_VERDICT_DUPLICATE_OF_GOLD;
        return;
    }
    int64_t number = entry_of(c, key);
    member *m = &c->members[c->num_members++];
    *m = (member){.row = row, .entry = number};
    bool is_first = c->entries[number].kept == NULL;
    if (is_first) c->entries[number].kept = m;
    c->job->verdicts[row] = is_first ? QRFT_VERDICT_KEPT : QRFT_VERDICT_DUPLICATE;
}

/* --------------------------------------------------------------------------------------------------- farthest ---- */

static bool encode_members(curator *c) {
    size_t num_symbols = 0;
    int64_t num_wide = 0;
    for (int64_t i = 0; i < c->num_members; i++) {
        qrft_cursor text = text_at(c->job->texts, c->members[i].row);
        int64_t length = text.end - text.at;
        num_symbols += (size_t)(length < QRFT_DISTANCE_LIMIT ? length : QRFT_DISTANCE_LIMIT);
        num_wide += count_wide_bytes(text);
    }
    uint32_t *symbols = buffer_reserve(&c->symbols_buffer, num_symbols, sizeof *symbols);
    if (!symbols || !alphabet_begin(&c->alphabet, num_wide)) return false;
    for (int64_t i = 0; i < c->num_members; i++) {
        qrft_cursor text = text_at(c->job->texts, c->members[i].row);
        int64_t length = alphabet_encode(&c->alphabet, text, symbols);
        c->members[i].path = (qrft_path){symbols, length};
        symbols += length;
    }
    return distancer_begin(&c->distancer, c->alphabet.num_symbols);
}

/* Notes the distances from m to what the first num_present entries keep, its own left out; returns their sum. */
static int64_t measure(curator *c, const member *m, int64_t num_present) {
    int64_t sum = 0;
    for (int64_t k = 0; k < num_present; k++) {
        if (k == m->entry) continue;
        c->entries[k].distance = distancer_distance(&c->distancer, m->path, c->entries[k].kept->path);
        sum += c->entries[k].distance;
    }
    return sum;
}

/* Puts the distances just measured into the sums (sign 1), or takes them out (sign -1). */
static void update_sums(curator *c, const member *m, int64_t num_present, int sign) {
    for (int64_t k = 0; k < num_present; k++) {
        if (k != m->entry) c->entries[k].sum += sign * c->entries[k].distance;
    }
}

static void replace(curator *c, const member *m, int64_t sum, int64_t num_present) {
    entry *own = &c->entries[m->entry];
    update_sums(c, m, num_present, 1);
    measure(c, own->kept, num_present);
    update_sums(c, m, num_present, -1);
    c->job->verdicts[own->kept->row] = QRFT_VERDICT_DUPLICATE;
    c->job->verdicts[m->row] = QRFT_VERDICT_KEPT;
    own->kept = m;
    own->sum = sum;
}

static bool same_path(qrft_path a, qrft_path b) {
    return a.length == b.length && memcmp(a.symbols, b.symbols, (size_t)a.length * sizeof *a.symbols) == 0;
}

/* Plays the rule in sample order: what is kept at each moment decides, so the order matters. */
static void keep_farthest(curator *c) {
    int64_t num_present = 0;
    for (int64_t i = 0; i < c->num_members; i++) {
        const member *m = &c->members[i];
        entry *own = &c->entries[m->entry];
        bool is_new = m->entry == num_present;
        if (!is_new && same_path(m->path, own->kept->path)) continue; /* equal sums, so not farther */
        int64_t sum = measure(c, m, num_present);
        if (is_new) {
            update_sums(c, m, num_present++, 1);
            own->sum = sum;
        } else if (sum > own->sum) {
            replace(c, m, sum, num_present);
        }
    }
}

/* --------------------------------------------------------------------------------------------------- the whole ---- */

static bool curate_group(curator *c, int64_t group) {
    const qrft_groups *groups = c->job->groups;
    int64_t first = groups->group_offsets[group], last = groups->group_offsets[group + 1];
    if (!reserve_group(c, (size_t)(last - first))) return false;
    const uint8_t *gold_key = groups->gold_keys ? groups->gold_keys + 16 * group : NULL;
    for (int64_t i = first; i < last; i++) take_row(c, groups->order[i], gold_key);
    bool is_settled = c->num_entries < 2 || c->num_entries == c->num_members; /* no sums, or no choice */
    if (c->job->keep == QRFT_KEEP_FIRST || is_settled) return true;
    if (!encode_members(c)) return false;
    keep_farthest(c);
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
                      int keep, int num_threads, uint8_t *verdicts) {
    curate_job job = {texts, groups, eligible, keys, keep, verdicts};
    return parallel_run(curate_range, &job, groups->num_groups, GRAIN, num_threads);
}
