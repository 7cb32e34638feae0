/* Gradient steps with one kind of product; `gradient.c` includes this once for each. */

/* Take a step of Adam, or only write the gradient. The moments are sums; `rate` and `epsilon` are scaled for that. */
INLINE void NAME(use)(const Network *net, Step step, long place, MASK some, float decay, FLOATS gradient, float *moments) {
    const FLOATS value = OF_FLOATS(load_some)(net->values + place, some);
    gradient = OF_FLOATS(all)(decay) * value + gradient;
    if (step.rate == 0.0f) {
        OF_FLOATS(store_some)(net->gradient + place, gradient, some);
        return;
    }
    const FLOATS first = OF_FLOATS(load)(moments) * OF_FLOATS(all)(0.9f) + gradient;
    /* A tiny number is added, because not every kind has a root of zero. */
    FLOATS second = OF_FLOATS(load)(moments + FLOAT_LANES) * OF_FLOATS(all)(0.999f) + OF_FLOATS(all)(1e-33f);
    second = gradient * gradient + second;
    const FLOATS change = OF_FLOATS(quotient)(first, OF_FLOATS(twice_root)(second) + OF_FLOATS(all)(step.epsilon));
    OF_FLOATS(store)(moments, first);
    OF_FLOATS(store)(moments + FLOAT_LANES, second);
    OF_FLOATS(store_some)(net->values + place, value - OF_FLOATS(all)(step.rate) * change, some);
}

/* A matrix product: for each unit and lane, the sum over groups of left (unit) times right (lane). */
typedef struct {
    const ENTRY *left;          /* group g of unit u lies at left + u * unit_step + g * group_step */
    long unit_step, group_step;
    const ENTRY *right;         /* group g of all lanes at right + g * right_step */
    long right_step;
    int groups;
    const float *start;         /* of the units' sums; zero where null */
    float *out;
    long out_step;              /* from unit to unit */
} NAME(Product);

/* `units` units for `width` vectors of lanes, both constant where this is inlined. */
INLINE void NAME(multiply)(const int units, const int width, const NAME(Product) *p) {
    const ENTRY *left = p->left, *right = p->right;
    FLOATS sums[UNITS][STRIP];
    UNROLL for (int u = 0; u < units; u++)
        UNROLL for (int v = 0; v < width; v++) sums[u][v] = p->start ? OF_FLOATS(all)(p->start[u]) : OF_FLOATS(all)(0.0f);
    for (int g = 0; g < p->groups; g++) {
        VECTOR vectors[STRIP];
        UNROLL for (int v = 0; v < width; v++) vectors[v] = NAME(load)(right + v * FLOAT_LANES * GROUP);
        UNROLL for (int u = 0; u < units; u++) {
            const VECTOR unit = NAME(broadcast)(left + u * p->unit_step);
            UNROLL for (int v = 0; v < width; v++) sums[u][v] = NAME(multiply_add)(sums[u][v], unit, vectors[v]);
        }
        left += p->group_step;
        right += p->right_step;
    }
    UNROLL for (int u = 0; u < units; u++)
        UNROLL for (int v = 0; v < width; v++) OF_FLOATS(store)(p->out + u * p->out_step + v * FLOAT_LANES, sums[u][v]);
}

#define MULTIPLY(units, width) \
    TARGET static void NAME(multiply_##units##_##width)(const NAME(Product) *p) { NAME(multiply)(units, width, p); }
MULTIPLY(1, 1)
MULTIPLY(1, 2)
MULTIPLY(1, 3)
MULTIPLY(UNITS, 1)
MULTIPLY(UNITS, 2)
MULTIPLY(UNITS, 3)
#undef MULTIPLY

static void (*const NAME(multiplies)[2][STRIP + 1])(const NAME(Product) *) = {
    {0, NAME(multiply_1_1), NAME(multiply_1_2), NAME(multiply_1_3)},
    {0, NAME(multiply_UNITS_1), NAME(multiply_UNITS_2), NAME(multiply_UNITS_3)}};

/* Multiply UNITS units, or one where fewer are left, and advance the product to the next. Returns the number of units. */
static int NAME(advance)(NAME(Product) *p, int left, int width) {
    const int units = left < UNITS ? 1 : UNITS;
    NAME(multiplies)[units == UNITS][width](p);
    p->left += units * p->unit_step;
    if (p->start) p->start += units;
    return units;
}

/* Working set of a thread. Most arrays are (units, lanes) with `stride` from unit to unit; units of a group are adjacent. */
typedef struct {
    int vectors;                      /* number of vectors that the rows fill */
    long stride;
    ENTRY *entries[MAX_LAYERS];       /* inputs of a layer, in groups, followed by ones */
    ENTRY *plain[MAX_LAYERS];         /* the same, not in groups */
    float *slopes[MAX_LAYERS];        /* gradients at a layer's outputs; before, derivatives of its units, or the last outputs */
    ENTRY *grouped;                   /* slopes of one layer, in groups */
    ENTRY *panels;                    /* the same transposed, strip by strip (rows, columns), in groups of rows */
    const ENTRY *forward[MAX_LAYERS]; /* weights (in, out), in groups of rows */
    const ENTRY *back[MAX_LAYERS];    /* the same in groups of columns */
    ENTRY *packed[2][MAX_LAYERS];     /* room for both */
    float *targets;                   /* of a vector of rows, and the weights of the rows */
    float *bounds;                    /* exponentials and gradients, each (2, O), and the lanes' shares of these (2, O, lanes) */
    float *moments;                   /* the next moments */
} NAME(Workspace);

static void *NAME(open)(const Network *net, int rows, NAME(Workspace) *space) {
    const int vectors = (rows + FLOAT_LANES - 1) / FLOAT_LANES;
    int widest = 0;
    for (int layer = 0; layer <= net->num_layers; layer++)
        if (net->sizes[layer] > widest) widest = net->sizes[layer];
    space->vectors = vectors;
    /* An odd stride spreads a column of vectors over all sets of a cache. */
    space->stride = FLOAT_LANES * (vectors > STRIP ? vectors | 1 : vectors);
    const long size = whole(widest + 1, FLOAT_LANES), array = size * space->stride, layers = net->num_layers;
    const long weights = GROUP > 1 ? size * size : 0;
    const long bytes = layers * (2 * array + 2 * weights) * sizeof(ENTRY) + layers * array * sizeof(float)
                     + 2 * array * sizeof(ENTRY) + (FLOAT_LANES * size + (4 + 2 * FLOAT_LANES) * size) * sizeof(float);
    void *memory = 0;
    if (posix_memalign(&memory, 64, bytes)) return 0;
    float *next = memory;
    for (int layer = 0; layer < layers; layer++, next += array) space->slopes[layer] = next;
    space->targets = next;
    space->bounds = next + FLOAT_LANES * size;
    ENTRY *entries = (ENTRY *)(space->bounds + (4 + 2 * FLOAT_LANES) * size);
    for (int layer = 0; layer < layers; layer++) {
        space->entries[layer] = space->plain[layer] = entries;
        if (GROUP > 1) space->plain[layer] = entries += array;
        entries += array;
        for (int side = 0; side < 2; side++, entries += weights) space->packed[side][layer] = entries;
    }
    space->grouped = entries;
    space->panels = entries + array;
    return memory;
}

/* Pack a layer's weights for products; float32 weights are used in place. */
TARGET static void NAME(pack)(const Network *net, int member, int layer, NAME(Workspace) *space) {
    const int in = net->sizes[layer], out = net->sizes[layer + 1];
    const float *values = net->values + net->places[layer] + (long)member * (in + 1) * out;
    if (GROUP == 1) {
        space->forward[layer] = space->back[layer] = (const ENTRY *)values;
        return;
    }
    ENTRY *forward = space->packed[0][layer], *back = space->packed[1][layer];
    space->forward[layer] = forward;
    space->back[layer] = back;
    for (int i = 0; i < in; i++)
        for (int c = 0; c < out; c += FLOAT_LANES)  /* The next row overwrites the lanes beyond the end of this one. */
            NAME(narrow)(back + i * whole(out, GROUP) + c,
                         OF_FLOATS(load_some)(values + (long)i * out + c, OF_FLOATS(first)(out - c)));
    for (int i = 0; i < in; i += GROUP) {
        for (int c = 0; c < out; c += FLOAT_LANES) {
            FLOATS rows[GROUP];
            UNROLL for (int g = 0; g < GROUP; g++)
                rows[g] = OF_FLOATS(load_some)(values + (long)(i + g) * out + c, OF_FLOATS(first)(i + g < in ? out - c : 0));
            NAME(gather)(forward + (long)i * out + c * GROUP, rows);
        }
    }
}

/* Load a square of a table: columns from one on, and a lane for each of the wanted rows. */
INLINE void NAME(columns)(const ENTRY *table, int size, const int64_t *rows, int count, int start, FLOATS *columns) {
    const MASK inside = OF_FLOATS(first)(size - start);
    UNROLL for (int r = 0; r < FLOAT_LANES; r++)
        columns[r] = r < count ? NAME(widen)(table + rows[r] * size + start, inside) : OF_FLOATS(all)(0.0f);
    OF_FLOATS(transpose)(columns);
}

/* Entries of a group of units. */
INLINE void NAME(keep)(const NAME(Workspace) *space, int layer, int unit, int row, const FLOATS *units) {
    NAME(gather)(space->entries[layer] + unit * space->stride + row * GROUP, units);
    if (GROUP > 1)
        UNROLL for (int g = 0; g < GROUP; g++) NAME(narrow)(space->plain[layer] + (unit + g) * space->stride + row, units[g]);
}

TARGET static void NAME(inputs)(const Network *net, const Step *step, const int64_t *wanted, int count,
                                const NAME(Workspace) *space) {
    const int size = net->sizes[0] + 1;
    for (int r = 0; r < count; r += FLOAT_LANES) {
        for (int i = 0; i < size; i += FLOAT_LANES) {
            FLOATS units[FLOAT_LANES];
            NAME(columns)(step->inputs, size, wanted + r, count - r, i, units);
            UNROLL for (int u = 0; u < FLOAT_LANES; u += GROUP)
                if (i + u < size) NAME(keep)(space, 0, i + u, r, units + u);
        }
    }
}

/* Up to a vector of rows. */
TARGET static void NAME(targets)(const Network *net, const Step *step, const int64_t *wanted, int count,
                                 const NAME(Workspace) *space) {
    const int size = net->obs_size + 1;
    for (int i = 0; i < size; i += FLOAT_LANES) {
        FLOATS units[FLOAT_LANES];
        OF_FLOATS(columns)(step->targets, size, wanted, count, i, units);
        UNROLL for (int u = 0; u < FLOAT_LANES; u++)
            if (i + u < size) OF_FLOATS(store)(space->targets + (i + u) * FLOAT_LANES, units[u]);
    }
}

/* Outputs of a layer, and for a hidden one the entries of the next. */
TARGET static void NAME(layer)(const Network *net, int member, int layer, const NAME(Workspace) *space) {
    const int in = net->sizes[layer], out = net->sizes[layer + 1];
    const float *bias = net->values + net->places[layer] + ((long)member * (in + 1) + in) * out;
    const FLOATS one = OF_FLOATS(all)(1.0f);
    for (int v = 0, width; v < space->vectors; v += width) {
        width = width_of(space->vectors - v);
        float *outputs = space->slopes[layer] + v * FLOAT_LANES;
        NAME(Product) product = {space->forward[layer], GROUP, (long)out * GROUP, space->entries[layer] + v * FLOAT_LANES * GROUP,
                                 space->stride * GROUP, (in + GROUP - 1) / GROUP, bias, outputs, space->stride};
        for (int u = 0, units; u < out; u += units, product.out += units * space->stride)
            units = NAME(advance)(&product, out - u, width);
        if (layer + 1 == net->num_layers) continue;
        for (int u = 0; u < out + 1; u += GROUP) {
            for (int r = 0; r < width * FLOAT_LANES; r += FLOAT_LANES) {
                FLOATS active[GROUP];
                UNROLL for (int g = 0; g < GROUP; g++) {
                    active[g] = one;
                    if (u + g >= out) continue;
                    float *output = outputs + (u + g) * space->stride + r;
                    const FLOATS value = OF_FLOATS(load)(output), share = NAME(logistic)(value);
                    active[g] = value * share;
                    OF_FLOATS(store)(output, active[g] * (one - share) + share);
                }
                NAME(keep)(space, layer + 1, u, v * FLOAT_LANES + r, active);
            }
        }
    }
}

/* Slopes at the outputs in their place, and the gradient of the variance bounds. The softly bounded log-variance of a raw
 * output v is log(exp(min) + exp(max) * share), share = sigmoid(v - max). Rows behind the batch have a slope of zero. */
TARGET static void NAME(loss)(const Network *net, const Step *step, int member, const NAME(Workspace) *space) {
    const int size = net->obs_size;
    const float *maximum = net->values + net->places[net->num_layers] + (long)member * size;
    const float *minimum = maximum + (long)net->members * size;
    const int64_t *wanted = step->target_rows + (long)member * net->batch;
    const FLOATS scale = OF_FLOATS(all)(1.0f / ((float)net->batch * (float)size)), one = OF_FLOATS(all)(1.0f);
    float *largest = space->bounds, *smallest = largest + size, *gradients = smallest + size, *shares = gradients + 2 * size;
    for (int i = 0; i < size; i++) {
        largest[i] = expf(maximum[i]);
        smallest[i] = expf(minimum[i]);
    }
    memset(shares, 0, 2L * size * FLOAT_LANES * sizeof *shares);
    for (int r = 0; r < net->batch; r += FLOAT_LANES) {
        const MASK real = OF_FLOATS(first)(net->batch - r);
        NAME(targets)(net, step, wanted + r, net->batch - r, space);
        const FLOATS weight = OF_FLOATS(load)(space->targets + size * FLOAT_LANES) * scale;
        for (int i = 0; i < size; i++) {
            float *mean = space->slopes[net->num_layers - 1] + i * space->stride + r, *logit = mean + size * space->stride;
            float *above = shares + i * FLOAT_LANES, *below = above + size * FLOAT_LANES;
            const FLOATS limit = OF_FLOATS(all)(largest[i]);
            const FLOATS share = NAME(logistic)(OF_FLOATS(load)(logit) - OF_FLOATS(all)(maximum[i]));
            const FLOATS inverse = one / (limit * share + OF_FLOATS(all)(smallest[i]));
            const FLOATS distance = OF_FLOATS(load)(mean) - OF_FLOATS(load)(space->targets + i * FLOAT_LANES);
            const FLOATS error = distance * inverse;
            /* Of the variance. */
            const FLOATS slope = OF_FLOATS(only)((inverse - error * error) * weight, real);
            const FLOATS shared = slope * share, squared = shared * share;
            OF_FLOATS(store)(above, OF_FLOATS(load)(above) + squared);
            OF_FLOATS(store)(below, OF_FLOATS(load)(below) + slope);
            OF_FLOATS(store)(mean, OF_FLOATS(only)((error + error) * weight, real));
            OF_FLOATS(store)(logit, (shared - squared) * limit);
        }
    }
    for (int i = 0; i < 2 * size; i++)
        gradients[i] = OF_FLOATS(total)(OF_FLOATS(load)(shares + i * FLOAT_LANES)) * largest[i]
                     + (i < size ? net->penalty : -net->penalty);
}

/* Slopes of a layer as products read them. */
TARGET static void NAME(turn)(const Network *net, int layer, const NAME(Workspace) *space) {
    const int out = net->sizes[layer + 1], rows = space->vectors * FLOAT_LANES;
    const float *slopes = space->slopes[layer];
    for (int c = 0, width, chunks = (out + FLOAT_LANES - 1) / FLOAT_LANES; c < chunks; c += width) {
        width = width_of(chunks - c);
        ENTRY *panel = space->panels + (long)c * FLOAT_LANES * rows;
        for (int i = 0; i < width; i++) {
            const int first = (c + i) * FLOAT_LANES;
            for (int r = 0; r < rows; r += FLOAT_LANES) {
                FLOATS square[FLOAT_LANES];
                UNROLL for (int u = 0; u < FLOAT_LANES; u++)
                    square[u] = OF_FLOATS(load)(first + u < out ? slopes + (first + u) * space->stride + r : zeros);
                if (GROUP > 1)
                    UNROLL for (int u = 0; u < FLOAT_LANES; u += GROUP)
                        if (first + u < out) NAME(gather)(space->grouped + (first + u) * space->stride + r * GROUP, square + u);
                OF_FLOATS(transpose)(square);
                UNROLL for (int q = 0; q < FLOAT_LANES; q += GROUP)
                    NAME(gather)(panel + ((long)(r + q) * width + i * GROUP) * FLOAT_LANES, square + q);
            }
        }
    }
}

/* Slopes of the layer below. */
TARGET static void NAME(back)(const Network *net, int layer, const NAME(Workspace) *space) {
    const int in = net->sizes[layer], out = net->sizes[layer + 1];
    const ENTRY *grouped = GROUP > 1 ? space->grouped : (const ENTRY *)space->slopes[layer];
    for (int v = 0, width; v < space->vectors; v += width) {
        width = width_of(space->vectors - v);
        float sums[UNITS * STRIP * FLOAT_LANES];
        NAME(Product) product = {space->back[layer], whole(out, GROUP), GROUP, grouped + v * FLOAT_LANES * GROUP,
                                 space->stride * GROUP, (out + GROUP - 1) / GROUP, 0, sums, STRIP * FLOAT_LANES};
        for (int u = 0, units; u < in; u += units) {
            units = NAME(advance)(&product, in - u, width);
            for (int i = 0; i < units; i++) {
                for (int r = 0; r < width * FLOAT_LANES; r += FLOAT_LANES) {
                    float *slope = space->slopes[layer - 1] + (u + i) * space->stride + v * FLOAT_LANES + r;
                    const FLOATS sum = OF_FLOATS(load)(sums + i * STRIP * FLOAT_LANES + r);
                    OF_FLOATS(store)(slope, OF_FLOATS(load)(slope) * sum);
                }
            }
        }
    }
}

/* A layer's weights, of which the bias is the last row. */
TARGET static void NAME(weights)(const Network *net, const Step *step, int member, int layer, NAME(Workspace) *space) {
    const int in = net->sizes[layer], out = net->sizes[layer + 1], rows = space->vectors * FLOAT_LANES;
    const long first = net->places[layer] + (long)member * (in + 1) * out;
    const Step rule = *step;
    float *moments = space->moments;
    for (int c = 0, width, chunks = (out + FLOAT_LANES - 1) / FLOAT_LANES; c < chunks; c += width) {
        width = width_of(chunks - c);
        MASK inside[STRIP];
        for (int q = 0; q < width; q++) inside[q] = OF_FLOATS(first)(out - (c + q) * FLOAT_LANES);
        float sums[UNITS * STRIP * FLOAT_LANES];
        NAME(Product) product = {space->plain[layer], space->stride, GROUP, space->panels + (long)c * FLOAT_LANES * rows,
                                 width * FLOAT_LANES * GROUP, rows / GROUP, 0, sums, STRIP * FLOAT_LANES};
        for (int u = 0, units; u <= in; u += units) {
            units = NAME(advance)(&product, in + 1 - u, width);
            for (int i = 0; i < units; i++) {
                const float decay = u + i < in ? net->decay[layer] : 0.0f;
                long place = first + (long)(u + i) * out + c * FLOAT_LANES;
                for (int q = 0; q < width; q++, place += FLOAT_LANES, moments += 2 * FLOAT_LANES)
                    NAME(use)(net, rule, place, inside[q], decay, OF_FLOATS(load)(sums + (i * STRIP + q) * FLOAT_LANES), moments);
            }
        }
    }
    space->moments = moments;
}

TARGET static void NAME(bounds)(const Network *net, const Step *step, int member, NAME(Workspace) *space) {
    const int size = net->obs_size;
    for (int bound = 0; bound < 2; bound++) {
        const float *gradients = space->bounds + (2 + bound) * size;
        const long first = net->places[net->num_layers] + ((long)bound * net->members + member) * size;
        for (int i = 0; i < size; i += FLOAT_LANES, space->moments += 2 * FLOAT_LANES) {
            const MASK inside = OF_FLOATS(first)(size - i);
            NAME(use)(net, *step, first + i, inside, 0.0f, OF_FLOATS(load_some)(gradients + i, inside), space->moments);
        }
    }
}

static void NAME(take)(const Network *net, const Step *step, int member, NAME(Workspace) *space) {
    space->moments = net->moments + member * net->moments_size;
    NAME(inputs)(net, step, step->input_rows + (long)member * net->batch, net->batch, space);
    for (int layer = 0; layer < net->num_layers; layer++) {
        NAME(pack)(net, member, layer, space);
        NAME(layer)(net, member, layer, space);
    }
    NAME(loss)(net, step, member, space);
    NAME(bounds)(net, step, member, space);
    for (int layer = net->num_layers - 1; layer >= 0; layer--) {
        NAME(turn)(net, layer, space);
        if (layer) NAME(back)(net, layer, space);
        NAME(weights)(net, step, member, layer, space);
    }
}

/* Takes pieces until none is left; a piece is some steps of one member in a row. `taken` counts the pieces begun by all threads,
 * `done` the finished steps of each member. A piece waits for the member's previous piece, which was taken earlier. Returns 0, or
 * 1 when there is no memory. */
static int NAME(descend)(const Network *net, int64_t num_steps, const Step *steps, int64_t pieces, int64_t *taken, int64_t *done) {
    NAME(Workspace) space;
    void *memory = NAME(open)(net, net->batch, &space);
    if (!memory) return 1;
    const unsigned control = flush_denormals();
    for (int64_t unit; (unit = __atomic_fetch_add(taken, 1, __ATOMIC_RELAXED)) < net->members * pieces;) {
        const int64_t member = unit % net->members, piece = unit / net->members;
        const int64_t start = num_steps * piece / pieces, end = num_steps * (piece + 1) / pieces;
        wait_for(done + member, start);
        for (int64_t index = start; index < end; index++) NAME(take)(net, steps + index, (int)member, &space);
        __atomic_fetch_add(done + member, end - start, __ATOMIC_RELEASE);
    }
    _mm_setcsr(control);
    free(memory);
    return 0;
}

/* `done`, zero at first, has a place for each member. */
EXPORT int NAME(mbrl_descend)(const Network *net, int threads, int64_t num_steps, const Step *steps, int64_t pieces, int64_t *done) {
    int64_t taken = 0;
    int failed = 0;
    #pragma omp parallel num_threads(threads) reduction(|:failed)
    failed = NAME(descend)(net, num_steps, steps, pieces, &taken, done);
    return failed;
}
