/* Prediction and trajectory sampling of a probabilistic ensemble on the vector instructions of x86-64 (AVX-512).
 *
 * A tile of rows goes through a whole network, and in a rollout through all steps, before the next tile is begun, so that
 * activations stay in the nearest caches. Products and SiLU are float32, or bfloat16 with float32 sums, or float16; the linear
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
    int32_t padded_obs;            /* obs_size in whole blocks; the mean's and the logit's share of the last layer */
    int32_t stride;                /* of an activation row, entries */
    int32_t depth[MAX_LAYERS];     /* rows of a layer's weights, in groups of as many as a product sums over */
    int32_t columns[MAX_LAYERS];   /* in whole vectors */
    const void *weights[MAX_LAYERS];
    const float *bias[MAX_LAYERS];
    const float *input_mean, *input_scale;           /* (I), in whole vectors */
    const float *linear, *linear_bias;               /* (E, I, padded_obs), (E, padded_obs) */
    const float *mean_scale;                         /* what the mean's share of the last layer counts, (E, padded_obs) */
    const float *smallest_variance, *largest_variance; /* (E, padded_obs) */
} Network;

#if defined(__x86_64__) && defined(__GNUC__)

#include <stdlib.h>

#include "vectors.h"

/* A block of ROWS by WIDTH vectors fills the registers. A tile's activations leave room for a layer's weights in the second-level
 * cache, where a network of several hundred kilobytes comes from farther away for each tile. */
enum { ROWS = 12, WIDTH = 2, LARGEST_TILE = 192 };

static int whole_vectors(int size) { return (size + LANES - 1) / LANES * LANES; }

/* Rows of a tile, in whole blocks, so that all tiles of a batch are about as large. */
static int64_t tile_rows(int64_t batch) {
    const int64_t tiles = (batch + LARGEST_TILE - 1) / LARGEST_TILE, rows = tiles ? (batch + tiles - 1) / tiles : 1;
    return (rows + ROWS - 1) / ROWS * ROWS;
}

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
