/* Gradient steps on the training loss of a probabilistic ensemble on the vector instructions of x86-64 (AVX-512, or AVX2).
 *
 * A thread takes one member through many steps in a row, so that its weights and their moments stay in the second-level cache.
 * In forward and backward passes a lane is a row, and weights are broadcast; in the gradient of the weights a lane is a column of
 * weights. Each tile of that gradient is applied as a step of Adam as soon as it is computed. Products are float32, or bfloat16
 * with float32 sums; biases, SiLU, the loss, gradients and steps are float32. Threads take pieces of the work from a shared
 * counter, and the results do not depend on the number of threads.
 *
 * Plain C without Python's interface; `compiled_gradient.py` calls it through ctypes. The code is in `gradient_kernel.h`
 * and `validation_kernel.h`, compiled once for each kind of product.
 */

#include <stdint.h>

#define MAX_LAYERS 10
#define EXPORT __attribute__((visibility("default")))

typedef struct {
    int32_t members, batch, num_layers, obs_size;
    int32_t sizes[MAX_LAYERS + 1];        /* inputs, units of each layer, outputs */
    float decay[MAX_LAYERS];
    float penalty;                        /* on the distance of the variance bounds, an entry */
    float *values, *gradient;             /* one layer after the other (E, in + 1, out), then the variance bounds (2, E, O) */
    int64_t places[MAX_LAYERS + 1];       /* offsets in both of each layer, then of the bounds */
    float *moments;                       /* E times first and second moments, vector by vector in the order of their use */
    int64_t moments_size;                 /* of a member */
} Network;

#if defined(__x86_64__) && defined(__GNUC__)

#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "vectors.h"

/* UNITS by STRIP vectors fill the registers. */
enum { units_float32 = 8, units_bfloat16 = 8, units_avx2 = 4, STRIP = 3 };
#define UNITS NAME(units)

static const float zeros[LANES];

/* One step: a `Batch` of batches.py, and two parameters of Adam. A rate of 0 only writes the gradient. */
typedef struct {
    const void *inputs;
    const float *targets;
    const int64_t *input_rows, *target_rows;
    float rate, epsilon;
} Step;

static long whole(long size, long unit) { return (size + unit - 1) / unit * unit; }

/* Width of the next strip, so that all strips of the vectors have about the same width. */
static int width_of(int vectors) { return vectors / ((vectors + STRIP - 1) / STRIP); }

static void wait_for(const int64_t *done, int64_t needed) {
    while (__atomic_load_n(done, __ATOMIC_ACQUIRE) < needed) sched_yield();
}

/* Products in float32, by the width of vectors. */
#define columns_wide columns_float32
#define columns_narrow columns_avx2

#define KIND float32
#include "gradient_kernel.h"
#include "validation_kernel.h"
#undef KIND

#define KIND bfloat16
#include "gradient_kernel.h"
#undef KIND

#define KIND avx2
#include "gradient_kernel.h"
#include "validation_kernel.h"
#undef KIND

#endif
