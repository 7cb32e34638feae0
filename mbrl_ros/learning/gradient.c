/* Gradient steps on the training loss of a probabilistic ensemble on the vector instructions of x86-64 (AVX-512).
 *
 * A thread takes one member through many steps in a row, so that its weights and their moments stay in the second-level cache.
 * Forward and back a lane is a row, and a weight is broadcast from where it lies; for the gradient of the weights a lane is a
 * column of them. A tile of that gradient becomes a step of Adam as soon as it is known. Products are float32, or bfloat16 with
 * float32 sums; biases, SiLU, the loss, gradients and steps are float32. Any number of threads may take pieces of the work from
 * a shared counter, and the results do not depend on how many did.
 *
 * Plain C without Python's interface; `compiled_gradient.py` calls it through ctypes. The code is in `gradient_kernel.h`,
 * compiled once for each kind of product.
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
    int64_t places[MAX_LAYERS + 1];       /* where in these each layer begins, and the bounds */
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
enum { UNITS = 8, STRIP = 3 };

/* One step: a `Batch` of batches.py, and two numbers of Adam. Without a rate the gradient is kept, and nothing else changes. */
typedef struct {
    const void *inputs;
    const float *targets;
    const int64_t *input_rows, *target_rows;
    float rate, epsilon;
} Step;

static long whole(long size, long unit) { return (size + unit - 1) / unit * unit; }

/* How many of the next vectors go together, so that all strips are about as wide. */
static int width_of(int vectors) { return vectors / ((vectors + STRIP - 1) / STRIP); }

#define KIND float32

/* What a gradient is for: a step of Adam, or to be kept. The moments are sums, which `rate` and `epsilon` take account of. */
INLINE void use(const Network *net, Step step, long place, __mmask16 inside, float decay, __m512 gradient, float *moments) {
    const __m512 value = _mm512_maskz_loadu_ps(inside, net->values + place);
    gradient = _mm512_fmadd_ps(_mm512_set1_ps(decay), value, gradient);
    if (step.rate == 0.0f) {
        _mm512_mask_storeu_ps(net->gradient + place, inside, gradient);
        return;
    }
    const __m512 first = _mm512_fmadd_ps(_mm512_loadu_ps(moments), _mm512_set1_ps(0.9f), gradient);
    /* A little more, as zero has no reciprocal root. */
    __m512 second = _mm512_fmadd_ps(_mm512_loadu_ps(moments + LANES), _mm512_set1_ps(0.999f), _mm512_set1_ps(1e-33f));
    second = _mm512_fmadd_ps(gradient, gradient, second);
    /* Twice the root, from the table instruction with a step of Newton's method. */
    const __m512 guess = _mm512_rsqrt14_ps(second), root = _mm512_mul_ps(second, guess);
    const __m512 twice = _mm512_fnmadd_ps(root, guess, _mm512_set1_ps(3.0f));
    const __m512 size = _mm512_fmadd_ps(root, twice, _mm512_set1_ps(step.epsilon));
    const __m512 change = _mm512_mul_ps(first, reciprocal(size));
    _mm512_storeu_ps(moments, first);
    _mm512_storeu_ps(moments + LANES, second);
    _mm512_mask_storeu_ps(net->values + place, inside, _mm512_fnmadd_ps(_mm512_set1_ps(step.rate), change, value));
}

#undef KIND

static void wait_for(const int64_t *done, int64_t needed) {
    while (__atomic_load_n(done, __ATOMIC_ACQUIRE) < needed) sched_yield();
}

#define KIND float32
#include "gradient_kernel.h"
#undef KIND

#define KIND bfloat16
#include "gradient_kernel.h"
#undef KIND

#define KIND float32

/* The likelihood's part of the loss of a member, summed over some rows and all outputs. */
TARGET static float likelihood(const Network *net, const Step *step, int member, long start, int count,
                               Workspace_float32 *space) {
    const int size = net->obs_size, last = net->num_layers - 1;
    const float *maximum = net->values + net->places[net->num_layers] + (long)member * size;
    const float *minimum = maximum + (long)net->members * size;
    __m512 sum = _mm512_setzero_ps();
    inputs_float32(net, step, step->input_rows + start, count, space);
    for (int layer = 0; layer <= last; layer++) {
        pack_float32(net, member, layer, space);
        layer_float32(net, member, layer, space);
    }
    for (int r = 0; r < count; r += LANES) {
        targets_float32(net, step, step->target_rows + start + r, count - r, space);
        const __m512 weight = _mm512_loadu_ps(space->targets + size * LANES);
        for (int i = 0; i < size; i++) {
            const float *mean = space->slopes[last] + i * space->stride + r, *logit = mean + size * space->stride;
            const __m512 share = logistic_float32(_mm512_sub_ps(_mm512_loadu_ps(logit), _mm512_set1_ps(maximum[i])));
            const __m512 variance = _mm512_fmadd_ps(_mm512_set1_ps(expf(maximum[i])), share, _mm512_set1_ps(expf(minimum[i])));
            const __m512 error = _mm512_sub_ps(_mm512_loadu_ps(mean), _mm512_loadu_ps(space->targets + i * LANES));
            float logs[LANES];
            _mm512_storeu_ps(logs, variance);
            for (int lane = 0; lane < LANES; lane++) logs[lane] = logf(logs[lane]);
            const __m512 loss = _mm512_add_ps(_mm512_div_ps(_mm512_mul_ps(error, error), variance), _mm512_loadu_ps(logs));
            sum = _mm512_mask3_fmadd_ps(loss, weight, sum, lanes(count - r));
        }
    }
    return _mm512_reduce_add_ps(sum);
}

/* Takes tiles of `rows` rows until none is left, for `sums` (E, tiles). Returns 0, or 1 when there is no memory. */
static int validate(const Network *net, const Step *step, int64_t rows, int64_t tiles, float *sums, int64_t *taken) {
    Workspace_float32 space;
    void *memory = open_float32(net, (int)((rows + tiles - 1) / tiles), &space);
    if (!memory) return 1;
    const unsigned control = flush_denormals();
    for (int64_t unit; (unit = __atomic_fetch_add(taken, 1, __ATOMIC_RELAXED)) < net->members * tiles;) {
        const int64_t member = unit / tiles, start = rows * (unit % tiles) / tiles, end = rows * (unit % tiles + 1) / tiles;
        sums[unit] = likelihood(net, step, (int)member, member * rows + start, (int)(end - start), &space);
    }
    _mm_setcsr(control);
    free(memory);
    return 0;
}

EXPORT int mbrl_validate(const Network *net, int threads, const Step *step, int64_t rows, int64_t tiles, float *sums) {
    int64_t taken = 0;
    int failed = 0;
    #pragma omp parallel num_threads(threads) reduction(|:failed)
    failed = validate(net, step, rows, tiles, sums, &taken);
    return failed;
}

#undef KIND

#endif
