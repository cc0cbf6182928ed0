// Matrix product with an epilogue, and convolution as an implicit matrix product.
//
//   out[m, n] = epilogue(a[m, k] . w[n, k]^T)      both operands contiguous along k, sums in f32
//
// Epilogue of one sum, each part switched by `flags` (bit 0 bias, 1 gate, 2 residual):
//   v = sum + bias[n];  v = activation(v);  v *= gate[(row / rows_per_gate) * gate_stride + n];
//   v += residual[row * ldr + n];  out[row * ldo + n] = v
// `out` and `residual` may be the same memory: an element is read by the thread that then writes it.
// activation: 0 none, 1 GELU by tanh, 2 GELU by erf, 3 SiLU, 4 x * sigmoid(1.702 x).
//
// With CONV, `a` is a map [batch, in_h, in_w, in_c] and w is [n, kernel, kernel, in_c]: row (b, oy, ox) of the product takes,
// at index (ky, kx, c) of k, the pixel (oy * stride - pad + ky, ox * stride - pad + kx); pixels outside the map are zero, so
// `pad` stands for the top and the left, and out_h, out_w decide what is read beyond the bottom and the right.
//
// Defines: T_BF16 | T_F16 | T_TF32 (floats of which tensor cores see the upper 19 bits) | T_F32; OUT_F32 (out and residual are float);
// CONV; TILE_M, TILE_N (64 or 128, 128 where not given);
// WGMMA (take Hopper's warpgroup instructions where the target has them); LOAD_CA (copies pass through the first-level cache);
// GROUP (row tiles that share a stretch of column tiles).
// Grid: ceil(m / TILE_M) * ceil(n / TILE_N) blocks in one dimension. Block: 256 threads for T_F32, 128 for the others.
// Rows of a and w start at multiples of 16 bytes; k and in_c are multiples of 8 (of 4 for floats); m, n, ldr, ldo are free.
// What is too large for T_F16 becomes its largest number.

#if defined(T_F32) || defined(T_TF32)
#define T_WIDE 1
typedef float T;
#else
typedef unsigned short T;  // only its bits are moved here
#endif
#if defined(OUT_F32) || defined(T_WIDE)
typedef float OUT;
#define OUT_WIDE 1
#else
typedef unsigned short OUT;
#define OUT_WIDE 0
#endif

#ifndef TILE_M
#define TILE_M 128
#endif
#ifndef TILE_N
#define TILE_N 128
#endif
#ifndef GROUP
#define GROUP 8
#endif
#if defined(WGMMA) && defined(__CUDA_ARCH_FEAT_SM90_ALL) && !defined(T_F32)
#define BODY_WGMMA 1
#else
#define BODY_WGMMA 0
#endif

struct Args {
    int m, n, k, lda, ldr, ldo, rows_per_gate, gate_stride, flags, activation;
    int in_h, in_w, in_c, out_h, out_w, kernel, stride, pad;
};

typedef long long i64;

// ---------------------------------------------------------------- epilogue

#ifdef T_WIDE
__device__ __forceinline__ float exp_of(float x) { return expf(x); }
__device__ __forceinline__ float over(float x, float y) { return x / y; }
#else
__device__ __forceinline__ float exp_of(float x) { return __expf(x); }
__device__ __forceinline__ float over(float x, float y) { return __fdividef(x, y); }
#endif

template <int W> __device__ __forceinline__ void activate(float (&v)[W], int kind) {
    if (kind == 1) {
        // x/2 (1 + tanh u) = x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3)
        #pragma unroll
        for (int j = 0; j < W; ++j) {
            float x = v[j];
            v[j] = over(x, 1.0f + exp_of(-1.5957691216057308f * (x + 0.044715f * x * x * x)));
        }
    } else if (kind == 2) {
        #pragma unroll
        for (int j = 0; j < W; ++j) v[j] = 0.5f * v[j] * (1.0f + erff(v[j] * 0.7071067811865476f));
    } else if (kind >= 3) {
        float s = kind == 3 ? -1.0f : -1.702f;
        #pragma unroll
        for (int j = 0; j < W; ++j) v[j] = over(v[j], 1.0f + exp_of(s * v[j]));
    }
}

#if !OUT_WIDE
#ifdef T_BF16
__device__ __forceinline__ float low(unsigned p) { return __uint_as_float(p << 16); }
__device__ __forceinline__ float high(unsigned p) { return __uint_as_float(p & 0xffff0000u); }
__device__ __forceinline__ unsigned pair(float lo, float hi) {
    unsigned p;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(p) : "f"(hi), "f"(lo));
    return p;
}
#else
__device__ __forceinline__ float low(unsigned p) {
    float f;
    asm("{ .reg .b16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, l; }" : "=f"(f) : "r"(p));
    return f;
}
__device__ __forceinline__ float high(unsigned p) { return low(p >> 16); }
// no number stays none
__device__ __forceinline__ float within(float v) { return v > 65504.0f ? 65504.0f : v < -65504.0f ? -65504.0f : v; }
__device__ __forceinline__ unsigned pair(float lo, float hi) {
    unsigned p;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(p) : "f"(within(hi)), "f"(within(lo)));
    return p;
}
#endif
#endif

__device__ __forceinline__ float one(const OUT* p) {
#if OUT_WIDE
    return *p;
#else
    return low(*p);
#endif
}

template <int W> __device__ __forceinline__ void floats(float (&to)[W], const float* from, int count, bool whole) {
    if (whole) {
        #pragma unroll
        for (int j = 0; j < W; j += 4) {
            float4 f = *(const float4*)(from + j);
            to[j] = f.x; to[j + 1] = f.y; to[j + 2] = f.z; to[j + 3] = f.w;
        }
    } else {
        #pragma unroll
        for (int j = 0; j < W; ++j) to[j] = j < count ? from[j] : 0.0f;
    }
}

struct Finish {
    const float* bias;
    const float* gate;
    const OUT* residual;
    OUT* out;
    bool wide;  // rows of out, residual and gate all start at multiples of 16 bytes

    __device__ __forceinline__ Finish(const float* b, const float* g, const OUT* r, OUT* o, const Args& args) {
        bias = b; gate = g; residual = r; out = o;
        const int per = 16 / (int)sizeof(OUT);
        wide = args.ldo % per == 0 && (!(args.flags & 4) || args.ldr % per == 0)
            && (!(args.flags & 2) || args.gate_stride % 4 == 0);
    }

    // W neighbouring sums of one row; `col` is a multiple of W.
    template <int W> __device__ __forceinline__ void operator()(float (&v)[W], int row, int col, const Args& args) const {
        int count = args.n - col;
        if (row >= args.m || count <= 0) return;
        bool whole = wide && count >= W;
        float u[W];
        if (args.flags & 1) {
            floats<W>(u, bias + col, count, whole);
            #pragma unroll
            for (int j = 0; j < W; ++j) v[j] += u[j];
        }
        activate<W>(v, args.activation);
        if (args.flags & 2) {
            floats<W>(u, gate + (i64)(row / args.rows_per_gate) * args.gate_stride + col, count, whole);
            #pragma unroll
            for (int j = 0; j < W; ++j) v[j] *= u[j];
        }
        if (args.flags & 4) {
            const OUT* r = residual + (i64)row * args.ldr + col;
#if OUT_WIDE
            floats<W>(u, r, count, whole);
            #pragma unroll
            for (int j = 0; j < W; ++j) v[j] += u[j];
#else
            if (whole) {
                uint4 q = *(const uint4*)r;
                v[0] += low(q.x); v[1] += high(q.x); v[2] += low(q.y); v[3] += high(q.y);
                v[4] += low(q.z); v[5] += high(q.z); v[6] += low(q.w); v[7] += high(q.w);
            } else {
                #pragma unroll
                for (int j = 0; j < W; ++j) if (j < count) v[j] += one(r + j);
            }
#endif
        }
        OUT* o = out + (i64)row * args.ldo + col;
#if OUT_WIDE
        if (whole) {
            #pragma unroll
            for (int j = 0; j < W; j += 4) *(float4*)(o + j) = make_float4(v[j], v[j + 1], v[j + 2], v[j + 3]);
        } else {
            #pragma unroll
            for (int j = 0; j < W; ++j) if (j < count) o[j] = v[j];
        }
#else
        if (whole) {
            *(uint4*)o = make_uint4(pair(v[0], v[1]), pair(v[2], v[3]), pair(v[4], v[5]), pair(v[6], v[7]));
        } else {
            #pragma unroll
            for (int j = 0; j < W; ++j) if (j < count) o[j] = (OUT)pair(v[j], 0.0f);
        }
#endif
    }
};

// ---------------------------------------------------------------- where the operands' pieces of 16 bytes lie

enum { PIECE = 16 / (int)sizeof(T) };  // elements in a piece

// The pieces that one thread copies: a fixed piece of the step's stretch of k, in COUNT rows that lie STEP apart.
// Rows beyond the last are replaced by the last: what they yield is never stored.
template <int COUNT, int STEP> struct Rows {
    const char* base;
    unsigned apart[COUNT];  // bytes from the tile's first row

    __device__ __forceinline__ void start(const T* from, int first, int mine, int rows, int stride) {
        base = (const char*)(from + (i64)first * stride);
        #pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            int row = first + mine + i * STEP;
            apart[i] = (unsigned)((row < rows ? row : rows - 1) - first) * (unsigned)stride * (unsigned)sizeof(T);
        }
    }
    __device__ __forceinline__ const char* at(int i, int kk) const { return base + (i64)kk * (int)sizeof(T) + apart[i]; }
};

#ifdef CONV
template <int COUNT, int STEP> struct Pixels {
    const char* base;
    int y[COUNT], x[COUNT], place[COUNT];  // the window's top left pixel, and the number of its first piece
    int ky, kx, c;

    __device__ __forceinline__ void settle(const Args& args) {
        while (c >= args.in_c) {
            c -= args.in_c;
            if (++kx == args.kernel) { kx = 0; ++ky; }
        }
    }
    __device__ __forceinline__ void start(const T* from, int first, int mine, int kk, const Args& args) {
        base = (const char*)from;
        #pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            int row = first + mine + i * STEP;
            if (row >= args.m) row = args.m - 1;
            int line = row / args.out_w;
            int b = line / args.out_h;
            y[i] = (line - b * args.out_h) * args.stride - args.pad;
            x[i] = (row - line * args.out_w) * args.stride - args.pad;
            place[i] = ((b * args.in_h + y[i]) * args.in_w + x[i]) * (args.in_c / PIECE);
        }
        ky = 0; kx = 0; c = kk;
        settle(args);
    }
    __device__ __forceinline__ const char* at(int i, bool& ok, const Args& args) const {
        ok = ok && (unsigned)(y[i] + ky) < (unsigned)args.in_h && (unsigned)(x[i] + kx) < (unsigned)args.in_w;
        int piece = place[i] + (ky * args.in_w + kx) * (args.in_c / PIECE) + c / PIECE;
        return base + (i64)(ok ? piece : 0) * 16;
    }
    __device__ __forceinline__ void next(int by, const Args& args) { c += by; settle(args); }
};
#endif

// Neighbouring blocks share a column tile and differ in the row tile, GROUP rows at a time, so that what runs together
// covers a compact patch of the output and finds its operands in the second-level cache.
__device__ __forceinline__ void tile_of_block(const Args& args, int& m0, int& n0) {
    int tiles_m = (args.m + TILE_M - 1) / TILE_M, tiles_n = (args.n + TILE_N - 1) / TILE_N;
    int per = GROUP * tiles_n, b = (int)blockIdx.x;
    int g = b / per, in = b - g * per;
    int rows = min(tiles_m - g * GROUP, GROUP);
    int tn = in / rows;
    m0 = (g * GROUP + in - tn * rows) * TILE_M;
    n0 = tn * TILE_N;
}

#ifdef T_F32
// ---------------------------------------------------------------- f32: plain multiply-adds from registers

// A thread copies one piece of each operand a step, or two of the long side of a mixed tile.
#if TILE_M + TILE_N >= 256
#define STEP_K 8
#else
#define STEP_K 16
#endif
enum { APART = 1024 / STEP_K };  // rows between two pieces of one thread

extern "C" __global__ void __launch_bounds__(256, 2)
product(const T* a, const T* w, const float* bias, const float* gate, const OUT* residual, OUT* out,
        const __grid_constant__ Args args) {
    constexpr int GM = TILE_M / 64, GN = TILE_N / 64;  // groups of 4 rows and of 4 columns a thread owns, 64 apart
    constexpr int CM = TILE_M / APART, CN = TILE_N / APART;
    __shared__ __align__(16) float as[2][STEP_K][TILE_M + 4];
    __shared__ __align__(16) float ws[2][STEP_K][TILE_N + 4];
    int m0, n0;
    tile_of_block(args, m0, n0);
    const int t = threadIdx.x, tx = t % 16, ty = t / 16;
    const int mine = t / (STEP_K / 4), piece = t % (STEP_K / 4) * 4;

    Rows<CN, APART> from_w;
    from_w.start(w, n0, mine, args.n, args.k);
#ifdef CONV
    Pixels<CM, APART> from_a;
    from_a.start(a, m0, mine, piece, args);
#else
    Rows<CM, APART> from_a;
    from_a.start(a, m0, mine, args.m, args.lda);
#endif
    float4 ra[CM], rw[CN];
    int kk = piece;
    auto fetch = [&]() {
        const float4 zero = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        #pragma unroll
        for (int i = 0; i < CM; ++i) {
            bool ok = kk < args.k;
#ifdef CONV
            const char* p = from_a.at(i, ok, args);
            ra[i] = ok ? *(const float4*)p : zero;
#else
            ra[i] = ok ? *(const float4*)from_a.at(i, kk) : zero;
#endif
        }
        #pragma unroll
        for (int i = 0; i < CN; ++i) rw[i] = kk < args.k ? *(const float4*)from_w.at(i, kk) : zero;
        kk += STEP_K;
#ifdef CONV
        from_a.next(STEP_K, args);
#endif
    };
    auto stash = [&](int b) {
        #pragma unroll
        for (int i = 0; i < CM; ++i) {
            int r = mine + i * APART;
            as[b][piece][r] = ra[i].x; as[b][piece + 1][r] = ra[i].y; as[b][piece + 2][r] = ra[i].z; as[b][piece + 3][r] = ra[i].w;
        }
        #pragma unroll
        for (int i = 0; i < CN; ++i) {
            int r = mine + i * APART;
            ws[b][piece][r] = rw[i].x; ws[b][piece + 1][r] = rw[i].y; ws[b][piece + 2][r] = rw[i].z; ws[b][piece + 3][r] = rw[i].w;
        }
    };

    float acc[GM * 4][GN * 4];
    #pragma unroll
    for (int i = 0; i < GM * 4; ++i)
        #pragma unroll
        for (int j = 0; j < GN * 4; ++j) acc[i][j] = 0.0f;

    const int steps = (args.k + STEP_K - 1) / STEP_K;
    fetch();
    stash(0);
    __syncthreads();
    for (int s = 0; s < steps; ++s) {
        const int b = s & 1;
        if (s + 1 < steps) fetch();
        #pragma unroll
        for (int q = 0; q < STEP_K; ++q) {
            float x[GM * 4], y[GN * 4];
            #pragma unroll
            for (int g = 0; g < GM; ++g) {
                float4 f = *(const float4*)&as[b][q][g * 64 + ty * 4];
                x[g * 4] = f.x; x[g * 4 + 1] = f.y; x[g * 4 + 2] = f.z; x[g * 4 + 3] = f.w;
            }
            #pragma unroll
            for (int g = 0; g < GN; ++g) {
                float4 f = *(const float4*)&ws[b][q][g * 64 + tx * 4];
                y[g * 4] = f.x; y[g * 4 + 1] = f.y; y[g * 4 + 2] = f.z; y[g * 4 + 3] = f.w;
            }
            #pragma unroll
            for (int i = 0; i < GM * 4; ++i)
                #pragma unroll
                for (int j = 0; j < GN * 4; ++j) acc[i][j] = fmaf(x[i], y[j], acc[i][j]);
        }
        if (s + 1 < steps) stash(b ^ 1);
        __syncthreads();
    }

    Finish finish(bias, gate, residual, out, args);
    #pragma unroll
    for (int i = 0; i < GM * 4; ++i)
        #pragma unroll
        for (int g = 0; g < GN; ++g) {
            float v[4] = {acc[i][g * 4], acc[i][g * 4 + 1], acc[i][g * 4 + 2], acc[i][g * 4 + 3]};
            finish(v, m0 + (i / 4) * 64 + ty * 4 + i % 4, n0 + g * 64 + tx * 4, args);
        }
}

#else
// ---------------------------------------------------------------- the others: tensor cores fed by asynchronous copies

// Bytes of a row in shared memory, a step's stretch of k. 48 KB hold three steps of either kind (four of the mixed tiles).
#if TILE_M + TILE_N <= 128
enum { ROW = 128 };
#else
enum { ROW = 64 };
#endif
enum { STEP_K = ROW / (int)sizeof(T) };
enum { PIECES = ROW / 16 };                  // pieces of 16 bytes in it
enum { PRODUCT = 32 };                       // bytes of a row that one instruction takes
enum { STAGE = (TILE_M + TILE_N) * ROW };
enum { STAGES = 49152 / STAGE < 4 ? 49152 / STAGE : 4 };
enum { APART = 128 / PIECES };               // rows between two pieces of one thread

// Piece c of row r is stored in place of piece c ^ swirl(r): any 8 neighbouring rows then have their pieces c in different
// banks. It is the pattern that the warpgroup instructions call 64-byte (128-byte) swizzle: bits 7.. of the offset are
// added (xor) to bits 4.. of it.
__device__ __forceinline__ int swirl(int r) { return PIECES == 8 ? r & 7 : (r >> 1) & 3; }

#ifdef LOAD_CA
#define CACHED "ca"
#else
#define CACHED "cg"
#endif
// 16 bytes into shared memory; zeros, and nothing is read, unless ok
__device__ __forceinline__ void copy(unsigned to, const char* from, bool ok) {
    asm volatile("cp.async." CACHED ".shared.global.L2::128B [%0], [%1], 16, %2;"
                 :: "r"(to), "l"(from), "r"(ok ? 16 : 0) : "memory");
}
__device__ __forceinline__ void copies_end() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ __forceinline__ void copies_wait() { asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory"); }

#if BODY_WGMMA
// d += a[64, 32 bytes] . w[N, 32 bytes]^T, operands described by d_a and d_w; element (i, j) of the sums: see the store below
// Rows are contiguous along k for all types; only those of 2 bytes might be turned, and say that they are not.
#if defined(T_BF16)
#define KIND "k16.f32.bf16.bf16"
#define TURNED ", 0, 0"
#elif defined(T_F16)
#define KIND "k16.f32.f16.f16"
#define TURNED ", 0, 0"
#else
#define KIND "k8.f32.tf32.tf32"
#define TURNED ""
#endif
#define S4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define S16(i) S4(i), S4(i + 4), S4(i + 8), S4(i + 12)
__device__ __forceinline__ void multiply(float (&d)[TILE_N / 2], unsigned long long d_a, unsigned long long d_w) {
#if TILE_N == 128
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128" KIND " {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
        "%64, %65, p, 1, 1" TURNED "; }"
        : S16(0), S16(16), S16(32), S16(48) : "l"(d_a), "l"(d_w), "r"(1));
#else
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %34, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64" KIND " {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
        "%32, %33, p, 1, 1" TURNED "; }"
        : S16(0), S16(16) : "l"(d_a), "l"(d_w), "r"(1));
#endif
}
// Where an operand lies: address, the distance of groups of 8 rows, and the swizzle (2: 64 bytes, 1: 128 bytes).
__device__ __forceinline__ unsigned long long described(unsigned at) {
    const unsigned long long mode = PIECES == 8 ? 1ull : 2ull;
    return (mode << 62) | ((unsigned long long)(8 * ROW >> 4) << 32) | (1ull << 16) | ((at & 0x3ffffu) >> 4);
}
#else
// Four of 8 rows by 16 bytes: a lane gets 4 bytes of each, which are one number of T_TF32, rounded to what the tensor cores see.
__device__ __forceinline__ void matrices(unsigned (&r)[4], unsigned at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at) : "memory");
#ifdef T_TF32
    #pragma unroll
    for (int i = 0; i < 4; ++i) asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r[i]) : "f"(__uint_as_float(r[i])));
#endif
}
#if defined(T_BF16)
#define KIND "m16n8k16.row.col.f32.bf16.bf16.f32"
#elif defined(T_F16)
#define KIND "m16n8k16.row.col.f32.f16.f16.f32"
#else
#define KIND "m16n8k8.row.col.f32.tf32.tf32.f32"
#endif
__device__ __forceinline__ void multiply(float (&d)[4], const unsigned (&x)[4], unsigned y0, unsigned y1) {
    asm volatile("mma.sync.aligned." KIND " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y0), "r"(y1));
}
#endif

// Sixteen rows of one warp's sums, spread over its lanes as the tensor cores leave them (lane l has of each 8 columns two,
// 2 (l % 4) and the next, in rows l / 4 and l / 4 + 8), go through the warp's own stretch of shared memory, so that a lane
// finishes 8 neighbouring columns with accesses of 16 bytes. The row length there, 8 more than a multiple of 32, keeps
// both sides free of bank conflicts.
template <int WIDTH, typename Sum> __device__ __forceinline__ void
store(float* slab, Sum sum, int row, int col, const Finish& finish, const Args& args) {
    constexpr int LONG = WIDTH + 8;
    const int lane = threadIdx.x % 32;
    float* mine = slab + (lane / 4) * LONG + (lane % 4) * 2;
    __syncwarp();
    #pragma unroll
    for (int j = 0; j < WIDTH / 8; ++j) {
        *(float2*)(mine + j * 8) = make_float2(sum(j, 0), sum(j, 1));
        *(float2*)(mine + 8 * LONG + j * 8) = make_float2(sum(j, 2), sum(j, 3));
    }
    __syncwarp();
    #pragma unroll 1
    for (int i = lane; i < 16 * WIDTH / 8; i += 32) {
        int r = i / (WIDTH / 8), c = i % (WIDTH / 8) * 8;
        float4 f = *(const float4*)(slab + r * LONG + c), h = *(const float4*)(slab + r * LONG + c + 4);
        float v[8] = {f.x, f.y, f.z, f.w, h.x, h.y, h.z, h.w};
        finish(v, row + r, col + c, args);
    }
}

// Blocks of a multiprocessor that the registers must leave room for.
#ifndef BLOCKS
#if TILE_M + TILE_N <= 192
#define BLOCKS 4
#elif BODY_WGMMA
#define BLOCKS 3
#else
#define BLOCKS 2
#endif
#endif

extern "C" __global__ void __launch_bounds__(128, BLOCKS)
product(const T* a, const T* w, const float* bias, const float* gate, const OUT* residual, OUT* out,
        const __grid_constant__ Args args) {
    __shared__ __align__(1024) unsigned char shared[STAGES * STAGE];
    const unsigned ring = (unsigned)__cvta_generic_to_shared(shared);
    const int t = threadIdx.x, lane = t % 32, warp = t / 32;
    int m0, n0;
    tile_of_block(args, m0, n0);

    const int mine = t / PIECES, piece = t % PIECES;
    const unsigned slot = (unsigned)(mine * ROW + ((piece ^ swirl(mine)) << 4));  // APART rows on, the swirl is the same
    Rows<TILE_N / APART, APART> from_w;
    from_w.start(w, n0, mine, args.n, args.k);
#ifdef CONV
    Pixels<TILE_M / APART, APART> from_a;
    from_a.start(a, m0, mine, piece * PIECE, args);
#else
    Rows<TILE_M / APART, APART> from_a;
    from_a.start(a, m0, mine, args.m, args.lda);
#endif
    int kk = piece * PIECE;
    auto load = [&](unsigned stage) {
        const bool in = kk < args.k;
        const int at = in ? kk : 0;
        #pragma unroll
        for (int i = 0; i < TILE_M / APART; ++i) {
            bool ok = in;
#ifdef CONV
            const char* p = from_a.at(i, ok, args);
#else
            const char* p = from_a.at(i, at);
#endif
            copy(stage + slot + i * (APART * ROW), p, ok);
        }
        #pragma unroll
        for (int i = 0; i < TILE_N / APART; ++i) copy(stage + slot + (TILE_M + i * APART) * ROW, from_w.at(i, at), in);
        kk += STEP_K;
#ifdef CONV
        from_a.next(STEP_K, args);
#endif
    };

    const int steps = (args.k + STEP_K - 1) / STEP_K;
    #pragma unroll
    for (int s = 0; s < STAGES - 1; ++s) {
        if (s < steps) load(ring + s * STAGE);
        copies_end();
    }
    unsigned now = ring, later = ring + (STAGES - 1) * STAGE;
    const unsigned end = ring + STAGES * STAGE;

#if BODY_WGMMA
    constexpr int HALVES = TILE_M / 64;  // the warpgroup takes 64 rows an instruction
    float d[HALVES][TILE_N / 2];
    #pragma unroll
    for (int h = 0; h < HALVES; ++h)
        #pragma unroll
        for (int i = 0; i < TILE_N / 2; ++i) d[h][i] = 0.0f;
    #pragma unroll 1
    for (int s = 0; s < steps; ++s) {
        copies_wait<STAGES - 2>();
        // What this thread's copies wrote has to be seen by the tensor cores, which read by another path.
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        __syncthreads();
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
        const unsigned long long d_a = described(now), d_w = described(now + TILE_M * ROW);
        #pragma unroll
        for (int q = 0; q < ROW / PRODUCT; ++q)
            #pragma unroll
            for (int h = 0; h < HALVES; ++h) multiply(d[h], d_a + h * (64 * ROW >> 4) + q * 2, d_w + q * 2);
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        // The stage to fill was read by the step before, which every warp had waited for ahead of the barrier.
        if (s + STAGES - 1 < steps) load(later);
        copies_end();
        asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
        now = now + STAGE == end ? ring : now + STAGE;
        later = later + STAGE == end ? ring : later + STAGE;
    }
    #pragma unroll
    for (int h = 0; h < HALVES; ++h)
        #pragma unroll
        for (int i = 0; i < TILE_N / 2; ++i) asm volatile("" : "+f"(d[h][i]) :: "memory");  // no use before the wait
    copies_wait<0>();
    __syncthreads();

    Finish finish(bias, gate, residual, out, args);
    float* slab = (float*)shared + warp * 16 * (TILE_N + 8);
    #pragma unroll
    for (int h = 0; h < HALVES; ++h)
        store<TILE_N>(slab, [&](int j, int e) { return d[h][j * 4 + e]; }, m0 + h * 64 + warp * 16, n0, finish, args);
#else
    constexpr int WM = TILE_M / 2, WN = TILE_N / 2;  // the part of one of 2 x 2 warps
    const int wm = (warp / 2) * WM, wn = (warp % 2) * WN;
    float d[WM / 16][WN / 8][4];
    #pragma unroll
    for (int i = 0; i < WM / 16; ++i)
        #pragma unroll
        for (int j = 0; j < WN / 8; ++j)
            #pragma unroll
            for (int e = 0; e < 4; ++e) d[i][j][e] = 0.0f;
    // The row and piece of which each lane names the address to ldmatrix: of a, rows 0-15 by pieces 0, 1; of w, rows
    // 0-7 by pieces 0, 1, then rows 8-15. 16 rows on the swirl is the same; two pieces on, the offset differs in bit 5 up.
    const int ra = lane % 16, rw = lane % 8 + lane / 16 * 8;
    const unsigned of_a = (unsigned)((wm + ra) * ROW + (((lane / 16) ^ swirl(ra)) << 4));
    const unsigned of_w = (unsigned)((TILE_M + wn + rw) * ROW + (((lane / 8 % 2) ^ swirl(rw)) << 4));
    #pragma unroll 1
    for (int s = 0; s < steps; ++s) {
        copies_wait<STAGES - 2>();
        __syncthreads();
        if (s + STAGES - 1 < steps) load(later);
        copies_end();
        #pragma unroll
        for (int q = 0; q < ROW / PRODUCT; ++q) {
            unsigned x[WM / 16][4], y[WN / 16][4];
            #pragma unroll
            for (int i = 0; i < WM / 16; ++i) matrices(x[i], now + (of_a ^ (q * 32)) + i * 16 * ROW);
            #pragma unroll
            for (int j = 0; j < WN / 16; ++j) matrices(y[j], now + (of_w ^ (q * 32)) + j * 16 * ROW);
            #pragma unroll
            for (int i = 0; i < WM / 16; ++i)
                #pragma unroll
                for (int j = 0; j < WN / 8; ++j) multiply(d[i][j], x[i], y[j / 2][j % 2 * 2], y[j / 2][j % 2 * 2 + 1]);
        }
        now = now + STAGE == end ? ring : now + STAGE;
        later = later + STAGE == end ? ring : later + STAGE;
    }
    copies_wait<0>();
    __syncthreads();

    Finish finish(bias, gate, residual, out, args);
    float* slab = (float*)shared + warp * 16 * (WN + 8);
    #pragma unroll
    for (int i = 0; i < WM / 16; ++i)
        store<WN>(slab, [&](int j, int e) { return d[i][j][e]; }, m0 + wm + i * 16, n0 + wn, finish, args);
#endif
}
#endif
