/* The tool's frame, as `spaces/tool_frame.py` has it, for one width of vectors; `fused.c` includes this once for each.
 *
 * Arrays are (entries, lanes), of the entries of an observation, of its features or of an action. */

/* Exact to the last digits for angles of up to some thousand turns; for larger ones the results are only within [-1, 1]. */
INLINE void OF_FLOATS(sine_cosine)(FLOATS angle, FLOATS *sine, FLOATS *cosine) {
    const FLOATS halves = OF_FLOATS(nearest)(angle * 0.318309886f);
    const FLOATS odd = halves - 2.0f * OF_FLOATS(nearest)(halves * 0.5f), sign = 1.0f - 2.0f * odd * odd;
    /* Half a turn in three parts, of which the first two have so few digits that their multiples are exact. */
    const FLOATS left = angle - halves * 3.140625f - halves * 9.67502594e-4f - halves * 1.50995799e-7f;
    const FLOATS rest = OF_FLOATS(within)(left, 1.57079633f), square = rest * rest;
    FLOATS value = square * 2.59048852e-6f - 0.000198008973f;
    value = value * square + 0.00833289977f;
    value = value * square - 0.166666478f;
    *sine = sign * (value * square * rest + rest);
    value = square * -2.60514952e-7f + 2.4760162e-5f;
    value = value * square - 0.00138883619f;
    value = value * square + 0.0416666381f;
    value = value * square - 0.5f;
    *cosine = sign * (value * square + 1.0f);
}

INLINE FLOATS OF_FLOATS(tanh)(FLOATS value) { return 2.0f * OF_FLOATS(logistic)(2.0f * value) - 1.0f; }

/* Rotate x and y components about z, in place. */
INLINE void OF_FLOATS(turn)(float *x, long lanes, FLOATS cosine, FLOATS sine) {
    const FLOATS along = OF_FLOATS(load)(x), across = OF_FLOATS(load)(x + lanes);
    OF_FLOATS(store)(x, cosine * along + sine * across);
    OF_FLOATS(store)(x + lanes, cosine * across - sine * along);
}

/* Features of observations; actions are turned in place, and `yaw`, (2, lanes), becomes cosine and sine of the tool's. */
TARGET static void OF_FLOATS(encode)(const ToolFrame *frame, long lanes, const float *obs, float *features, float *action,
                                     float *yaw) {
    const float closeness = -1.44269504f / (frame->closeness_m * frame->closeness_m);
    for (long r = 0; r < lanes; r += FLOAT_LANES) {
        const float *from = obs + r, *tool_yaw = from + TOOL_YAW * lanes;
        float *to = features + r;
        FLOATS cosine, sine, distance = OF_FLOATS(all)(0.0f);
        OF_FLOATS(sine_cosine)(OF_FLOATS(load)(tool_yaw), &sine, &cosine);
        OF_FLOATS(store)(yaw + r, cosine);
        OF_FLOATS(store)(yaw + lanes + r, sine);
        for (int i = 0; i < 3; i++)
            OF_FLOATS(store)(to + i * lanes, OF_FLOATS(load)(from + (BODY + i) * lanes) - OF_FLOATS(load)(from + i * lanes));
        OF_FLOATS(turn)(to, lanes, cosine, sine);
        for (int i = 0; i < 3; i++) {
            const FLOATS offset = OF_FLOATS(load)(to + i * lanes);
            distance += offset * offset;
            OF_FLOATS(store)(to + i * lanes, OF_FLOATS(tanh)(offset / frame->offset_m));
        }
        OF_FLOATS(store)(to + 3 * lanes, OF_FLOATS(tanh)(OF_FLOATS(load)(from + TOOL_HEIGHT * lanes) / frame->height_m));
        OF_FLOATS(store)(to + 4 * lanes, OF_FLOATS(load)(from + OPENING * lanes));
        FLOATS alike_cosine, alike_sine;
        OF_FLOATS(sine_cosine)(frame->symmetry * (OF_FLOATS(load)(from + BODY_YAW * lanes) - OF_FLOATS(load)(tool_yaw)),
                               &alike_sine, &alike_cosine);
        OF_FLOATS(store)(to + 5 * lanes, alike_sine);
        OF_FLOATS(store)(to + 6 * lanes, alike_cosine);
        OF_FLOATS(store)(to + 7 * lanes, OF_FLOATS(power_of_two)(OF_FLOATS(within)(distance * closeness, 126.0f)));
        OF_FLOATS(store)(to + 8 * lanes, OF_FLOATS(tanh)(OF_FLOATS(load)(from + BODY_HEIGHT * lanes) / frame->height_m));
        for (int i = VELOCITIES; i < 2 * VELOCITIES; i++) OF_FLOATS(store)(to + i * lanes, OF_FLOATS(load)(from + i * lanes));
        OF_FLOATS(turn)(to + VELOCITIES * lanes, lanes, cosine, sine);
        OF_FLOATS(turn)(to + (VELOCITIES + BODY) * lanes, lanes, cosine, sine);
        OF_FLOATS(turn)(action + r, lanes, cosine, sine);
    }
}

/* Features after a step become observations, in place. */
TARGET static void OF_FLOATS(decode)(long lanes, const float *obs, const float *features, const float *yaw, float *next) {
    static const int turned[] = {0, BODY, VELOCITIES, VELOCITIES + BODY};
    for (long at = 0; at < 2 * VELOCITIES * lanes; at += FLOAT_LANES)
        OF_FLOATS(store)(next + at, OF_FLOATS(load)(next + at) - OF_FLOATS(load)(features + at));
    for (long r = 0; r < lanes; r += FLOAT_LANES)
        for (int i = 0; i < 4; i++)
            OF_FLOATS(turn)(next + turned[i] * lanes + r, lanes, OF_FLOATS(load)(yaw + r), -OF_FLOATS(load)(yaw + lanes + r));
    for (long at = 0; at < 2 * VELOCITIES * lanes; at += FLOAT_LANES)
        OF_FLOATS(store)(next + at, OF_FLOATS(load)(next + at) + OF_FLOATS(load)(obs + at));
}
