/* Prediction and trajectory sampling of a probabilistic ensemble on the vector instructions of x86-64 (AVX-512).
 *
 * A lane is a row. A tile of rows goes through a whole network, and in a rollout through all steps, before the next tile is begun,
 * so that activations stay in the nearest caches. Products and SiLU are float32, or bfloat16 with float32 sums, or float16; the linear
 * part, variance and noise are float32. Tiles are independent: any number of threads may take them from a shared counter, and
 * the results do not depend on how many did.
 *
 * Plain C without Python's interface; `fused.py` calls it through ctypes and documents shapes. The code is in
 * `fused_kernel.h`, compiled once for each kind of product.
 */

#include <stdint.h>

#define MAX_LAYERS 10
#define EXPORT __attribute__((visibility("default")))

typedef struct {
    int32_t members, obs_size, action_size, num_layers;
    int32_t widest;                /* entries of a row, of inputs or of the largest hidden layer */
    int32_t depth[MAX_LAYERS];     /* inputs of a layer, in groups of as many as a product sums over */
    int32_t units[MAX_LAYERS];     /* in whole blocks; of the last one the means first, then the logits */
    const void *weights[MAX_LAYERS];                   /* (E, units / UNITS, depth, UNITS), of groups */
    const float *bias[MAX_LAYERS];                     /* (E, units) */
    const float *input_mean, *input_scale;             /* (I) */
    const float *linear, *linear_bias;                 /* (E, O / UNITS, I, UNITS), (E, O), in whole blocks */
    const float *mean_scale;                           /* what the mean's share of the last layer counts, (E, O) */
    const float *smallest_variance, *largest_variance; /* (E, O) */
} Network;

#if defined(__x86_64__) && defined(__GNUC__)

#include <stdbool.h>
#include <stdlib.h>

#include "vectors.h"

/* A block of UNITS by STRIP vectors fills the registers. A tile's activations leave room for a layer's weights in the second-level
 * cache, where a network of several hundred kilobytes comes from farther away for each tile. */
enum { UNITS = 8, STRIP = 3, LARGEST_TILE = 192 };

static const float zeros[2 * LANES];

static long whole(long size, long unit) { return (size + unit - 1) / unit * unit; }

/* Rows of a tile, in whole vectors, so that all tiles of a batch are about as large. */
static int64_t tile_rows(int64_t batch, int64_t span) {
    const int64_t tiles = (batch + LARGEST_TILE - 1) / LARGEST_TILE, rows = tiles ? (batch + tiles - 1) / tiles : 1;
    return whole(rows, span);
}

#define KIND float32

/* `count` rows of `size` entries become columns of `lanes` each. */
TARGET static void from_rows(const float *rows, int size, int count, float *columns, int num_lanes) {
    for (int r = 0; r < num_lanes; r += LANES) {
        for (int c = 0; c < size; c += LANES) {
            __m512 square[LANES];
            UNROLL for (int q = 0; q < LANES; q++)
                square[q] = _mm512_maskz_loadu_ps(r + q < count ? lanes(size - c) : 0, rows + (long)(r + q) * size + c);
            transpose(square);
            UNROLL for (int q = 0; q < LANES; q++)
                if (c + q < size) _mm512_storeu_ps(columns + (c + q) * num_lanes + r, square[q]);
        }
    }
}

/* And back. */
TARGET static void to_rows(const float *columns, int num_lanes, float *rows, int size, int count) {
    for (int r = 0; r < count; r += LANES) {
        for (int c = 0; c < size; c += LANES) {
            __m512 square[LANES];
            UNROLL for (int q = 0; q < LANES; q++)
                square[q] = c + q < size ? _mm512_loadu_ps(columns + (c + q) * num_lanes + r) : _mm512_setzero_ps();
            transpose(square);
            UNROLL for (int q = 0; q < LANES; q++)
                if (r + q < count) _mm512_mask_storeu_ps(rows + (long)(r + q) * size + c, lanes(size - c), square[q]);
        }
    }
}

#undef KIND

#define KIND float32
#include "fused_kernel.h"
#undef KIND

#define KIND bfloat16
#include "fused_kernel.h"
#undef KIND

#ifdef HAS_FLOAT16
#define KIND float16
#include "fused_kernel.h"
#undef KIND
#endif

EXPORT int mbrl_supports_float32(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma");
}

EXPORT int mbrl_supports_bfloat16(void) { return mbrl_supports_float32() && __builtin_cpu_supports("avx512bf16"); }

EXPORT int mbrl_supports_float16(void) {
#ifdef HAS_FLOAT16
    return mbrl_supports_float32() && __builtin_cpu_supports("avx512fp16");
#else
    return 0;
#endif
}

#else

EXPORT int mbrl_supports_float32(void) { return 0; }
EXPORT int mbrl_supports_bfloat16(void) { return 0; }
EXPORT int mbrl_supports_float16(void) { return 0; }

#endif
