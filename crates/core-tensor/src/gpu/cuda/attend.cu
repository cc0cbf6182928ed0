// Fused attention: out = softmax(q·kᵀ·scale + bias, hidden keys left out)·v, never keeping the n × m scores in device memory.
//
//   q    [b, n, heads, D]  with strides q_batch, q_token, q_head (in elements; channels contiguous, 16-byte aligned heads)
//   k, v [b, m, heads, D]  likewise; any of the three may be a view into a fused [b, tokens, 3, heads, D]
//   bias float, by flag: a relative table [heads, n + m - 1], where query i and key j take entry j + n - 1 - i;
//        or full [heads, n, m]; both the same for every batch entry
//   seen uint8 [b, m], 0 hides the key
//   out  [b, n, heads, D]  contiguous
//
// Keys come in tiles. Each query keeps a reference score r, the sum l of 2^(score - r) and the sum of v weighted likewise; when a
// tile's greatest score passes r, both sums are multiplied by 2^(r - r') (the running softmax of arXiv 1805.02867). The quotient
// of the sums does not depend on r, so on tensor cores r moves only when the scores outgrow it by GROW: weights stay below
// 2^GROW, and rescaling is rare. Scores are in base 2: the scale is multiplied by log2(e) once.
//
// #defines: D (a multiple of 8, at most 512); one of T_BF16, T_F16, T_F32; WGMMA (sm_90a only; heeded where D is 64 or 128 and T
// has 16 bits). Grid (ceil(n / ROWS), heads, b), THREADS threads a block:
//   T_F32                  ROWS = D <= 256 ? 64 : 32       THREADS = 128
//   WGMMA, D = 64 or 128   ROWS = 192                      THREADS = 384
//   else  D <= 64          ROWS = 128                      THREADS = 128
//         D <= 80          ROWS = 64                       THREADS = 128
//         D <= 128         ROWS = 192                      THREADS = 384
//         D <= 160         ROWS = 64                       THREADS = 128
//         else             ROWS = 64                       THREADS = 64 * ceil(D / 128)

struct Args {
    int heads, n, m;
    int q_batch, q_head, q_token;
    int k_batch, k_head, k_token;
    int v_batch, v_head, v_token;
    float scale;
    int flags;
};

#define CAUSAL 1
#define RELATIVE 2
#define FULL 4
#define SEEN 8

typedef long long i64;

__device__ constexpr float LOG2E = 1.4426950408889634f;
__device__ constexpr float GROW = 8.0f;

__device__ __forceinline__ float minus_inf() { return __int_as_float(0xff800000); }

__device__ __forceinline__ float exp_2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// One row's line of the bias, so that key j is at [j].
__device__ __forceinline__ const float* bias_line(const float* bias, const Args& a, int head, int row) {
    return a.flags & FULL ? bias + ((i64)head * a.n + row) * a.m : bias + (i64)head * (a.n + a.m - 1) + (a.n - 1 - row);
}

// How many keys the rows below `end` can see at all.
__device__ __forceinline__ int keys_for(const Args& a, int end) {
    return a.flags & CAUSAL ? min(a.m, end) : a.m;
}

#ifdef T_F32
// ------------------------------------------------------------------------------------------------------------------------
// Single precision, plain FMA. 16 × 8 threads; a thread has rows y, y + 16, …, and of a tile's 32 keys x, x + 8, x + 16, x + 24.
// Channels pass through shared memory 32 at a time; the second product's sums stay in registers, 4 channels of each 32 a thread.

constexpr int THREADS = 128, RT = D <= 256 ? 4 : 2, ROWS = 16 * RT, KT = 32, CHUNKS = (D + 31) / 32, PITCH = 36;

// 32 channels from `first` on of `count` rows; zeros beyond the tensor.
template <int COUNT>
__device__ __forceinline__ void fetch(float (*to)[PITCH], const float* from, i64 stride, int row0, int rows, int first) {
    for (int i = threadIdx.x; i < COUNT * 8; i += THREADS) {
        int r = i >> 3, c = (i & 7) * 4;
        float4 x = make_float4(0, 0, 0, 0);
        if (row0 + r < rows && first + c < D) x = *(const float4*)(from + (row0 + r) * stride + first + c);
        *(float4*)&to[r][c] = x;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
attend(const float* q, const float* k, const float* v, const float* bias, const unsigned char* seen, float* out,
       const __grid_constant__ Args a) {
    __shared__ __align__(16) float left[ROWS][PITCH];   // queries, then the tile's weights
    __shared__ __align__(16) float right[KT][PITCH];    // keys, then values
    const int x = threadIdx.x & 7, y = threadIdx.x >> 3;
    const int row0 = blockIdx.x * ROWS, head = blockIdx.y, batch = blockIdx.z;
    q += (i64)batch * a.q_batch + (i64)head * a.q_head;
    k += (i64)batch * a.k_batch + (i64)head * a.k_head;
    v += (i64)batch * a.v_batch + (i64)head * a.v_head;
    seen += (i64)batch * a.m;

    float sum[CHUNKS][RT][4], r[RT], l[RT];
#pragma unroll
    for (int i = 0; i < RT; i++) {
        r[i] = minus_inf(), l[i] = 0;
#pragma unroll
        for (int c = 0; c < CHUNKS; c++)
#pragma unroll
            for (int e = 0; e < 4; e++) sum[c][i][e] = 0;
    }

    const int keys = keys_for(a, row0 + ROWS);
    for (int key0 = 0; key0 < keys; key0 += KT) {
        float s[RT][4] = {};
        for (int c = 0; c < CHUNKS; c++) {
            __syncthreads();
            fetch<ROWS>(left, q, a.q_token, row0, a.n, c * 32);
            fetch<KT>(right, k, a.k_token, key0, a.m, c * 32);
            __syncthreads();
#pragma unroll
            for (int d = 0; d < 32; d += 4) {
                float4 kk[4];
#pragma unroll
                for (int j = 0; j < 4; j++) kk[j] = *(float4*)&right[x + 8 * j][d];
#pragma unroll
                for (int i = 0; i < RT; i++) {
                    float4 qq = *(float4*)&left[y + 16 * i][d];
#pragma unroll
                    for (int j = 0; j < 4; j++)
                        s[i][j] = fmaf(qq.w, kk[j].w, fmaf(qq.z, kk[j].z, fmaf(qq.y, kk[j].y, fmaf(qq.x, kk[j].x, s[i][j]))));
                }
            }
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < RT; i++) {
            const int row = min(row0 + y + 16 * i, a.n - 1);
            float top = minus_inf();
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int key = key0 + x + 8 * j;
                s[i][j] *= a.scale;
                if (key >= a.m || (a.flags & CAUSAL && key > row) || (a.flags & SEEN && !seen[key])) s[i][j] = minus_inf();
                else if (a.flags & (RELATIVE | FULL)) s[i][j] += bias_line(bias, a, head, row)[key];
                top = fmaxf(top, s[i][j]);
            }
            // The 8 threads of a row are neighbours in their warp.
#pragma unroll
            for (int o = 1; o < 8; o *= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, o));
            const float next = fmaxf(r[i], top), base = next == minus_inf() ? 0.0f : next;
            const float shrink = exp2f((r[i] - base) * LOG2E);
            r[i] = next;
            l[i] *= shrink;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float p = exp2f((s[i][j] - base) * LOG2E);
                l[i] += p;
                left[y + 16 * i][x + 8 * j] = p;
            }
#pragma unroll
            for (int c = 0; c < CHUNKS; c++)
#pragma unroll
                for (int e = 0; e < 4; e++) sum[c][i][e] *= shrink;
        }
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            __syncthreads();
            fetch<KT>(right, v, a.v_token, key0, a.m, c * 32);
            __syncthreads();
#pragma unroll 4
            for (int j = 0; j < KT; j += 4) {
                float4 vv[4];
#pragma unroll
                for (int e = 0; e < 4; e++) vv[e] = *(float4*)&right[j + e][x * 4];
#pragma unroll
                for (int i = 0; i < RT; i++) {
                    const float4 p = *(float4*)&left[y + 16 * i][j];
                    float* o = sum[c][i];
                    o[0] = fmaf(p.w, vv[3].x, fmaf(p.z, vv[2].x, fmaf(p.y, vv[1].x, fmaf(p.x, vv[0].x, o[0]))));
                    o[1] = fmaf(p.w, vv[3].y, fmaf(p.z, vv[2].y, fmaf(p.y, vv[1].y, fmaf(p.x, vv[0].y, o[1]))));
                    o[2] = fmaf(p.w, vv[3].z, fmaf(p.z, vv[2].z, fmaf(p.y, vv[1].z, fmaf(p.x, vv[0].z, o[2]))));
                    o[3] = fmaf(p.w, vv[3].w, fmaf(p.z, vv[2].w, fmaf(p.y, vv[1].w, fmaf(p.x, vv[0].w, o[3]))));
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < RT; i++) {
#pragma unroll
        for (int o = 1; o < 8; o *= 2) l[i] += __shfl_xor_sync(~0u, l[i], o);
        const int row = row0 + y + 16 * i;
        if (row < a.n) {
            float* to = out + (((i64)batch * a.n + row) * a.heads + head) * D;
#pragma unroll
            for (int c = 0; c < CHUNKS; c++)
                if (c * 32 + x * 4 < D)
                    *(float4*)(to + c * 32 + x * 4) =
                        make_float4(sum[c][i][0] / l[i], sum[c][i][1] / l[i], sum[c][i][2] / l[i], sum[c][i][3] / l[i]);
        }
    }
}

#else
// ------------------------------------------------------------------------------------------------------------------------
// 16-bit types on tensor cores, sums in single precision. Values are moved and converted, never computed with: T is their bits.

typedef unsigned short T;

#ifdef T_BF16
#define KIND "bf16"
#else
#define KIND "f16"
#endif

#if defined(WGMMA) && (D == 64 || D == 128)
#define GROUPS_OF_WARPS 1
#else
#define GROUPS_OF_WARPS 0
#endif

// Wide heads are cut into PARTS of W channels, one warp a part.
constexpr int PARTS = D <= 160 ? 1 : (D + 127) / 128;
constexpr int DP = (D + 16 * PARTS - 1) / (16 * PARTS) * (16 * PARTS), W = DP / PARTS;
// 16-row pieces a warp owns. Two halve the reads from shared memory where registers suffice.
constexpr int MT = GROUPS_OF_WARPS ? 1 : D <= 64 || PARTS > 1 ? 2 : 1;
constexpr int WARPS = GROUPS_OF_WARPS ? 12 : PARTS > 1 ? 2 * PARTS : D > 80 && D <= 128 ? 12 : 4;
constexpr int THREADS = 32 * WARPS, ROWS = WARPS / PARTS * MT * 16;
// Keys a tile: four tiles (two of keys, two of values) fill 48 KB at most.
constexpr int KT = PARTS > 1         ? 16
                   : GROUPS_OF_WARPS ? (D == 64 ? 80 : 48)
                   : D > 128         ? 32
                   : D <= 48 || (D > 64 && D <= 80) ? 64 : 48;
constexpr int NT = KT / 8;
constexpr int BLOCKS = WARPS == 4 && PARTS == 1 ? (D > 64 && D <= 80 ? 3 : 2) : 1;

// A tile in shared memory, in 16-byte chunks. Heads of whole 128-byte pieces: piece by piece, rows of 8 chunks, chunk c of row r
// at c ^ (r % 8), the order wgmma calls 128-byte swizzle. Others: an odd number of chunks a row. Either way the eight chunks of
// a column in eight neighbouring rows lie in different banks.
constexpr int CHUNKS = DP / 8;
constexpr bool SWIZZLE = W % 64 == 0;
constexpr int PITCH = SWIZZLE ? 128 : (CHUNKS | 1) * 16;
constexpr int TILE = SWIZZLE ? KT * DP * 2 : KT * PITCH;

// Where a lane finds its chunk: `row` and `bit` are the lane's, r0 (a multiple of 8) and c0 (even) the matrix's.
__device__ __forceinline__ unsigned place(int row, int bit, int r0, int c0) {
    return SWIZZLE ? ((c0 >> 3) * KT + r0 + row) * 128 + ((((row & 7) ^ bit) << 4) ^ ((c0 & 7) << 4))
                   : (r0 + row) * PITCH + (c0 + bit) * 16;
}

__device__ __forceinline__ unsigned shared_address(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }

__device__ __forceinline__ unsigned pack(float low, float high) {
    unsigned d;
    asm("cvt.rn." KIND "x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
    return d;
}

// A mean of values is none of them, and may be rounded to more than the largest number of the format, which it becomes then.
__device__ __forceinline__ float within(float v) {
#ifdef T_F16
    return v > 65504.0f ? 65504.0f : v < -65504.0f ? -65504.0f : v;
#else
    return v;
#endif
}

// Starts copying KT rows from `row0` on; zeros for rows and channels beyond the tensor.
__device__ __forceinline__ void fetch(unsigned to, const T* from, i64 stride, int row0, int rows) {
    // Where registers are short, one address at a time.
#pragma unroll (PARTS > 1 ? 1 : 64)
    for (int t = 0; t < (KT * CHUNKS + THREADS - 1) / THREADS; t++) {
        const int i = t * THREADS + threadIdx.x;
        if (KT * CHUNKS % THREADS == 0 || i < KT * CHUNKS) {
            const int r = i / CHUNKS, c = i % CHUNKS, row = row0 + r;
            const bool in = row < rows && c * 8 < D;
            const T* src = from + (in ? row * stride + c * 8 : 0);
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                         ::"r"(to + place(r, c & 1, 0, c & ~1)), "l"(src), "r"(in ? 16 : 0) : "memory");
        }
    }
}

__device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int PENDING>
__device__ __forceinline__ void arrived() { asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory"); }

__device__ __forceinline__ void matrices(unsigned (&b)[4], unsigned at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3]) : "r"(at) : "memory");
}

__device__ __forceinline__ void matrices_turned(unsigned (&b)[4], unsigned at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3]) : "r"(at) : "memory");
}

__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." KIND "." KIND ".f32"
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// A lane's share of a 16-row piece of queries: rows row and row + 8, channels first + 2 * (lane % 4) and the same + 8 of each 16.
__device__ __forceinline__ void queries(unsigned (&to)[W / 16][4], const T* q, const Args& a, int row, int first) {
    const int c = (threadIdx.x & 3) * 2;
    const T* up = q + (i64)min(row, a.n - 1) * a.q_token;
    const T* down = q + (i64)min(row + 8, a.n - 1) * a.q_token;
#pragma unroll
    for (int s = 0; s < W / 16; s++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int at = first + s * 16 + h * 8;
            to[s][2 * h] = at < D ? *(const unsigned*)(up + at + c) : 0;
            to[s][2 * h + 1] = at < D ? *(const unsigned*)(down + at + c) : 0;
        }
}

// The state of a 16-row piece: references and sums for the lane's two rows.
struct Piece {
    float r[2], l[2];
};

// Scores of a 16-row piece into weights. `unit` turns a score into base 2; bias and scales that are not positive are worked in
// here, leaving unit 1. Says by what the earlier sums have to be multiplied; returns false where that is 1 in all of the warp.
__device__ __forceinline__ bool soften(float (&s)[NT][4], Piece& p, float (&shrink)[2], const Args& a, const float* bias,
                                       const unsigned char* seen, int row, int key0, float unit) {
    const int col = key0 + (threadIdx.x & 3) * 2;
    if (a.flags & (RELATIVE | FULL) || !(a.scale > 0)) {
        const float scale = a.scale * LOG2E;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const float* line = bias_line(bias, a, blockIdx.y, min(row + 8 * h, a.n - 1));
#pragma unroll
            for (int t = 0; t < NT; t++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float x = 0;
                    if (a.flags & (RELATIVE | FULL)) x = line[min(col + t * 8 + e, a.m - 1)] * LOG2E;
                    s[t][2 * h + e] = fmaf(s[t][2 * h + e], scale, x);
                }
        }
    }
    if (key0 + KT > a.m || a.flags & (CAUSAL | SEEN)) {
        seen += (i64)blockIdx.z * a.m;
#pragma unroll
        for (int t = 0; t < NT; t++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int key = col + t * 8 + e;
                const bool gone = key >= a.m || (a.flags & SEEN && !seen[key]);
                if (gone || (a.flags & CAUSAL && key > row)) s[t][e] = minus_inf();
                if (gone || (a.flags & CAUSAL && key > row + 8)) s[t][2 + e] = minus_inf();
            }
    }
    float top[2];
    bool grew = false;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float x = fmaxf(s[0][2 * h], s[0][2 * h + 1]);
#pragma unroll
        for (int t = 1; t < NT; t++) x = fmaxf(x, fmaxf(s[t][2 * h], s[t][2 * h + 1]));
        x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
        top[h] = fmaxf(x, __shfl_xor_sync(~0u, x, 2));
        // Not so while all is hidden: -inf less -inf is no number.
        grew |= (top[h] - p.r[h]) * unit > GROW;
    }
    const bool move = __any_sync(~0u, grew);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        shrink[h] = 1;
        if (move) {
            const float next = fmaxf(p.r[h], top[h]);
            shrink[h] = exp_2((p.r[h] - (next == minus_inf() ? 0.0f : next)) * unit);
            p.l[h] *= shrink[h];
            p.r[h] = next;
        }
        const float base = p.r[h] == minus_inf() ? 0.0f : p.r[h] * unit;
        float l = 0;
#pragma unroll
        for (int t = 0; t < NT; t++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                s[t][2 * h + e] = exp_2(fmaf(s[t][2 * h + e], unit, -base));
                l += s[t][2 * h + e];
            }
        p.l[h] += l;
    }
    return move;
}

// Weights of 16 keys as the first operand of a product: the layout of sums is, two by two, that of operands.
__device__ __forceinline__ void operand(unsigned (&w)[4], const float (&s)[NT][4], int step) {
    w[0] = pack(s[2 * step][0], s[2 * step][1]);
    w[1] = pack(s[2 * step][2], s[2 * step][3]);
    w[2] = pack(s[2 * step + 1][0], s[2 * step + 1][1]);
    w[3] = pack(s[2 * step + 1][2], s[2 * step + 1][3]);
}

// Divides by the weights' sum and writes.
__device__ __forceinline__ void finish(const float (&o)[W / 8][4], const Piece& p, T* out, const Args& a, int row, int first) {
    const int c = (threadIdx.x & 3) * 2;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float l = p.l[h];
        l += __shfl_xor_sync(~0u, l, 1);
        l += __shfl_xor_sync(~0u, l, 2);
        const float inverse = 1 / l;
        if (row + 8 * h < a.n) {
            T* to = out + (((i64)blockIdx.z * a.n + row + 8 * h) * a.heads + blockIdx.y) * D + first;
#pragma unroll
            for (int t = 0; t < W / 8; t++)
                if (first + t * 8 < D) *(unsigned*)(to + t * 8 + c) = pack(within(o[t][2 * h] * inverse), within(o[t][2 * h + 1] * inverse));
        }
    }
}

#if GROUPS_OF_WARPS
// What wgmma reads of a tile in 128-byte swizzle: the address, the way from one 128-byte piece of a row to the next (heeded where
// the channels are the product's columns), the way from eight rows to the next eight; all in units of 16 bytes.
__device__ __forceinline__ unsigned long long view(unsigned at) {
    return (unsigned long long)((at & 0x3ffff) >> 4) | (unsigned long long)(KT * 128 / 16) << 16 | 64ull << 32 | 1ull << 62;
}

__device__ __forceinline__ void group_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void group_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void group_wait() { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }

#define F4(x) "+f"(x[0]), "+f"(x[1]), "+f"(x[2]), "+f"(x[3])
#define F16(x, i) F4(x[i]), F4(x[i + 1]), F4(x[i + 2]), F4(x[i + 3])
#define WG(N, LIST, A0, A1, A2, A3, B, P, TURN, ...)                                                                             \
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %" P ", 0;"                                                                     \
                 " wgmma.mma_async.sync.aligned.m64n" N "k16.f32." KIND "." KIND                                                 \
                 " {" LIST "}, {%" A0 ", %" A1 ", %" A2 ", %" A3 "}, %" B ", p, 1, 1, " TURN "; }"                               \
                 : __VA_ARGS__ : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(more) : "memory")
#define L0 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23"
#define L24 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define L32 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define L40 ", %40, %41, %42, %43, %44, %45, %46, %47" \
            ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

// d = a·bᵀ (+ d where `more`): 16 channels of the queries and of a tile's keys.
__device__ __forceinline__ void group_scores(float (&d)[NT][4], const unsigned (&a)[4], unsigned long long b, int more) {
#if D == 128
    WG("48", L0, "24", "25", "26", "27", "28", "29", "0", F16(d, 0), F4(d[4]), F4(d[5]));
#else
    WG("80", L0 L24 L32, "40", "41", "42", "43", "44", "45", "0", F16(d, 0), F16(d, 4), F4(d[8]), F4(d[9]));
#endif
}

// d += a·b: weights of 16 keys and their values, whose channels are the columns.
__device__ __forceinline__ void group_values(float (&d)[W / 8][4], const unsigned (&a)[4], unsigned long long b) {
    const int more = 1;
#if D == 128
    WG("128", L0 L24 L32 L40, "64", "65", "66", "67", "68", "69", "1", F16(d, 0), F16(d, 4), F16(d, 8), F16(d, 12));
#else
    WG("64", L0 L24, "32", "33", "34", "35", "36", "37", "1", F16(d, 0), F16(d, 4));
#endif
}
#endif

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
attend(const T* q, const T* k, const T* v, const float* bias, const unsigned char* seen, T* out, const __grid_constant__ Args a) {
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    const int head = blockIdx.y, batch = blockIdx.z;
    const int part = PARTS > 1 ? warp % PARTS : 0, band = warp / PARTS;
    const int row = blockIdx.x * ROWS + band * MT * 16 + (lane >> 2);   // the lane's first
    const int keys = keys_for(a, blockIdx.x * ROWS + ROWS), tiles = (keys + KT - 1) / KT;
    q += (i64)batch * a.q_batch + (i64)head * a.q_head;
    k += (i64)batch * a.k_batch + (i64)head * a.k_head;
    v += (i64)batch * a.v_batch + (i64)head * a.v_head;
    const float unit = a.flags & (RELATIVE | FULL) || !(a.scale > 0) ? 1.0f : a.scale * LOG2E;

    float o[MT][W / 8][4] = {};
    unsigned qs[MT][W / 16][4];
    Piece state[MT];
#pragma unroll
    for (int t = 0; t < MT; t++) {
        state[t].r[0] = state[t].r[1] = minus_inf();
        state[t].l[0] = state[t].l[1] = 0;
    }

#if !GROUPS_OF_WARPS
    // Keys are the product's columns, channels its depth: a lane points at 8 keys × 2 and chunks × 2. For values, the reverse.
    const int k_row = (lane >> 4) * 8 + (lane & 7), k_bit = (lane >> 3) & 1;
    const int v_row = ((lane >> 3) & 1) * 8 + (lane & 7), v_bit = lane >> 4;
#endif
#if D <= 160
    __shared__ __align__(1024) unsigned char tiles_of[4 * TILE];
    const unsigned base = shared_address(tiles_of);
    fetch(base, k, a.k_token, 0, a.m);
    fetch(base + TILE, v, a.v_token, 0, a.m);
    commit();
#pragma unroll
    for (int t = 0; t < MT; t++) queries(qs[t], q, a, row + 16 * t, 0);

    for (int j = 0; j < tiles; j++) {
        const unsigned here = base + (j & 1) * 2 * TILE, values = here + TILE;
        arrived<0>();
#if GROUPS_OF_WARPS
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");   // wgmma reads by another way than these copies wrote
#endif
        __syncthreads();
        // Past the barrier nobody reads the other pair any more.
        if (j + 1 < tiles) {
            const unsigned there = base + (~j & 1) * 2 * TILE;
            fetch(there, k, a.k_token, (j + 1) * KT, a.m);
            fetch(there + TILE, v, a.v_token, (j + 1) * KT, a.m);
        }
        commit();

        float s[MT][NT][4];
#if GROUPS_OF_WARPS
        group_fence();
#pragma unroll
        for (int c = 0; c < W / 16; c++) group_scores(s[0], qs[0][c], view(here + (c / 4) * KT * 128 + (c % 4) * 32), c > 0);
        group_commit();
        group_wait();
#else
#pragma unroll
        for (int t = 0; t < MT; t++)
#pragma unroll
            for (int i = 0; i < NT; i++) s[t][i][0] = s[t][i][1] = s[t][i][2] = s[t][i][3] = 0;
#pragma unroll
        for (int c = 0; c < W / 16; c++)
#pragma unroll
            for (int i = 0; i < NT / 2; i++) {
                unsigned b[4];
                matrices(b, here + place(k_row, k_bit, i * 16, c * 2));
#pragma unroll
                for (int t = 0; t < MT; t++) {
                    mma(s[t][2 * i], qs[t][c], b[0], b[1]);
                    mma(s[t][2 * i + 1], qs[t][c], b[2], b[3]);
                }
            }
#endif
#pragma unroll
        for (int t = 0; t < MT; t++) {
            float shrink[2];
            if (soften(s[t], state[t], shrink, a, bias, seen, row + 16 * t, j * KT, unit)) {
#pragma unroll
                for (int i = 0; i < W / 8; i++)
#pragma unroll
                    for (int e = 0; e < 4; e++) o[t][i][e] *= shrink[e >> 1];
            }
        }
#if GROUPS_OF_WARPS
        unsigned w[KT / 16][4];
#pragma unroll
        for (int i = 0; i < KT / 16; i++) operand(w[i], s[0], i);
        group_fence();
#pragma unroll
        for (int i = 0; i < KT / 16; i++) group_values(o[0], w[i], view(values + i * 2048));
        group_commit();
        group_wait();
#else
#pragma unroll
        for (int i = 0; i < KT / 16; i++) {
            unsigned w[MT][4];
#pragma unroll
            for (int t = 0; t < MT; t++) operand(w[t], s[t], i);
#pragma unroll
            for (int c = 0; c < W / 16; c++) {
                unsigned b[4];
                matrices_turned(b, values + place(v_row, v_bit, i * 16, c * 2));
#pragma unroll
                for (int t = 0; t < MT; t++) {
                    mma(o[t][2 * c], w[t], b[0], b[1]);
                    mma(o[t][2 * c + 1], w[t], b[2], b[3]);
                }
            }
        }
#endif
    }

#else
    // Neither queries nor sums of wide heads fit into one warp's registers, nor the queries into shared memory. A warp keeps its
    // part of the channels of both; the parts' contributions to the scores are added up through shared memory.
    __shared__ __align__(1024) unsigned char tiles_of[2 * TILE];
    __shared__ float4 shares[PARTS][2][MT * NT][32];
    const unsigned here = shared_address(tiles_of), values = here + TILE;
    const unsigned slice = part * (SWIZZLE ? W / 64 * KT * 128 : W * 2);
    fetch(here, k, a.k_token, 0, a.m);
    commit();
#pragma unroll
    for (int t = 0; t < MT; t++) queries(qs[t], q, a, row + 16 * t, part * W);
    arrived<0>();
    __syncthreads();

    for (int j = 0; j < tiles; j++) {
        fetch(values, v, a.v_token, j * KT, a.m);
        commit();
        float s[MT][NT][4] = {};
#pragma unroll
        for (int c = 0; c < W / 16; c++) {
            unsigned b[4];
            matrices(b, here + slice + place(k_row, k_bit, 0, c * 2));
#pragma unroll
            for (int t = 0; t < MT; t++) {
                mma(s[t][0], qs[t][c], b[0], b[1]);
                mma(s[t][1], qs[t][c], b[2], b[3]);
            }
        }
#pragma unroll
        for (int i = 0; i < MT * NT; i++) {
            const float* x = s[i / NT][i % NT];
            shares[part][band][i][lane] = make_float4(x[0], x[1], x[2], x[3]);
        }
        __syncthreads();
        if (j + 1 < tiles) fetch(here, k, a.k_token, (j + 1) * KT, a.m);
        commit();
#pragma unroll
        for (int i = 0; i < MT * NT; i++) {
            float* x = s[i / NT][i % NT];
#pragma unroll
            for (int other = 1; other < PARTS; other++) {
                const float4 y = shares[(part + other) % PARTS][band][i][lane];
                x[0] += y.x, x[1] += y.y, x[2] += y.z, x[3] += y.w;
            }
        }
#pragma unroll
        for (int t = 0; t < MT; t++) {
            float shrink[2];
            if (soften(s[t], state[t], shrink, a, bias, seen, row + 16 * t, j * KT, unit)) {
#pragma unroll
                for (int i = 0; i < W / 8; i++)
#pragma unroll
                    for (int e = 0; e < 4; e++) o[t][i][e] *= shrink[e >> 1];
            }
        }
        arrived<1>();
        __syncthreads();
        unsigned w[MT][4];
#pragma unroll
        for (int t = 0; t < MT; t++) operand(w[t], s[t], 0);
#pragma unroll
        for (int c = 0; c < W / 16; c++) {
            unsigned b[4];
            matrices_turned(b, values + slice + place(v_row, v_bit, 0, c * 2));
#pragma unroll
            for (int t = 0; t < MT; t++) {
                mma(o[t][2 * c], w[t], b[0], b[1]);
                mma(o[t][2 * c + 1], w[t], b[2], b[3]);
            }
        }
        arrived<0>();
        __syncthreads();
    }
#endif
#pragma unroll
    for (int t = 0; t < MT; t++) finish(o[t], state[t], out, a, row + 16 * t, part * W);
}
#endif
