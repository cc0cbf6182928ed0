// Matrix product for few rows: out[m, n] = epilogue(x[m, k] . w[n, k]^T), m at most 16, x and out float, w of type T.
// Its time is that of reading w, which is done once, for all rows together.
//
// Epilogue, each part switched by `flags` (bit 0 bias, 1 gate, 2 residual; bit 3: SiLU of x as it is read):
//   v = sum + bias[n];  v = activation(v);  v *= gate[(row / rows_per_gate) * gate_stride + n];
//   v += residual[row * ldr + n];  out[row * ldo + n] = v
// activation: 0 none, 1 GELU by tanh, 2 GELU by erf, 3 SiLU, 4 x * sigmoid(1.702 x).
//
// Defines: T_BF16 | T_F16 | T_F32. Grid: ceil(n / 16) blocks of 128 threads; a warp takes 4 outputs of every row.
// k is a multiple of 8 (of 4 for T_F32), lda of 4; x and w are aligned to 16 bytes.

#if defined(T_F32)
typedef float T;
#else
typedef unsigned short T;
#endif

struct Args {
    int m, n, k, lda, ldr, ldo, rows_per_gate, gate_stride, flags, activation;
    int in_h, in_w, in_c, out_h, out_w, kernel, stride, pad;  // unused: the structure is that of the large product
};

typedef long long i64;
#define PIECE (16 / (int)sizeof(T))  // elements of w in 16 bytes
#define OUTPUTS 4                    // of one warp

__device__ __forceinline__ float silu(float x) { return x / (1.0f + expf(-x)); }
__device__ __forceinline__ float quick_silu(float x) { return __fdividef(x, 1.0f + __expf(-x)); }

__device__ __forceinline__ float activated(float x, int kind) {
    if (kind == 1) return x / (1.0f + expf(-1.5957691216057308f * (x + 0.044715f * x * x * x)));  // x/2 (1 + tanh u)
    if (kind == 2) return 0.5f * x * (1.0f + erff(x * 0.7071067811865476f));
    if (kind == 3) return silu(x);
    if (kind == 4) return x / (1.0f + expf(-1.702f * x));
    return x;
}

// Four elements of w, the h-th four of a piece.
__device__ __forceinline__ void unpack(float (&to)[4], uint4 q, int h) {
#if defined(T_F32)
    to[0] = __uint_as_float(q.x); to[1] = __uint_as_float(q.y); to[2] = __uint_as_float(q.z); to[3] = __uint_as_float(q.w);
#else
    const unsigned p[2] = {h ? q.z : q.x, h ? q.w : q.y};
    #pragma unroll
    for (int j = 0; j < 2; ++j) {
#if defined(T_BF16)
        to[2 * j] = __uint_as_float(p[j] << 16);
        to[2 * j + 1] = __uint_as_float(p[j] & 0xffff0000u);
#else
        asm("{ .reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h; }"
            : "=f"(to[2 * j]), "=f"(to[2 * j + 1]) : "r"(p[j]));
#endif
    }
#endif
}

template <int ROWS> __device__ __forceinline__ void
run(const float* __restrict__ x, const T* __restrict__ w, const float* bias, const float* gate, const float* residual,
    float* out, const Args& args) {
    const int lane = threadIdx.x % 32;
    const int n0 = (int)(blockIdx.x * 4 + threadIdx.x / 32) * OUTPUTS;
    if (n0 >= args.n) return;
    const bool silu_in = args.flags & 8;
    // Outputs beyond the last are computed as the last again, and not stored.
    const T* of_w[OUTPUTS];
    #pragma unroll
    for (int r = 0; r < OUTPUTS; ++r) of_w[r] = w + (i64)min(n0 + r, args.n - 1) * args.k;

    float acc[ROWS][OUTPUTS];
    #pragma unroll
    for (int i = 0; i < ROWS; ++i)
        #pragma unroll
        for (int r = 0; r < OUTPUTS; ++r) acc[i][r] = 0.0f;

    uint4 next[OUTPUTS];
    int kk = lane * PIECE;
    if (kk < args.k) {
        #pragma unroll
        for (int r = 0; r < OUTPUTS; ++r) next[r] = __ldcs((const uint4*)(of_w[r] + kk));
    }
    #pragma unroll 1
    while (kk < args.k) {
        uint4 now[OUTPUTS];
        #pragma unroll
        for (int r = 0; r < OUTPUTS; ++r) now[r] = next[r];
        const int at = kk;
        kk += 32 * PIECE;
        if (kk < args.k) {  // the next pieces are on their way while these are used
            #pragma unroll
            for (int r = 0; r < OUTPUTS; ++r) next[r] = __ldcs((const uint4*)(of_w[r] + kk));
        }
        #pragma unroll
        for (int h = 0; h < PIECE / 4; ++h) {
            float y[OUTPUTS][4];
            #pragma unroll
            for (int r = 0; r < OUTPUTS; ++r) unpack(y[r], now[r], h);
            #pragma unroll
            for (int i = 0; i < ROWS; ++i) {
                if (ROWS > 2 && i >= args.m) break;  // a branch all threads take alike, and a bound on what is in flight
                float4 f = *(const float4*)(x + (i64)i * args.lda + at + h * 4);
                float v[4] = {f.x, f.y, f.z, f.w};
                if (silu_in) {
                    #pragma unroll
#if defined(T_F32)
                    for (int j = 0; j < 4; ++j) v[j] = silu(v[j]);
#else
                    for (int j = 0; j < 4; ++j) v[j] = quick_silu(v[j]);
#endif
                }
                #pragma unroll
                for (int r = 0; r < OUTPUTS; ++r)
                    #pragma unroll
                    for (int j = 0; j < 4; ++j) acc[i][r] = fmaf(v[j], y[r][j], acc[i][r]);
            }
        }
    }

    // Lane q keeps sums q and q + 32 of the warp's ROWS x OUTPUTS, and finishes them.
    float mine[(ROWS * OUTPUTS + 31) / 32];
    #pragma unroll
    for (int q = 0; q < ROWS * OUTPUTS; ++q) {
        float s = acc[q / OUTPUTS][q % OUTPUTS];
        #pragma unroll
        for (int o = 16; o > 0; o /= 2) s += __shfl_xor_sync(0xffffffffu, s, o);
        if (q % 32 == lane) mine[q / 32] = s;
    }
    #pragma unroll
    for (int h = 0; h < (ROWS * OUTPUTS + 31) / 32; ++h) {
        const int q = h * 32 + lane, row = q / OUTPUTS, col = n0 + q % OUTPUTS;
        if (q >= ROWS * OUTPUTS || row >= args.m || col >= args.n) continue;
        float v = mine[h];
        if (args.flags & 1) v += bias[col];
        v = activated(v, args.activation);
        if (args.flags & 2) v *= gate[(i64)(row / args.rows_per_gate) * args.gate_stride + col];
        if (args.flags & 4) v += residual[(i64)row * args.ldr + col];
        out[(i64)row * args.ldo + col] = v;
    }
}

extern "C" __global__ void __launch_bounds__(128, 4)
thin(const float* a, const T* w, const float* bias, const float* gate, const float* residual, float* out,
     const __grid_constant__ Args args) {
    if (args.m <= 1) run<1>(a, w, bias, gate, residual, out, args);
    else if (args.m <= 2) run<2>(a, w, bias, gate, residual, out, args);
    else if (args.m <= 4) run<4>(a, w, bias, gate, residual, out, args);
    else if (args.m <= 8) run<8>(a, w, bias, gate, residual, out, args);
    else run<16>(a, w, bias, gate, residual, out, args);
}
