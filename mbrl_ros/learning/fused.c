/* Prediction and trajectory sampling of a probabilistic ensemble on the bfloat16 instructions of x86-64 (AVX-512 BF16).
 *
 * A tile of rows goes through a whole network, and in a rollout through all steps, before the next tile is begun, so that
 * activations stay in the first-level cache. Products are bfloat16 with float32 sums; biases, SiLU, the linear part, variance
 * and noise are float32. Tiles are independent: any number of threads may take them from a shared counter, and the results do
 * not depend on how many did.
 *
 * Plain C without Python's interface; `fused.py` calls it through ctypes and documents shapes.
 */

#include <stdint.h>

#define MAX_LAYERS 10
#define EXPORT __attribute__((visibility("default")))

typedef struct {
    int32_t members, obs_size, action_size, num_layers;
    int32_t padded_obs;            /* obs_size in whole vectors; the mean's and the logit's share of the last layer */
    int32_t stride;                /* of an activation row, entries */
    int32_t pairs[MAX_LAYERS];     /* rows of a layer's weights, two by two */
    int32_t columns[MAX_LAYERS];   /* a multiple of 8 */
    const uint16_t *weights[MAX_LAYERS];
    const float *bias[MAX_LAYERS];
    const float *input_mean, *input_scale;           /* (I), in whole vectors */
    const float *linear, *linear_bias;               /* (E, I, padded_obs), (E, padded_obs) */
    const float *smallest_variance, *largest_variance; /* (E, padded_obs) */
} Network;

#if defined(__x86_64__) && defined(__GNUC__)

#include <stdlib.h>
#include <string.h>

#include "vectors.h"

enum { ROWS = 8, TILE = 48, LANES = 16 };

EXPORT int mbrl_fused_is_supported(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("fma");
}

INLINE __m512 silu(__m512 x) { return _mm512_mul_ps(x, sigmoid(x)); }

/* ROWS rows times `full` vectors of 16 columns and, with `half`, 8 more. Both are constants where this is inlined. */
INLINE void block(const int full, const int half, const uint16_t *rows, int stride, const uint16_t *weights, const float *bias,
                  int pairs, uint16_t *hidden, float *outputs, int out_stride) {
    __m512 sums[ROWS][2];
    __m256 tails[ROWS];
    UNROLL for (int c = 0; c < full; c++)
        UNROLL for (int r = 0; r < ROWS; r++) sums[r][c] = _mm512_loadu_ps(bias + LANES * c);
    if (half) UNROLL for (int r = 0; r < ROWS; r++) tails[r] = _mm256_loadu_ps(bias + LANES * full);
    for (int k = 0; k < pairs; k++) {
        __m512bh vectors[2];
        __m256bh tail = {0};
        UNROLL for (int c = 0; c < full; c++) vectors[c] = (__m512bh)_mm512_loadu_si512(weights + 32 * c);
        if (half) tail = (__m256bh)_mm256_loadu_si256((const __m256i *)(weights + 32 * full));
        weights += 32 * full + 16 * half;
        UNROLL for (int r = 0; r < ROWS; r++) {
            int32_t two;
            memcpy(&two, rows + (long)r * stride + 2 * k, sizeof two);
            __m512i both = _mm512_set1_epi32(two);
            UNROLL for (int c = 0; c < full; c++) sums[r][c] = _mm512_dpbf16_ps(sums[r][c], (__m512bh)both, vectors[c]);
            if (half) tails[r] = _mm256_dpbf16_ps(tails[r], (__m256bh)_mm512_castsi512_si256(both), tail);
        }
    }
    if (hidden) {
        UNROLL for (int r = 0; r < ROWS; r++) {
            uint16_t *to = hidden + (long)r * out_stride;
            UNROLL for (int c = 0; c < full; c++)
                _mm256_storeu_si256((__m256i *)(to + LANES * c), (__m256i)_mm512_cvtneps_pbh(silu(sums[r][c])));
            if (half) {
                __m256 low = _mm512_castps512_ps256(silu(_mm512_castps256_ps512(tails[r])));
                _mm_storeu_si128((__m128i *)(to + LANES * full), (__m128i)_mm256_cvtneps_pbh(low));
            }
        }
    } else {
        UNROLL for (int r = 0; r < ROWS; r++) {
            float *to = outputs + (long)r * out_stride;
            UNROLL for (int c = 0; c < full; c++) _mm512_storeu_ps(to + LANES * c, sums[r][c]);
            if (half) _mm256_storeu_ps(to + LANES * full, tails[r]);
        }
    }
}

#define BLOCK(full, half)                                                                                              \
    TARGET static void block_##full##_##half(const uint16_t *rows, int stride, const uint16_t *weights, const float *bias, \
                                             int pairs, uint16_t *hidden, float *outputs, int out_stride) {            \
        if (hidden) block(full, half, rows, stride, weights, bias, pairs, hidden, 0, out_stride);                      \
        else block(full, half, rows, stride, weights, bias, pairs, 0, outputs, out_stride);                            \
    }
BLOCK(2, 1) BLOCK(2, 0) BLOCK(1, 1) BLOCK(1, 0) BLOCK(0, 1)

/* Columns of the next block: 40 keeps the registers full; what is left is split evenly. `fused.py` packs in the same order. */
static int block_columns(int left) {
    if (left >= 80 || left == 40) return 40;
    if (left > 40) return left >= 64 ? 32 : 24;
    return left;
}

/* One layer of a tile: hidden activations, or outputs where `hidden` is null. */
TARGET static void layer(const Network *net, int index, int member, const uint16_t *rows, int count, uint16_t *hidden,
                         float *outputs) {
    const int pairs = net->pairs[index], columns = net->columns[index];
    const int out_stride = hidden ? net->stride : 2 * net->padded_obs;
    const uint16_t *weights = net->weights[index] + (long)member * pairs * columns * 2;
    const float *bias = net->bias[index] + (long)member * columns;
    for (int c = 0, width; c < columns; c += width) {
        width = block_columns(columns - c);
        for (int r = 0; r < count; r += ROWS) {
            const uint16_t *from = rows + (long)r * net->stride;
            uint16_t *to = hidden ? hidden + (long)r * out_stride + c : 0;
            float *out = hidden ? 0 : outputs + (long)r * out_stride + c;
            switch (width) {
            case 40: block_2_1(from, net->stride, weights, bias + c, pairs, to, out, out_stride); break;
            case 32: block_2_0(from, net->stride, weights, bias + c, pairs, to, out, out_stride); break;
            case 24: block_1_1(from, net->stride, weights, bias + c, pairs, to, out, out_stride); break;
            case 16: block_1_0(from, net->stride, weights, bias + c, pairs, to, out, out_stride); break;
            default: block_0_1(from, net->stride, weights, bias + c, pairs, to, out, out_stride); break;
            }
        }
        weights += (long)pairs * width * 2;
    }
}

/* What one thread works in. */
typedef struct {
    uint16_t *first, *second;  /* activations of a tile */
    float *inputs;             /* normalised, (TILE, padded I) */
    float *outputs;            /* (TILE, 2 padded_obs) */
    float *mean, *std;         /* (TILE, padded_obs) */
} Workspace;

static int whole_vectors(int size) { return (size + LANES - 1) / LANES * LANES; }

static void *open_workspace(const Network *net, Workspace *space) {
    const long inputs = whole_vectors(net->obs_size + net->action_size);
    const long halves = 2L * TILE * net->stride, floats = TILE * (inputs + 4L * net->padded_obs);
    void *memory = 0;
    if (posix_memalign(&memory, 64, halves * sizeof(uint16_t) + floats * sizeof(float))) return 0;
    memset(memory, 0, halves * sizeof(uint16_t) + floats * sizeof(float));
    space->first = memory;
    space->second = space->first + (long)TILE * net->stride;
    space->inputs = (float *)(space->first + halves);
    space->outputs = space->inputs + TILE * inputs;
    space->mean = space->outputs + 2L * TILE * net->padded_obs;
    space->std = space->mean + (long)TILE * net->padded_obs;
    return memory;
}

/* Mean and standard deviation of the next observation for up to TILE rows, into the workspace. */
TARGET static void step(const Network *net, int member, int count, const float *obs, const float *action, long action_stride,
                        Workspace *space) {
    const int size = net->obs_size, inputs = size + net->action_size, padded = whole_vectors(inputs), width = net->padded_obs;
    for (int r = 0; r < count; r++) {
        float *row = space->inputs + (long)r * padded;
        memcpy(row, obs + (long)r * size, size * sizeof(float));
        memcpy(row + size, action + r * action_stride, net->action_size * sizeof(float));
        for (int i = 0; i < padded; i += LANES) {
            __m512 value = _mm512_sub_ps(_mm512_loadu_ps(row + i), _mm512_loadu_ps(net->input_mean + i));
            value = _mm512_mul_ps(value, _mm512_loadu_ps(net->input_scale + i));
            _mm512_storeu_ps(row + i, value);
            _mm256_storeu_si256((__m256i *)(space->first + (long)r * net->stride + i), (__m256i)_mm512_cvtneps_pbh(value));
        }
    }
    const int rounded = (count + ROWS - 1) / ROWS * ROWS, last = net->num_layers - 1;
    uint16_t *from = space->first, *to = space->second;
    for (int index = 0; index < last; index++) {
        layer(net, index, member, from, rounded, to, 0);
        uint16_t *swapped = from;
        from = to;
        to = swapped;
    }
    layer(net, last, member, from, rounded, 0, space->outputs);
    const float *linear = net->linear + (long)member * inputs * width;
    for (int c = 0; c < width; c += LANES) {
        const __m512 bias = _mm512_loadu_ps(net->linear_bias + (long)member * width + c);
        const __m512 smallest = _mm512_loadu_ps(net->smallest_variance + (long)member * width + c);
        const __m512 largest = _mm512_loadu_ps(net->largest_variance + (long)member * width + c);
        const __mmask16 inside = c + LANES <= size ? 0xffff : (__mmask16)((1u << (size - c)) - 1);
        for (int r = 0; r < count; r += 4) {
            __m512 sums[4];
            UNROLL for (int q = 0; q < 4; q++) sums[q] = bias;
            for (int i = 0; i < inputs; i++) {
                const __m512 weights = _mm512_loadu_ps(linear + (long)i * width + c);
                UNROLL for (int q = 0; q < 4; q++)
                    sums[q] = _mm512_fmadd_ps(_mm512_set1_ps(space->inputs[(long)(r + q) * padded + i]), weights, sums[q]);
            }
            for (int q = 0; q < 4 && r + q < count; q++) {
                const float *out = space->outputs + (long)(r + q) * 2 * width + c;
                __m512 mean = _mm512_add_ps(sums[q], _mm512_maskz_loadu_ps(inside, obs + (long)(r + q) * size + c));
                mean = _mm512_add_ps(mean, _mm512_loadu_ps(out));
                const __m512 variance = _mm512_fmadd_ps(largest, sigmoid(_mm512_loadu_ps(out + width)), smallest);
                _mm512_storeu_ps(space->mean + (long)(r + q) * width + c, mean);
                _mm512_storeu_ps(space->std + (long)(r + q) * width + c, _mm512_sqrt_ps(variance));
            }
        }
    }
}

/* Takes tiles until none is left. Returns 0, or 1 when there is no memory. */
EXPORT int mbrl_fused_predict(const Network *net, int64_t batch, const float *obs, const float *action, float *mean, float *std,
                              int64_t *counter) {
    Workspace space;
    void *memory = open_workspace(net, &space);
    if (!memory) return 1;
    const int64_t tiles = (batch + TILE - 1) / TILE;
    const int size = net->obs_size, width = net->padded_obs;
    for (int64_t unit; (unit = __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED)) < net->members * tiles;) {
        const int64_t member = unit / tiles, start = unit % tiles * TILE, row = member * batch + start;
        const int count = batch - start < TILE ? (int)(batch - start) : TILE;
        step(net, (int)member, count, obs + row * size, action + row * net->action_size, net->action_size, &space);
        for (int r = 0; r < count; r++) {
            memcpy(mean + (row + r) * size, space.mean + (long)r * width, size * sizeof(float));
            memcpy(std + (row + r) * size, space.std + (long)r * width, size * sizeof(float));
        }
    }
    free(memory);
    return 0;
}

/* Fills path[1:] from path[0]; as for predicting otherwise. */
EXPORT int mbrl_fused_rollout(const Network *net, int64_t horizon, int64_t particles, int64_t candidates, const int32_t *members,
                              const float *actions, const float *noise, float *path, int64_t *counter) {
    Workspace space;
    void *memory = open_workspace(net, &space);
    if (!memory) return 1;
    const int64_t tiles = (candidates + TILE - 1) / TILE;
    const int size = net->obs_size, width = net->padded_obs;
    for (int64_t unit; (unit = __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED)) < particles * tiles;) {
        const int64_t particle = unit / tiles, start = unit % tiles * TILE;
        const int count = candidates - start < TILE ? (int)(candidates - start) : TILE;
        const long action_stride = (long)(horizon * net->action_size);
        for (int64_t h = 1; h < horizon; h++) {
            const float *obs = path + (((h - 1) * particles + particle) * candidates + start) * size;
            float *next = path + ((h * particles + particle) * candidates + start) * size;
            const float *draw = noise + (h * particles + particle) * size;
            step(net, members[h * particles + particle], count, obs, actions + start * action_stride + h * net->action_size,
                 action_stride, &space);
            for (int r = 0; r < count; r++)
                for (int i = 0; i < size; i++)
                    next[(long)r * size + i] = space.mean[(long)r * width + i] + space.std[(long)r * width + i] * draw[i];
        }
    }
    free(memory);
    return 0;
}

#else

EXPORT int mbrl_fused_is_supported(void) { return 0; }

#endif
