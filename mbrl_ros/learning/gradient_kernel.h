/* Gradient steps with one kind of product; `gradient.c` includes this once for each. */

/* For each unit and lane the sum over groups of what the unit has on the left and the lane on the right. */
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
    __m512 sums[UNITS][STRIP];
    UNROLL for (int u = 0; u < units; u++)
        UNROLL for (int v = 0; v < width; v++) sums[u][v] = p->start ? _mm512_set1_ps(p->start[u]) : _mm512_setzero_ps();
    for (int g = 0; g < p->groups; g++) {
        VECTOR vectors[STRIP];
        UNROLL for (int v = 0; v < width; v++) vectors[v] = NAME(load)(right + v * LANES * GROUP);
        UNROLL for (int u = 0; u < units; u++) {
            const VECTOR unit = NAME(broadcast)(left + u * p->unit_step);
            UNROLL for (int v = 0; v < width; v++) sums[u][v] = NAME(multiply_add)(sums[u][v], unit, vectors[v]);
        }
        left += p->group_step;
        right += p->right_step;
    }
    UNROLL for (int u = 0; u < units; u++)
        UNROLL for (int v = 0; v < width; v++) _mm512_storeu_ps(p->out + u * p->out_step + v * LANES, sums[u][v]);
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

/* UNITS units, or one where fewer are left; the product then goes on with the next. Returns how many. */
static int NAME(advance)(NAME(Product) *p, int left, int width) {
    const int units = left < UNITS ? 1 : UNITS;
    NAME(multiplies)[units == UNITS][width](p);
    p->left += units * p->unit_step;
    if (p->start) p->start += units;
    return units;
}

/* What one thread works in. Most arrays are (units, lanes), `stride` from unit to unit; units of a group lie side by side. */
typedef struct {
    int vectors;                      /* that the rows fill */
    long stride;
    ENTRY *entries[MAX_LAYERS];       /* of a layer, in groups, and after them ones */
    ENTRY *plain[MAX_LAYERS];         /* the same, not in groups */
    float *slopes[MAX_LAYERS];        /* at a layer's outputs; at first derivatives of its units, and outputs of the last layer */
    ENTRY *grouped;                   /* slopes of one layer, in groups */
    ENTRY *panels;                    /* the same turned, strip by strip (rows, columns), in groups of rows */
    const ENTRY *forward[MAX_LAYERS]; /* weights (in, out), in groups of rows */
    const ENTRY *back[MAX_LAYERS];    /* the same in groups of columns */
    ENTRY *packed[2][MAX_LAYERS];     /* room for both */
    float *targets;                   /* of a vector of rows, and what these count */
    float *bounds;                    /* exponentials and gradients, each (2, O), and the lanes' shares of these (2, O, LANES) */
    float *moments;                   /* that are next */
} NAME(Workspace);

static void *NAME(open)(const Network *net, int rows, NAME(Workspace) *space) {
    const int vectors = (rows + LANES - 1) / LANES;
    int widest = 0;
    for (int layer = 0; layer <= net->num_layers; layer++)
        if (net->sizes[layer] > widest) widest = net->sizes[layer];
    space->vectors = vectors;
    /* An odd number, so that a column of vectors is spread over all sets of a cache. */
    space->stride = LANES * (vectors > STRIP ? vectors | 1 : vectors);
    const long size = whole(widest + 1, LANES), array = size * space->stride, layers = net->num_layers;
    const long weights = GROUP > 1 ? size * size : 0;
    const long bytes = layers * (2 * array + 2 * weights) * sizeof(ENTRY) + layers * array * sizeof(float)
                     + 2 * array * sizeof(ENTRY) + (LANES * size + (4 + 2 * LANES) * size) * sizeof(float);
    void *memory = 0;
    if (posix_memalign(&memory, 64, bytes)) return 0;
    float *next = memory;
    for (int layer = 0; layer < layers; layer++, next += array) space->slopes[layer] = next;
    space->targets = next;
    space->bounds = next + LANES * size;
    ENTRY *entries = (ENTRY *)(space->bounds + (4 + 2 * LANES) * size);
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

/* A layer's weights as products read them; where nothing is narrowed, that is as they are. */
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
        for (int c = 0; c < out; c += LANES)  /* What is too much of a row is overwritten by the next one. */
            NAME(narrow)(back + i * whole(out, GROUP) + c, _mm512_maskz_loadu_ps(lanes(out - c), values + (long)i * out + c));
    for (int i = 0; i < in; i += GROUP) {
        for (int c = 0; c < out; c += LANES) {
            __m512 rows[GROUP];
            UNROLL for (int g = 0; g < GROUP; g++)
                rows[g] = _mm512_maskz_loadu_ps(i + g < in ? lanes(out - c) : 0, values + (long)(i + g) * out + c);
            NAME(gather)(forward + (long)i * out + c * GROUP, rows);
        }
    }
}

/* LANES columns of a table from one on, a lane for each of the wanted rows. */
INLINE void NAME(columns)(const ENTRY *table, int size, const int64_t *rows, int count, int start, __m512 *columns) {
    UNROLL for (int r = 0; r < LANES; r++)
        columns[r] = r < count ? NAME(widen)(lanes(size - start), table + rows[r] * size + start) : _mm512_setzero_ps();
    transpose_wide(columns);
}

/* Entries of a group of units. */
INLINE void NAME(keep)(const NAME(Workspace) *space, int layer, int unit, int row, const __m512 *units) {
    NAME(gather)(space->entries[layer] + unit * space->stride + row * GROUP, units);
    if (GROUP > 1)
        UNROLL for (int g = 0; g < GROUP; g++) NAME(narrow)(space->plain[layer] + (unit + g) * space->stride + row, units[g]);
}

TARGET static void NAME(inputs)(const Network *net, const Step *step, const int64_t *wanted, int count,
                                const NAME(Workspace) *space) {
    const int size = net->sizes[0] + 1;
    for (int r = 0; r < count; r += LANES) {
        for (int i = 0; i < size; i += LANES) {
            __m512 units[LANES];
            NAME(columns)(step->inputs, size, wanted + r, count - r, i, units);
            UNROLL for (int u = 0; u < LANES; u += GROUP)
                if (i + u < size) NAME(keep)(space, 0, i + u, r, units + u);
        }
    }
}

/* Up to LANES rows. */
TARGET static void NAME(targets)(const Network *net, const Step *step, const int64_t *wanted, int count,
                                 const NAME(Workspace) *space) {
    const int size = net->obs_size + 1;
    for (int i = 0; i < size; i += LANES) {
        __m512 units[LANES];
        columns_float32(step->targets, size, wanted, count, i, units);
        UNROLL for (int u = 0; u < LANES; u++)
            if (i + u < size) _mm512_storeu_ps(space->targets + (i + u) * LANES, units[u]);
    }
}

/* Outputs of a layer, and for a hidden one the entries of the next. */
TARGET static void NAME(layer)(const Network *net, int member, int layer, const NAME(Workspace) *space) {
    const int in = net->sizes[layer], out = net->sizes[layer + 1];
    const float *bias = net->values + net->places[layer] + ((long)member * (in + 1) + in) * out;
    const __m512 one = _mm512_set1_ps(1.0f);
    for (int v = 0, width; v < space->vectors; v += width) {
        width = width_of(space->vectors - v);
        float *outputs = space->slopes[layer] + v * LANES;
        NAME(Product) product = {space->forward[layer], GROUP, (long)out * GROUP, space->entries[layer] + v * LANES * GROUP,
                                 space->stride * GROUP, (in + GROUP - 1) / GROUP, bias, outputs, space->stride};
        for (int u = 0, units; u < out; u += units, product.out += units * space->stride)
            units = NAME(advance)(&product, out - u, width);
        if (layer + 1 == net->num_layers) continue;
        for (int u = 0; u < out + 1; u += GROUP) {
            for (int r = 0; r < width * LANES; r += LANES) {
                __m512 active[GROUP];
                UNROLL for (int g = 0; g < GROUP; g++) {
                    active[g] = one;
                    if (u + g >= out) continue;
                    float *output = outputs + (u + g) * space->stride + r;
                    const __m512 value = _mm512_loadu_ps(output), share = NAME(logistic)(value);
                    active[g] = _mm512_mul_ps(value, share);
                    _mm512_storeu_ps(output, _mm512_fmadd_ps(active[g], _mm512_sub_ps(one, share), share));
                }
                NAME(keep)(space, layer + 1, u, v * LANES + r, active);
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
    const __m512 scale = _mm512_set1_ps(1.0f / ((float)net->batch * (float)size)), one = _mm512_set1_ps(1.0f);
    float *largest = space->bounds, *smallest = largest + size, *gradients = smallest + size, *shares = gradients + 2 * size;
    for (int i = 0; i < size; i++) {
        largest[i] = expf(maximum[i]);
        smallest[i] = expf(minimum[i]);
    }
    memset(shares, 0, 2L * size * LANES * sizeof *shares);
    for (int r = 0; r < net->batch; r += LANES) {
        NAME(targets)(net, step, wanted + r, net->batch - r, space);
        const __m512 weight = _mm512_mul_ps(_mm512_loadu_ps(space->targets + size * LANES), scale);
        const __mmask16 real = lanes(net->batch - r);
        for (int i = 0; i < size; i++) {
            float *mean = space->slopes[net->num_layers - 1] + i * space->stride + r, *logit = mean + size * space->stride;
            float *above = shares + i * LANES, *below = above + size * LANES;
            const __m512 limit = _mm512_set1_ps(largest[i]);
            const __m512 share = NAME(logistic)(_mm512_sub_ps(_mm512_loadu_ps(logit), _mm512_set1_ps(maximum[i])));
            const __m512 inverse = _mm512_div_ps(one, _mm512_fmadd_ps(limit, share, _mm512_set1_ps(smallest[i])));
            const __m512 distance = _mm512_sub_ps(_mm512_loadu_ps(mean), _mm512_loadu_ps(space->targets + i * LANES));
            const __m512 error = _mm512_mul_ps(distance, inverse);
            /* Of the variance. */
            const __m512 slope = _mm512_maskz_mul_ps(real, _mm512_fnmadd_ps(error, error, inverse), weight);
            const __m512 shared = _mm512_mul_ps(slope, share), squared = _mm512_mul_ps(shared, share);
            _mm512_storeu_ps(above, _mm512_add_ps(_mm512_loadu_ps(above), squared));
            _mm512_storeu_ps(below, _mm512_add_ps(_mm512_loadu_ps(below), slope));
            _mm512_storeu_ps(mean, _mm512_maskz_mul_ps(real, _mm512_add_ps(error, error), weight));
            _mm512_storeu_ps(logit, _mm512_mul_ps(_mm512_sub_ps(shared, squared), limit));
        }
    }
    for (int i = 0; i < 2 * size; i++)
        gradients[i] = _mm512_reduce_add_ps(_mm512_loadu_ps(shares + i * LANES)) * largest[i]
                     + (i < size ? net->penalty : -net->penalty);
}

/* Slopes of a layer as products read them. */
TARGET static void NAME(turn)(const Network *net, int layer, const NAME(Workspace) *space) {
    const int out = net->sizes[layer + 1], rows = space->vectors * LANES;
    const float *slopes = space->slopes[layer];
    for (int c = 0, width, chunks = (out + LANES - 1) / LANES; c < chunks; c += width) {
        width = width_of(chunks - c);
        ENTRY *panel = space->panels + (long)c * LANES * rows;
        for (int i = 0; i < width; i++) {
            const int first = (c + i) * LANES;
            for (int r = 0; r < rows; r += LANES) {
                __m512 square[LANES];
                UNROLL for (int u = 0; u < LANES; u++)
                    square[u] = first + u < out ? _mm512_loadu_ps(slopes + (first + u) * space->stride + r) : _mm512_setzero_ps();
                if (GROUP > 1)
                    UNROLL for (int u = 0; u < LANES; u += GROUP)
                        if (first + u < out) NAME(gather)(space->grouped + (first + u) * space->stride + r * GROUP, square + u);
                transpose_wide(square);
                UNROLL for (int q = 0; q < LANES; q += GROUP)
                    NAME(gather)(panel + ((long)(r + q) * width + i * GROUP) * LANES, square + q);
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
        float sums[UNITS * STRIP * LANES];
        NAME(Product) product = {space->back[layer], whole(out, GROUP), GROUP, grouped + v * LANES * GROUP,
                                 space->stride * GROUP, (out + GROUP - 1) / GROUP, 0, sums, STRIP * LANES};
        for (int u = 0, units; u < in; u += units) {
            units = NAME(advance)(&product, in - u, width);
            for (int i = 0; i < units; i++) {
                for (int r = 0; r < width * LANES; r += LANES) {
                    float *slope = space->slopes[layer - 1] + (u + i) * space->stride + v * LANES + r;
                    _mm512_storeu_ps(slope, _mm512_mul_ps(_mm512_loadu_ps(slope), _mm512_loadu_ps(sums + i * STRIP * LANES + r)));
                }
            }
        }
    }
}

/* A layer's weights, of which the bias is the last row. */
TARGET static void NAME(weights)(const Network *net, const Step *step, int member, int layer, NAME(Workspace) *space) {
    const int in = net->sizes[layer], out = net->sizes[layer + 1], rows = space->vectors * LANES;
    const long first = net->places[layer] + (long)member * (in + 1) * out;
    const Step rule = *step;
    float *moments = space->moments;
    for (int c = 0, width, chunks = (out + LANES - 1) / LANES; c < chunks; c += width) {
        width = width_of(chunks - c);
        __mmask16 inside[STRIP];
        for (int q = 0; q < width; q++) inside[q] = lanes(out - (c + q) * LANES);
        float sums[UNITS * STRIP * LANES];
        NAME(Product) product = {space->plain[layer], space->stride, GROUP, space->panels + (long)c * LANES * rows,
                                 width * LANES * GROUP, rows / GROUP, 0, sums, STRIP * LANES};
        for (int u = 0, units; u <= in; u += units) {
            units = NAME(advance)(&product, in + 1 - u, width);
            for (int i = 0; i < units; i++) {
                const float decay = u + i < in ? net->decay[layer] : 0.0f;
                long place = first + (long)(u + i) * out + c * LANES;
                for (int q = 0; q < width; q++, place += LANES, moments += 2 * LANES)
                    use(net, rule, place, inside[q], decay, _mm512_loadu_ps(sums + (i * STRIP + q) * LANES), moments);
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
        for (int i = 0; i < size; i += LANES, space->moments += 2 * LANES)
            use(net, *step, first + i, lanes(size - i), 0.0f, _mm512_maskz_loadu_ps(lanes(size - i), gradients + i),
                space->moments);
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

/* Takes pieces, some steps of one member in a row, until none is left. `taken` are those that threads have begun, `done` how many
 * steps of each member are. A piece waits for the member's piece before, which is taken before it. Returns 0, or 1 when there is
 * no memory. */
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
