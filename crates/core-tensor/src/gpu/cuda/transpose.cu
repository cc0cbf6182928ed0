// [b, rows, cols] -> [b, cols, out_cols], out_cols >= rows: each matrix of the batch transposed, the rest of every
// output row zero. NCHW -> NHWC is rows = channels, cols = pixels; NHWC -> NCHW the other way.
// Input rows are in_stride >= cols elements apart (padding channels are left behind by cols < in_stride).
//
// The input is T, or float with IN_F32; the output T, or float with OUT_F32.
//
// A tile of 4096 elements goes through shared memory so that both sides are accessed along their rows. Its shape follows
// the matrix: 64 x 64, or as narrow as needed where one side is short (3 colours, 4 latent channels).
//
// Launch: blocks of 256 threads, grid b * ceil(out_cols / tile_rows) * ceil(cols / tile_cols), where, with
// p(n) = the least power of two >= max(n, 4):
//   cols <= 32:      tile_cols = p(cols),     tile_rows = 4096 / tile_cols
//   out_cols <= 32:  tile_rows = p(out_cols), tile_cols = 4096 / tile_rows
//   otherwise:       64, 64
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#if defined(T_BF16)
typedef __nv_bfloat16 T;
__device__ __forceinline__ float widen(T v) { return __bfloat162float(v); }
__device__ __forceinline__ void narrow(float v, T& to) { to = __float2bfloat16_rn(v); }
#elif defined(T_F16)
typedef __half T;
// The largest number of the format in place of what is larger; no number stays none.
__device__ __forceinline__ float within(float v) { return v > 65504.0f ? 65504.0f : v < -65504.0f ? -65504.0f : v; }
__device__ __forceinline__ float widen(T v) { return __half2float(v); }
__device__ __forceinline__ void narrow(float v, T& to) { to = __float2half_rn(within(v)); }
#else
typedef float T;
#endif
__device__ __forceinline__ float widen(float v) { return v; }
__device__ __forceinline__ void narrow(float v, float& to) { to = v; }

#if defined(IN_F32)
typedef float In;
#else
typedef T In;
#endif
#if defined(OUT_F32)
typedef float Out;
#else
typedef T Out;
#endif

struct Args { int b, rows, cols, in_stride, out_cols, pad; };

constexpr int THREADS = 256;
constexpr int TILE = 4096, EACH = TILE / THREADS;

// log2 of the least power of two that holds n, from 4 on.
__device__ __forceinline__ int bits_for(int n) { return n <= 4 ? 2 : 32 - __clz(n - 1); }

extern "C" __global__ void __launch_bounds__(THREADS) transpose(
    const In* x, Out* out, const __grid_constant__ Args args
) {
    __shared__ float tile[TILE + 1024];  // one column more than the tile has, against bank conflicts
    const int col_bits = args.cols <= 32 ? bits_for(args.cols) : args.out_cols <= 32 ? 12 - bits_for(args.out_cols) : 6;
    const int row_bits = 12 - col_bits;
    const int across = ((args.cols - 1) >> col_bits) + 1, down = ((args.out_cols - 1) >> row_bits) + 1;
    const int batch = blockIdx.x / (across * down), rest = blockIdx.x % (across * down);
    const int row0 = (rest / across) << row_bits, col0 = (rest % across) << col_bits;
    const int pitch = (1 << col_bits) + 1;
    x += ((long long)batch * args.rows + row0) * args.in_stride + col0;
    out += ((long long)batch * args.cols + col0) * args.out_cols + row0;

    float v[EACH];
    #pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const int e = threadIdx.x + i * THREADS, r = e >> col_bits, c = e & ((1 << col_bits) - 1);
        const bool real = row0 + r < args.rows && col0 + c < args.cols;
        v[i] = real ? widen(x[(long long)r * args.in_stride + c]) : 0.0f;
    }
    #pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const int e = threadIdx.x + i * THREADS, r = e >> col_bits, c = e & ((1 << col_bits) - 1);
        tile[r * pitch + c] = v[i];
    }
    __syncthreads();
    #pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const int e = threadIdx.x + i * THREADS, c = e >> row_bits, r = e & ((1 << row_bits) - 1);
        if (row0 + r < args.out_cols && col0 + c < args.cols) {
            narrow(tile[r * pitch + c], out[(long long)c * args.out_cols + r]);
        }
    }
}
