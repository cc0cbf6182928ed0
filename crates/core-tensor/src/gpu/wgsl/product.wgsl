// Matrix product with an epilogue, and convolution as an implicit matrix product, by multiply-adds of single numbers.
//
//   out[m, n] = epilogue(a[m, k] . w[n, k]^T)      both operands contiguous along k, sums in f32
//
// Epilogue of one sum, each part switched by `flags` (bit 0 bias, 1 gate, 2 residual):
//   v = sum + bias[n];  v = activation(v);  v *= gate[(row / rows_per_gate) * gate_stride + n];
//   v += residual[row * ldr + n];  out[row * ldo + n] = v
// `out` and `residual` may be the same memory: an element is read by the thread that then writes it.
//
// With CONV, `a` is a map [batch, in_h, in_w, in_c] and w is [n, kernel, kernel, in_c]: row (b, oy, ox) of the product takes,
// at index (ky, kx, c) of k, the pixel (oy * stride - pad + ky, ox * stride - pad + kx); pixels outside the map are zero, so
// `pad` stands for the top and the left, and out_h, out_w decide what is read beyond the bottom and the right.
//
// Header: WIDE 1; O, the number format of out and residual: T, or f32 with OUT_F32 = 1. Defines: OUT_F32, CONV (0 or 1), TILE.
// TILE and threads of a group: 128 and 256, 64 and 256, or 32 and 64 (for what would be too few groups).
// Grid: ceil(m / TILE) * ceil(n / TILE) groups in one dimension, folded where that is too many.
// k, lda and in_c are multiples of 8, a and w start at multiples of 4 numbers; m, n, ldr, ldo are free.

@group(0) @binding(0) var<storage, read_write> a: array<vec4<T>>;
@group(0) @binding(1) var<storage, read_write> w: array<vec4<T>>;
@group(0) @binding(2) var<storage, read_write> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> gate: array<f32>;
@group(0) @binding(4) var<storage, read_write> residual: array<O>;
@group(0) @binding(5) var<storage, read_write> out: array<O>;
@group(0) @binding(6) var<storage, read> args: Args;

// Row tiles that share a stretch of column tiles.
const GROUP: u32 = 8u;
// Numbers along k of one step: a thread copies four of each operand.
const STEP: u32 = THREADS * 4u / TILE;
// A thread owns blocks of 4 x 4 outputs, one in each part of SIDE * 4 rows and columns of the tile.
const SIDE: u32 = min(TILE, 64u) / 4u;
const PARTS: u32 = TILE / (SIDE * 4u);
// Fours from one index of k to the next; one more than there are spreads the copies over the memory's banks.
const APART: u32 = TILE / 4u + 1u;
const OPERAND: u32 = STEP * APART;

// Twice (this step's and the next one's) a's rows, then w's, by k; in the end the sums of one part.
var<workgroup> staged: array<vec4<f32>, 4u * OPERAND>;

@compute @workgroup_size(THREADS)
fn product(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let tiles_m = (args.m + TILE - 1u) / TILE;
    let tiles_n = (args.n + TILE - 1u) / TILE;
    let tile = group.x + group.y * groups.x;
    if (tile >= tiles_m * tiles_n) {
        return;
    }
    // Neighbouring groups share a column tile and differ in the row tile, GROUP rows at a time, so that what runs together
    // covers a compact patch of the output and finds its operands in the second-level cache.
    let stretch = tile / (GROUP * tiles_n);
    let within = tile - stretch * GROUP * tiles_n;
    let stretch_rows = min(tiles_m - stretch * GROUP, GROUP);
    let column_tile = within / stretch_rows;
    let m0 = (stretch * GROUP + within - column_tile * stretch_rows) * TILE;
    let n0 = column_tile * TILE;

    let copied = t / (STEP / 4u);
    let piece = t % (STEP / 4u) * 4u;
    // Rows beyond the last are replaced by the last: what they yield is never stored.
    let from_a = place(min(m0 + copied, args.m - 1u));
    let from_w = min(n0 + copied, args.n - 1u) * (args.k / 4u);
    var tap = settled(Tap(0u, 0u, piece));

    let ty = t / SIDE;
    let tx = t % SIDE;
    var sums: array<vec4<f32>, 16>; // indexed by literals alone, so that they stay in registers
    var next_a = piece_of_a(from_a, piece, tap);
    var next_w = piece_of_w(from_w, piece);
    let steps = (args.k + STEP - 1u) / STEP;
    for (var s = 0u; s < steps; s++) {
        let stage_a = s % 2u * 2u * OPERAND;
        let stage_w = stage_a + OPERAND;
        for (var i = 0u; i < 4u; i++) {
            let at = (piece + i) * APART + copied / 4u;
            staged[stage_a + at][copied % 4u] = next_a[i];
            staged[stage_w + at][copied % 4u] = next_w[i];
        }
        // One barrier a step: the stage written above was read before the barrier of the last step.
        workgroupBarrier();
        // On their way while these are multiplied.
        let kk = (s + 1u) * STEP + piece;
        tap = settled(Tap(tap.ky, tap.kx, tap.c + STEP));
        next_a = piece_of_a(from_a, kk, tap);
        next_w = piece_of_w(from_w, kk);
        for (var q = 0u; q < STEP; q++) {
            let x = staged[stage_a + q * APART + ty];
            let y = staged[stage_w + q * APART + tx];
            sums[0] = fma(x.xxxx, y, sums[0]);
            sums[1] = fma(x.yyyy, y, sums[1]);
            sums[2] = fma(x.zzzz, y, sums[2]);
            sums[3] = fma(x.wwww, y, sums[3]);
            if (PARTS == 2u) {
                let u = staged[stage_a + q * APART + SIDE + ty];
                let v = staged[stage_w + q * APART + SIDE + tx];
                sums[4] = fma(x.xxxx, v, sums[4]);
                sums[5] = fma(x.yyyy, v, sums[5]);
                sums[6] = fma(x.zzzz, v, sums[6]);
                sums[7] = fma(x.wwww, v, sums[7]);
                sums[8] = fma(u.xxxx, y, sums[8]);
                sums[9] = fma(u.yyyy, y, sums[9]);
                sums[10] = fma(u.zzzz, y, sums[10]);
                sums[11] = fma(u.wwww, y, sums[11]);
                sums[12] = fma(u.xxxx, v, sums[12]);
                sums[13] = fma(u.yyyy, v, sums[13]);
                sums[14] = fma(u.zzzz, v, sums[14]);
                sums[15] = fma(u.wwww, v, sums[15]);
            }
        }
    }

    // Through workgroup memory, so that neighbouring threads write neighbouring outputs.
    for (var part = 0u; part < PARTS * PARTS; part++) {
        workgroupBarrier();
        let at = ty * 4u * SIDE + tx;
        switch part {
            case 0u: { put(at, sums[0], sums[1], sums[2], sums[3]); }
            case 1u: { put(at, sums[4], sums[5], sums[6], sums[7]); }
            case 2u: { put(at, sums[8], sums[9], sums[10], sums[11]); }
            default: { put(at, sums[12], sums[13], sums[14], sums[15]); }
        }
        workgroupBarrier();
        let first_row = m0 + part / 2u * SIDE * 4u;
        let first_column = n0 + part % 2u * SIDE * 4u;
        for (var i = t; i < SIDE * SIDE * 16u; i += THREADS) {
            finish(staged[i / 4u][i % 4u], first_row + i / (SIDE * 4u), first_column + i % (SIDE * 4u));
        }
    }
}

fn put(at: u32, v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>) {
    staged[at] = v0;
    staged[at + SIDE] = v1;
    staged[at + SIDE * 2u] = v2;
    staged[at + SIDE * 3u] = v3;
}

fn finish(sum: f32, row: u32, column: u32) {
    if (row >= args.m || column >= args.n) {
        return;
    }
    var v = sum;
    if ((args.flags & 1u) != 0u) {
        v += bias[column];
    }
    v = activated(v, args.activation);
    if ((args.flags & 2u) != 0u) {
        v *= gate[row / args.rows_per_gate * args.gate_stride + column];
    }
    if ((args.flags & 4u) != 0u) {
        v += f32(residual[row * args.ldr + column]);
    }
    let at = row * args.ldo + column;
    if (OUT_F32 == 1u) {
        out[at] = O(v);
    } else {
        out[at] = O(narrow(v));
    }
}

// Where a row of `a` starts, in fours; with CONV, where the window's top left pixel would lie, which may be outside of the map
// (below zero, numbers wrap and are as large as no coordinate is).
struct Place { at: u32, y: u32, x: u32 }

fn place(row: u32) -> Place {
    if (CONV == 0u) {
        return Place(row * (args.lda / 4u), 0u, 0u);
    }
    let line = row / args.out_w;
    let b = line / args.out_h;
    let y = (line - b * args.out_h) * args.stride - args.pad;
    let x = (row - line * args.out_w) * args.stride - args.pad;
    return Place(((b * args.in_h + y) * args.in_w + x) * (args.in_c / 4u), y, x);
}

fn piece_of_a(start: Place, kk: u32, tap: Tap) -> vec4<f32> {
    var at = start.at + kk / 4u;
    var is_there = kk < args.k;
    if (CONV == 1u) {
        at = start.at + (tap.ky * args.in_w + tap.kx) * (args.in_c / 4u) + tap.c / 4u;
        is_there = is_there && start.y + tap.ky < args.in_h && start.x + tap.kx < args.in_w;
    }
    if (is_there) {
        return vec4<f32>(a[at]);
    }
    return vec4<f32>();
}

fn piece_of_w(start: u32, kk: u32) -> vec4<f32> {
    if (kk < args.k) {
        return vec4<f32>(w[start + kk / 4u]);
    }
    return vec4<f32>();
}
