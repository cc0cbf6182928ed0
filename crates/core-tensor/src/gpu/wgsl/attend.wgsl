// Fused attention: out = softmax(q·kᵀ·scale + bias, hidden keys left out)·v, never keeping the n × m scores in device memory.
//
//   q    [b, n, heads, D]  with strides q_batch, q_token, q_head (in elements, multiples of 8; channels contiguous, buffers aligned to
//        16 bytes)
//   k, v [b, m, heads, D]  likewise; any of the three may be a view into a fused [b, tokens, 3, heads, D]
//   bias f32, by flag: a relative table [heads, n + m - 1], where query i and key j take entry j + n - 1 - i;
//        or full [heads, n, m]; both the same for every batch entry
//   seen u32 [b, m], 0 hides the key
//   out  [b, n, heads, D]  contiguous
//
// Keys come in tiles of 64. Each query keeps the greatest score r so far, the sum l of e^(score - r) and the sum of v weighted
// likewise; where r grows to r', both sums are multiplied by e^(r - r') (the running softmax of arXiv 1805.02867). All in single precision.
//
// A thread of 16 × 16 has the queries y, y + 16, y + 32, y + 48 and of a tile's keys x, x + 16, x + 32, x + 48. Channels pass through
// workgroup memory, 32 at a time of queries and keys, 64 of values. The sums of v stay in registers, 4 channels of each 64 a thread.
//
// Defines: D (a multiple of 8, at most 512); WIDE is 4. THREADS = 256. Grid (ceil(n / 64), heads, b).

@group(0) @binding(0) var<storage, read_write> q: array<V>;
@group(0) @binding(1) var<storage, read_write> k: array<V>;
@group(0) @binding(2) var<storage, read_write> v: array<V>;
@group(0) @binding(3) var<storage, read_write> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> seen: array<u32>;
@group(0) @binding(5) var<storage, read_write> out: array<V>;
@group(0) @binding(6) var<storage, read> args: Args;

const KEYS: u32 = 64u;
// In fours of channels: a head's, a slice's of queries and keys, a piece's of values; and how many pieces there are.
const FOURS: u32 = D / 4u;
const SLICE: u32 = 8u;
const PIECE: u32 = 16u;
const PIECES: u32 = (FOURS + PIECE - 1u) / PIECE;
// Rows in workgroup memory have a four more than they need, against bank conflicts.
const SLICE_PITCH: u32 = SLICE + 1u;
const PIECE_PITCH: u32 = PIECE + 1u;
const WEIGHT_PITCH: u32 = KEYS / 4u + 1u;
// Keys whose values are in workgroup memory at a time.
const VALUES: u32 = 32u;

// Queries, then the tile's weights.
var<workgroup> left: array<vec4<f32>, ROWS * WEIGHT_PITCH>;
// Keys, then values.
var<workgroup> right: array<vec4<f32>, KEYS * SLICE_PITCH>;
// A number of each thread for each of its rows.
var<workgroup> shares: array<vec4<f32>, ROWS * 4u>;

fn dot_onto(a: vec4<f32>, b: vec4<f32>, sum: f32) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

fn sum_of(x: vec4<f32>) -> f32 {
    return (x.x + x.y) + (x.z + x.w);
}

// Brings 64 queries and 64 keys of one slice of the channels; zeros beyond the tensor.
fn fetch_slice(thread: u32, q_at: u32, row0: u32, k_at: u32, key0: u32, slice: u32) {
    for (var i = thread; i < ROWS * SLICE; i += THREADS) {
        let line = i / SLICE;
        let four = slice * SLICE + i % SLICE;
        var query = vec4<f32>();
        var key = vec4<f32>();
        if four < FOURS && row0 + line < args.n {
            query = widen(q[q_at + (row0 + line) * (args.q_token / 4u) + four]);
        }
        if four < FOURS && key0 + line < args.m {
            key = widen(k[k_at + (key0 + line) * (args.k_token / 4u) + four]);
        }
        left[line * SLICE_PITCH + i % SLICE] = query;
        right[line * SLICE_PITCH + i % SLICE] = key;
    }
}

// Brings one piece of the channels of 32 values; zeros beyond the tensor.
fn fetch_piece(thread: u32, v_at: u32, key0: u32, piece: u32) {
    for (var i = thread; i < VALUES * PIECE; i += THREADS) {
        let line = i / PIECE;
        let four = piece * PIECE + i % PIECE;
        var value = vec4<f32>();
        if four < FOURS && key0 + line < args.m {
            value = widen(v[v_at + (key0 + line) * (args.v_token / 4u) + four]);
        }
        right[line * PIECE_PITCH + i % PIECE] = value;
    }
}

@compute @workgroup_size(THREADS)
fn attend(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let x = thread % 16u;
    let y = thread / 16u;
    let row0 = group.x * ROWS;
    let head = group.y;
    let batch = group.z;
    let q_at = (batch * args.q_batch + head * args.q_head) / 4u;
    let k_at = (batch * args.k_batch + head * args.k_head) / 4u;
    let v_at = (batch * args.v_batch + head * args.v_head) / 4u;

    // Of the thread's four rows.
    var sums: array<vec4<f32>, 4u * PIECES>;
    var r = vec4<f32>(LOWEST);
    var l = vec4<f32>();

    var keys = args.m;
    if (args.flags & CAUSAL) != 0u {
        keys = min(keys, row0 + ROWS);
    }
    for (var key0 = 0u; key0 < keys; key0 += KEYS) {
        // Scores of the four rows with the four keys.
        var s = array<vec4<f32>, 4>();
        for (var slice = 0u; slice * SLICE < FOURS; slice++) {
            workgroupBarrier();
            fetch_slice(thread, q_at, row0, k_at, key0, slice);
            workgroupBarrier();
            for (var four = 0u; four < min(SLICE, FOURS - slice * SLICE); four++) {
                let k0 = right[x * SLICE_PITCH + four];
                let k1 = right[(x + 16u) * SLICE_PITCH + four];
                let k2 = right[(x + 32u) * SLICE_PITCH + four];
                let k3 = right[(x + 48u) * SLICE_PITCH + four];
                for (var i = 0u; i < 4u; i++) {
                    let query = left[(y + 16u * i) * SLICE_PITCH + four];
                    s[i] = vec4<f32>(dot_onto(query, k0, s[i].x), dot_onto(query, k1, s[i].y), dot_onto(query, k2, s[i].z),
                                     dot_onto(query, k3, s[i].w));
                }
            }
        }

        for (var i = 0u; i < 4u; i++) {
            let row = min(row0 + y + 16u * i, args.n - 1u);
            s[i] *= args.scale;
            if (args.flags & (RELATIVE | FULL)) != 0u {
                let line = bias_line(head, row);
                for (var e = 0u; e < 4u; e++) {
                    s[i][e] += bias[line + min(key0 + x + 16u * e, args.m - 1u)];
                }
                s[i] = select(s[i], vec4<f32>(FLOOR), s[i] < vec4<f32>(FLOOR));
            }
            if key0 + KEYS > args.m || (args.flags & (CAUSAL | SEEN)) != 0u {
                for (var e = 0u; e < 4u; e++) {
                    if is_hidden(batch, row, key0 + x + 16u * e) {
                        s[i][e] = LOWEST;
                    }
                }
            }
            shares[(y + 16u * i) * 4u + x / 4u][x % 4u] = greatest_of(s[i]);
        }
        // Past this nobody reads queries and keys any more.
        workgroupBarrier();

        // Where a row has seen no key yet, hidden ones weigh 1, and its first key makes that 0.
        var shrink = vec4<f32>();
        for (var i = 0u; i < 4u; i++) {
            let at = (y + 16u * i) * 4u;
            let top = greatest_of(max(max(shares[at], shares[at + 1u]), max(shares[at + 2u], shares[at + 3u])));
            let next = max(r[i], top);
            shrink[i] = exp2((r[i] - next) * LOG2E);
            r[i] = next;
            let weights = exp2((s[i] - next) * LOG2E);
            l[i] = fma(l[i], shrink[i], sum_of(weights));
            for (var e = 0u; e < 4u; e++) {
                left[(y + 16u * i) * WEIGHT_PITCH + x / 4u + 4u * e][x % 4u] = weights[e];
            }
        }

        for (var piece = 0u; piece < PIECES; piece++) {
            // Copies, as not every compiler unrolls the loop over pieces, and only then can `sums` be in registers.
            var o0 = sums[4u * piece] * shrink.x;
            var o1 = sums[4u * piece + 1u] * shrink.y;
            var o2 = sums[4u * piece + 2u] * shrink.z;
            var o3 = sums[4u * piece + 3u] * shrink.w;
            for (var first = 0u; first < min(KEYS, keys - key0); first += VALUES) {
                if piece > 0u || first > 0u {
                    workgroupBarrier();
                }
                fetch_piece(thread, v_at, key0 + first, piece);
                workgroupBarrier();
                for (var j = 0u; j < VALUES / 4u; j++) {
                    let v0 = right[4u * j * PIECE_PITCH + x];
                    let v1 = right[(4u * j + 1u) * PIECE_PITCH + x];
                    let v2 = right[(4u * j + 2u) * PIECE_PITCH + x];
                    let v3 = right[(4u * j + 3u) * PIECE_PITCH + x];
                    let at = y * WEIGHT_PITCH + first / 4u + j;
                    o0 = weigh_onto(left[at], v0, v1, v2, v3, o0);
                    o1 = weigh_onto(left[at + 16u * WEIGHT_PITCH], v0, v1, v2, v3, o1);
                    o2 = weigh_onto(left[at + 32u * WEIGHT_PITCH], v0, v1, v2, v3, o2);
                    o3 = weigh_onto(left[at + 48u * WEIGHT_PITCH], v0, v1, v2, v3, o3);
                }
            }
            sums[4u * piece] = o0;
            sums[4u * piece + 1u] = o1;
            sums[4u * piece + 2u] = o2;
            sums[4u * piece + 3u] = o3;
        }
    }

    // The last shares of the greatest were read before the barriers of the values.
    for (var i = 0u; i < 4u; i++) {
        shares[(y + 16u * i) * 4u + x / 4u][x % 4u] = l[i];
    }
    workgroupBarrier();
    for (var i = 0u; i < 4u; i++) {
        let row = row0 + y + 16u * i;
        let at = (y + 16u * i) * 4u;
        let whole = sum_of((shares[at] + shares[at + 1u]) + (shares[at + 2u] + shares[at + 3u]));
        for (var piece = 0u; piece < PIECES; piece++) {
            if row < args.n && piece * PIECE + x < FOURS {
                out[((batch * args.n + row) * args.heads + head) * FOURS + piece * PIECE + x] = narrow(sums[4u * piece + i] / whole);
            }
        }
    }
}

// Four values, weighted, onto a sum.
fn weigh_onto(w: vec4<f32>, v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>, sum: vec4<f32>) -> vec4<f32> {
    return fma(vec4<f32>(w.w), v3, fma(vec4<f32>(w.z), v2, fma(vec4<f32>(w.y), v1, fma(vec4<f32>(w.x), v0, sum))));
}
