/* Validation with one kind of product; `gradient.c` includes this once for each that is float32. */

/* The likelihood's part of the loss of a member, summed over some rows and all outputs. */
TARGET static float NAME(likelihood)(const Network *net, const Step *step, int member, long start, int count,
                                     NAME(Workspace) *space) {
    const int size = net->obs_size, last = net->num_layers - 1;
    const float *maximum = net->values + net->places[net->num_layers] + (long)member * size;
    const float *minimum = maximum + (long)net->members * size;
    FLOATS sum = OF_FLOATS(all)(0.0f);
    NAME(inputs)(net, step, step->input_rows + start, count, space);
    for (int layer = 0; layer <= last; layer++) {
        NAME(pack)(net, member, layer, space);
        NAME(layer)(net, member, layer, space);
    }
    for (int r = 0; r < count; r += FLOAT_LANES) {
        NAME(targets)(net, step, step->target_rows + start + r, count - r, space);
        const FLOATS weight = OF_FLOATS(load)(space->targets + size * FLOAT_LANES);
        for (int i = 0; i < size; i++) {
            const float *mean = space->slopes[last] + i * space->stride + r, *logit = mean + size * space->stride;
            const FLOATS share = NAME(logistic)(OF_FLOATS(load)(logit) - OF_FLOATS(all)(maximum[i]));
            const FLOATS variance = OF_FLOATS(all)(expf(maximum[i])) * share + OF_FLOATS(all)(expf(minimum[i]));
            const FLOATS error = OF_FLOATS(load)(mean) - OF_FLOATS(load)(space->targets + i * FLOAT_LANES);
            float logs[FLOAT_LANES];
            OF_FLOATS(store)(logs, variance);
            for (int lane = 0; lane < FLOAT_LANES; lane++) logs[lane] = logf(logs[lane]);
            const FLOATS loss = error * error / variance + OF_FLOATS(load)(logs);
            sum = OF_FLOATS(only)(loss, OF_FLOATS(first)(count - r)) * weight + sum;
        }
    }
    return OF_FLOATS(total)(sum);
}

/* Takes tiles of `rows` rows until none is left, for `sums` (E, tiles). Returns 0, or 1 when there is no memory. */
static int NAME(validate)(const Network *net, const Step *step, int64_t rows, int64_t tiles, float *sums, int64_t *taken) {
    NAME(Workspace) space;
    void *memory = NAME(open)(net, (int)((rows + tiles - 1) / tiles), &space);
    if (!memory) return 1;
    const unsigned control = flush_denormals();
    for (int64_t unit; (unit = __atomic_fetch_add(taken, 1, __ATOMIC_RELAXED)) < net->members * tiles;) {
        const int64_t member = unit / tiles, start = rows * (unit % tiles) / tiles, end = rows * (unit % tiles + 1) / tiles;
        sums[unit] = NAME(likelihood)(net, step, (int)member, member * rows + start, (int)(end - start), &space);
    }
    _mm_setcsr(control);
    free(memory);
    return 0;
}

EXPORT int NAME(mbrl_validate)(const Network *net, int threads, const Step *step, int64_t rows, int64_t tiles, float *sums) {
    int64_t taken = 0;
    int failed = 0;
    #pragma omp parallel num_threads(threads) reduction(|:failed)
    failed = NAME(validate)(net, step, rows, tiles, sums, &taken);
    return failed;
}
