// Attention heads out of fused projections: each head's vector is normalised, rotated and laid out for attention, of up to six
// sets of heads (queries, keys and values of two streams of tokens) in one launch, which go to up to three outputs.
//
//   set j: x viewed as [b, n, heads, d] (strides x_batch, x_token, x_head; d contiguous)
//     ->  its out [b, heads, out_tokens, d], tokens before .. before + n of it
//   flag 1: v = v / sqrt(mean(v^2) + eps) * scale            (scale float [d], of each set)
//   flag 2: (v[2i], v[2i+1]) = (a c - b s, a s + b c)         (c, s float [tokens, d / 2], of token before + t)
//   neither: a copy, rearranged. d is even and at most 512.
//
// A group of lanes has one token and walks over its heads, so the angles are read once and stay in registers.
//
// Launch: blocks of 128 threads;
//   lanes  = the least power of two >= min(32, ceil(d / (16 / sizeof(T))))     a group
//   at_once = the greatest power of two <= min(heads, 128 / lanes)              heads side by side
//   grid (ceil(b * n / (128 / lanes / at_once)) of the longest set, sets).
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

struct Set { int n, x_batch, x_token, x_head, before, flags, out; };
struct Args {
    int b, heads, d, out_tokens;
    float eps;
    Set sets[6];
    int pad;
};

enum { NORM = 1, ROTATE = 2 };
constexpr int THREADS = 128;
constexpr int WIDE = 16 / sizeof(T);  // elements of one 16-byte access

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
    if constexpr (V == 2) {
        const float2 f = __ldg(reinterpret_cast<const float2*>(p));
        to[0] = f.x; to[1] = f.y;
    } else {
        #pragma unroll
        for (int e = 0; e < V; e += 4) {
            const float4 f = __ldg(reinterpret_cast<const float4*>(p + e));
            to[e] = f.x; to[e + 1] = f.y; to[e + 2] = f.z; to[e + 3] = f.w;
        }
    }
}

// Which token and which heads a thread's group of lanes has, and what is done to them.
struct Place { int t, first, at_once, lane, lanes, flags, x_head; bool alive; };

__device__ __forceinline__ float group_sum(float v, int lanes) {
    for (int o = lanes / 2; o > 0; o /= 2) v += __shfl_xor_sync(~0u, v, o);
    return v;
}

// P 16-byte runs a lane, U heads under way at a time.
template <int P, int U> __device__ __forceinline__ void walk(
    const T* x, const float* scale, const float* cosine, const float* sine, T* out, const Args& args, const Place& at
) {
    const int runs = args.d / WIDE;
    float c[P][WIDE / 2], s[P][WIDE / 2], w[P][WIDE];
    #pragma unroll
    for (int i = 0; i < P; ++i) {
        const int j = at.lane + i * at.lanes;
        if (j >= runs) continue;
        if (at.flags & ROTATE) {
            const long long angle = (long long)at.t * (args.d / 2) + j * (WIDE / 2);
            parameters<WIDE / 2>(cosine + angle, c[i]);
            parameters<WIDE / 2>(sine + angle, s[i]);
        }
        if (at.flags & NORM) parameters<WIDE>(scale + j * WIDE, w[i]);
    }

    // The same number of rounds for every lane of a warp: the sums below are over lanes.
    #pragma unroll 1
    for (int base = 0; base < args.heads; base += at.at_once * U) {
        uint4 r[U][P];
        #pragma unroll
        for (int u = 0; u < U; ++u) {
            const int head = base + u * at.at_once + at.first;
            #pragma unroll
            for (int i = 0; i < P; ++i) {
                const int j = at.lane + i * at.lanes;
                r[u][i] = make_uint4(0, 0, 0, 0);
                if (at.alive && head < args.heads && j < runs) {
                    r[u][i] = __ldcg(reinterpret_cast<const uint4*>(x + (long long)head * at.x_head) + j);
                }
            }
        }
        #pragma unroll
        for (int u = 0; u < U; ++u) {
            const int head = base + u * at.at_once + at.first;
            float inverse = 1.0f;
            if (at.flags & NORM) {
                float squares = 0.0f;
                #pragma unroll
                for (int i = 0; i < P; ++i) {
                    float f[WIDE];
                    unpack(r[u][i], f);
                    #pragma unroll
                    for (int e = 0; e < WIDE; ++e) squares += f[e] * f[e];
                }
                inverse = rsqrtf(group_sum(squares, at.lanes) / args.d + args.eps);
            }
            #pragma unroll
            for (int i = 0; i < P; ++i) {
                const int j = at.lane + i * at.lanes;
                if (!at.alive || head >= args.heads || j >= runs) continue;
                float f[WIDE];
                unpack(r[u][i], f);
                if (at.flags & NORM) {
                    #pragma unroll
                    for (int e = 0; e < WIDE; ++e) f[e] *= inverse * w[i][e];
                }
                if (at.flags & ROTATE) {
                    #pragma unroll
                    for (int e = 0; e < WIDE; e += 2) {
                        const float a = f[e], b = f[e + 1];
                        f[e] = a * c[i][e / 2] - b * s[i][e / 2];
                        f[e + 1] = a * s[i][e / 2] + b * c[i][e / 2];
                    }
                }
                reinterpret_cast<uint4*>(out + (long long)head * args.out_tokens * args.d)[j] = pack(f);
            }
        }
    }
}

// The same element by element, for strides that are not multiples of 16 bytes.
__device__ __forceinline__ void walk_slowly(
    const T* x, const float* scale, const float* cosine, const float* sine, T* out, const Args& args, const Place& at
) {
    const int end = at.alive ? args.d / 2 : 0;
    cosine += (long long)at.t * (args.d / 2);
    sine += (long long)at.t * (args.d / 2);
    for (int base = 0; base < args.heads; base += at.at_once) {
        const int head = base + at.first;
        const T* from = x + (long long)head * at.x_head;
        T* to = out + (long long)head * args.out_tokens * args.d;
        float inverse = 1.0f;
        if (at.flags & NORM) {
            float squares = 0.0f;
            for (int p = at.lane; p < end && head < args.heads; p += at.lanes) {
                const float a = widen(from[2 * p]), b = widen(from[2 * p + 1]);
                squares += a * a + b * b;
            }
            inverse = rsqrtf(group_sum(squares, at.lanes) / args.d + args.eps);
        }
        for (int p = at.lane; p < end && head < args.heads; p += at.lanes) {
            float a = widen(from[2 * p]), b = widen(from[2 * p + 1]);
            if (at.flags & NORM) {
                a *= inverse * scale[2 * p];
                b *= inverse * scale[2 * p + 1];
            }
            const float c = at.flags & ROTATE ? cosine[p] : 1.0f, s = at.flags & ROTATE ? sine[p] : 0.0f;
            to[2 * p] = narrow(at.flags & ROTATE ? a * c - b * s : a);
            to[2 * p + 1] = narrow(at.flags & ROTATE ? a * s + b * c : b);
        }
    }
}

// One of six.
template <typename P> __device__ __forceinline__ P chosen(int i, P a, P b, P c, P d, P e, P f) {
    return i == 0 ? a : i == 1 ? b : i == 2 ? c : i == 3 ? d : i == 4 ? e : f;
}

extern "C" __global__ void __launch_bounds__(THREADS) rotate(
    const T* x0, const T* x1, const T* x2, const T* x3, const T* x4, const T* x5, const float* s0, const float* s1, const float* s2,
    const float* s3, const float* s4, const float* s5, const float* cosine, const float* sine, T* out0, T* out1, T* out2,
    const __grid_constant__ Args args
) {
    const int wide = (args.d + WIDE - 1) / WIDE;
    int lanes = 1;
    while (lanes < wide && lanes < 32) lanes *= 2;
    const int groups = THREADS / lanes;
    int at_once = 1;
    while (at_once * 2 <= args.heads && at_once * 2 <= groups) at_once *= 2;

    const Set set = args.sets[blockIdx.y];
    const long long first = (long long)blockIdx.x * (groups / at_once), tokens = (long long)args.b * set.n;
    if (first >= tokens) return;
    const T* x = chosen(blockIdx.y, x0, x1, x2, x3, x4, x5);
    const float* scale = chosen(blockIdx.y, s0, s1, s2, s3, s4, s5);
    T* out = set.out == 0 ? out0 : set.out == 1 ? out1 : out2;

    const int group = threadIdx.x / lanes;
    const long long token = first + group / at_once;
    Place at;
    at.alive = token < tokens;
    const int batch = at.alive ? (int)(token / set.n) : 0, t = at.alive ? (int)(token % set.n) : 0;
    at.t = set.before + t;
    at.first = group % at_once;
    at.at_once = at_once;
    at.lane = threadIdx.x % lanes;
    at.lanes = lanes;
    at.flags = set.flags;
    at.x_head = set.x_head;
    x += (long long)batch * set.x_batch + (long long)t * set.x_token;
    out += ((long long)batch * args.heads * args.out_tokens + at.t) * args.d;

    const bool aligned = args.d % WIDE == 0 && set.x_batch % WIDE == 0 && set.x_token % WIDE == 0 && set.x_head % WIDE == 0;
    if (!aligned) walk_slowly(x, scale, cosine, sine, out, args, at);
    else if (wide <= 32) walk<1, 3>(x, scale, cosine, sine, out, args, at);
    else walk<512 / 32 / WIDE, 1>(x, scale, cosine, sine, out, args, at);
}
