/* Whole trajectories of an ensemble in one launch, on matrix units that multiply bfloat16.
 *
 * A block takes 64 candidates of one particle through all layers and all steps. Observations stay in registers from the first step
 * to the last, activations in shared memory. While a layer is computed the weights of the next one are on their way; with 64 rows
 * a block they come about as fast as they are used. Twelve warps share a layer: two halves of the rows times six shares of the
 * columns, which are dealt out in tiles of eight.
 *
 * Sizes are compiled in: OBS, ACTION, UNITS of each hidden layer, and LAYERS of them. Weights lie in the order in which the matrix
 * units take them, see `_packed` in cuda_rollout.py: for 16 rows and 8 columns each, 32 lanes times two pairs of rows. */

#define ROWS 64
#define SHARES 6
#define THREADS (2 * SHARES * 32)
#define INPUTS (OBS + ACTION)
#define LARGER(a, b) ((a) > (b) ? (a) : (b))
#define UP(size, unit) (((size) + (unit) - 1) / (unit))

/* Steps of 16 rows of the weights, and tiles of 8 of their columns. */
#define FIRST_STEPS UP(INPUTS, 16)
#define STEPS UP(UNITS, 16)
#define TILES UP(UNITS, 8)
#define OBS_TILES UP(OBS, 8)
#define TILES_OF_WARP UP(TILES, SHARES)
#define OBS_TILES_OF_WARP UP(OBS_TILES, SHARES)

/* Bytes of the weights of one member: first layer, those between, and the last with mean and logit. */
#define FIRST_BYTES (FIRST_STEPS * TILES * 256)
#define HIDDEN_BYTES (STEPS * TILES * 256)
#define LAST_BYTES (STEPS * 2 * OBS_TILES * 256)
#define MEMBER_BYTES (FIRST_BYTES + (LAYERS - 1) * HIDDEN_BYTES + LAST_BYTES)
#define BUFFER_BYTES LARGER(LARGER(FIRST_BYTES, HIDDEN_BYTES), LAST_BYTES)

/* Numbers of one member: biases of the hidden layers, then of mean and logit, variances, linear part. */
#define WIDTH (TILES * 8)
#define OBS_WIDTH (OBS_TILES * 8)
#define MEAN_BIAS (LAYERS * WIDTH)
#define LOGIT_BIAS (MEAN_BIAS + OBS_WIDTH)
#define SMALLEST (LOGIT_BIAS + OBS_WIDTH)
#define LARGEST (SMALLEST + OBS_WIDTH)
#define LINEAR (LARGEST + OBS_WIDTH)
#define MEMBER_NUMBERS (LINEAR + INPUTS * OBS_WIDTH)

/* Rows in shared memory, padded so that eight of them lie in different banks: bfloat16 and float32 inputs, activations. */
#define INPUT_STRIDE (FIRST_STEPS * 16 + 8)
#define EXACT_STRIDE (INPUTS | 1)
#define STRIDE (STEPS * 16 + 8)

__device__ __forceinline__ unsigned shared_address(const void *pointer) {
    return (unsigned)__cvta_generic_to_shared(pointer);
}

__device__ __forceinline__ unsigned pair(float low, float high) {
    unsigned packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

__device__ __forceinline__ float silu(float value) {
    float half = 0.5f * value, slope;
    asm("tanh.approx.f32 %0, %1;" : "=f"(slope) : "f"(half));
    return half + half * slope;
}

/* Begin to fetch `bytes`, all threads together. */
__device__ __forceinline__ void fetch(unsigned to, const char *from, int bytes) {
    for (int at = threadIdx.x * 16; at < bytes; at += THREADS * 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to + at), "l"(from + at));
}

/* What one step of a product takes: 32 rows of activations, and the weights of a warp's tiles. */
template <int NUM_TILES>
struct Operands {
    unsigned a[2][4], b[NUM_TILES][2];
};

template <int NUM_TILES>
__device__ __forceinline__ void load(Operands<NUM_TILES> &found, unsigned rows, int stride, unsigned weights, int tile, int count) {
#pragma unroll
    for (int half = 0; half < 2; half++)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(found.a[half][0]), "=r"(found.a[half][1]), "=r"(found.a[half][2]), "=r"(found.a[half][3])
                     : "r"(rows + 2 * half * 16 * stride));
#pragma unroll
    for (int index = 0; index < NUM_TILES; index++)
        if (tile + index * SHARES < count)
            asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(found.b[index][0]), "=r"(found.b[index][1])
                         : "r"(weights + index * SHARES * 256));
}

/* Add the product of 32 rows in shared memory and weights to a warp's tiles, which are every SHARES-th of `count` from `tile` on. */
template <int NUM_STEPS, int NUM_TILES>
__device__ __forceinline__ void multiply(float (&sums)[2][NUM_TILES][4], unsigned rows, int stride, unsigned weights, int tiles,
                                         int tile, int count) {
    const int lane = threadIdx.x % 32;
    Operands<NUM_TILES> operands[2];
    rows += 2 * ((lane % 16) * stride + lane / 16 * 8);
    weights += (tile * 32 + lane) * 8;
    load(operands[0], rows, stride, weights, tile, count);
#pragma unroll
    for (int step = 0; step < NUM_STEPS; step++) {
        if (step + 1 < NUM_STEPS)
            load(operands[(step + 1) % 2], rows + 32 * (step + 1), stride, weights + (step + 1) * tiles * 256, tile, count);
        const Operands<NUM_TILES> &now = operands[step % 2];
#pragma unroll
        for (int index = 0; index < NUM_TILES; index++) {
            if (tile + index * SHARES >= count)
                continue;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float *sum = sums[half][index];
                asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                             "{%0, %1, %2, %3};"
                             : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                             : "r"(now.a[half][0]), "r"(now.a[half][1]), "r"(now.a[half][2]), "r"(now.a[half][3]),
                               "r"(now.b[index][0]), "r"(now.b[index][1]));
            }
        }
    }
}

/* What a thread holds of a tile: columns 2 t and 2 t + 1 of rows g and g + 8, with lane = 4 g + t. */
template <int NUM_TILES>
__device__ __forceinline__ void fill(float (&sums)[2][NUM_TILES][4], const float *columns, int tile, int count) {
#pragma unroll
    for (int index = 0; index < NUM_TILES; index++) {
        float2 both = make_float2(0.0f, 0.0f);
        if (tile + index * SHARES < count)
            both = __ldg((const float2 *)(columns + (tile + index * SHARES) * 8 + threadIdx.x % 4 * 2));
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int entry = 0; entry < 4; entry++)
                sums[half][index][entry] = entry % 2 ? both.y : both.x;
    }
}

/* start (O), actions (N, H, A), members (H, P), noise (H, P, O), path (H, P, N, O), inputs: mean and scale (2, O + A);
 * weights and numbers are the members', one after another. Blocks: P times the tiles of N. */
extern "C" __global__ void __launch_bounds__(THREADS, 1)
roll_out(const float *start, const float *actions, const int *members, const float *noise, float *path, const char *weights,
         const float *numbers, const float *inputs, int horizon, int candidates) {
    extern __shared__ __align__(128) char memory[];
    const unsigned buffers = shared_address(memory);
    unsigned short *input = (unsigned short *)(memory + 2 * BUFFER_BYTES), *layer = input + ROWS * INPUT_STRIDE;
    float *exact = (float *)(layer + ROWS * STRIDE);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, tile = warp % SHARES;
    const int top = warp / SHARES * 32, row_of_lane = lane / 4, column_of_lane = lane % 4 * 2;
    const int particle = blockIdx.x, particles = gridDim.x, first_row = blockIdx.y * ROWS;
    const float *scales = inputs + INPUTS;

    for (int at = threadIdx.x; at < ROWS * (INPUT_STRIDE + STRIDE); at += THREADS)
        input[at] = 0;
    __syncthreads();

    float obs[2][OBS_TILES_OF_WARP][4];
#pragma unroll
    for (int index = 0; index < OBS_TILES_OF_WARP; index++)
#pragma unroll
        for (int entry = 0; entry < 4; entry++) {
            const int column = (tile + index * SHARES) * 8 + column_of_lane + entry % 2;
            obs[0][index][entry] = obs[1][index][entry] = column < OBS ? __ldg(start + column) : 0.0f;
        }

    int member = members[particle];
    fetch(buffers, weights + (long long)member * MEMBER_BYTES, FIRST_BYTES);
    asm volatile("cp.async.commit_group;");
    int current = 0;
    for (int step = 0; step < horizon; step++) {
        /* Inputs of this step, which nobody reads any more. */
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int index = 0; index < OBS_TILES_OF_WARP; index++)
#pragma unroll
                for (int entry = 0; entry < 4; entry++) {
                    const int row = top + half * 16 + entry / 2 * 8 + row_of_lane;
                    const int column = (tile + index * SHARES) * 8 + column_of_lane + entry % 2;
                    if (column < OBS) {
                        const float value = (obs[half][index][entry] - __ldg(inputs + column)) * __ldg(scales + column);
                        exact[row * EXACT_STRIDE + column] = value;
                        input[row * INPUT_STRIDE + column] = (unsigned short)pair(value, 0.0f);
                    }
                }
        for (int at = threadIdx.x; at < ROWS * ACTION; at += THREADS) {
            const int row = at / ACTION, column = at % ACTION, candidate = first_row + row;
            const float action = candidate < candidates
                ? __ldg(actions + ((long long)candidate * horizon + step) * ACTION + column) : 0.0f;
            const float value = (action - __ldg(inputs + OBS + column)) * __ldg(scales + OBS + column);
            exact[row * EXACT_STRIDE + OBS + column] = value;
            input[row * INPUT_STRIDE + OBS + column] = (unsigned short)pair(value, 0.0f);
        }
        const float *own = numbers + (long long)member * MEMBER_NUMBERS;
        const char *next = weights + (long long)member * MEMBER_BYTES + FIRST_BYTES;
        const int next_member = step + 1 < horizon ? members[(step + 1) * particles + particle] : member;

#pragma unroll 1
        for (int number = 0; number < LAYERS; number++) {
            const int bytes = number + 1 < LAYERS ? HIDDEN_BYTES : LAST_BYTES;
            fetch(buffers + (current ^ 1) * BUFFER_BYTES, next, bytes);
            next += bytes;
            asm volatile("cp.async.commit_group;");
            float sums[2][TILES_OF_WARP][4];
            fill(sums, own + number * WIDTH, tile, TILES);
            asm volatile("cp.async.wait_group 1;");
            __syncthreads();
            if (number == 0)
                multiply<FIRST_STEPS>(sums, shared_address(input + top * INPUT_STRIDE), INPUT_STRIDE,
                                      buffers + current * BUFFER_BYTES, TILES, tile, TILES);
            else
                multiply<STEPS>(sums, shared_address(layer + top * STRIDE), STRIDE, buffers + current * BUFFER_BYTES, TILES, tile,
                                TILES);
            __syncthreads();
#pragma unroll
            for (int half = 0; half < 2; half++)
#pragma unroll
                for (int index = 0; index < TILES_OF_WARP; index++)
                    if (tile + index * SHARES < TILES) {
                        unsigned short *place = layer + (top + half * 16 + row_of_lane) * STRIDE
                            + (tile + index * SHARES) * 8 + column_of_lane;
                        const float *sum = sums[half][index];
                        *(unsigned *)place = pair(silu(sum[0]), silu(sum[1]));
                        *(unsigned *)(place + 8 * STRIDE) = pair(silu(sum[2]), silu(sum[3]));
                    }
            current ^= 1;
        }

        /* Mean and logit, beside the linear part, which is float32. */
        if (step + 1 < horizon)
            fetch(buffers + (current ^ 1) * BUFFER_BYTES, weights + (long long)next_member * MEMBER_BYTES, FIRST_BYTES);
        asm volatile("cp.async.commit_group;");
        float mean[2][OBS_TILES_OF_WARP][4], logit[2][OBS_TILES_OF_WARP][4];
        fill(mean, own + MEAN_BIAS, tile, OBS_TILES);
        fill(logit, own + LOGIT_BIAS, tile, OBS_TILES);
        asm volatile("cp.async.wait_group 1;");
        __syncthreads();
        multiply<STEPS>(mean, shared_address(layer + top * STRIDE), STRIDE, buffers + current * BUFFER_BYTES, 2 * OBS_TILES, tile,
                        OBS_TILES);
        multiply<STEPS>(logit, shared_address(layer + top * STRIDE), STRIDE, buffers + current * BUFFER_BYTES, 2 * OBS_TILES,
                        tile + OBS_TILES, 2 * OBS_TILES);
#pragma unroll
        for (int index = 0; index < OBS_TILES_OF_WARP; index++)
            if (tile + index * SHARES < OBS_TILES) {
                const float *columns = own + LINEAR + (tile + index * SHARES) * 8 + column_of_lane;
#pragma unroll 4
                for (int at = 0; at < INPUTS; at++) {
                    const float2 slope = __ldg((const float2 *)(columns + at * OBS_WIDTH));
#pragma unroll
                    for (int part = 0; part < 4; part++) {
                        const float value = exact[(top + part * 8 + row_of_lane) * EXACT_STRIDE + at];
                        mean[part / 2][index][part % 2 * 2] += value * slope.x;
                        mean[part / 2][index][part % 2 * 2 + 1] += value * slope.y;
                    }
                }
            }
        __syncthreads();
#pragma unroll
        for (int index = 0; index < OBS_TILES_OF_WARP; index++)
#pragma unroll
            for (int side = 0; side < 2; side++) {
                const int column = (tile + index * SHARES) * 8 + column_of_lane + side;
                if (column >= OBS)
                    continue;
                const float smallest = __ldg(own + SMALLEST + column), largest = __ldg(own + LARGEST + column);
                const long long place = (long long)step * particles + particle;
                const float drawn = __ldg(noise + place * OBS + column);
#pragma unroll
                for (int part = 0; part < 4; part++) {
                    const int half = part / 2, entry = part % 2 * 2 + side;
                    const float share = 1.0f / (1.0f + __expf(-logit[half][index][entry]));
                    obs[half][index][entry] += mean[half][index][entry] + sqrtf(smallest + largest * share) * drawn;
                    const int candidate = first_row + top + part * 8 + row_of_lane;
                    if (candidate < candidates)
                        path[(place * candidates + candidate) * OBS + column] = obs[half][index][entry];
                }
            }
        current ^= 1;
        member = next_member;
    }
}
