/* Gradient steps on the training loss of a probabilistic ensemble on the bfloat16 instructions of x86-64 (AVX-512 BF16).
 *
 * Three kinds of work units, in this order: a layer's weights are packed; a tile of rows goes forward through a whole network
 * and back, so that activations stay in the nearest caches; some rows of a layer's weights get their gradient and their step.
 * Products are bfloat16 with float32 sums; biases, SiLU, the loss, gradients and steps are float32. Any number of threads may
 * take units from a shared counter, and the results do not depend on how many did.
 *
 * A matrix (K, N) that is read along N lies in chunks of LANES columns, (N / LANES, K / 2, LANES, 2): the instruction sums over
 * two rows at once, so their entries lie side by side.
 *
 * Plain C without Python's interface; `compiled_gradient.py` calls it through ctypes.
 */

#include <stdint.h>

#define MAX_LAYERS 10
#define EXPORT __attribute__((visibility("default")))

typedef struct {
    int32_t members, batch, num_layers, obs_size;
    int32_t stride;                       /* of a row in a workspace, entries */
    int32_t batch_pairs;                  /* rows of `entries` and `slopes`, two by two; with room for a multiple of 8 rows */
    int32_t sizes[MAX_LAYERS + 1];        /* inputs, units of each layer, outputs */
    float decay[MAX_LAYERS];
    float penalty;                        /* on the distance of the variance bounds, an entry */
    float *values, *gradient;             /* one layer after the other (E, in + 1, out), then the variance bounds (2, E, O) */
    float *first_moment, *second_moment;
    int64_t places[MAX_LAYERS + 1];       /* where in these each layer begins, and the bounds */
    uint16_t *forward[MAX_LAYERS];        /* E times (in, out), in chunks */
    float *bias[MAX_LAYERS];              /* (E, out in whole chunks) */
    uint16_t *backward[MAX_LAYERS];       /* E times (out, in), in chunks; from the second layer on */
    uint16_t *entries[MAX_LAYERS];        /* of a layer, E times (B, in + 1), in chunks; the last column ones */
    uint16_t *slopes[MAX_LAYERS];         /* at its outputs, E times (B, out), in chunks */
    float *bounds_shares;                 /* (E, tiles, 2, obs_size in whole chunks) */
    char *workspaces;
    int64_t workspace_size;               /* bytes */
} Network;

#if defined(__x86_64__) && defined(__GNUC__)

#include <math.h>
#include <sched.h>
#include <string.h>

#include "vectors.h"

enum { ROWS = 8, TILE = 32, LANES = 16, STRIP = 3 };

/* Two vectors in pairs, the first one's entries first. */
INLINE __m512i paired(__m256i first, __m256i second) {
    return _mm512_or_si512(_mm512_cvtepu16_epi32(first), _mm512_slli_epi32(_mm512_cvtepu16_epi32(second), 16));
}

INLINE __m256i rounded(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }

INLINE __mmask16 lanes(int left) { return left >= LANES ? 0xffff : (__mmask16)((1u << left) - 1); }

static int chunks(int size) { return (size + LANES - 1) / LANES; }

static int tiles_of(int rows) { return (rows + TILE - 1) / TILE; }

static int pairs(int size) { return (size + 1) / 2; }

/* Entries of a matrix in chunks. */
static long packed_size(int num_pairs, int columns) { return 2L * LANES * num_pairs * chunks(columns); }

/* One step: a `Batch` of batches.py, and two factors of Adam. Without a rate the gradient is kept, and nothing else changes. */
typedef struct {
    const uint16_t *inputs;
    const float *targets;
    const int64_t *input_rows, *target_rows;
    float rate, correction;
} Step;

typedef struct {
    const uint16_t *left;       /* pair k of row r lies at left + r * row_step + k * pair_step */
    long row_step, pair_step;
    const uint16_t *right;      /* in chunks */
    int num_pairs;
    const float *start;         /* of the sums, the same for all rows; zero where null */
    float *out;
    long out_step;
} Product;

/* ROWS rows of `width` chunks, a constant where this is inlined. */
INLINE void block(const int width, const Product *p) {
    const long chunk_step = 2L * LANES * p->num_pairs;
    const uint16_t *left = p->left, *right = p->right;
    __m512 sums[ROWS][STRIP];
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int c = 0; c < width; c++)
            sums[r][c] = p->start ? _mm512_loadu_ps(p->start + LANES * c) : _mm512_setzero_ps();
    for (int k = 0; k < p->num_pairs; k++) {
        __m512bh vectors[STRIP];
        UNROLL for (int c = 0; c < width; c++) vectors[c] = (__m512bh)_mm512_loadu_si512(right + c * chunk_step);
        UNROLL for (int r = 0; r < ROWS; r++) {
            int32_t two;
            memcpy(&two, left + r * p->row_step, sizeof two);
            const __m512bh both = (__m512bh)_mm512_set1_epi32(two);
            UNROLL for (int c = 0; c < width; c++) sums[r][c] = _mm512_dpbf16_ps(sums[r][c], both, vectors[c]);
        }
        left += p->pair_step;
        right += 2 * LANES;
    }
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int c = 0; c < width; c++) _mm512_storeu_ps(p->out + r * p->out_step + LANES * c, sums[r][c]);
}

TARGET static void block_1(const Product *product) { block(1, product); }
TARGET static void block_2(const Product *product) { block(2, product); }
TARGET static void block_3(const Product *product) { block(3, product); }

/* `rows` rows, a multiple of ROWS, of whole chunks. */
static void multiply(Product product, int rows, int columns) {
    for (int c = 0, width; c < chunks(columns); c += width) {
        const int left = chunks(columns) - c;
        width = left < STRIP ? left : STRIP;
        Product part = product;
        part.right += 2L * LANES * product.num_pairs * c;
        part.out += LANES * c;
        if (part.start) part.start += LANES * c;
        for (int r = 0; r < rows; r += ROWS) {
            if (width == 3) block_3(&part);
            else if (width == 2) block_2(&part);
            else block_1(&part);
            part.left += ROWS * product.row_step;
            part.out += ROWS * product.out_step;
        }
    }
}

/* Weights and bias of one layer, as the passes forward and back read them. */
TARGET static void pack(const Network *net, int member, int layer) {
    const int in = net->sizes[layer], out = net->sizes[layer + 1];
    const float *values = net->values + net->places[layer] + (long)member * (in + 1) * out;
    uint16_t *forward = net->forward[layer] + member * packed_size(pairs(in), out);
    for (int i = 0; i < in; i += 2) {
        const float *row = values + (long)i * out;
        for (int c = 0; c < out; c += LANES) {
            const __mmask16 inside = lanes(out - c), below = i + 1 < in ? inside : 0;
            _mm512_storeu_si512(forward + 2L * c * pairs(in) + LANES * i,
                                paired(rounded(_mm512_maskz_loadu_ps(inside, row + c)),
                                       rounded(_mm512_maskz_loadu_ps(below, row + out + c))));
        }
    }
    memcpy(net->bias[layer] + (long)member * chunks(out) * LANES, values + (long)in * out, out * sizeof(float));
    if (!layer) return;
    uint16_t *backward = net->backward[layer] + member * packed_size(pairs(out), in);
    for (int i = 0; i < in; i++) {
        for (int c = 0; c < out; c += LANES) {
            uint16_t row[LANES];
            _mm256_storeu_si256((__m256i *)row, rounded(_mm512_maskz_loadu_ps(lanes(out - c), values + (long)i * out + c)));
            uint16_t *to = backward + 2L * (i / LANES) * LANES * pairs(out) + 2 * (i % LANES);
            for (int n = 0; n < LANES && c + n < out; n += 2) memcpy(to + (long)(c + n) * LANES, row + n, 2 * sizeof *row);
        }
    }
}

/* What one thread works in: arrays of TILE rows. */
typedef struct {
    float *outputs;
    float *derivatives;  /* of the units, layer by layer */
    uint16_t *rows;
} Workspace;

/* Rows r and r + 1 of a tile, as they are for the next product and in chunks for the gradient of the weights. */
INLINE void keep(const Network *net, const Workspace *space, int r, int c, int size, __m512 first, __m512 second,
                 uint16_t *packed) {
    const __m256i low = rounded(first), high = rounded(second);
    uint16_t *row = space->rows + (long)r * net->stride + c;
    _mm256_storeu_si256((__m256i *)row, low);
    _mm256_storeu_si256((__m256i *)(row + net->stride), high);
    _mm512_mask_storeu_epi32(packed + 2L * c * net->batch_pairs + (long)r * LANES, lanes(size - c), paired(low, high));
}

/* Slope at the outputs instead of the outputs, and a tile's share of that of the variance bounds. The softly bounded
 * log-variance of a raw output v is log(exp(min) + exp(max) * share), share = sigmoid(v - max). */
TARGET static void loss(const Network *net, const Step *step, int member, int tile, int count, const Workspace *space) {
    const int size = net->obs_size, padded = chunks(size) * LANES;
    const int tiles = tiles_of(net->batch);
    const float *maximum = net->values + net->places[net->num_layers] + (long)member * size, *minimum = maximum + (long)net->members * size;
    float *shares = net->bounds_shares + ((long)member * tiles + tile) * 2 * padded;
    const int64_t *rows = step->target_rows + (long)member * net->batch + (long)tile * TILE;
    const float scale = 1.0f / ((float)net->batch * (float)size);
    for (int c = 0; c < size; c += LANES) {
        const __mmask16 inside = lanes(size - c);
        float exponentials[2][LANES] = {{0.0f}};
        for (int i = 0; i < LANES && c + i < size; i++) {
            exponentials[0][i] = expf(maximum[c + i]);
            exponentials[1][i] = expf(minimum[c + i]);
        }
        const __m512 largest = _mm512_loadu_ps(exponentials[0]), smallest = _mm512_loadu_ps(exponentials[1]);
        const __m512 limit = _mm512_maskz_loadu_ps(inside, maximum + c), one = _mm512_set1_ps(1.0f);
        __m512 above = _mm512_setzero_ps(), below = _mm512_setzero_ps();
        for (int r = 0; r < count; r++) {
            float *out = space->outputs + (long)r * net->stride + c;
            const float *targets = step->targets + rows[r] * (size + 1);
            const __m512 weight = _mm512_set1_ps(targets[size] * scale);
            const __m512 share = sigmoid(_mm512_sub_ps(_mm512_maskz_loadu_ps(inside, out + size), limit));
            const __m512 inverse = _mm512_div_ps(one, _mm512_fmadd_ps(largest, share, smallest));
            const __m512 distance = _mm512_sub_ps(_mm512_maskz_loadu_ps(inside, out),
                                                  _mm512_maskz_loadu_ps(inside, targets + c));
            const __m512 error = _mm512_mul_ps(distance, inverse);
            const __m512 slope = _mm512_mul_ps(_mm512_fnmadd_ps(error, error, inverse), weight);  /* of the variance */
            const __m512 shared = _mm512_mul_ps(slope, share), squared = _mm512_mul_ps(shared, share);
            above = _mm512_add_ps(above, squared);
            below = _mm512_add_ps(below, slope);
            _mm512_mask_storeu_ps(out, inside, _mm512_mul_ps(_mm512_add_ps(error, error), weight));
            _mm512_mask_storeu_ps(out + size, inside, _mm512_mul_ps(_mm512_sub_ps(shared, squared), largest));
        }
        _mm512_storeu_ps(shares + c, _mm512_mul_ps(above, largest));
        _mm512_storeu_ps(shares + padded + c, _mm512_mul_ps(below, smallest));
    }
}

/* A tile of rows forward and back. Rows behind the batch have a slope of zero. */
TARGET static void pass(const Network *net, const Step *step, int member, int tile, const Workspace *space) {
    const int start = tile * TILE, left = net->batch - start, count = left < TILE ? left : TILE;
    const int rows = (count + ROWS - 1) / ROWS * ROWS, last = net->num_layers - 1, in = net->sizes[0];
    const int64_t *wanted = step->input_rows + (long)member * net->batch + start;
    uint16_t *entries = net->entries[0] + member * packed_size(net->batch_pairs, in + 1) + (long)start * LANES;
    memset(space->rows, 0, (long)rows * net->stride * sizeof *space->rows);
    for (int r = 0; r < count; r++) {
        const uint16_t *row = step->inputs + wanted[r] * (in + 1);
        memcpy(space->rows + (long)r * net->stride, row, in * sizeof *row);
        for (int i = 0; i < in; i++)
            entries[2L * (i / LANES) * LANES * net->batch_pairs + (r / 2 * LANES + i % LANES) * 2 + r % 2] = row[i];
    }
    const __m512 one = _mm512_set1_ps(1.0f);
    for (int layer = 0; layer <= last; layer++) {
        const int from = net->sizes[layer], to = net->sizes[layer + 1];
        multiply((Product){space->rows, net->stride, 2, net->forward[layer] + member * packed_size(pairs(from), to), pairs(from),
                           net->bias[layer] + (long)member * chunks(to) * LANES, space->outputs, net->stride}, rows, to);
        if (layer == last) break;
        float *derivatives = space->derivatives + (long)layer * TILE * net->stride;
        entries = net->entries[layer + 1] + member * packed_size(net->batch_pairs, to + 1) + (long)start * LANES;
        for (int r = 0; r < rows; r += 2) {
            for (int c = 0; c < to; c += LANES) {
                __m512 activated[2];
                UNROLL for (int q = 0; q < 2; q++) {
                    const long place = (long)(r + q) * net->stride + c;
                    const __m512 value = _mm512_loadu_ps(space->outputs + place), share = sigmoid(value);
                    activated[q] = _mm512_mul_ps(value, share);
                    _mm512_storeu_ps(derivatives + place, _mm512_fmadd_ps(activated[q], _mm512_sub_ps(one, share), share));
                }
                keep(net, space, r, c, to, activated[0], activated[1], entries);
            }
        }
    }
    loss(net, step, member, tile, count, space);
    memset(space->outputs + (long)count * net->stride, 0, (long)(rows - count) * net->stride * sizeof(float));
    for (int layer = last; layer >= 0; layer--) {
        const int from = net->sizes[layer], to = net->sizes[layer + 1];
        const float *derivatives = space->derivatives + (long)layer * TILE * net->stride;
        uint16_t *slopes = net->slopes[layer] + member * packed_size(net->batch_pairs, to) + (long)start * LANES;
        for (int r = 0; r < rows; r += 2) {
            for (int c = 0; c < to; c += LANES) {
                __m512 slope[2];
                UNROLL for (int q = 0; q < 2; q++) {
                    const long place = (long)(r + q) * net->stride + c;
                    slope[q] = _mm512_loadu_ps(space->outputs + place);
                    if (layer < last) slope[q] = _mm512_mul_ps(slope[q], _mm512_loadu_ps(derivatives + place));
                }
                keep(net, space, r, c, to, slope[0], slope[1], slopes);
            }
        }
        if (layer)
            multiply((Product){space->rows, net->stride, 2, net->backward[layer] + member * packed_size(pairs(to), from),
                               pairs(to), 0, space->outputs, net->stride}, rows, from);
    }
}

/* What a gradient is for: a step of Adam, or to be kept. */
INLINE void use(const Network *net, const Step *step, long place, __mmask16 inside, __m512 decay, __m512 gradient) {
    const __m512 value = _mm512_maskz_loadu_ps(inside, net->values + place);
    gradient = _mm512_fmadd_ps(decay, value, gradient);
    if (step->rate == 0.0f) {
        _mm512_mask_storeu_ps(net->gradient + place, inside, gradient);
        return;
    }
    const __m512 keep_first = _mm512_set1_ps(0.9f), keep_second = _mm512_set1_ps(0.999f);
    const __m512 squared = _mm512_mul_ps(gradient, gradient);
    __m512 first = _mm512_maskz_loadu_ps(inside, net->first_moment + place);
    __m512 second = _mm512_maskz_loadu_ps(inside, net->second_moment + place);
    first = _mm512_fmadd_ps(keep_first, _mm512_sub_ps(first, gradient), gradient);
    second = _mm512_fmadd_ps(keep_second, _mm512_sub_ps(second, squared), squared);
    const __m512 size = _mm512_fmadd_ps(_mm512_sqrt_ps(second), _mm512_set1_ps(step->correction), _mm512_set1_ps(1e-8f));
    const __m512 change = _mm512_mul_ps(_mm512_set1_ps(step->rate), _mm512_div_ps(first, size));
    _mm512_mask_storeu_ps(net->first_moment + place, inside, first);
    _mm512_mask_storeu_ps(net->second_moment + place, inside, second);
    _mm512_mask_storeu_ps(net->values + place, inside, _mm512_sub_ps(value, change));
}

/* TILE rows of a layer's weights, of which the bias is the last. */
TARGET static void weights(const Network *net, const Step *step, int member, int layer, int tile, float *sums) {
    const int rows = net->sizes[layer] + 1, out = net->sizes[layer + 1], start = tile * TILE;
    const int count = rows - start < TILE ? rows - start : TILE;
    const long chunk_step = 2L * LANES * net->batch_pairs;
    Product product = {0, 2, 2L * LANES, net->slopes[layer] + member * packed_size(net->batch_pairs, out), net->batch_pairs,
                       0, sums, net->stride};
    for (int r = 0; r < count; r += LANES) {
        product.left = net->entries[layer] + member * packed_size(net->batch_pairs, rows) + (start + r) / LANES * chunk_step;
        product.out = sums + (long)r * net->stride;
        multiply(product, count - r > ROWS ? LANES : ROWS, out);
    }
    const long first = net->places[layer] + ((long)member * rows + start) * out;
    for (int r = 0; r < count; r++) {
        const __m512 decay = _mm512_set1_ps(start + r + 1 < rows ? net->decay[layer] : 0.0f);
        for (int c = 0; c < out; c += LANES)
            use(net, step, first + (long)r * out + c, lanes(out - c), decay, _mm512_loadu_ps(sums + (long)r * net->stride + c));
    }
}

/* A member's variance bounds. */
TARGET static void bounds(const Network *net, const Step *step, int member) {
    const int size = net->obs_size, padded = chunks(size) * LANES, tiles = tiles_of(net->batch);
    const float *shares = net->bounds_shares + (long)member * tiles * 2 * padded;
    for (int bound = 0; bound < 2; bound++) {
        const long first = net->places[net->num_layers] + ((long)bound * net->members + member) * size;
        for (int i = 0; i < size; i += LANES) {
            __m512 sum = _mm512_set1_ps(bound ? -net->penalty : net->penalty);
            for (int tile = 0; tile < tiles; tile++)
                sum = _mm512_add_ps(sum, _mm512_loadu_ps(shares + (2L * tile + bound) * padded + i));
            use(net, step, first + i, lanes(size - i), _mm512_setzero_ps(), sum);
        }
    }
}

static void wait_for(const int64_t *done, int64_t needed) {
    while (__atomic_load_n(done, __ATOMIC_ACQUIRE) < needed) sched_yield();
}

/* Takes units of all steps until none is left. `counters`, zero at first: units taken, workspaces taken, and for each member
 * how many units of the three kinds are done. A unit waits for those that it needs, all of which are taken before it. */
EXPORT int mbrl_gradient_descend(const Network *net, int64_t num_steps, const Step *steps, int64_t *counters) {
    const int64_t layers = net->num_layers, tiles = tiles_of(net->batch);
    int64_t parts = 0;
    for (int layer = 0; layer < layers; layer++) parts += tiles_of(net->sizes[layer] + 1);
    const int64_t packs_end = net->members * layers, passes_end = packs_end + net->members * tiles;
    const int64_t end = passes_end + net->members * parts, room = (int64_t)TILE * net->stride;
    int64_t *packed = counters + 2, *passed = packed + net->members, *used = passed + net->members;
    Workspace space;
    space.outputs = (float *)(net->workspaces + __atomic_fetch_add(counters + 1, 1, __ATOMIC_RELAXED) * net->workspace_size);
    space.derivatives = space.outputs + room;
    space.rows = (uint16_t *)(space.derivatives + room * layers);
    for (int64_t taken; (taken = __atomic_fetch_add(counters, 1, __ATOMIC_RELAXED)) < num_steps * end;) {
        const int64_t index = taken / end;
        const Step *step = steps + index;
        int64_t unit = taken % end;
        if (unit < packs_end) {
            const int64_t member = unit / layers;
            wait_for(used + member, index * parts);
            pack(net, (int)member, (int)(unit % layers));
            __atomic_fetch_add(packed + member, 1, __ATOMIC_RELEASE);
        } else if (unit < passes_end) {
            unit -= packs_end;
            const int64_t member = unit / tiles;
            wait_for(packed + member, (index + 1) * layers);
            pass(net, step, (int)member, (int)(unit % tiles), &space);
            __atomic_fetch_add(passed + member, 1, __ATOMIC_RELEASE);
        } else {
            unit -= passes_end;
            const int64_t member = unit / parts;
            int part = (int)(unit % parts), layer = 0;
            wait_for(passed + member, (index + 1) * tiles);
            if (!part) bounds(net, step, (int)member);
            for (int count; part >= (count = tiles_of(net->sizes[layer] + 1)); part -= count) layer++;
            weights(net, step, (int)member, layer, part, space.outputs);
            __atomic_fetch_add(used + member, 1, __ATOMIC_RELEASE);
        }
    }
    return 0;
}

#endif
