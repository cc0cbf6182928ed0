// out[b, m, n] = a[b, m, k] w[b, k, n]: products of matrices that are made on the way. All are row-major; the matrices of
// a are a_stride elements apart, those of w w_stride: 0 where one goes with all of the other's. Sums are f32.
//
// A block makes 64 x 64 of a product, in steps of 16 along k that go through workgroup memory; the next step's elements
// are on their way while one is multiplied. A thread makes 4 x 4, 16 rows and columns apart, so that neighbours read and
// write neighbours. What a step adds is summed by itself first: a sum of thousands would lose the last digits of each.
//
// WIDE is 1. Launch: blocks of 256 threads, grid (ceil(n / 64), ceil(m / 64), batches).

struct Args { m: u32, n: u32, k: u32, a_stride: u32, w_stride: u32, pad: u32 }

@group(0) @binding(0) var<storage, read_write> a: array<T>;
@group(0) @binding(1) var<storage, read_write> w: array<T>;
@group(0) @binding(2) var<storage, read_write> out: array<T>;
@group(0) @binding(3) var<storage, read> args: Args;

const TILE: u32 = 64u;
const APART: u32 = TILE / 4u;
const STEP: u32 = 16u;
const PITCH: u32 = APART + 1u;  // one more than there are, against bank conflicts

// For each of k, the four elements of a thread's rows, and of its columns.
var<workgroup> a_tile: array<vec4<f32>, STEP * PITCH>;
var<workgroup> w_tile: array<vec4<f32>, STEP * APART>;

// Bounds are joined by `&`, which takes one branch an element.
fn a_rows(start: u32, row: u32, k: u32) -> vec4<T> {
    let at = start + row * args.k + k;
    let down = APART * args.k;
    let is_k = k < args.k;
    var v = vec4<T>();
    if (is_k & (row < args.m)) { v.x = a[at]; }
    if (is_k & (row + APART < args.m)) { v.y = a[at + down]; }
    if (is_k & (row + 2u * APART < args.m)) { v.z = a[at + 2u * down]; }
    if (is_k & (row + 3u * APART < args.m)) { v.w = a[at + 3u * down]; }
    return v;
}

fn w_cols(start: u32, k: u32, col: u32) -> vec4<T> {
    let at = start + k * args.n + col;
    let is_k = k < args.k;
    var v = vec4<T>();
    if (is_k & (col < args.n)) { v.x = w[at]; }
    if (is_k & (col + APART < args.n)) { v.y = w[at + APART]; }
    if (is_k & (col + 2u * APART < args.n)) { v.z = w[at + 2u * APART]; }
    if (is_k & (col + 3u * APART < args.n)) { v.w = w[at + 3u * APART]; }
    return v;
}

fn write_row(to: u32, row: u32, col: u32, v: vec4<f32>) {
    if (row >= args.m) { return; }
    let at = to + row * args.n;
    if (col < args.n) { out[at + col] = narrow(v.x); }
    if (col + APART < args.n) { out[at + col + APART] = narrow(v.y); }
    if (col + 2u * APART < args.n) { out[at + col + 2u * APART] = narrow(v.z); }
    if (col + 3u * APART < args.n) { out[at + col + 3u * APART] = narrow(v.w); }
}

@compute @workgroup_size(THREADS)
fn matmul(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row0 = group.y * TILE;
    let col0 = group.x * TILE;
    let from_a = group.z * args.a_stride;
    let from_w = group.z * args.w_stride;
    let low = thread % 16u;
    let high = thread / 16u;

    var sums: array<vec4<f32>, 4>;
    var next_a = a_rows(from_a, row0 + high, low);
    var next_w = w_cols(from_w, high, col0 + low);
    for (var k0 = 0u; k0 < args.k; k0 += STEP) {
        a_tile[low * PITCH + high] = vec4<f32>(next_a);
        w_tile[high * APART + low] = vec4<f32>(next_w);
        workgroupBarrier();
        next_a = a_rows(from_a, row0 + high, k0 + STEP + low);
        next_w = w_cols(from_w, k0 + STEP + high, col0 + low);
        var step: array<vec4<f32>, 4>;
        for (var k = 0u; k < STEP; k++) {
            let of_a = a_tile[k * PITCH + high];
            let of_w = w_tile[k * APART + low];
            step[0] += of_a.x * of_w;
            step[1] += of_a.y * of_w;
            step[2] += of_a.z * of_w;
            step[3] += of_a.w * of_w;
        }
        for (var i = 0u; i < 4u; i++) { sums[i] += step[i]; }
        workgroupBarrier();
    }
    let to = group.z * args.m * args.n;
    for (var i = 0u; i < 4u; i++) { write_row(to, row0 + high + i * APART, col0 + low, sums[i]); }
}
