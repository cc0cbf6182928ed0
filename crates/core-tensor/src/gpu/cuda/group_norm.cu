// Group norm over a map [b, pixels, c] (NHWC), in two launches without atomics: the result does not depend on timing.
//
//   group_stats: per (batch, group, split of the pixels) the mean and the sum of squared differences from it
//                -> partial float2 [b, groups, splits]
//   group_apply: merges the splits, y = (x - mean) / sqrt(var + eps) * weight + bias, then activation (0 none, 3 SiLU)
//
// Maps have means far above their spread, so no sum of plain squares is taken. A thread sums the differences from the
// first value it sees of a channel; what threads, channels and splits found is merged by the formula of Chan, Golub and
// LeVeque (1979): M2 = sum(M2_i) + sum(n_i (mean_i - mean)^2).
//
// A thread keeps to one 16-byte run of channels and walks over pixels. The channels of a block are whole groups whose
// ends fall on 16 bytes (a slab); groups of any width do, c / groups = 10 or 4 too.
//
// Launch, both entries: blocks of 512 threads, grid (splits, slabs, b); args.splits is the grid's first size in both.
// Any number of slabs and splits is right; for speed, with W = 16 / sizeof(T):
//   slabs  = max(1, c / 320)
//   splits = clamp(ceil(2 * multiprocessors / (b * slabs)), 1, ceil(pixels * (c / slabs) / (W * 1024)))
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#if defined(T_BF16)
typedef __nv_bfloat16 T;
__device__ __forceinline__ float widen(T v) { return __bfloat162float(v); }
__device__ __forceinline__ T narrow(float v) { return __float2bfloat16_rn(v); }
__device__ __forceinline__ float2 widen_pair(unsigned w) {
    return make_float2(__uint_as_float(w << 16), __uint_as_float(w & 0xffff0000u));
}
__device__ __forceinline__ unsigned narrow_pair(float a, float b) {
    const __nv_bfloat162 p = __floats2bfloat162_rn(a, b);
    return *reinterpret_cast<const unsigned*>(&p);
}
#elif defined(T_F16)
typedef __half T;
// The largest number of the format in place of what is larger; no number stays none.
__device__ __forceinline__ float within(float v) { return v > 65504.0f ? 65504.0f : v < -65504.0f ? -65504.0f : v; }
__device__ __forceinline__ float widen(T v) { return __half2float(v); }
__device__ __forceinline__ T narrow(float v) { return __float2half_rn(within(v)); }
__device__ __forceinline__ float2 widen_pair(unsigned w) { return __half22float2(*reinterpret_cast<const __half2*>(&w)); }
__device__ __forceinline__ unsigned narrow_pair(float a, float b) {
    const __half2 p = __floats2half2_rn(within(a), within(b));
    return *reinterpret_cast<const unsigned*>(&p);
}
#else
typedef float T;
__device__ __forceinline__ float widen(T v) { return v; }
__device__ __forceinline__ T narrow(float v) { return v; }
#endif

struct Args { int pixels, c, groups, splits, activation; float eps; };

constexpr int THREADS = 512;
constexpr int WARPS = THREADS / 32;
constexpr int WIDE = 16 / sizeof(T);       // elements of one 16-byte access
constexpr int CHANNELS = THREADS * WIDE;   // the most one block can take at a time
constexpr int READ = 4, WRITE = 2;         // pixels a thread has under way in stats and in apply

// One 16-byte access, kept as words: the elements are unpacked where they are used.
__device__ __forceinline__ void unpack(const uint4& r, float (&to)[WIDE]) {
    const unsigned w[4] = {r.x, r.y, r.z, r.w};
    #pragma unroll
    for (int i = 0; i < 4; ++i) {
#if defined(T_BF16) || defined(T_F16)
        const float2 p = widen_pair(w[i]);
        to[2 * i] = p.x;
        to[2 * i + 1] = p.y;
#else
        to[i] = __uint_as_float(w[i]);
#endif
    }
}

__device__ __forceinline__ uint4 pack(const float (&v)[WIDE]) {
    unsigned w[4];
    #pragma unroll
    for (int i = 0; i < 4; ++i) {
#if defined(T_BF16) || defined(T_F16)
        w[i] = narrow_pair(v[2 * i], v[2 * i + 1]);
#else
        w[i] = __float_as_uint(v[i]);
#endif
    }
    return make_uint4(w[0], w[1], w[2], w[3]);
}

// Past the first-level cache, where nothing is read twice.
__device__ __forceinline__ uint4 fetch(const T* p) { return __ldcg(reinterpret_cast<const uint4*>(p)); }

__device__ __forceinline__ float warp_sum(float v) {
    #pragma unroll
    for (int o = 16; o > 0; o /= 2) v += __shfl_xor_sync(~0u, v, o);
    return v;
}

// What a block works on: groups [first, last), at most `step` of them at a time, pixels [from, to).
struct Part {
    int width, first, last, step, from, to;
    bool aligned;

    __device__ __forceinline__ Part(const Args& args) {
        width = args.c / args.groups;
        const int low = width & -width;                      // the greatest power of two in the width
        const int unit = low < WIDE ? WIDE / low : 1;        // groups that together end on 16 bytes
        aligned = args.c % WIDE == 0 && (long long)unit * width <= CHANNELS;
        int share = (args.groups + gridDim.y - 1) / gridDim.y;
        share = (share + unit - 1) / unit * unit;
        first = min((long long)blockIdx.y * share, (long long)args.groups);
        last = min(first + share, args.groups);
        step = aligned ? CHANNELS / (unit * width) * unit : CHANNELS;
        const long long span = pixels_of(args);
        from = min(blockIdx.x * span, (long long)args.pixels);
        to = min(from + span, (long long)args.pixels);
    }
    static __device__ __forceinline__ int pixels_of(const Args& args) { return (args.pixels - 1) / args.splits + 1; }
};

extern "C" __global__ void __launch_bounds__(THREADS, 2) group_stats(
    const T* x, float2* partial, const __grid_constant__ Args args
) {
    __shared__ float means[CHANNELS], spreads[CHANNELS];
    const Part part(args);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, count = part.to - part.from;
    x += ((long long)blockIdx.z * args.pixels + part.from) * args.c;
    partial += (long long)blockIdx.z * args.groups * args.splits + blockIdx.x;

    if (count == 0) {  // the last splits may be empty: their weight is zero, their numbers must be finite
        for (int g = part.first + threadIdx.x; g < part.last; g += THREADS) {
            partial[(long long)g * args.splits] = make_float2(0.0f, 0.0f);
        }
        return;
    }

    if (!part.aligned) {  // one group after the other, element by element
        for (int g = part.first; g < part.last; ++g) {
            const T* p = x + (long long)g * part.width;
            const long long n = (long long)count * part.width;
            const float start = widen(p[0]);
            float sum = 0.0f, squares = 0.0f;
            for (int i = warp; i < count; i += WARPS) {
                for (int e = lane; e < part.width; e += 32) {
                    const float f = widen(p[(long long)i * args.c + e]) - start;
                    sum += f;
                    squares += f * f;
                }
            }
            sum = warp_sum(sum);
            squares = warp_sum(squares);
            __syncthreads();
            if (lane == 0) { means[warp] = sum; spreads[warp] = squares; }
            __syncthreads();
            if (warp == 0) {
                sum = warp_sum(lane < WARPS ? means[lane] : 0.0f);
                squares = warp_sum(lane < WARPS ? spreads[lane] : 0.0f);
                if (lane == 0) {
                    const float mean = sum / n;
                    partial[(long long)g * args.splits] = make_float2(start + mean, squares - sum * mean);
                }
            }
        }
        return;
    }

    for (int g = part.first; g < part.last; g += part.step) {
        const int end = min(g + part.step, part.last);
        const int runs = (end - g) * part.width / WIDE, rows = THREADS / runs;
        const int row = threadIdx.x / runs, run = threadIdx.x % runs;
        if (row < rows) {
            const T* p = x + (long long)row * args.c + g * part.width + run * WIDE;
            const long long next = (long long)rows * args.c;
            const int mine = row < count ? (count - row - 1) / rows + 1 : 0;
            float start[WIDE], sum[WIDE], squares[WIDE];
            #pragma unroll
            for (int e = 0; e < WIDE; ++e) start[e] = sum[e] = squares[e] = 0.0f;
            if (mine > 0) {
                unpack(fetch(p), start);
            }
            auto add = [&](const uint4& r) {
                float f[WIDE];
                unpack(r, f);
                #pragma unroll
                for (int e = 0; e < WIDE; ++e) {
                    f[e] -= start[e];
                    sum[e] += f[e];
                    squares[e] += f[e] * f[e];
                }
            };
            int i = 0;
            #pragma unroll 1
            for (; i + READ <= mine; i += READ) {
                uint4 r[READ];
                #pragma unroll
                for (int a = 0; a < READ; ++a, p += next) r[a] = fetch(p);
                #pragma unroll
                for (int a = 0; a < READ; ++a) add(r[a]);
            }
            #pragma unroll 1
            for (; i < mine; ++i, p += next) add(fetch(p));
            #pragma unroll
            for (int e = 0; e < WIDE; ++e) {
                const float mean = mine > 0 ? sum[e] / mine : 0.0f;
                means[(row * runs + run) * WIDE + e] = start[e] + mean;
                spreads[(row * runs + run) * WIDE + e] = squares[e] - sum[e] * mean;
            }
        }
        __syncthreads();
        // A warp for each group, over the channels of the group as each row of threads saw them.
        for (int k = g + warp; k < end; k += WARPS) {
            const int offset = (k - g) * part.width;
            const float pivot = means[offset];  // any value near the mean keeps the squares small
            float near = 0.0f, squares = 0.0f;
            for (int e = lane; e < min(rows, count) * part.width; e += 32) {
                const int r = e / part.width, at = r * runs * WIDE + offset + e % part.width;
                const float n = (count - r - 1) / rows + 1, f = means[at] - pivot;
                near += n * f;
                squares += n * f * f + spreads[at];
            }
            near = warp_sum(near);
            squares = warp_sum(squares);
            if (lane == 0) {
                const float mean = near / ((long long)count * part.width);
                partial[(long long)k * args.splits] = make_float2(pivot + mean, squares - near * mean);
            }
        }
        __syncthreads();
    }
}

// Exact where T is float, quicker where the result is rounded to 16 bits anyway.
__device__ __forceinline__ float silu(float v) {
    if constexpr (sizeof(T) == 4) return v / (1.0f + expf(-v));
    return __fdividef(v, 1.0f + __expf(-v));
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) group_apply(
    const T* x, const float2* partial, const float* weight, const float* bias, T* out,
    const __grid_constant__ Args args
) {
    __shared__ float means[CHANNELS], inverses[CHANNELS];
    const Part part(args);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, count = part.to - part.from;
    const long long begin = ((long long)blockIdx.z * args.pixels + part.from) * args.c;
    x += begin;
    out += begin;
    partial += (long long)blockIdx.z * args.groups * args.splits;
    if (count == 0) return;
    const int span = Part::pixels_of(args);
    const float all = (float)args.pixels * part.width;

    for (int g = part.first; g < part.last; g += part.step) {
        const int end = min(g + part.step, part.last), channel = g * part.width;
        for (int k = g + warp; k < end; k += WARPS) {
            const float2* p = partial + (long long)k * args.splits;
            const float pivot = p[0].x;
            float near = 0.0f, squares = 0.0f;
            #pragma unroll 4
            for (int i = lane; i < args.splits; i += 32) {
                const long long left = args.pixels - (long long)i * span;
                const float n = (float)(left < 0 ? 0 : left < span ? left : span) * part.width;
                const float2 found = p[i];
                const float f = found.x - pivot;
                near += n * f;
                squares += n > 0.0f ? n * f * f + found.y : 0.0f;
            }
            near = warp_sum(near);
            squares = warp_sum(squares);
            if (lane == 0) {
                const float mean = near / all, variance = (squares - near * mean) / all;
                means[k - g] = pivot + mean;
                inverses[k - g] = rsqrtf((variance < 0.0f ? 0.0f : variance) + args.eps);
            }
        }
        __syncthreads();

        if (part.aligned) {
            const int runs = (end - g) * part.width / WIDE, rows = THREADS / runs;
            const int row = threadIdx.x / runs, run = threadIdx.x % runs;
            if (row < rows) {
                float mean[WIDE], factor[WIDE], plus[WIDE];
                #pragma unroll
                for (int e = 0; e < WIDE; ++e) {
                    const int k = (run * WIDE + e) / part.width;
                    mean[e] = means[k];
                    factor[e] = inverses[k] * weight[channel + run * WIDE + e];
                    plus[e] = bias[channel + run * WIDE + e];
                    // 16-bit values are rounded far more coarsely than this product: one number less to keep.
                    if (sizeof(T) == 2) plus[e] -= mean[e] * factor[e];
                }
                long long at = (long long)row * args.c + channel + run * WIDE;
                const long long next = (long long)rows * args.c;
                auto put = [&](const uint4& r, long long where) {
                    float y[WIDE];
                    unpack(r, y);
                    #pragma unroll
                    for (int e = 0; e < WIDE; ++e) y[e] = (y[e] - (sizeof(T) == 2 ? 0.0f : mean[e])) * factor[e] + plus[e];
                    if (args.activation == 3) {
                        #pragma unroll
                        for (int e = 0; e < WIDE; ++e) y[e] = silu(y[e]);
                    }
                    *reinterpret_cast<uint4*>(out + where) = pack(y);
                };
                int i = row;
                #pragma unroll 1
                for (; i + (WRITE - 1) * rows < count; i += WRITE * rows, at += WRITE * next) {
                    uint4 r[WRITE];
                    #pragma unroll
                    for (int a = 0; a < WRITE; ++a) r[a] = fetch(x + at + a * next);
                    #pragma unroll
                    for (int a = 0; a < WRITE; ++a) put(r[a], at + a * next);
                }
                #pragma unroll 1
                for (; i < count; i += rows, at += next) put(fetch(x + at), at);
            }
        } else {
            const int channels = (end - g) * part.width;
            for (int i = warp; i < count; i += WARPS) {
                for (int e = lane; e < channels; e += 32) {
                    const int k = e / part.width;
                    const long long at = (long long)i * args.c + channel + e;
                    float y = (widen(x[at]) - means[k]) * (inverses[k] * weight[channel + e]) + bias[channel + e];
                    if (args.activation == 3) y = silu(y);
                    out[at] = narrow(y);
                }
            }
        }
        __syncthreads();
    }
}
