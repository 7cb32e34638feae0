/* Whole trajectories of an ensemble in one launch, on the bfloat16 matrix units of Hopper GPUs.
 *
 * A block takes 64 candidates of one particle through all layers and all steps. Observations stay in registers from the first step
 * to the last, activations in shared memory. While one layer is computed, the weights of the next one are fetched. Two warpgroups
 * share a layer; each computes half of its columns.
 *
 * Compiled in, see cuda_rollout.py: OBS, ACTION, UNITS of each hidden layer, LAYERS of them, INPUT_BOUND, and the functions
 * multiply_layer and multiply_last, which add the product of 64 rows and 16 columns of activations with the weights of a warpgroup's
 * columns. In shared memory matrices lie in cores of 8 rows of 16 bytes, one after another: of activations down the rows, then along
 * the inner axis; of weights, whose rows here are columns, along the inner axis first. */

#define ROWS 64
#define THREADS 256
#define INPUTS (OBS + ACTION)
#define LARGER(a, b) ((a) > (b) ? (a) : (b))
#define UP(size, unit) (((size) + (unit) - 1) / (unit))

/* Steps of 16 along the inner axis, and tiles of 8 columns that a warpgroup has. */
#define FIRST_STEPS UP(INPUTS, 16)
#define STEPS UP(UNITS, 16)
#define TILES STEPS
#define OBS_TILES UP(OBS, 16)

/* Bytes of the weights of one member: first layer, those between, and the last with mean and logit. */
#define LAYER_STEP_BYTES (2 * TILES * 256)
#define LAST_STEP_BYTES (2 * 2 * OBS_TILES * 256)
#define FIRST_BYTES (FIRST_STEPS * LAYER_STEP_BYTES)
#define HIDDEN_BYTES (STEPS * LAYER_STEP_BYTES)
#define LAST_BYTES (STEPS * LAST_STEP_BYTES)
#define MEMBER_BYTES (FIRST_BYTES + (LAYERS - 1) * HIDDEN_BYTES + LAST_BYTES)
#define BUFFER_BYTES LARGER(LARGER(FIRST_BYTES, HIDDEN_BYTES), LAST_BYTES)

/* Numbers of one member: biases of the hidden layers, then of mean and logit, variances, linear part. */
#define WIDTH (2 * TILES * 8)
#define OBS_WIDTH (2 * OBS_TILES * 8)
#define MEAN_BIAS (LAYERS * WIDTH)
#define LOGIT_BIAS (MEAN_BIAS + OBS_WIDTH)
#define SMALLEST (LOGIT_BIAS + OBS_WIDTH)
#define LARGEST (SMALLEST + OBS_WIDTH)
#define LINEAR (LARGEST + OBS_WIDTH)
#define MEMBER_NUMBERS (LINEAR + INPUTS * OBS_WIDTH)

/* Bytes of 8 columns of activations, and floats of a row of exact inputs; an odd number puts the rows into different banks. */
#define COLUMNS_BYTES (ROWS * 16)
#define EXACT_STRIDE (INPUTS | 1)

__device__ __forceinline__ unsigned shared_address(const void *pointer) {
    return (unsigned)__cvta_generic_to_shared(pointer);
}

/* Descriptor of a matrix for the matrix units: its address, and the distances of cores along the inner and the outer axis. */
__device__ __forceinline__ unsigned long long matrix(unsigned address, unsigned inner_bytes, unsigned outer_bytes) {
    return (unsigned long long)(address >> 4 & 0x3fff) | (unsigned long long)(inner_bytes >> 4) << 16
        | (unsigned long long)(outer_bytes >> 4) << 32;
}

__device__ __forceinline__ unsigned pair(float low, float high) {
    unsigned packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

/* Limit a normalised input; NaN stays NaN. */
__device__ __forceinline__ float within(float value) {
    return value > INPUT_BOUND ? INPUT_BOUND : value < -INPUT_BOUND ? -INPUT_BOUND : value;
}

__device__ __forceinline__ float silu(float value) {
    float half = 0.5f * value, slope;
    asm("tanh.approx.f32 %0, %1;" : "=f"(slope) : "f"(half));
    return half + half * slope;
}

/* Begin to fetch `bytes`; `arrived` counts them. One thread calls this, after all threads have finished reading the target. */
__device__ __forceinline__ void fetch(unsigned to, const char *from, unsigned bytes, unsigned arrived) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(arrived), "r"(bytes) : "memory");
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
                 :: "r"(to), "l"(from), "r"(bytes), "r"(arrived) : "memory");
}

/* Wait until all bytes of the phase `parity` have arrived, and make the writes of all threads visible to the matrix units. */
__device__ __forceinline__ void meet(unsigned arrived, unsigned parity) {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    asm volatile("{\n.reg .pred done;\nwait:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra wait;\n}"
                 :: "r"(arrived), "r"(parity) : "memory");
}

__device__ __forceinline__ void begin_product(void) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void commit_product(void) {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Wait for a product; its sums may not be read before. */
template <int COUNT>
__device__ __forceinline__ void end_product(float (&sums)[COUNT]) {
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
    for (int index = 0; index < COUNT; index++)
        asm volatile("" : "+f"(sums[index]) :: "memory");
}

/* A thread's part of a tile: columns 2 t and 2 t + 1 of rows g and g + 8, with lane = 4 g + t. */
__device__ __forceinline__ void fill(float *sums, const float *columns, int tiles) {
#pragma unroll
    for (int tile = 0; tile < tiles; tile++) {
        const float2 both = __ldg((const float2 *)(columns + tile * 8 + threadIdx.x % 4 * 2));
        sums[4 * tile] = sums[4 * tile + 2] = both.x;
        sums[4 * tile + 1] = sums[4 * tile + 3] = both.y;
    }
}

/* A thread's share of the actions of a step, a tile's rows one after another; zeros beyond the candidates. */
__device__ __forceinline__ void load_actions(float *found, const float *actions, int step, int horizon, int candidates) {
#pragma unroll
    for (int index = 0; index < UP(ROWS * ACTION, THREADS); index++) {
        const int at = threadIdx.x + index * THREADS, candidate = blockIdx.y * ROWS + at / ACTION;
        found[index] = at < ROWS * ACTION && candidate < candidates
            ? __ldg(actions + ((long long)candidate * horizon + step) * ACTION + at % ACTION) : 0.0f;
    }
}

/* start (O), actions (N, H, A), members (H, P), noise (H, P, O), path (H, P, N, O), inputs: mean and scale (2, O + A);
 * weights and numbers are the members', one after another. Blocks: P times the tiles of N. */
extern "C" __global__ void __launch_bounds__(THREADS, 1)
roll_out(const float *start, const float *actions, const int *members, const float *noise, float *path, const char *weights,
         const float *numbers, const float *inputs, int horizon, int candidates) {
    extern __shared__ __align__(128) char memory[];
    char *input = memory + 2 * BUFFER_BYTES, *layer = input + 2 * FIRST_STEPS * COLUMNS_BYTES;
    float *exact = (float *)(layer + 2 * STEPS * COLUMNS_BYTES);
    __shared__ unsigned long long barriers[2];
    const unsigned buffers = shared_address(memory), arrived = shared_address(barriers);
    const int lane = threadIdx.x % 32, group = threadIdx.x / 128, column_of_lane = lane % 4 * 2;
    const int row = threadIdx.x / 32 % 4 * 16 + lane / 4;  /* And the one eight further down. */
    const int particle = blockIdx.x, particles = gridDim.x, candidate = blockIdx.y * ROWS + row;
    const float *scales = inputs + INPUTS;

    for (int at = threadIdx.x; at < 2 * (FIRST_STEPS + STEPS) * COLUMNS_BYTES / 4; at += THREADS)
        ((unsigned *)input)[at] = 0;
    if (threadIdx.x < 2)
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;\nfence.mbarrier_init.release.cluster;"
                     :: "r"(arrived + 8 * threadIdx.x) : "memory");
    __syncthreads();

    float obs[4 * OBS_TILES];
#pragma unroll
    for (int index = 0; index < 4 * OBS_TILES; index++) {
        const int column = (group * OBS_TILES + index / 4) * 8 + column_of_lane + index % 2;
        obs[index] = column < OBS ? __ldg(start + column) : 0.0f;
    }

    int member = members[particle];
    if (threadIdx.x == 0)
        fetch(buffers, weights + (long long)member * MEMBER_BYTES, FIRST_BYTES, arrived);
    unsigned current = 0, phases = 0;  /* `phases` has a bit for each buffer: the parity of its current phase. */
    float ahead[UP(ROWS * ACTION, THREADS)];
    load_actions(ahead, actions, 0, horizon, candidates);
    for (int step = 0; step < horizon; step++) {
        /* Write the inputs of this step; no thread reads those of the last one any more. */
#pragma unroll
        for (int index = 0; index < 4 * OBS_TILES; index++) {
            const int column = (group * OBS_TILES + index / 4) * 8 + column_of_lane + index % 2, place = row + index / 2 % 2 * 8;
            if (column < OBS) {
                const float value = within((obs[index] - __ldg(inputs + column)) * __ldg(scales + column));
                exact[place * EXACT_STRIDE + column] = value;
                *(unsigned short *)(input + column / 8 * COLUMNS_BYTES + place * 16 + column % 8 * 2)
                    = (unsigned short)pair(value, 0.0f);
            }
        }
#pragma unroll
        for (int index = 0; index < UP(ROWS * ACTION, THREADS); index++) {
            const int at = threadIdx.x + index * THREADS, place = at / ACTION, column = OBS + at % ACTION;
            if (at < ROWS * ACTION) {
                const float value = within((ahead[index] - __ldg(inputs + column)) * __ldg(scales + column));
                exact[place * EXACT_STRIDE + column] = value;
                *(unsigned short *)(input + column / 8 * COLUMNS_BYTES + place * 16 + column % 8 * 2)
                    = (unsigned short)pair(value, 0.0f);
            }
        }
        const float *own = numbers + (long long)member * MEMBER_NUMBERS;
        const char *next = weights + (long long)member * MEMBER_BYTES + FIRST_BYTES;
        const int next_member = step + 1 < horizon ? members[(step + 1) * particles + particle] : member;

#pragma unroll 1
        for (int number = 0; number < LAYERS; number++) {
            const int bytes = number + 1 < LAYERS ? HIDDEN_BYTES : LAST_BYTES;
            if (threadIdx.x == 0)
                fetch(buffers + (current ^ 1) * BUFFER_BYTES, next, bytes, arrived + 8 * (current ^ 1));
            next += bytes;
            float sums[4 * TILES];
            fill(sums, own + number * WIDTH + group * TILES * 8, TILES);
            meet(arrived + 8 * current, phases >> current & 1);
            phases ^= 1 << current;
            const unsigned long long from = matrix(shared_address(number ? layer : input), COLUMNS_BYTES, 128);
            const unsigned long long by = matrix(buffers + current * BUFFER_BYTES + group * TILES * 256, 128, 256);
            begin_product();
            if (number == 0) {
#pragma unroll
                for (int inner = 0; inner < FIRST_STEPS; inner++)
                    multiply_layer(sums, from + inner * (2 * COLUMNS_BYTES >> 4), by + inner * (LAYER_STEP_BYTES >> 4));
            } else {
#pragma unroll
                for (int inner = 0; inner < STEPS; inner++)
                    multiply_layer(sums, from + inner * (2 * COLUMNS_BYTES >> 4), by + inner * (LAYER_STEP_BYTES >> 4));
            }
            commit_product();
            end_product(sums);
            __syncthreads();
#pragma unroll
            for (int tile = 0; tile < TILES; tile++) {
                char *place = layer + (group * TILES + tile) * COLUMNS_BYTES + row * 16 + column_of_lane * 2;
                *(unsigned *)place = pair(silu(sums[4 * tile]), silu(sums[4 * tile + 1]));
                *(unsigned *)(place + 8 * 16) = pair(silu(sums[4 * tile + 2]), silu(sums[4 * tile + 3]));
            }
            current ^= 1;
        }

        /* Mean and logit; meanwhile the linear part, which is float32. */
        if (step + 1 < horizon && threadIdx.x == 0)
            fetch(buffers + (current ^ 1) * BUFFER_BYTES, weights + (long long)next_member * MEMBER_BYTES, FIRST_BYTES,
                  arrived + 8 * (current ^ 1));
        const long long at_step = (long long)step * particles + particle;
        float drawn[2 * OBS_TILES];
#pragma unroll
        for (int index = 0; index < 2 * OBS_TILES; index++) {
            const int column = (group * OBS_TILES + index / 2) * 8 + column_of_lane + index % 2;
            drawn[index] = column < OBS ? __ldg(noise + at_step * OBS + column) : 0.0f;
        }
        if (step + 1 < horizon)
            load_actions(ahead, actions, step + 1, horizon, candidates);
        float outputs[2 * 4 * OBS_TILES], change[4 * OBS_TILES];
        fill(outputs, own + MEAN_BIAS + group * OBS_TILES * 8, OBS_TILES);
        fill(outputs + 4 * OBS_TILES, own + LOGIT_BIAS + group * OBS_TILES * 8, OBS_TILES);
        meet(arrived + 8 * current, phases >> current & 1);
        phases ^= 1 << current;
        const unsigned long long from = matrix(shared_address(layer), COLUMNS_BYTES, 128);
        const unsigned long long by = matrix(buffers + current * BUFFER_BYTES + group * 2 * OBS_TILES * 256, 128, 256);
        begin_product();
#pragma unroll
        for (int inner = 0; inner < STEPS; inner++)
            multiply_last(outputs, from + inner * (2 * COLUMNS_BYTES >> 4), by + inner * (LAST_STEP_BYTES >> 4));
        commit_product();
#pragma unroll
        for (int index = 0; index < 4 * OBS_TILES; index++)
            change[index] = 0.0f;
#pragma unroll 4
        for (int at = 0; at < INPUTS; at++) {
            const float upper = exact[row * EXACT_STRIDE + at], lower = exact[(row + 8) * EXACT_STRIDE + at];
            const float *columns = own + LINEAR + at * OBS_WIDTH + group * OBS_TILES * 8 + column_of_lane;
#pragma unroll
            for (int tile = 0; tile < OBS_TILES; tile++) {
                const float2 slope = __ldg((const float2 *)(columns + tile * 8));
                change[4 * tile] += upper * slope.x;
                change[4 * tile + 1] += upper * slope.y;
                change[4 * tile + 2] += lower * slope.x;
                change[4 * tile + 3] += lower * slope.y;
            }
        }
        end_product(outputs);
        __syncthreads();
#pragma unroll
        for (int index = 0; index < 4 * OBS_TILES; index++) {
            const int column = (group * OBS_TILES + index / 4) * 8 + column_of_lane + index % 2;
            if (column < OBS) {
                const float share = 1.0f / (1.0f + __expf(-outputs[4 * OBS_TILES + index]));
                const float variance = __ldg(own + SMALLEST + column) + __ldg(own + LARGEST + column) * share;
                obs[index] += change[index] + outputs[index] + sqrtf(variance) * drawn[index / 4 * 2 + index % 2];
                const int which = candidate + index / 2 % 2 * 8;
                if (which < candidates)
                    path[(at_step * candidates + which) * OBS + column] = obs[index];
            }
        }
        current ^= 1;
        member = next_member;
    }
}
