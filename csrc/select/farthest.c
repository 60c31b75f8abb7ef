/*
 * The paper's choice among paths with equal keys: play the samples in order, and let a later one replace the kept one
 * when the sum of its distances to the other kept paths is larger.
 *
 * What is kept changes seldom, so the next few members' distances to all that is kept are computed together, a
 * member in each lane; what changes meanwhile is measured again.
 */
#include <string.h>

#include "select/farthest.h"
#include "select/lanes.h"
#include "text/column.h"
#include "text/cpu.h"

/* When the masks, or the distances between kept paths, need more, distances are computed as they are needed. */
#define MAX_BYTES ((int64_t)1 << 26)

/* Members of a block. Equal texts share a lane, so there may be more members than lanes; every guess looks at all. */
#define MAX_BLOCK 64

/* A group being played. */
typedef struct {
    qrft_group *group;
    qrft_distancer *distancer;
    enum vector_kind kind;
    qrft_lanes lanes;    /* the texts of the block: members next .. end - 1 and some before them */
    int64_t next, end;   /* the member being played; the end of its block */
    int64_t num_present; /* the entries whose first member has come */
    int64_t kept_length; /* of their kept paths together, as counted_length has it */
    int64_t num_cells;   /* spent */
    int64_t *between;    /* [entry][entry]: the distances between the kept paths */
    int64_t *to_block;   /* [entry][lane]: from the kept path to the block's texts; too large where above ... */
    int64_t *sure;       /* [entry]: ... this */
} replay;

static bool same_path(qrft_path a, qrft_path b) {
    return a.length == b.length && memcmp(a.symbols, b.symbols, (size_t)a.length * sizeof *a.symbols) == 0;
}

/* ----------------------------------------------------------------------------------------------------- budget ---- */

/* A comparison with a short text takes as long as with one that fills a word. */
static int64_t counted_length(qrft_path path) {
    return path.length > 64 ? path.length : 64;
}

/* What it costs to play the member; false when it is beyond 64 bits. */
static bool cost_of(const replay *r, const qrft_member *m, int64_t *cells) {
    int64_t own = m->entry < r->num_present ? counted_length(r->group->entries[m->entry].kept->path) : 0;
    return !__builtin_mul_overflow(counted_length(m->path) + own, r->kept_length - own, cells);
}

static bool can_afford(const replay *r, const qrft_member *m, int64_t *spent) {
    int64_t cells;
    if (r->group->max_cells <= 0) return true;
    if (!cost_of(r, m, &cells) || cells > r->group->max_cells - *spent) return false;
    *spent += cells;
    return true;
}

/* --------------------------------------------------------------------------------------------------- by lanes ---- */

/*
 * A guess at how far the block's texts lie from what the entry keeps: about as far as the paths that they would
 * replace. A wrong guess costs time only.
 */
static int64_t guess_bound(const replay *r, int64_t entry) {
    const qrft_group *group = r->group;
    int64_t guess = 0;
    for (int64_t i = r->next; i < r->end; i++) {
        int64_t own = group->members[i].entry;
        int64_t distance = own < r->num_present && own != entry ? r->between[own * group->num_entries + entry] : 0;
        if (distance > guess) guess = distance;
    }
    return guess + guess / 8 + 24;
}

static void measure(replay *r, int64_t entry, int64_t bound) {
    qrft_path path = r->group->entries[entry].kept->path;
    r->sure[entry] = bound;
    lanes_distances(&r->lanes, r->kind, path, bound, &r->to_block[entry * QRFT_LANES]);
}

/* The sum of the lane's distances to what is kept, entry `own` left out. */
static int64_t lane_sum(const replay *r, int lane, int64_t own) {
    int64_t sum = 0;
    for (int64_t k = 0; k < r->num_present; k++) sum += k == own ? 0 : r->to_block[k * QRFT_LANES + lane];
    return sum;
}

static int64_t kept_sum(const replay *r, int64_t own) {
    int64_t sum = 0;
    for (int64_t k = 0; k < r->num_present; k++) sum += k == own ? 0 : r->between[own * r->group->num_entries + k];
    return sum;
}

/* Computes the lane's distances again where they may be too large, with a bound that suffices. */
static void make_sure(replay *r, int lane, int64_t own) {
    for (int64_t k = 0; k < r->num_present; k++) {
        int64_t distance = r->to_block[k * QRFT_LANES + lane];
        if (k != own && distance > r->sure[k]) measure(r, k, distance);
    }
}

/* The member, of which all is sure, is now the one kept for its key. */
static void keep(replay *r, const qrft_member *m) {
    qrft_entry *own = &r->group->entries[m->entry];
    if (m->entry == r->num_present) {
        r->num_present++;
    } else {
        r->kept_length -= counted_length(own->kept->path);
    }
    r->kept_length += counted_length(m->path);
    own->kept = m;
    for (int64_t k = 0; k < r->num_present; k++) {
        int64_t distance = k == m->entry ? 0 : r->to_block[k * QRFT_LANES + m->lane];
        r->between[k * r->group->num_entries + m->entry] = distance;
        r->between[m->entry * r->group->num_entries + k] = distance;
    }
}

static void play(replay *r, const qrft_member *m) {
    bool is_new = m->entry == r->num_present;
    if (!is_new) {
        if (same_path(m->path, r->group->entries[m->entry].kept->path)) return; /* and so equal sums */
        if (lane_sum(r, m->lane, m->entry) <= kept_sum(r, m->entry)) return;
    }
    make_sure(r, m->lane, m->entry);
    if (!is_new && lane_sum(r, m->lane, m->entry) <= kept_sum(r, m->entry)) return;
    keep(r, m);
    if (r->next + 1 < r->end) measure(r, m->entry, guess_bound(r, m->entry));
}

/* The lane of the member's text, a new one if need be; -1 when there is none left. */
static int lane_of(qrft_lanes *lanes, qrft_path path) {
    for (int lane = 0; lane < lanes->num_used; lane++) {
        if (same_path(lanes->paths[lane], path)) return lane;
    }
    if (lanes->num_used == QRFT_LANES) return -1;
    lanes_add(lanes, path);
    return lanes->num_used - 1;
}

/* Whether a path fits among the block's: a long one would make the strip of all the others high. */
static bool is_similar(const replay *r, qrft_path path) {
    qrft_path first = r->group->members[r->next].path;
    return path.length <= 2 * first.length + 64 && first.length <= 2 * path.length + 64;
}

/* The block of a single member: here the kept paths are in the lanes. */
static void measure_alone(replay *r, const qrft_member *m) {
    int64_t distances[QRFT_LANES];
    for (int64_t first = 0; first < r->num_present; first += QRFT_LANES) {
        lanes_clear(&r->lanes);
        for (int64_t k = first; k < r->num_present && k < first + QRFT_LANES; k++) {
            lanes_add(&r->lanes, r->group->entries[k].kept->path);
        }
        int64_t bound = m->path.length + r->lanes.longest; /* no distance is larger */
        lanes_distances(&r->lanes, r->kind, m->path, bound, distances);
        for (int64_t i = 0; i < r->lanes.num_used; i++) {
            r->to_block[(first + i) * QRFT_LANES + m->lane] = distances[i];
            r->sure[first + i] = bound;
        }
    }
}

/* Takes as many members as there are lanes for, and as can be afforded if nothing changes. False if none can. */
static bool begin_block(replay *r) {
    int64_t spent = r->num_cells;
    lanes_clear(&r->lanes);
    for (r->end = r->next; r->end < r->group->num_members && r->end < r->next + MAX_BLOCK; r->end++) {
        qrft_member *m = &r->group->members[r->end];
        if (!is_similar(r, m->path) || !can_afford(r, m, &spent)) break;
        m->lane = lane_of(&r->lanes, m->path);
        if (m->lane < 0) break;
    }
    if (r->end == r->next) return false;
    if (r->end == r->next + 1) {
        measure_alone(r, &r->group->members[r->next]);
    } else {
        for (int64_t k = 0; k < r->num_present; k++) measure(r, k, guess_bound(r, k));
    }
    return true;
}

static void play_by_lanes(replay *r) {
    for (r->next = r->end = 0; r->next < r->group->num_members; r->next++) {
        const qrft_member *m = &r->group->members[r->next];
        if (r->next == r->end && !begin_block(r)) break;
        if (!can_afford(r, m, &r->num_cells)) break;
        play(r, m);
    }
    lanes_clear(&r->lanes);
}

/* ------------------------------------------------------------------------------------------------- one by one ---- */

static int64_t distances_sum(const replay *r, qrft_path path, int64_t own) {
    int64_t sum = 0;
    for (int64_t k = 0; k < r->num_present; k++) {
        if (k != own) sum += distancer_distance(r->distancer, path, r->group->entries[k].kept->path);
    }
    return sum;
}

/* The rule as it stands, for groups too large for more memory. */
static void play_one_by_one(replay *r) {
    for (int64_t i = 0; i < r->group->num_members; i++) {
        const qrft_member *m = &r->group->members[i];
        qrft_entry *own = &r->group->entries[m->entry];
        if (!can_afford(r, m, &r->num_cells)) return;
        if (m->entry == r->num_present) {
            r->num_present++;
            r->kept_length += counted_length(m->path);
        } else if (!same_path(m->path, own->kept->path) &&
                   distances_sum(r, m->path, m->entry) > distances_sum(r, own->kept->path, m->entry)) {
            r->kept_length += counted_length(m->path) - counted_length(own->kept->path);
            own->kept = m;
        }
    }
}

/* --------------------------------------------------------------------------------------------------- the whole ---- */

static bool encode_members(qrft_farthest *f, qrft_group *group, int64_t *max_length) {
    size_t num_bytes = 0;
    int64_t num_wide = 0;
    for (int64_t i = 0; i < group->num_members; i++) {
        qrft_cursor text = text_at(group->texts, group->members[i].row);
        num_bytes += (size_t)(text.end - text.at);
        num_wide += count_wide_bytes(text);
    }
    uint32_t *symbols = buffer_reserve(&f->symbols, num_bytes, sizeof *symbols);
    if (!symbols || !alphabet_begin(&f->alphabet, num_wide)) return false;
    *max_length = 0;
    for (int64_t i = 0; i < group->num_members; i++) {
        int64_t length = alphabet_encode(&f->alphabet, text_at(group->texts, group->members[i].row), symbols);
        group->members[i].path = (qrft_path){symbols, length};
        symbols += length;
        if (length > *max_length) *max_length = length;
    }
    return true;
}

static bool reserve_lanes(qrft_farthest *f, replay *r, int64_t num_words, int64_t word_size) {
    size_t num_entries = (size_t)r->group->num_entries, num_distances = num_entries * (num_entries + QRFT_LANES + 1);
    uint64_t *masks = buffer_reserve(&f->masks, (size_t)num_words, (size_t)word_size);
    uint64_t *state = buffer_reserve(&f->state, (size_t)num_words, 2 * QRFT_LANES * sizeof *state);
    r->between = buffer_reserve(&f->distances, num_distances, sizeof *r->between);
    if (!masks || !state || !r->between) return false;
    r->to_block = r->between + num_entries * num_entries;
    r->sure = r->to_block + num_entries * QRFT_LANES;
    size_t num_bytes = (size_t)(num_words * word_size);
    if (f->num_zero < num_bytes) memset(masks, 0, f->num_zero = num_bytes);
    lanes_begin(&r->lanes, masks, state, f->alphabet.num_symbols);
    return true;
}

bool farthest_choose(qrft_farthest *f, qrft_group *group) {
    replay r = {.group = group, .distancer = &f->distancer, .kind = cpu_best()};
    int64_t max_length;
    if (!encode_members(f, group, &max_length)) return false;
    int64_t num_words = lanes_num_words(max_length);
    int64_t word_size = (int64_t)f->alphabet.num_symbols * QRFT_LANES * (int64_t)sizeof(uint64_t);
    bool is_huge = num_words > MAX_BYTES / word_size ||
                   group->num_entries > MAX_BYTES / (int64_t)sizeof(int64_t) / group->num_entries;
    if (!is_huge) {
        if (!reserve_lanes(f, &r, num_words, word_size)) return false;
        play_by_lanes(&r);
        return true;
    }
    if (!distancer_begin(&f->distancer, f->alphabet.num_symbols, max_length)) return false;
    play_one_by_one(&r);
    return true;
}

void farthest_free(qrft_farthest *f) {
    buffer_free(&f->symbols);
    buffer_free(&f->masks);
    buffer_free(&f->state);
    buffer_free(&f->distances);
    alphabet_free(&f->alphabet);
    distancer_free(&f->distancer);
}
