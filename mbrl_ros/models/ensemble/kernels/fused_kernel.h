/* Prediction with one kind of product; `fused.c` includes this once for each. */

/* UNITS units of a layer for `width` vectors of rows, a constant where this is inlined. */
INLINE void NAME(block)(const int width, const ENTRY *entries, long step, const REPEATED *weights, const float *bias, int depth,
                        ENTRY *hidden, float *outputs, long out_step) {
    SUM sums[STRIP][UNITS];
    UNROLL for (int u = 0; u < UNITS; u++)
        UNROLL for (int v = 0; v < width; v++) sums[v][u] = NAME(constant)(bias + u);
    for (int k = 0; k < depth; k++) {
        VECTOR rows[STRIP];
        UNROLL for (int v = 0; v < width; v++) rows[v] = NAME(load)(entries + v * GROUP * SPAN);
        UNROLL for (int u = 0; u < UNITS; u++) {
            const VECTOR weight = NAME(broadcast)(weights + u * GROUP);
            UNROLL for (int v = 0; v < width; v++) sums[v][u] = NAME(multiply_add)(sums[v][u], weight, rows[v]);
        }
        entries += step;
        weights += UNITS * GROUP;
    }
    if (!hidden) {
        UNROLL for (int v = 0; v < width; v++)
            UNROLL for (int u = 0; u < UNITS; u++) NAME(write)(outputs + u * out_step + v * SPAN, sums[v][u]);
        return;
    }
    SUM done[STRIP * UNITS];  /* In memory, because there are not enough registers. */
    UNROLL for (int v = 0; v < width; v++)
        UNROLL for (int u = 0; u < UNITS; u++) done[(u / GROUP * width + v) * GROUP + u % GROUP] = sums[v][u];
    for (int i = 0; i < width * UNITS; i += GROUP) {
        SUM active[GROUP];
        UNROLL for (int g = 0; g < GROUP; g++) active[g] = NAME(silu)(done[i + g]);
        NAME(gather)(hidden + i * SPAN, active);
    }
}

typedef void (*NAME(Block))(const ENTRY *, long, const REPEATED *, const float *, int, ENTRY *, float *, long);

#define BLOCK(width) \
    TARGET static void PASTED(NAME(block), width)(const ENTRY *entries, long step, const REPEATED *weights, const float *bias, \
                                                  int depth, ENTRY *hidden, float *outputs, long out_step) { \
        if (hidden) NAME(block)(width, entries, step, weights, bias, depth, hidden, 0, 0); \
        else NAME(block)(width, entries, step, weights, bias, depth, 0, outputs, out_step); \
    }
BLOCK(1)
BLOCK(2)
BLOCK(3)
#undef BLOCK

static const NAME(Block) NAME(blocks)[STRIP + 1] = {0, PASTED(NAME(block), 1), PASTED(NAME(block), 2), PASTED(NAME(block), 3)};

/* Up to STRIP vectors with `count` rows, from row `start` of a tile on. Arrays are (units, lanes). */
typedef struct {
    int width, lanes, start, count;
    ENTRY *first, *second;  /* activations, in groups */
    float *obs, *inputs;    /* raw observations, normalised inputs */
    float *features, *yaw;  /* features of the observations in the frame and the frame's rotation; without a frame, `obs` */
    float *linear;          /* outputs of the linear part; then the mean of the next observation */
    float *outputs;         /* outputs of the networks; then the standard deviation of the next observation */
} NAME(Strip);

/* Working set of a thread. */
typedef struct {
    int num_strips;
    NAME(Strip) strips[LARGEST_TILE / (STRIP * SPAN)];
} NAME(Tile);

static void *NAME(open_tile)(const Network *net, NAME(Tile) *tile) {
    const long lanes = STRIP * SPAN, most = sizeof tile->strips / sizeof *tile->strips;
    const long entries = lanes * net->widest, outputs = lanes * whole(2 * net->obs_size, UNITS);
    const long linear = lanes * whole(net->obs_size, UNITS), obs = lanes * net->obs_size, inputs = obs + lanes * net->action_size;
    const long framed = net->frame ? obs + 2 * lanes : 0;
    const long bytes = whole(2 * entries * sizeof(ENTRY) + (obs + inputs + linear + outputs + framed) * sizeof(float), 64);
    void *memory = 0;
    if (posix_memalign(&memory, 64, most * bytes)) return 0;
    memset(memory, 0, most * bytes);
    for (int s = 0; s < most; s++) {
        NAME(Strip) *strip = tile->strips + s;
        strip->first = (ENTRY *)((char *)memory + s * bytes);
        strip->second = strip->first + entries;
        strip->obs = (float *)(strip->second + entries);
        strip->inputs = strip->obs + obs;
        strip->linear = strip->inputs + inputs;
        strip->outputs = strip->linear + linear;
        strip->features = net->frame ? strip->outputs + outputs : strip->obs;
        strip->yaw = strip->features + obs;
    }
    return memory;
}

/* As few strips as hold `count` rows, as equal as can be. */
static void NAME(divide)(NAME(Tile) *tile, int count) {
    const int vectors = (count + SPAN - 1) / SPAN, strips = tile->num_strips = (vectors + STRIP - 1) / STRIP;
    for (int s = 0, start = 0; s < strips; s++) {
        NAME(Strip) *strip = tile->strips + s;
        strip->width = vectors * (s + 1) / strips - vectors * s / strips;
        strip->lanes = strip->width * SPAN;
        strip->start = start;
        strip->count = count - start < strip->lanes ? count - start : strip->lanes;
        start += strip->lanes;
    }
}

/* One layer of one strip: hidden activations, or outputs where `hidden` is null. */
static void NAME(layer)(const Network *net, int index, int member, const NAME(Strip) *strip, const ENTRY *from, ENTRY *hidden) {
    const int depth = net->depth[index], units = net->units[index];
    const REPEATED *weights = (const REPEATED *)net->weights[index] + (long)member * depth * GROUP * units;
    const float *bias = net->bias[index] + (long)member * units;
    for (int u = 0; u < units; u += UNITS)
        NAME(blocks)[strip->width](from, strip->lanes * GROUP, weights + (long)u * depth * GROUP, bias + u, depth,
                                   hidden ? hidden + u * strip->lanes : 0, strip->outputs + u * strip->lanes, strip->lanes);
}

/* Mean and standard deviation of the next observation, for a tile's observations and the actions in its input array. */
TARGET static void NAME(step)(const Network *net, int member, NAME(Tile) *tile) {
    const int size = net->obs_size, inputs = size + net->action_size, last = net->num_layers - 1;
    for (int s = 0; s < tile->num_strips; s++) {
        const NAME(Strip) *strip = tile->strips + s;
        const int lanes = strip->lanes;
        if (net->frame)
            OF_FLOATS(encode)(net->frame, lanes, strip->obs, strip->features, strip->inputs + size * lanes, strip->yaw);
        for (int i = 0; i < inputs; i++) {
            const FLOATS mean = OF_FLOATS(all)(net->input_mean[i]), scale = OF_FLOATS(all)(net->input_scale[i]);
            const float *from = (i < size ? strip->features : strip->inputs) + i * lanes;
            for (int r = 0; r < lanes; r += FLOAT_LANES)
                OF_FLOATS(store)(strip->inputs + i * lanes + r,
                                 OF_FLOATS(within)((OF_FLOATS(load)(from + r) - mean) * scale, INPUT_BOUND));
        }
        for (int i = 0; i < inputs; i += GROUP) {
            for (int r = 0; r < lanes; r += SPAN) {
                SUM group[GROUP];
                for (int g = 0; g < GROUP; g++)
                    group[g] = NAME(read)(i + g < inputs ? strip->inputs + (i + g) * lanes + r : zeros);
                NAME(gather)(strip->first + i * lanes + r * GROUP, group);
            }
        }
    }
    for (int index = 0; index <= last; index++) {
        for (int s = 0; s < tile->num_strips; s++) {
            const NAME(Strip) *strip = tile->strips + s;
            const bool is_odd = index % 2;
            NAME(layer)(net, index, member, strip, is_odd ? strip->second : strip->first,
                        index == last ? 0 : is_odd ? strip->first : strip->second);
        }
    }
    const int outputs = whole(size, UNITS);
    const float *linear = net->linear + (long)member * inputs * outputs, *linear_bias = net->linear_bias + (long)member * outputs;
    const long first = (long)member * size;
    for (int s = 0; s < tile->num_strips; s++) {
        const NAME(Strip) *strip = tile->strips + s;
        const int lanes = strip->lanes;
        for (int i = 0; i < size; i += UNITS)
            for (int r = 0; r < lanes; r += strip->width * FLOAT_LANES)
                OF_FLOATS(blocks)[strip->width](strip->inputs + r, lanes, linear + (long)i * inputs, linear_bias + i, inputs, 0,
                                                strip->linear + i * lanes + r, lanes);
        for (int i = 0; i < size; i++) {
            const FLOATS scale = OF_FLOATS(all)(net->mean_scale[first + i]);
            const FLOATS smallest = OF_FLOATS(all)(net->smallest_variance[first + i]);
            const FLOATS largest = OF_FLOATS(all)(net->largest_variance[first + i]);
            for (int r = 0; r < lanes; r += FLOAT_LANES) {
                const long at = i * lanes + r, logit = (size + i) * lanes + r;
                const FLOATS rest = OF_FLOATS(load)(strip->linear + at) + OF_FLOATS(load)(strip->features + at);
                const FLOATS mean = OF_FLOATS(load)(strip->outputs + at) * scale + rest;
                const FLOATS share = NAME(logistic)(OF_FLOATS(load)(strip->outputs + logit));
                OF_FLOATS(store)(strip->linear + at, mean);
                OF_FLOATS(store)(strip->outputs + at, OF_FLOATS(root)(largest * share + smallest));
            }
        }
        if (net->frame) OF_FLOATS(decode)(lanes, strip->obs, strip->features, strip->yaw, strip->linear);
    }
}

/* `count` rows of `size` entries become columns of `lanes` each. */
TARGET static void NAME(from_rows)(const float *rows, int size, int count, float *columns, int lanes) {
    for (int r = 0; r < lanes; r += FLOAT_LANES) {
        for (int c = 0; c < size; c += FLOAT_LANES) {
            FLOATS square[FLOAT_LANES];
            UNROLL for (int q = 0; q < FLOAT_LANES; q++)
                square[q] = OF_FLOATS(load_some)(rows + (long)(r + q) * size + c, OF_FLOATS(first)(r + q < count ? size - c : 0));
            OF_FLOATS(transpose)(square);
            UNROLL for (int q = 0; q < FLOAT_LANES; q++)
                if (c + q < size) OF_FLOATS(store)(columns + (c + q) * lanes + r, square[q]);
        }
    }
}

/* And back. */
TARGET static void NAME(to_rows)(const float *columns, int lanes, float *rows, int size, int count) {
    for (int r = 0; r < count; r += FLOAT_LANES) {
        for (int c = 0; c < size; c += FLOAT_LANES) {
            FLOATS square[FLOAT_LANES];
            UNROLL for (int q = 0; q < FLOAT_LANES; q++)
                square[q] = c + q < size ? OF_FLOATS(load)(columns + (c + q) * lanes + r) : OF_FLOATS(all)(0.0f);
            OF_FLOATS(transpose)(square);
            UNROLL for (int q = 0; q < FLOAT_LANES; q++)
                if (r + q < count) OF_FLOATS(store_some)(rows + (long)(r + q) * size + c, square[q], OF_FLOATS(first)(size - c));
        }
    }
}

/* Takes tiles until none is left; `taken` counts the tiles begun by all threads. Returns 0, or 1 when there is no memory. */
TARGET static int NAME(predict)(const Network *net, int64_t batch, const float *obs, const float *action, float *mean, float *std,
                                int64_t *taken) {
    const int64_t rows = tile_rows(batch, SPAN), tiles = (batch + rows - 1) / rows;
    NAME(Tile) tile;
    void *memory = NAME(open_tile)(net, &tile);
    if (!memory) return 1;
    const unsigned control = flush_denormals();
    const int size = net->obs_size, actions = net->action_size;
    for (int64_t unit; (unit = __atomic_fetch_add(taken, 1, __ATOMIC_RELAXED)) < net->members * tiles;) {
        const int64_t member = unit / tiles, start = unit % tiles * rows;
        NAME(divide)(&tile, (int)(batch - start < rows ? batch - start : rows));
        for (int s = 0; s < tile.num_strips; s++) {
            const NAME(Strip) *strip = tile.strips + s;
            const int64_t row = member * batch + start + strip->start;
            NAME(from_rows)(obs + row * size, size, strip->count, strip->obs, strip->lanes);
            NAME(from_rows)(action + row * actions, actions, strip->count, strip->inputs + size * strip->lanes, strip->lanes);
        }
        NAME(step)(net, (int)member, &tile);
        for (int s = 0; s < tile.num_strips; s++) {
            const NAME(Strip) *strip = tile.strips + s;
            const int64_t row = member * batch + start + strip->start;
            NAME(to_rows)(strip->linear, strip->lanes, mean + row * size, size, strip->count);
            NAME(to_rows)(strip->outputs, strip->lanes, std + row * size, size, strip->count);
        }
    }
    _mm_setcsr(control);
    free(memory);
    return 0;
}

/* Load the actions of a strip's candidates, from (action_size, candidates) at a column on, into its input array. */
TARGET static void NAME(load_actions)(const Network *net, const NAME(Strip) *strip, const float *actions, int64_t candidates) {
    for (int a = 0; a < net->action_size; a++)
        for (int r = 0; r < strip->lanes; r += FLOAT_LANES)
            OF_FLOATS(store)(strip->inputs + (net->obs_size + a) * strip->lanes + r,
                             OF_FLOATS(load_some)(actions + a * candidates + r, OF_FLOATS(first)(strip->count - r)));
}

/* Fills first, (members, 2, obs_size, candidates): mean and standard deviation after one step from one observation; likewise. */
TARGET static int NAME(begin)(const Network *net, int64_t candidates, const float *obs, const float *actions, float *first,
                              int64_t *taken) {
    const int64_t rows = tile_rows(candidates, SPAN), tiles = (candidates + rows - 1) / rows;
    NAME(Tile) tile;
    void *memory = NAME(open_tile)(net, &tile);
    if (!memory) return 1;
    const unsigned control = flush_denormals();
    const int size = net->obs_size;
    for (int64_t unit; (unit = __atomic_fetch_add(taken, 1, __ATOMIC_RELAXED)) < net->members * tiles;) {
        const int64_t member = unit % net->members, start = unit / net->members * rows;  /* The smallest tiles come last. */
        NAME(divide)(&tile, (int)(candidates - start < rows ? candidates - start : rows));
        for (int s = 0; s < tile.num_strips; s++) {
            const NAME(Strip) *strip = tile.strips + s;
            for (int i = 0; i < size; i++)
                for (int r = 0; r < strip->lanes; r += FLOAT_LANES)
                    OF_FLOATS(store)(strip->obs + i * strip->lanes + r, OF_FLOATS(all)(obs[i]));
            NAME(load_actions)(net, strip, actions + start + strip->start, candidates);
        }
        NAME(step)(net, (int)member, &tile);
        for (int s = 0; s < tile.num_strips; s++) {
            const NAME(Strip) *strip = tile.strips + s;
            for (int i = 0; i < size; i++) {
                float *mean = first + (member * 2 * size + i) * candidates + start + strip->start, *std = mean + size * candidates;
                for (int r = 0; r < strip->lanes; r += FLOAT_LANES) {
                    const long at = i * strip->lanes + r;
                    const MASK inside = OF_FLOATS(first)(strip->count - r);
                    OF_FLOATS(store_some)(mean + r, OF_FLOATS(load)(strip->linear + at), inside);
                    OF_FLOATS(store_some)(std + r, OF_FLOATS(load)(strip->outputs + at), inside);
                }
            }
        }
    }
    _mm_setcsr(control);
    free(memory);
    return 0;
}

/* Fills path, (horizon, particles, obs_size, candidates), from what `begin` left on; likewise. */
TARGET static int NAME(rollout)(const Network *net, int64_t horizon, int64_t particles, int64_t candidates, const int32_t *members,
                                const float *actions, const float *noise, const float *first, float *path, int64_t *taken) {
    const int64_t rows = tile_rows(candidates, SPAN), tiles = (candidates + rows - 1) / rows;
    NAME(Tile) tile;
    void *memory = NAME(open_tile)(net, &tile);
    if (!memory) return 1;
    const unsigned control = flush_denormals();
    const int size = net->obs_size;
    for (int64_t unit; (unit = __atomic_fetch_add(taken, 1, __ATOMIC_RELAXED)) < particles * tiles;) {
        const int64_t particle = unit % particles, start = unit / particles * rows;  /* The smallest tiles come last. */
        NAME(divide)(&tile, (int)(candidates - start < rows ? candidates - start : rows));
        for (int64_t h = 0; h < horizon; h++) {
            const int64_t place = h * particles + particle;
            if (h) NAME(step)(net, members[place], &tile);
            for (int s = 0; s < tile.num_strips; s++) {
                const NAME(Strip) *strip = tile.strips + s;
                const int64_t column = start + strip->start;
                for (int i = 0; i < size; i++) {
                    const FLOATS by = OF_FLOATS(all)(noise[place * size + i]);
                    const float *known = first + (members[place] * 2L * size + i) * candidates + column;
                    float *next = path + (place * size + i) * candidates + column;
                    for (int r = 0; r < strip->lanes; r += FLOAT_LANES) {
                        const long at = i * strip->lanes + r;
                        const MASK inside = OF_FLOATS(first)(strip->count - r);
                        const FLOATS mean = h ? OF_FLOATS(load)(strip->linear + at) : OF_FLOATS(load_some)(known + r, inside);
                        const FLOATS std = h ? OF_FLOATS(load)(strip->outputs + at)
                                             : OF_FLOATS(load_some)(known + size * candidates + r, inside);
                        const FLOATS value = std * by + mean;
                        OF_FLOATS(store_some)(next + r, value, inside);
                        OF_FLOATS(store)(strip->obs + at, value);
                    }
                }
                if (h + 1 < horizon)
                    NAME(load_actions)(net, strip, actions + (h + 1) * net->action_size * candidates + column, candidates);
            }
        }
    }
    _mm_setcsr(control);
    free(memory);
    return 0;
}

EXPORT int NAME(mbrl_predict)(const Network *net, int threads, int64_t batch, const float *obs, const float *action, float *mean,
                              float *std) {
    int64_t taken = 0;
    int failed = 0;
    #pragma omp parallel num_threads(threads) reduction(|:failed)
    failed = NAME(predict)(net, batch, obs, action, mean, std, &taken);
    return failed;
}

EXPORT int NAME(mbrl_rollout)(const Network *net, int threads, int64_t horizon, int64_t particles, int64_t candidates,
                              const int32_t *members, const float *obs, const float *actions, const float *noise, float *first,
                              float *path) {
    int64_t begun = 0, taken = 0;
    int failed = 0;
    #pragma omp parallel num_threads(threads) reduction(|:failed)
    {
        failed = NAME(begin)(net, candidates, obs, actions, first, &begun);
        #pragma omp barrier
        failed |= NAME(rollout)(net, horizon, particles, candidates, members, actions, noise, first, path, &taken);
    }
    return failed;
}
