/* Gradient steps with one kind of product; `gradient.c` includes this once for each. */

typedef struct {
    const ENTRY *left;          /* group k of row r lies at left + r * row_step + k * group_step */
    long row_step, group_step;
    const ENTRY *right;         /* in chunks */
    int rows;                   /* of `right`, even */
    const float *start;         /* of the sums, the same for all rows; zero where null */
    float *out;
    long out_step;
} NAME(Product);

/* ROWS rows of `width` chunks, a constant where this is inlined. */
INLINE void NAME(product)(const int width, const NAME(Product) *p) {
    const ENTRY *left = p->left, *right = p->right;
    __m512 sums[ROWS][STRIP];
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int c = 0; c < width; c++)
            sums[r][c] = p->start ? _mm512_loadu_ps(p->start + LANES * c) : _mm512_setzero_ps();
    for (int k = 0; k < p->rows; k += GROUP) {
        VECTOR vectors[STRIP];
        UNROLL for (int c = 0; c < width; c++) vectors[c] = NAME(load)(right + c * packed_size(p->rows, LANES));
        UNROLL for (int r = 0; r < ROWS; r++) {
            const VECTOR all = NAME(broadcast)(left + r * p->row_step);
            UNROLL for (int c = 0; c < width; c++) sums[r][c] = NAME(multiply_add)(sums[r][c], all, vectors[c]);
        }
        left += p->group_step;
        right += GROUP * LANES;
    }
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int c = 0; c < width; c++) _mm512_storeu_ps(p->out + r * p->out_step + LANES * c, sums[r][c]);
}

TARGET static void NAME(product_1)(const NAME(Product) *p) { NAME(product)(1, p); }
TARGET static void NAME(product_2)(const NAME(Product) *p) { NAME(product)(2, p); }
TARGET static void NAME(product_3)(const NAME(Product) *p) { NAME(product)(3, p); }

/* `rows` rows, a multiple of ROWS, of whole chunks. */
static void NAME(multiply)(NAME(Product) product, int rows, int columns) {
    for (int c = 0, width; c < chunks(columns); c += width) {
        const int left = chunks(columns) - c;
        width = left < STRIP ? left : STRIP;
        NAME(Product) part = product;
        part.right += c * packed_size(product.rows, LANES);
        part.out += LANES * c;
        if (part.start) part.start += LANES * c;
        for (int r = 0; r < rows; r += ROWS) {
            if (width == 3) NAME(product_3)(&part);
            else if (width == 2) NAME(product_2)(&part);
            else NAME(product_1)(&part);
            part.left += ROWS * product.row_step;
            part.out += ROWS * product.out_step;
        }
    }
}

/* Weights and bias of one layer, as the passes forward and back read them. */
TARGET static void NAME(pack)(const Network *net, int member, int layer) {
    const int in = net->sizes[layer], out = net->sizes[layer + 1];
    const float *values = net->values + net->places[layer] + (long)member * (in + 1) * out;
    ENTRY *forward = (ENTRY *)net->forward[layer] + member * packed_size(even(in), out);
    ENTRY *backward = layer ? (ENTRY *)net->backward[layer] + member * packed_size(even(out), in) : 0;
    for (int c = 0; c < out; c += LANES) {
        for (int i = 0; i < in; i += LANES) {
            __m512 square[LANES];
            UNROLL for (int r = 0; r < LANES; r++)
                square[r] = _mm512_maskz_loadu_ps(i + r < in ? lanes(out - c) : 0, values + (long)(i + r) * out + c);
            UNROLL for (int r = 0; r < LANES; r += 2)
                if (i + r < in) NAME(put)(forward + (long)c * even(in) + (long)(i + r) * LANES, 0xffff, square[r], square[r + 1]);
            if (!backward) continue;
            transpose_wide(square);
            ENTRY *to = backward + (long)i * even(out) + (long)c * LANES;
            UNROLL for (int r = 0; r < LANES; r += 2)
                if (c + r < out) NAME(put)(to + r * LANES, 0xffff, square[r], square[r + 1]);
        }
    }
    memcpy(net->bias[layer] + (long)member * chunks(out) * LANES, values + (long)in * out, out * sizeof(float));
}

/* What one thread works in: arrays of TILE rows. */
typedef struct {
    float *outputs;
    float *derivatives;  /* of the units, layer by layer */
    ENTRY *rows;
} NAME(Workspace);

/* Rows r and r + 1 of a tile, as they are for the next product and in chunks for the gradient of the weights. */
INLINE void NAME(keep)(const Network *net, const NAME(Workspace) *space, int r, int c, int size, __m512 first, __m512 second,
                       ENTRY *packed) {
    ENTRY *row = space->rows + (long)r * net->stride + c;
    NAME(narrow)(row, first);
    NAME(narrow)(row + net->stride, second);
    NAME(put)(packed + (long)c * net->batch_rows + (long)r * LANES, lanes(size - c), first, second);
}

/* Slope at the outputs instead of the outputs, and a tile's share of that of the variance bounds. The softly bounded
 * log-variance of a raw output v is log(exp(min) + exp(max) * share), share = sigmoid(v - max). */
TARGET static void NAME(loss)(const Network *net, const Step *step, int member, int tile, int count,
                              const NAME(Workspace) *space) {
    const int size = net->obs_size, padded = chunks(size) * LANES;
    const int tiles = tiles_of(net->batch);
    const float *maximum = net->values + net->places[net->num_layers] + (long)member * size;
    const float *minimum = maximum + (long)net->members * size;
    float *shares = net->bounds_shares + ((long)member * tiles + tile) * 2 * padded;
    const int64_t *rows = step->target_rows + (long)member * net->batch + (long)tile * TILE;
    const float scale = 1.0f / ((float)net->batch * (float)size);
    for (int c = 0; c < size; c += LANES) {
        const __mmask16 inside = lanes(size - c);
        float exponentials[2][LANES] = {{0.0f}};
        for (int i = 0; i < LANES && c + i < size; i++) {
            exponentials[0][i] = expf(maximum[c + i]);
            exponentials[1][i] = expf(minimum[c + i]);
        }
        const __m512 largest = _mm512_loadu_ps(exponentials[0]), smallest = _mm512_loadu_ps(exponentials[1]);
        const __m512 limit = _mm512_maskz_loadu_ps(inside, maximum + c), one = _mm512_set1_ps(1.0f);
        __m512 above = _mm512_setzero_ps(), below = _mm512_setzero_ps();
        for (int r = 0; r < count; r++) {
            float *out = space->outputs + (long)r * net->stride + c;
            const float *targets = step->targets + rows[r] * (size + 1);
            const __m512 weight = _mm512_set1_ps(targets[size] * scale);
            const __m512 share = NAME(logistic)(_mm512_sub_ps(_mm512_maskz_loadu_ps(inside, out + size), limit));
            const __m512 inverse = _mm512_div_ps(one, _mm512_fmadd_ps(largest, share, smallest));
            const __m512 distance = _mm512_sub_ps(_mm512_maskz_loadu_ps(inside, out),
                                                  _mm512_maskz_loadu_ps(inside, targets + c));
            const __m512 error = _mm512_mul_ps(distance, inverse);
            const __m512 slope = _mm512_mul_ps(_mm512_fnmadd_ps(error, error, inverse), weight);  /* of the variance */
            const __m512 shared = _mm512_mul_ps(slope, share), squared = _mm512_mul_ps(shared, share);
            above = _mm512_add_ps(above, squared);
            below = _mm512_add_ps(below, slope);
            _mm512_mask_storeu_ps(out, inside, _mm512_mul_ps(_mm512_add_ps(error, error), weight));
            _mm512_mask_storeu_ps(out + size, inside, _mm512_mul_ps(_mm512_sub_ps(shared, squared), largest));
        }
        _mm512_storeu_ps(shares + c, _mm512_mul_ps(above, largest));
        _mm512_storeu_ps(shares + padded + c, _mm512_mul_ps(below, smallest));
    }
}

/* A tile of rows forward and back. Rows behind the batch have a slope of zero. */
TARGET static void NAME(pass)(const Network *net, const Step *step, int member, int tile, const NAME(Workspace) *space) {
    const int start = tile * TILE, left = net->batch - start, count = left < TILE ? left : TILE;
    const int rows = (count + ROWS - 1) / ROWS * ROWS, last = net->num_layers - 1, in = net->sizes[0];
    const int64_t *wanted = step->input_rows + (long)member * net->batch + start;
    ENTRY *entries = (ENTRY *)net->entries[0] + member * packed_size(net->batch_rows, in + 1) + (long)start * LANES;
    memset(space->rows, 0, (long)rows * net->stride * sizeof *space->rows);
    for (int r = 0; r < count; r++) {
        const ENTRY *row = (const ENTRY *)step->inputs + wanted[r] * (in + 1);
        memcpy(space->rows + (long)r * net->stride, row, in * sizeof *row);
        ENTRY *column = entries + (long)(r / GROUP) * GROUP * LANES + r % GROUP;
        for (int i = 0; i < in; i++) column[i / LANES * packed_size(net->batch_rows, LANES) + i % LANES * GROUP] = row[i];
    }
    const __m512 one = _mm512_set1_ps(1.0f);
    for (int layer = 0; layer <= last; layer++) {
        const int from = net->sizes[layer], to = net->sizes[layer + 1];
        const ENTRY *forward = (const ENTRY *)net->forward[layer] + member * packed_size(even(from), to);
        const float *bias = net->bias[layer] + (long)member * chunks(to) * LANES;
        NAME(multiply)((NAME(Product)){space->rows, net->stride, GROUP, forward, even(from), bias, space->outputs, net->stride},
                       rows, to);
        if (layer == last) break;
        float *derivatives = space->derivatives + (long)layer * TILE * net->stride;
        entries = (ENTRY *)net->entries[layer + 1] + member * packed_size(net->batch_rows, to + 1) + (long)start * LANES;
        for (int r = 0; r < rows; r += 2) {
            for (int c = 0; c < to; c += LANES) {
                __m512 activated[2];
                UNROLL for (int q = 0; q < 2; q++) {
                    const long place = (long)(r + q) * net->stride + c;
                    const __m512 value = _mm512_loadu_ps(space->outputs + place), share = NAME(logistic)(value);
                    activated[q] = _mm512_mul_ps(value, share);
                    _mm512_storeu_ps(derivatives + place, _mm512_fmadd_ps(activated[q], _mm512_sub_ps(one, share), share));
                }
                NAME(keep)(net, space, r, c, to, activated[0], activated[1], entries);
            }
        }
    }
    NAME(loss)(net, step, member, tile, count, space);
    memset(space->outputs + (long)count * net->stride, 0, (long)(rows - count) * net->stride * sizeof(float));
    for (int layer = last; layer >= 0; layer--) {
        const int from = net->sizes[layer], to = net->sizes[layer + 1];
        const float *derivatives = space->derivatives + (long)layer * TILE * net->stride;
        ENTRY *slopes = (ENTRY *)net->slopes[layer] + member * packed_size(net->batch_rows, to) + (long)start * LANES;
        for (int r = 0; r < rows; r += 2) {
            for (int c = 0; c < to; c += LANES) {
                __m512 slope[2];
                UNROLL for (int q = 0; q < 2; q++) {
                    const long place = (long)(r + q) * net->stride + c;
                    slope[q] = _mm512_loadu_ps(space->outputs + place);
                    if (layer < last) slope[q] = _mm512_mul_ps(slope[q], _mm512_loadu_ps(derivatives + place));
                }
                NAME(keep)(net, space, r, c, to, slope[0], slope[1], slopes);
            }
        }
        if (!layer) break;
        const ENTRY *backward = (const ENTRY *)net->backward[layer] + member * packed_size(even(to), from);
        NAME(multiply)((NAME(Product)){space->rows, net->stride, GROUP, backward, even(to), 0, space->outputs, net->stride},
                       rows, from);
    }
}

/* TILE rows of a layer's weights, of which the bias is the last. */
TARGET static void NAME(weights)(const Network *net, const Step *step, int member, int layer, int tile, float *sums) {
    const int rows = net->sizes[layer] + 1, out = net->sizes[layer + 1], start = tile * TILE;
    const int count = rows - start < TILE ? rows - start : TILE;
    const ENTRY *slopes = (const ENTRY *)net->slopes[layer] + member * packed_size(net->batch_rows, out);
    const ENTRY *entries = (const ENTRY *)net->entries[layer] + member * packed_size(net->batch_rows, rows);
    NAME(Product) product = {0, GROUP, GROUP * LANES, slopes, net->batch_rows, 0, sums, net->stride};
    for (int r = 0; r < count; r += LANES) {
        product.left = entries + (start + r) / LANES * packed_size(net->batch_rows, LANES);
        product.out = sums + (long)r * net->stride;
        NAME(multiply)(product, count - r > ROWS ? LANES : ROWS, out);
    }
    const long first = net->places[layer] + ((long)member * rows + start) * out;
    for (int r = 0; r < count; r++) {
        const __m512 decay = _mm512_set1_ps(start + r + 1 < rows ? net->decay[layer] : 0.0f);
        for (int c = 0; c < out; c += LANES)
            use(net, step, first + (long)r * out + c, lanes(out - c), decay, _mm512_loadu_ps(sums + (long)r * net->stride + c));
    }
}

/* Takes units of all steps until none is left. `counters`, zero at first: units taken, workspaces taken, and for each member
 * how many units of the three kinds are done. A unit waits for those that it needs, all of which are taken before it. */
EXPORT int NAME(mbrl_descend)(const Network *net, int64_t num_steps, const Step *steps, int64_t *counters) {
    const int64_t layers = net->num_layers, tiles = tiles_of(net->batch);
    int64_t parts = 0;
    for (int layer = 0; layer < layers; layer++) parts += tiles_of(net->sizes[layer] + 1);
    const int64_t packs_end = net->members * layers, passes_end = packs_end + net->members * tiles;
    const int64_t end = passes_end + net->members * parts, room = (int64_t)TILE * net->stride;
    int64_t *packed = counters + 2, *passed = packed + net->members, *used = passed + net->members;
    NAME(Workspace) space;
    space.outputs = (float *)(net->workspaces + __atomic_fetch_add(counters + 1, 1, __ATOMIC_RELAXED) * net->workspace_size);
    space.derivatives = space.outputs + room;
    space.rows = (ENTRY *)(space.derivatives + room * layers);
    const unsigned control = flush_denormals();
    for (int64_t taken; (taken = __atomic_fetch_add(counters, 1, __ATOMIC_RELAXED)) < num_steps * end;) {
        const int64_t index = taken / end;
        const Step *step = steps + index;
        int64_t unit = taken % end;
        if (unit < packs_end) {
            const int64_t member = unit / layers;
            wait_for(used + member, index * parts);
            NAME(pack)(net, (int)member, (int)(unit % layers));
            __atomic_fetch_add(packed + member, 1, __ATOMIC_RELEASE);
        } else if (unit < passes_end) {
            unit -= packs_end;
            const int64_t member = unit / tiles;
            wait_for(packed + member, (index + 1) * layers);
            NAME(pass)(net, step, (int)member, (int)(unit % tiles), &space);
            __atomic_fetch_add(passed + member, 1, __ATOMIC_RELEASE);
        } else {
            unit -= passes_end;
            const int64_t member = unit / parts;
            int part = (int)(unit % parts), layer = 0;
            wait_for(passed + member, (index + 1) * tiles);
            if (!part) bounds(net, step, (int)member);
            for (int count; part >= (count = tiles_of(net->sizes[layer] + 1)); part -= count) layer++;
            NAME(weights)(net, step, (int)member, layer, part, space.outputs);
            __atomic_fetch_add(used + member, 1, __ATOMIC_RELEASE);
        }
    }
    _mm_setcsr(control);
    return 0;
}
