/* Prediction and trajectory sampling of a probabilistic ensemble on the vector instructions of x86-64 (AVX-512, or AVX2).
 *
 * A lane is a row. A tile of rows goes through a whole network, and in a rollout through all steps, before the next tile begins,
 * so that activations stay in the nearest caches. Products and SiLU are float32, or bfloat16 with float32 sums, or float16; the
 * linear part, variance and noise are float32. Tiles are independent: threads take them from a shared counter, and the results do
 * not depend on the number of threads.
 *
 * Plain C without Python's interface; `fused.py` calls it through ctypes and documents shapes. The code is in
 * `fused_kernel.h`, compiled once for each kind of product.
 */

#include <stdint.h>

/* As in native.py; must increase with every change of the arguments between Python and C. */
#define INTERFACE 2
#define MAX_LAYERS 10
/* Largest normalised input, as in normalizer.py. */
#define INPUT_BOUND 20.0f
#define EXPORT __attribute__((visibility("default")))

/* Scales of the features of `spaces/tool_frame.py`. */
typedef struct {
    float offset_m, height_m, closeness_m, symmetry;
} ToolFrame;

typedef struct {
    int32_t members, obs_size, action_size, num_layers;
    int32_t widest;                /* entries of a row, of inputs or of the largest hidden layer */
    int32_t depth[MAX_LAYERS];     /* inputs of a layer, in groups of as many as a product sums over */
    int32_t units[MAX_LAYERS];     /* in whole blocks; those of the last layer are first the means, then the logits */
    const void *weights[MAX_LAYERS];                   /* (E, units / UNITS, depth, UNITS), of groups */
    const float *bias[MAX_LAYERS];                     /* (E, units) */
    const float *input_mean, *input_scale;             /* (I) */
    const float *linear, *linear_bias;                 /* (E, O / UNITS, I, UNITS), (E, O), in whole blocks */
    const float *mean_scale;                           /* factor on the means of the last layer, (E, O) */
    const float *smallest_variance, *largest_variance; /* (E, O) */
    const ToolFrame *frame;        /* frame that the networks were trained in; null for none */
} Network;

#if defined(__x86_64__) && defined(__GNUC__)

#include <stdbool.h>
#include <stdlib.h>

#include "vectors.h"

/* A block of UNITS by STRIP vectors fills the registers. A tile's activations leave room for the weights of one layer in the
 * second-level cache; a network of several hundred kilobytes is loaded from beyond that cache for each tile. */
enum { units_float32 = 8, units_bfloat16 = 8, units_float16 = 8, units_avx2 = 4, STRIP = 3, LARGEST_TILE = 192 };
#define UNITS NAME(units)

static const float zeros[2 * LANES];

static long whole(long size, long unit) { return (size + unit - 1) / unit * unit; }

/* Rows of a tile, in whole vectors, so that all tiles of a batch are about as large. */
static int64_t tile_rows(int64_t batch, int64_t span) {
    const int64_t tiles = (batch + LARGEST_TILE - 1) / LARGEST_TILE, rows = tiles ? (batch + tiles - 1) / tiles : 1;
    return whole(rows, span);
}

/* Products and activations in float32, by the width of vectors. */
#define blocks_wide blocks_float32
#define blocks_narrow blocks_avx2
#define logistic_wide logistic_float32
#define logistic_narrow logistic_avx2

/* Entries of an observation over a table, whose velocities come after its positions; see `spaces/tabletop.py`. */
enum { TOOL_HEIGHT = 2, TOOL_YAW = 3, OPENING = 4, BODY = 5, BODY_HEIGHT = 7, BODY_YAW = 8, VELOCITIES = 9 };

#define KIND float32
#include "tool_frame_kernel.h"
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

#define KIND avx2
#include "tool_frame_kernel.h"
#include "fused_kernel.h"
#undef KIND

EXPORT int mbrl_supports_avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

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

EXPORT int mbrl_supports_avx2(void) { return 0; }
EXPORT int mbrl_supports_float32(void) { return 0; }
EXPORT int mbrl_supports_bfloat16(void) { return 0; }
EXPORT int mbrl_supports_float16(void) { return 0; }

#endif

EXPORT int mbrl_interface(void) { return INTERFACE; }
