/* Gradient steps on the training loss of a probabilistic ensemble on the vector instructions of x86-64 (AVX-512).
 *
 * Three kinds of work units, in this order: a layer's weights are packed; a tile of rows goes forward through a whole network
 * and back, so that activations stay in the nearest caches; some rows of a layer's weights get their gradient and their step.
 * Products are float32, or bfloat16 with float32 sums; biases, SiLU, the loss, gradients and steps are float32. Any number of
 * threads may take units from a shared counter, and the results do not depend on how many did.
 *
 * A matrix (K, N) that is read along N lies in chunks of LANES columns, (N / LANES, K / GROUP, LANES, GROUP): a bfloat16 product
 * sums over a group of two rows at once, so their entries lie side by side. K is rounded up to an even number.
 *
 * Plain C without Python's interface; `compiled_gradient.py` calls it through ctypes. The code is in `gradient_kernel.h`,
 * compiled once for each kind of product.
 */

#include <stdint.h>

#define MAX_LAYERS 10
#define EXPORT __attribute__((visibility("default")))

typedef struct {
    int32_t members, batch, num_layers, obs_size;
    int32_t stride;                       /* of a row in a workspace, entries */
    int32_t batch_rows;                   /* of `entries` and `slopes`: even, with room for a multiple of 8 */
    int32_t sizes[MAX_LAYERS + 1];        /* inputs, units of each layer, outputs */
    float decay[MAX_LAYERS];
    float penalty;                        /* on the distance of the variance bounds, an entry */
    float *values, *gradient;             /* one layer after the other (E, in + 1, out), then the variance bounds (2, E, O) */
    float *first_moment, *second_moment;
    int64_t places[MAX_LAYERS + 1];       /* where in these each layer begins, and the bounds */
    void *forward[MAX_LAYERS];            /* E times (in, out), in chunks */
    float *bias[MAX_LAYERS];              /* (E, out in whole chunks) */
    void *backward[MAX_LAYERS];           /* E times (out, in), in chunks; from the second layer on */
    void *entries[MAX_LAYERS];            /* of a layer, E times (B, in + 1), in chunks; the last column ones */
    void *slopes[MAX_LAYERS];             /* at its outputs, E times (B, out), in chunks */
    float *bounds_shares;                 /* (E, tiles, 2, obs_size in whole chunks) */
    char *workspaces;
    int64_t workspace_size;               /* bytes */
} Network;

#if defined(__x86_64__) && defined(__GNUC__)

#include <math.h>
#include <sched.h>
#include <string.h>

#include "vectors.h"

enum { ROWS = 8, TILE = 32, STRIP = 3 };

static int chunks(int size) { return (size + LANES - 1) / LANES; }

static int even(int size) { return (size + 1) / 2 * 2; }

static int tiles_of(int rows) { return (rows + TILE - 1) / TILE; }

/* Entries of a matrix in chunks; `rows` is even. */
static long packed_size(int rows, int columns) { return (long)LANES * rows * chunks(columns); }

/* One step: a `Batch` of batches.py, and two factors of Adam. Without a rate the gradient is kept, and nothing else changes. */
typedef struct {
    const void *inputs;
    const float *targets;
    const int64_t *input_rows, *target_rows;
    float rate, correction;
} Step;

#define KIND float32

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

#include "gradient_kernel.h"
#undef KIND

#define KIND bfloat16
#include "gradient_kernel.h"
#undef KIND

#endif
