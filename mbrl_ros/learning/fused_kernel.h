/* Prediction with one kind of product; `fused.c` includes this once for each. */

/* ROWS rows times `width` vectors of columns, a constant where this is inlined. */
INLINE void NAME(block)(const int width, const ENTRY *rows, int stride, const WEIGHT *weights, const float *bias, int depth,
                        ENTRY *hidden, float *outputs, int out_stride) {
    SUM sums[ROWS][WIDTH];
    UNROLL for (int c = 0; c < width; c++)
        UNROLL for (int r = 0; r < ROWS; r++) sums[r][c] = NAME(start)(bias + COLUMNS * c);
    for (int k = 0; k < depth; k++) {
        VECTOR right[WIDTH];
        UNROLL for (int c = 0; c < width; c++) right[c] = NAME(load)(weights + GROUP * COLUMNS * c);
        weights += GROUP * COLUMNS * width;
        UNROLL for (int r = 0; r < ROWS; r++) {
            const VECTOR left = NAME(broadcast)(rows + (long)r * stride + GROUP * k);
            UNROLL for (int c = 0; c < width; c++) sums[r][c] = NAME(multiply_add)(sums[r][c], left, right[c]);
        }
    }
    UNROLL for (int r = 0; r < ROWS; r++) {
        UNROLL for (int c = 0; c < width; c++) {
            const long place = (long)r * out_stride + COLUMNS * c;
            if (hidden) NAME(silu)(hidden + place, sums[r][c]);
            else NAME(widen)(outputs + place, sums[r][c]);
        }
    }
}

TARGET static void NAME(block_1)(const ENTRY *rows, int stride, const WEIGHT *weights, const float *bias, int depth,
                                 ENTRY *hidden, float *outputs, int out_stride) {
    if (hidden) NAME(block)(1, rows, stride, weights, bias, depth, hidden, 0, out_stride);
    else NAME(block)(1, rows, stride, weights, bias, depth, 0, outputs, out_stride);
}

TARGET static void NAME(block_2)(const ENTRY *rows, int stride, const WEIGHT *weights, const float *bias, int depth,
                                 ENTRY *hidden, float *outputs, int out_stride) {
    if (hidden) NAME(block)(2, rows, stride, weights, bias, depth, hidden, 0, out_stride);
    else NAME(block)(2, rows, stride, weights, bias, depth, 0, outputs, out_stride);
}

/* One layer of a tile: hidden activations, or outputs where `hidden` is null. */
static void NAME(layer)(const Network *net, int index, int member, const ENTRY *rows, int count, ENTRY *hidden, float *outputs) {
    const int depth = net->depth[index], columns = net->columns[index];
    const int out_stride = hidden ? net->stride : 2 * net->padded_obs;
    const WEIGHT *weights = (const WEIGHT *)net->weights[index] + (long)member * depth * GROUP * columns;
    const float *bias = net->bias[index] + (long)member * columns;
    for (int c = 0, width; c < columns; c += COLUMNS * width) {
        width = columns - c < WIDTH * COLUMNS ? 1 : WIDTH;
        for (int r = 0; r < count; r += ROWS) {
            const ENTRY *from = rows + (long)r * net->stride;
            const long place = (long)r * out_stride + c;
            (width == 1 ? NAME(block_1) : NAME(block_2))(from, net->stride, weights, bias + c, depth, hidden ? hidden + place : 0,
                                                         hidden ? 0 : outputs + place, out_stride);
        }
        weights += (long)depth * GROUP * COLUMNS * width;
    }
}

/* What one thread works in, of as many rows as a tile. */
typedef struct {
    ENTRY *first, *second;     /* activations */
    float *inputs;             /* normalised, in whole vectors */
    float *outputs;            /* of the last layer, 2 padded_obs a row */
    float *mean, *std;         /* padded_obs a row */
} NAME(Workspace);

static void *NAME(open_workspace)(const Network *net, int64_t rows, NAME(Workspace) *space) {
    const long inputs = whole_vectors(net->obs_size + net->action_size);
    const long entries = 2 * rows * net->stride, floats = rows * (inputs + 4L * net->padded_obs);
    const long bytes = entries * sizeof(ENTRY) + floats * sizeof(float);
    void *memory = 0;
    if (posix_memalign(&memory, 64, bytes)) return 0;
    memset(memory, 0, bytes);
    space->first = memory;
    space->second = space->first + rows * net->stride;
    space->inputs = (float *)(space->first + entries);
    space->outputs = space->inputs + rows * inputs;
    space->mean = space->outputs + 2 * rows * net->padded_obs;
    space->std = space->mean + rows * net->padded_obs;
    return memory;
}

/* Mean and standard deviation of the next observation for up to a tile's rows, into the workspace. */
TARGET static void NAME(step)(const Network *net, int member, int count, const float *obs, const float *action,
                              long action_stride, NAME(Workspace) *space) {
    const int size = net->obs_size, inputs = size + net->action_size, padded = whole_vectors(inputs), width = net->padded_obs;
    for (int r = 0; r < count; r++) {
        float *row = space->inputs + (long)r * padded;
        memcpy(row, obs + (long)r * size, size * sizeof(float));
        memcpy(row + size, action + r * action_stride, net->action_size * sizeof(float));
        for (int i = 0; i < padded; i += LANES) {
            __m512 value = _mm512_sub_ps(_mm512_loadu_ps(row + i), _mm512_loadu_ps(net->input_mean + i));
            value = _mm512_mul_ps(value, _mm512_loadu_ps(net->input_scale + i));
            _mm512_storeu_ps(row + i, value);
            NAME(narrow)(space->first + (long)r * net->stride + i, value);
        }
    }
    const int rounded = (count + ROWS - 1) / ROWS * ROWS, last = net->num_layers - 1;
    ENTRY *from = space->first, *to = space->second;
    for (int index = 0; index < last; index++) {
        NAME(layer)(net, index, member, from, rounded, to, 0);
        ENTRY *swapped = from;
        from = to;
        to = swapped;
    }
    NAME(layer)(net, last, member, from, rounded, 0, space->outputs);
    const float *linear = net->linear + (long)member * inputs * width;
    for (int c = 0; c < size; c += LANES) {
        const __m512 bias = _mm512_loadu_ps(net->linear_bias + (long)member * width + c);
        const __m512 scale = _mm512_loadu_ps(net->mean_scale + (long)member * width + c);
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
                mean = _mm512_fmadd_ps(_mm512_loadu_ps(out), scale, mean);
                const __m512 variance = _mm512_fmadd_ps(largest, NAME(logistic)(_mm512_loadu_ps(out + width)), smallest);
                _mm512_storeu_ps(space->mean + (long)(r + q) * width + c, mean);
                _mm512_storeu_ps(space->std + (long)(r + q) * width + c, _mm512_sqrt_ps(variance));
            }
        }
    }
}

/* Takes tiles until none is left. Returns 0, or 1 when there is no memory. */
EXPORT int NAME(mbrl_predict)(const Network *net, int64_t batch, const float *obs, const float *action, float *mean, float *std,
                              int64_t *counter) {
    const int64_t rows = tile_rows(batch), tiles = (batch + rows - 1) / rows;
    NAME(Workspace) space;
    void *memory = NAME(open_workspace)(net, rows, &space);
    if (!memory) return 1;
    const unsigned control = flush_denormals();
    const int size = net->obs_size, width = net->padded_obs;
    for (int64_t unit; (unit = __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED)) < net->members * tiles;) {
        const int64_t member = unit / tiles, start = unit % tiles * rows, row = member * batch + start;
        const int count = (int)(batch - start < rows ? batch - start : rows);
        NAME(step)(net, (int)member, count, obs + row * size, action + row * net->action_size, net->action_size, &space);
        for (int r = 0; r < count; r++) {
            memcpy(mean + (row + r) * size, space.mean + (long)r * width, size * sizeof(float));
            memcpy(std + (row + r) * size, space.std + (long)r * width, size * sizeof(float));
        }
    }
    _mm_setcsr(control);
    free(memory);
    return 0;
}

/* Fills path[1:] from path[0]; as for predicting otherwise. */
EXPORT int NAME(mbrl_rollout)(const Network *net, int64_t horizon, int64_t particles, int64_t candidates, const int32_t *members,
                              const float *actions, const float *noise, float *path, int64_t *counter) {
    const int64_t rows = tile_rows(candidates), tiles = (candidates + rows - 1) / rows;
    NAME(Workspace) space;
    void *memory = NAME(open_workspace)(net, rows, &space);
    if (!memory) return 1;
    const unsigned control = flush_denormals();
    const int size = net->obs_size, width = net->padded_obs;
    for (int64_t unit; (unit = __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED)) < particles * tiles;) {
        const int64_t particle = unit / tiles, start = unit % tiles * rows;
        const int count = (int)(candidates - start < rows ? candidates - start : rows);
        const long action_stride = (long)(horizon * net->action_size);
        for (int64_t h = 1; h < horizon; h++) {
            const float *obs = path + (((h - 1) * particles + particle) * candidates + start) * size;
            float *next = path + ((h * particles + particle) * candidates + start) * size;
            const float *draw = noise + (h * particles + particle) * size;
            NAME(step)(net, members[h * particles + particle], count, obs, actions + start * action_stride + h * net->action_size,
                       action_stride, &space);
            for (int r = 0; r < count; r++)
                for (int i = 0; i < size; i++)
                    next[(long)r * size + i] = space.mean[(long)r * width + i] + space.std[(long)r * width + i] * draw[i];
        }
    }
    _mm_setcsr(control);
    free(memory);
    return 0;
}
