// Layer norm and RMS norm over rows, with an affine part and a modulation.
//
//   x [rows, d], rows x_stride elements apart  ->  out [rows, d], contiguous
//   y = (x - mean) / sqrt(var + eps)        (RMS: nothing is taken off, var is the mean of the squares)
//   y = y * weight + bias                   (each optional, float [d])
//   y = (1 + scale[b]) * y + shift[b]       (optional; b = row / rows_per_batch, rows of float [d], mod_stride apart)
//
// The row stays in registers between the passes, so the variance is that of the differences from the mean and memory
// is read once. Rows that do not fit (d > 2048 * 16 / sizeof(T)) or are not aligned are read again, element by element.
//
// Launch: with runs = ceil(d / (16 / sizeof(T))),
//   runs <= 128: blocks of 128 threads, four rows each, one warp a row: grid ceil(rows / 4);
//   otherwise:   one row a block of 32 * min(16, ceil(runs / 128)) threads: grid rows.
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

struct Args { int rows, d, x_stride, rows_per_batch, mod_stride, flags; float eps; int pad; };

enum { RMS = 1, WEIGHT = 2, BIAS = 4, MODULATED = 8 };
constexpr int WIDE = 16 / sizeof(T);  // elements of one 16-byte access
constexpr int HELD = 4;               // such accesses kept in registers by a thread

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

template <int V> __device__ __forceinline__ void parameters(const float* p, float (&to)[V]) {
    if constexpr (V % 4 == 0) {
        #pragma unroll
        for (int e = 0; e < V; e += 4) {
            const float4 f = __ldg(reinterpret_cast<const float4*>(p + e));
            to[e] = f.x; to[e + 1] = f.y; to[e + 2] = f.z; to[e + 3] = f.w;
        }
    } else {
        #pragma unroll
        for (int e = 0; e < V; ++e) to[e] = __ldg(p + e);
    }
}

// The sum over the threads of one row, given to all of them.
__device__ __forceinline__ float total(float v, int warps, float* slots) {
    #pragma unroll
    for (int o = 16; o > 0; o /= 2) v += __shfl_xor_sync(~0u, v, o);
    if (warps > 1) {
        __syncthreads();  // the readers of an earlier sum are done with the slots
        if (threadIdx.x % 32 == 0) slots[threadIdx.x / 32] = v;
        __syncthreads();
        v = threadIdx.x % 32 < warps ? slots[threadIdx.x % 32] : 0.0f;
        #pragma unroll
        for (int o = 16; o > 0; o /= 2) v += __shfl_xor_sync(~0u, v, o);
    }
    return v;
}

// Everything after the normalisation, for the V elements from `at` on.
template <int V> __device__ __forceinline__ void finish(
    float (&y)[V], int at, const float* weight, const float* bias, const float* shift, const float* scale, int flags
) {
    float p[V];
    if (flags & WEIGHT) {
        parameters<V>(weight + at, p);
        #pragma unroll
        for (int e = 0; e < V; ++e) y[e] *= p[e];
    }
    if (flags & BIAS) {
        parameters<V>(bias + at, p);
        #pragma unroll
        for (int e = 0; e < V; ++e) y[e] += p[e];
    }
    if (flags & MODULATED) {
        float q[V];
        parameters<V>(scale + at, p);
        parameters<V>(shift + at, q);
        #pragma unroll
        for (int e = 0; e < V; ++e) y[e] = (1.0f + p[e]) * y[e] + q[e];
    }
}

extern "C" __global__ void __launch_bounds__(512) row_norm(
    const T* x, const float* weight, const float* bias, const float* shift, const float* scale, T* out,
    const __grid_constant__ Args args
) {
    __shared__ float slots[16];
    const bool by_warp = (args.d + WIDE - 1) / WIDE <= 128;
    const int lanes = by_warp ? 32 : blockDim.x;
    const int row = by_warp ? blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32 : blockIdx.x;
    if (row >= args.rows) return;  // whole warps where a warp has a row, never a part of a block that shares one

    const int lane = threadIdx.x % lanes, warps = lanes / 32;
    x += (long long)row * args.x_stride;
    out += (long long)row * args.d;
    if (args.flags & MODULATED) {
        const long long at = (long long)(row / args.rows_per_batch) * args.mod_stride;
        shift += at;
        scale += at;
    }

    const bool aligned = args.d % WIDE == 0 && args.x_stride % WIDE == 0 && args.d <= lanes * HELD * WIDE
        && (!(args.flags & MODULATED) || args.mod_stride % 4 == 0);
    float mean = 0.0f, sum = 0.0f, squares = 0.0f;
    if (aligned) {
        const int runs = args.d / WIDE;
        uint4 held[HELD];
        // Past the first-level cache: a row is read once, the parameters are read by every row and should stay there.
        #pragma unroll
        for (int i = 0; i < HELD; ++i) {
            if (lane + i * lanes < runs) held[i] = __ldcg(reinterpret_cast<const uint4*>(x) + lane + i * lanes);
        }
        if (!(args.flags & RMS)) {
            #pragma unroll
            for (int i = 0; i < HELD; ++i) {
                if (lane + i * lanes >= runs) continue;
                float y[WIDE];
                unpack(held[i], y);
                #pragma unroll
                for (int e = 0; e < WIDE; ++e) sum += y[e];
            }
            mean = total(sum, warps, slots) / args.d;
        }
        #pragma unroll
        for (int i = 0; i < HELD; ++i) {
            if (lane + i * lanes >= runs) continue;
            float y[WIDE];
            unpack(held[i], y);
            #pragma unroll
            for (int e = 0; e < WIDE; ++e) squares += (y[e] - mean) * (y[e] - mean);
        }
        const float inverse = rsqrtf(total(squares, warps, slots) / args.d + args.eps);
        #pragma unroll
        for (int i = 0; i < HELD; ++i) {
            const int at = (lane + i * lanes) * WIDE;
            if (at >= args.d) continue;
            float y[WIDE];
            unpack(held[i], y);
            #pragma unroll
            for (int e = 0; e < WIDE; ++e) y[e] = (y[e] - mean) * inverse;
            finish<WIDE>(y, at, weight, bias, shift, scale, args.flags);
            *reinterpret_cast<uint4*>(out + at) = pack(y);
        }
    } else {
        if (!(args.flags & RMS)) {
            for (int at = lane; at < args.d; at += lanes) sum += widen(x[at]);
            mean = total(sum, warps, slots) / args.d;
        }
        for (int at = lane; at < args.d; at += lanes) {
            const float f = widen(x[at]) - mean;
            squares += f * f;
        }
        const float inverse = rsqrtf(total(squares, warps, slots) / args.d + args.eps);
        for (int at = lane; at < args.d; at += lanes) {
            float y[1] = {(widen(x[at]) - mean) * inverse};
            finish<1>(y, at, weight, bias, shift, scale, args.flags);
            out[at] = narrow(y[0]);
        }
    }
}
