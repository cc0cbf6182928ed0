// Operations that move every element once. One text, one entry a compile, chosen by a define:
//
//   ACTIVATE       activate(x, out; n_lo, n_hi, activation, pad)              out = f(x)
//   GATED          gated(x, gate, out; n_lo, n_hi, activation, pad)           out = x * f(gate)
//   ADD            add(x, y, out; n_lo, n_hi)                                 out = x + y
//   CAST           cast(x float, out T; n_lo, n_hi)                           with TO_F32: x T, out float
//   UPSAMPLE       upsample(x, out; b, h, w, c)                               NHWC, nearest: [b, 2h, 2w, c]
//   JOIN           join(x, y, out; pixels, x_c, y_c, pad)                     NHWC: the channels of x, then those of y
//
// n is 64 bits in two halves. Activations: 0 none, 1 GELU tanh, 2 GELU erf, 3 SiLU, 4 quick GELU x sigmoid(1.702 x).
// ACTIVATE, GATED and ADD may write over an input.
//
// Launch: blocks of 256 threads, 1024 units of W = 16 / sizeof(T) elements a block: grid ceil(units / 1024) with
//   units = ceil(n / W); UPSAMPLE b * h * w * ceil(c / W);
//   JOIN pixels * (ceil(x_c / W) + ceil(y_c / W)).
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#if defined(T_BF16)
typedef __nv_bfloat16 T;
__device__ __forceinline__ float widen(T v) { return __bfloat162float(v); }
__device__ __forceinline__ void narrow(float v, T& to) { to = __float2bfloat16_rn(v); }
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
__device__ __forceinline__ void narrow(float v, T& to) { to = __float2half_rn(within(v)); }
__device__ __forceinline__ float2 widen_pair(unsigned w) { return __half22float2(*reinterpret_cast<const __half2*>(&w)); }
__device__ __forceinline__ unsigned narrow_pair(float a, float b) {
    const __half2 p = __floats2half2_rn(within(a), within(b));
    return *reinterpret_cast<const unsigned*>(&p);
}
#else
typedef float T;
#endif
__device__ __forceinline__ float widen(float v) { return v; }
__device__ __forceinline__ void narrow(float v, float& to) { to = v; }

constexpr int THREADS = 256;
constexpr int EACH = 4;               // units of a thread, all read before the first is written
constexpr int WIDE = 16 / sizeof(T);  // elements of a unit

// A unit as it lies in memory: one 16-byte access, two where a 16-bit T is cast from or to float.
template <class E> struct Run { uint4 v[WIDE * sizeof(E) / 16]; };

template <class E> __device__ __forceinline__ Run<E> fetch(const E* p) {
    Run<E> r;
    #pragma unroll
    for (int i = 0; i < (int)(sizeof(r) / 16); ++i) r.v[i] = reinterpret_cast<const uint4*>(p)[i];
    return r;
}

template <class E> __device__ __forceinline__ void put(const Run<E>& r, E* p) {
    #pragma unroll
    for (int i = 0; i < (int)(sizeof(r) / 16); ++i) reinterpret_cast<uint4*>(p)[i] = r.v[i];
}

template <class E> __device__ __forceinline__ void widen_run(const Run<E>& r, float (&to)[WIDE]) {
    #pragma unroll
    for (int i = 0; i < (int)(sizeof(r) / 16); ++i) {
        const unsigned w[4] = {r.v[i].x, r.v[i].y, r.v[i].z, r.v[i].w};
        #pragma unroll
        for (int k = 0; k < 4; ++k) {
            if constexpr (sizeof(E) == 4) {
                to[4 * i + k] = __uint_as_float(w[k]);
#if defined(T_BF16) || defined(T_F16)
            } else {
                const float2 p = widen_pair(w[k]);
                to[2 * k] = p.x;
                to[2 * k + 1] = p.y;
#endif
            }
        }
    }
}

template <class E> __device__ __forceinline__ void store_run(const float (&v)[WIDE], E* out) {
    Run<E> r;
    #pragma unroll
    for (int i = 0; i < (int)(sizeof(r) / 16); ++i) {
        unsigned w[4];
        #pragma unroll
        for (int k = 0; k < 4; ++k) {
            if constexpr (sizeof(E) == 4) {
                w[k] = __float_as_uint(v[4 * i + k]);
#if defined(T_BF16) || defined(T_F16)
            } else {
                w[k] = narrow_pair(v[2 * k], v[2 * k + 1]);
#endif
            }
        }
        r.v[i] = make_uint4(w[0], w[1], w[2], w[3]);
    }
    put(r, out);
}

// One over 1 + exp(-v): exact where T is float, quicker where the result is rounded to 16 bits anyway.
__device__ __forceinline__ float sigmoid(float v) {
    if constexpr (sizeof(T) == 4) return 1.0f / (1.0f + expf(-v));
    return __fdividef(1.0f, 1.0f + __expf(-v));
}

template <int KIND> __device__ __forceinline__ float activation_of(float v) {
    // (1 + tanh u) / 2 is sigmoid(2 u); u = sqrt(2 / pi) (v + 0.044715 v^3).
    if (KIND == 1) return v * sigmoid(1.5957691216057308f * v * (1.0f + 0.044715f * v * v));
    if (KIND == 2) return 0.5f * v * (1.0f + erff(0.70710678118654752f * v));
    if (KIND == 3) return v * sigmoid(v);
    if (KIND == 4) return v * sigmoid(1.702f * v);
    return v;
}

__device__ __forceinline__ float activation_of(int kind, float v) {
    switch (kind) {
        case 1: return activation_of<1>(v);
        case 2: return activation_of<2>(v);
        case 3: return activation_of<3>(v);
        case 4: return activation_of<4>(v);
        default: return v;
    }
}

template <int KIND> __device__ __forceinline__ void run_of(float (&v)[WIDE]) {
    #pragma unroll
    for (int e = 0; e < WIDE; ++e) v[e] = activation_of<KIND>(v[e]);
}

// The choice is the same for all threads, so it is made once a unit.
__device__ __forceinline__ void activate_run(int kind, float (&v)[WIDE]) {
    switch (kind) {
        case 1: run_of<1>(v); break;
        case 2: run_of<2>(v); break;
        case 3: run_of<3>(v); break;
        case 4: run_of<4>(v); break;
    }
}

__device__ __forceinline__ long long first_unit() { return (long long)blockIdx.x * (THREADS * EACH) + threadIdx.x; }
__device__ __forceinline__ long long count_of(int lo, int hi) { return (long long)hi << 32 | (unsigned)lo; }

// The row of a unit and its place in the row, where a row has `units` of them. One 64-bit division a block.
struct Rows {
    long long row;
    unsigned rest, units;
    __device__ __forceinline__ Rows(int units) : units(units) {
        const long long start = (long long)blockIdx.x * (THREADS * EACH);
        row = start / units;
        rest = start - row * units;
    }
    __device__ __forceinline__ void at(int i, long long& r, int& unit) const {
        const unsigned u = rest + threadIdx.x + i * THREADS;
        r = row + u / units;
        unit = u % units;
    }
};

#if defined(ACTIVATE)
struct Args { int n_lo, n_hi, activation, pad; };

extern "C" __global__ void __launch_bounds__(THREADS) activate(const T* x, T* out, const __grid_constant__ Args args) {
    const long long n = count_of(args.n_lo, args.n_hi), first = first_unit();
    Run<T> r[EACH];
    #pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const long long at = (first + i * THREADS) * WIDE;
        if (at + WIDE <= n) r[i] = fetch(x + at);
    }
    #pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const long long at = (first + i * THREADS) * WIDE;
        if (at + WIDE <= n) {
            float v[WIDE];
            widen_run(r[i], v);
            activate_run(args.activation, v);
            store_run(v, out + at);
        } else {
            #pragma unroll 1
            for (long long e = at; e < n; ++e) narrow(activation_of(args.activation, widen(x[e])), out[e]);
        }
    }
}

#elif defined(GATED)
struct Args { int n_lo, n_hi, activation, pad; };

extern "C" __global__ void __launch_bounds__(THREADS) gated(
    const T* x, const T* gate, T* out, const __grid_constant__ Args args
) {
    const long long n = count_of(args.n_lo, args.n_hi), first = first_unit();
    Run<T> r[EACH], g[EACH];
    #pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const long long at = (first + i * THREADS) * WIDE;
        if (at + WIDE <= n) {
            r[i] = fetch(x + at);
            g[i] = fetch(gate + at);
        }
    }
    #pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const long long at = (first + i * THREADS) * WIDE;
        if (at + WIDE <= n) {
            float v[WIDE], w[WIDE];
            widen_run(r[i], v);
            widen_run(g[i], w);
            activate_run(args.activation, w);
            #pragma unroll
            for (int e = 0; e < WIDE; ++e) v[e] *= w[e];
            store_run(v, out + at);
        } else {
            #pragma unroll 1
            for (long long e = at; e < n; ++e) {
                narrow(widen(x[e]) * activation_of(args.activation, widen(gate[e])), out[e]);
            }
        }
    }
}

#elif defined(ADD)
struct Args { int n_lo, n_hi; };

extern "C" __global__ void __launch_bounds__(THREADS) add(
    const T* x, const T* y, T* out, const __grid_constant__ Args args
) {
    const long long n = count_of(args.n_lo, args.n_hi), first = first_unit();
    Run<T> r[EACH], g[EACH];
    #pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const long long at = (first + i * THREADS) * WIDE;
        if (at + WIDE <= n) {
            r[i] = fetch(x + at);
            g[i] = fetch(y + at);
        }
    }
    #pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const long long at = (first + i * THREADS) * WIDE;
        if (at + WIDE <= n) {
            float v[WIDE], w[WIDE];
            widen_run(r[i], v);
            widen_run(g[i], w);
            #pragma unroll
            for (int e = 0; e < WIDE; ++e) v[e] += w[e];
            store_run(v, out + at);
        } else {
            #pragma unroll 1
            for (long long e = at; e < n; ++e) narrow(widen(x[e]) + widen(y[e]), out[e]);
        }
    }
}

#elif defined(CAST)
struct Args { int n_lo, n_hi; };
#if defined(TO_F32)
typedef T From;
typedef float To;
#else
typedef float From;
typedef T To;
#endif

extern "C" __global__ void __launch_bounds__(THREADS) cast(const From* x, To* out, const __grid_constant__ Args args) {
    const long long n = count_of(args.n_lo, args.n_hi), first = first_unit();
    Run<From> r[EACH];
    #pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const long long at = (first + i * THREADS) * WIDE;
        if (at + WIDE <= n) r[i] = fetch(x + at);
    }
    #pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const long long at = (first + i * THREADS) * WIDE;
        if (at + WIDE <= n) {
            float v[WIDE];
            widen_run(r[i], v);
            store_run(v, out + at);
        } else {
            #pragma unroll 1
            for (long long e = at; e < n; ++e) narrow(widen(x[e]), out[e]);
        }
    }
}

#elif defined(UPSAMPLE)
struct Args { int b, h, w, c; };

// A pixel is read once and written four times. Row y of batch b is row b h + y of all, and becomes rows 2 (b h + y), + 1.
extern "C" __global__ void __launch_bounds__(THREADS) upsample(const T* x, T* out, const __grid_constant__ Args args) {
    const Rows rows((args.c + WIDE - 1) / WIDE);
    const long long pixels = (long long)args.b * args.h * args.w, line = 2LL * args.w * args.c;
    const bool aligned = args.c % WIDE == 0;
    Run<T> r[EACH];
    #pragma unroll
    for (int i = 0; i < EACH; ++i) {
        long long pixel;
        int unit;
        rows.at(i, pixel, unit);
        if (aligned && pixel < pixels) r[i] = fetch(x + pixel * args.c + unit * WIDE);
    }
    #pragma unroll
    for (int i = 0; i < EACH; ++i) {
        long long pixel;
        int unit;
        rows.at(i, pixel, unit);
        if (pixel >= pixels) continue;
        const int y = (int)pixel / args.w, at_x = (int)pixel % args.w;
        T* to = out + 2 * y * line + 2LL * at_x * args.c;
        if (aligned) {
            to += unit * WIDE;
            put(r[i], to);
            put(r[i], to + args.c);
            put(r[i], to + line);
            put(r[i], to + line + args.c);
        } else {
            #pragma unroll 1
            for (int e = unit * WIDE; e < min(unit * WIDE + WIDE, args.c); ++e) {
                const T v = x[pixel * args.c + e];
                to[e] = v;
                to[args.c + e] = v;
                to[line + e] = v;
                to[line + args.c + e] = v;
            }
        }
    }
}

#elif defined(JOIN)
struct Args { int pixels, x_c, y_c, pad; };

extern "C" __global__ void __launch_bounds__(THREADS) join(
    const T* x, const T* y, T* out, const __grid_constant__ Args args
) {
    const int of_x = (args.x_c + WIDE - 1) / WIDE, of_y = (args.y_c + WIDE - 1) / WIDE;
    const Rows rows(of_x + of_y);
    const bool aligned = args.x_c % WIDE == 0 && args.y_c % WIDE == 0;
    Run<T> r[EACH];
    #pragma unroll
    for (int i = 0; i < EACH; ++i) {
        long long pixel;
        int unit;
        rows.at(i, pixel, unit);
        if (!aligned || pixel >= args.pixels) continue;
        r[i] = fetch(unit < of_x ? x + pixel * args.x_c + unit * WIDE : y + pixel * args.y_c + (unit - of_x) * WIDE);
    }
    #pragma unroll
    for (int i = 0; i < EACH; ++i) {
        long long pixel;
        int unit;
        rows.at(i, pixel, unit);
        if (pixel >= args.pixels) continue;
        T* to = out + pixel * (args.x_c + args.y_c);
        if (aligned) {
            put(r[i], to + unit * WIDE);
            continue;
        }
        const T* from = unit < of_x ? x + pixel * args.x_c : y + pixel * args.y_c;
        const int c = unit < of_x ? args.x_c : args.y_c, start = (unit < of_x ? unit : unit - of_x) * WIDE;
        if (unit >= of_x) to += args.x_c;
        #pragma unroll 1
        for (int e = start; e < min(start + WIDE, c); ++e) to[e] = from[e];
    }
}

#endif
