"""Inner loops of the kernels on a CPU, eight pixels at a time, in the C++ that Warp puts into its kernels.

A row of a face is a few pixels long: lanes that lie outside it cost less than a loop over it. Blocks of pixels stay
inside the image. On CUDA the bodies are empty and `kpose.rendering.warp_kernels` walks pixel by pixel.
"""

_FACE = """
#if !defined(__CUDA_ARCH__)
    using namespace wp;
    typedef float lanes __attribute__((ext_vector_type(8)));
    typedef int whole __attribute__((ext_vector_type(8)));
    const lanes number = {0.0f, 1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f, 7.0f};
    const lanes zero = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    const float inward = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0]) > 0.0f ? 1.0f : -1.0f;
    float along_x[3], along_y[3], normal_x[3], normal_y[3], length[3];
    for (int k = 0; k < 3; ++k) {
        const float run = x[(k + 1) %% 3] - x[k], fall = y[(k + 1) %% 3] - y[k];
        length[k] = sqrtf(run * run + fall * fall);
        along_x[k] = run / length[k];
        along_y[k] = fall / length[k];
        normal_x[k] = -along_y[k] * inward;
        normal_y[k] = along_x[k] * inward;
    }
    const float limit = radius * radius, scale = 1.0f / sigma;
    // Cephes' expf, for arguments that neither overflow nor underflow.
    auto exponential = [](lanes v) {
        const lanes n = __builtin_elementwise_floor(v * 1.44269504f + 0.5f);
        const lanes r = v - n * 0.693359375f + n * 2.12194440e-4f;
        lanes y = r * 1.9875691500e-4f + 1.3981999507e-3f;
        y = y * r + 8.3334519073e-3f;
        y = y * r + 4.1665795894e-2f;
        y = y * r + 1.6666665459e-1f;
        y = y * r + 5.0000001201e-1f;
        y = y * (r * r) + r + 1.0f;
        return y * __builtin_bit_cast(lanes, (__builtin_convertvector(n, whole) + 127) << 23);
    };
    auto smaller = [](lanes a, lanes b) { return a < b ? a : b; };
    const int pixels = height * width;
    const bool is_wide = box[3] - box[2] >= 8;
%(before)s
    for (int i = box[0]; i <= box[1]; ++i) {
        const float line = (2.0f * float(i) + 1.0f) / float(height) - 1.0f;
        float lift[3], rise[3], left = -2.0f, right = 2.0f;
        for (int k = 0; k < 3; ++k) {
            lift[k] = normal_y[k] * (line - y[k]);
            rise[k] = along_y[k] * (line - y[k]);
            if (is_wide && normal_x[k] != 0.0f) {
                const float end = x[k] - (radius + 1e-6f + lift[k]) / normal_x[k];
                if (normal_x[k] > 0.0f && end > left) left = end < 2.0f ? end : 2.0f;
                if (normal_x[k] < 0.0f && end < right) right = end > -2.0f ? end : -2.0f;
            }
        }
        int start = box[2], stop = box[3];
        if (is_wide) {
            const float half = 0.5f * float(width);
            start = max(start, int(ceilf((left + 1.0f) * half - 0.5f)));
            stop = min(stop, int(floorf((right + 1.0f) * half - 0.5f)));
        }
        for (int j = start; j <= stop; j += 8) {
            const int at = min(i * width + j, pixels - 8);
            const lanes column = number + float(at - i * width);
            const lanes place = (column * 2.0f + 1.0f) / float(width) - 1.0f;
%(load)s
            lanes across[3], along[3], over[3], squares[3];
            for (int k = 0; k < 3; ++k) {
                across[k] = (place - x[k]) * normal_x[k] + lift[k];
                along[k] = (place - x[k]) * along_x[k] + rise[k];
                const lanes held = smaller(along[k], zero + length[k]);
                over[k] = along[k] - (held < zero ? zero : held);
                squares[k] = over[k] * over[k] + across[k] * across[k];
            }
            const lanes square = smaller(smaller(squares[0], squares[1]), squares[2]);
            const whole inside = smaller(smaller(across[0], across[1]), across[2]) >= zero;
            lanes cut = smaller(inside ? square * scale : square * -scale, zero + 20.0f);
            cut = cut < zero - 20.0f ? zero - 20.0f : cut;
            const whole counts = (inside | (square <= zero + limit)) & (column >= zero + float(j))
                & (column <= zero + float(stop));
%(use)s
        }
    }
%(after)s
#endif
"""

COVER_FACE = _FACE % {
    "before": "",
    "load": """
            float* row = &total.data[0] + size_t(image) * pixels + at;
            lanes before;
            __builtin_memcpy(&before, row, sizeof(lanes));
            if (!__builtin_reduce_or(before < zero + 1e8f)) continue;
""",
    "use": """
            const lanes odds = counts ? exponential(cut) : zero;
            const lanes after = smaller(before + odds * (before + 1.0f), zero + 1e16f);
            __builtin_memcpy(row, &after, sizeof(lanes));
""",
    "after": "",
}
"""Body of `kpose.rendering.warp_kernels.cover_face`; pixels whose coverage is 1 in float32 need no more of it."""

FACE_GRADIENT = _FACE % {
    "before": """
    lanes sums_x[3] = {zero, zero, zero}, sums_y[3] = {zero, zero, zero};
""",
    "load": """
            lanes weights;
            __builtin_memcpy(&weights, &weight.data[0] + size_t(image) * pixels + at, sizeof(lanes));
            if (!__builtin_reduce_or(weights != zero)) continue;
""",
    "use": """
            const lanes odds = exponential(cut);
            const lanes pull = (counts ? weights : zero) * (odds / (odds + 1.0f))
                * (inside ? zero - 2.0f * scale : zero + 2.0f * scale);
            // Of edges that are equally near the first pulls.
            const whole is_0 = squares[0] <= square, is_1 = (squares[1] <= square) & ~is_0, is_2 = ~(is_0 | is_1);
            lanes to_x[3], to_y[3], share[3];
            for (int k = 0; k < 3; ++k) {
                to_x[k] = across[k] * normal_x[k] + over[k] * along_x[k];
                to_y[k] = across[k] * normal_y[k] + over[k] * along_y[k];
                share[k] = (along[k] - over[k]) * (1.0f / length[k]);
            }
            const lanes pull_x = pull * (is_0 ? to_x[0] : is_1 ? to_x[1] : to_x[2]);
            const lanes pull_y = pull * (is_0 ? to_y[0] : is_1 ? to_y[1] : to_y[2]);
            const lanes foot = is_0 ? share[0] : is_1 ? share[1] : share[2];
            const lanes end_x = pull_x * foot, end_y = pull_y * foot;
            const lanes start_x = pull_x - end_x, start_y = pull_y - end_y;
            sums_x[0] += is_0 ? start_x : is_2 ? end_x : zero;
            sums_y[0] += is_0 ? start_y : is_2 ? end_y : zero;
            sums_x[1] += is_1 ? start_x : is_0 ? end_x : zero;
            sums_y[1] += is_1 ? start_y : is_0 ? end_y : zero;
            sums_x[2] += is_2 ? start_x : is_1 ? end_x : zero;
            sums_y[2] += is_2 ? start_y : is_1 ? end_y : zero;
""",
    "after": """
    for (int k = 0; k < 3; ++k) {
        float sum_x = 0.0f, sum_y = 0.0f;
        for (int lane = 0; lane < 8; ++lane) {
            sum_x += sums_x[k][lane];
            sum_y += sums_y[k][lane];
        }
        vec_t<3, float>& own = gradient.data[size_t(image) * num_vertices + corners[k]];
        own[0] += sum_x;
        own[1] += sum_y;
    }
""",
}
"""Body of `kpose.rendering.warp_kernels.face_gradient`."""
