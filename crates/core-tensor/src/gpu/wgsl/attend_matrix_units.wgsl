// Fused attention on matrix units, for f16: what attend.wgsl computes, from the same buffers and arguments.
//
// Keys come in tiles of KEYS. A subgroup multiplies SIZE queries and the tile's keys in cooperative matrices and stores the scores to
// workgroup memory, where two threads a row make weights of them; weights and values are multiplied onto sums that stay in
// cooperative matrices. These cannot be multiplied row by row, so a row's reference score r moves only when its scores outgrow it by
// GROW: weights are 2^(score - r) and stay below 2^GROW. When a row's r moves, the group's sums go through workgroup memory, which is
// rare. The quotient of the sums does not depend on r. Scores are in base 2: the scale is multiplied by log2(e) once.
//
// Work is cut into PARTS: the scores of SIZE queries each; and of the sums SIZE queries × all channels or, where these can be halved,
// twice as many queries × half of the channels, which reads less. Subgroups take parts in turn, as how many there are differs.
//
// Defines: D (a multiple of 8, at most 160); LANES, the most lanes that a subgroup of the card can have, at most 128.
// The header has SIZE, 8 or 16, and `alias MatA = coop_mat16x16<f16, A>; alias MatB = coop_mat16x16<f16, B>; alias Sums =
// coop_mat16x16<f32, C>;` or the same with 8x8. WIDE is 4. THREADS = 128. Grid (ceil(n / 64), heads, b).

struct Args {
    heads: u32, n: u32, m: u32,
    q_batch: u32, q_head: u32, q_token: u32,
    k_batch: u32, k_head: u32, k_token: u32,
    v_batch: u32, v_head: u32, v_token: u32,
    scale: f32,
    flags: u32,
}

@group(0) @binding(0) var<storage, read_write> q: array<V>;
@group(0) @binding(1) var<storage, read_write> k: array<V>;
@group(0) @binding(2) var<storage, read_write> v: array<V>;
@group(0) @binding(3) var<storage, read_write> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> seen: array<u32>;
@group(0) @binding(5) var<storage, read_write> out: array<V>;
@group(0) @binding(6) var<storage, read> args: Args;

const CAUSAL: u32 = 1u;
const RELATIVE: u32 = 2u;
const FULL: u32 = 4u;
const SEEN: u32 = 8u;

const LOG2E: f32 = 1.4426950408889634;
const GROW: f32 = 12.0;
// What hidden keys score. No bias makes a score less than FLOOR, so that a row of masking biases still tells its keys from hidden ones.
const LOWEST: f32 = -3.4e38;
const FLOOR: f32 = -1.7e38;

const ROWS: u32 = 64u;
const KEYS: u32 = select(16u, 32u, D <= 128u);
const PARTS: u32 = ROWS / SIZE;
const ROUNDS: u32 = (PARTS * LANES + THREADS - 1u) / THREADS;

// A head's channels in matrices, padded with zeros; and how a part's sums are made up of matrices.
const STEPS: u32 = (D + SIZE - 1u) / SIZE;
const SPLIT: u32 = 2u - STEPS % 2u;
const PIECES: u32 = STEPS / SPLIT;
const SUMS: u32 = SPLIT * PIECES;

// In fours of numbers. Rows in workgroup memory are longer than they need to be, against bank conflicts.
const FOURS: u32 = STEPS * SIZE / 4u;
const PITCH: u32 = FOURS + 2u;
const SCORE_PITCH: u32 = max(KEYS, SPLIT * SIZE) / 4u + 1u;
const WEIGHT_PITCH: u32 = KEYS / 4u + 2u;
// What a thread brings of a tile, and its scores.
const LOADS: u32 = (KEYS * FOURS + THREADS - 1u) / THREADS;
const QUADS: u32 = KEYS / 8u;

// A tile's keys, then its values; before all, queries.
var<workgroup> tile: array<V, 2u * KEYS * PITCH>;
// Scores; or, side by side where channels are halved, one matrix of each part's sums.
var<workgroup> scores: array<vec4<f32>, ROWS * SCORE_PITCH>;
var<workgroup> weights: array<V, ROWS * WEIGHT_PITCH>;
// The first key of the last tile in which a row's r moved.
var<workgroup> moved: atomic<u32>;

// Where key 0's bias of a row is.
fn bias_line(head: u32, row: u32) -> u32 {
    if (args.flags & FULL) != 0u {
        return (head * args.n + row) * args.m;
    }
    return head * (args.n + args.m - 1u) + (args.n - 1u - row);
}

fn is_hidden(batch: u32, row: u32, key: u32) -> bool {
    if key >= args.m || ((args.flags & CAUSAL) != 0u && key > row) {
        return true;
    }
    return (args.flags & SEEN) != 0u && seen[batch * args.m + key] == 0u;
}

fn greatest_of(x: vec4<f32>) -> f32 {
    return max(max(x.x, x.y), max(x.z, x.w));
}

// The thread's share of a tile of keys; zeros beyond the tensor.
fn fetch_keys(thread: u32, k_at: u32, key0: u32) -> array<V, LOADS> {
    var fetched: array<V, LOADS>;
    for (var i = 0u; i < LOADS; i++) {
        let key = key0 + (i * THREADS + thread) / FOURS;
        let four = (i * THREADS + thread) % FOURS;
        fetched[i] = V();
        if key < args.m && four < D / 4u {
            fetched[i] = k[k_at + key * (args.k_token / 4u) + four];
        }
    }
    return fetched;
}

// The same of values.
fn fetch_values(thread: u32, v_at: u32, key0: u32) -> array<V, LOADS> {
    var fetched: array<V, LOADS>;
    for (var i = 0u; i < LOADS; i++) {
        let key = key0 + (i * THREADS + thread) / FOURS;
        let four = (i * THREADS + thread) % FOURS;
        fetched[i] = V();
        if key < args.m && four < D / 4u {
            fetched[i] = v[v_at + key * (args.v_token / 4u) + four];
        }
    }
    return fetched;
}

// Puts what was fetched into a tile that begins at line `first`.
fn keep(thread: u32, fetched: array<V, LOADS>, first: u32) {
    var kept = fetched;
    for (var i = 0u; i < LOADS; i++) {
        let at = i * THREADS + thread;
        if at < KEYS * FOURS {
            tile[(first + at / FOURS) * PITCH + at % FOURS] = kept[i];
        }
    }
}

// Where in `scores` matrix `i` of a part's sums of one piece goes.
fn place(part: u32, i: u32) -> u32 {
    return (part / SPLIT * SPLIT + i) * SIZE * SCORE_PITCH + part % SPLIT * (SIZE / 4u);
}

// Cooperative operations are in branches that a subgroup takes as a whole. naga cannot see that, and has put them under this rule.
@diagnostic(off, derivative_uniformity)
@compute @workgroup_size(THREADS)
fn attend(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_id) subgroup: u32, @builtin(num_subgroups) subgroups: u32,
          @builtin(subgroup_invocation_id) lane: u32, @builtin(subgroup_size) lanes: u32) {
    let thread = subgroup * lanes + lane;
    let row0 = group.x * ROWS;
    let head = group.y;
    let batch = group.z;
    let q_at = (batch * args.q_batch + head * args.q_head) / 4u;
    let k_at = (batch * args.k_batch + head * args.k_head) / 4u;
    let v_at = (batch * args.v_batch + head * args.v_head) / 4u;

    var queries: array<MatA, ROUNDS * STEPS>;
    for (var first = 0u; first < ROWS; first += 2u * KEYS) {
        for (var i = thread; i < 2u * KEYS * FOURS; i += THREADS) {
            let row = row0 + first + i / FOURS;
            let four = i % FOURS;
            var query = V();
            if row < args.n && four < D / 4u {
                query = q[q_at + row * (args.q_token / 4u) + four];
            }
            tile[i / FOURS * PITCH + four] = query;
        }
        workgroupBarrier();
        for (var round = 0u; round < ROUNDS; round++) {
            let line = (subgroup + round * subgroups) * SIZE;
            if line >= first && line < min(ROWS, first + 2u * KEYS) {
                for (var step = 0u; step < STEPS; step++) {
                    queries[round * STEPS + step] = coopLoadT<MatA>(&tile[(line - first) * PITCH + step * (SIZE / 4u)], PITCH);
                }
            }
        }
        workgroupBarrier();
    }

    var sums: array<Sums, ROUNDS * SUMS>;
    // Of the thread's row: the reference, and the thread's half of the sum of weights.
    var r = LOWEST;
    var l = 0.0;
    let mine = thread / 2u;
    let half = thread % 2u;
    let row = min(row0 + mine, args.n - 1u);

    var keys = args.m;
    if (args.flags & CAUSAL) != 0u {
        keys = min(keys, row0 + ROWS);
    }
    if thread == 0u {
        atomicStore(&moved, 0u);
    }
    keep(thread, fetch_keys(thread, k_at, 0u), 0u);
    workgroupBarrier();
    for (var key0 = 0u; key0 < keys; key0 += KEYS) {
        // Fetched early: they are on their way while matrices are multiplied.
        let values = fetch_values(thread, v_at, key0);
        for (var round = 0u; round < ROUNDS; round++) {
            let part = subgroup + round * subgroups;
            if part < PARTS {
                var products = array<Sums, KEYS / SIZE>();
                for (var step = 0u; step < STEPS; step++) {
                    for (var i = 0u; i < KEYS / SIZE; i++) {
                        let turned = coopLoad<MatB>(&tile[i * SIZE * PITCH + step * (SIZE / 4u)], PITCH);
                        products[i] = coopMultiplyAdd(queries[round * STEPS + step], turned, products[i]);
                    }
                }
                for (var i = 0u; i < KEYS / SIZE; i++) {
                    coopStoreT(products[i], &scores[part * SIZE * SCORE_PITCH + i * (SIZE / 4u)], SCORE_PITCH);
                }
            }
        }
        let next_keys = fetch_keys(thread, k_at, key0 + KEYS);
        workgroupBarrier();

        var s: array<vec4<f32>, QUADS>;
        var top = LOWEST;
        for (var i = 0u; i < QUADS; i++) {
            s[i] = scores[mine * SCORE_PITCH + half * QUADS + i] * (args.scale * LOG2E);
            let key = key0 + (half * QUADS + i) * 4u;
            if (args.flags & (RELATIVE | FULL)) != 0u {
                let line = bias_line(head, row);
                for (var e = 0u; e < 4u; e++) {
                    s[i][e] = fma(bias[line + min(key + e, args.m - 1u)], LOG2E, s[i][e]);
                }
                s[i] = select(s[i], vec4<f32>(FLOOR), s[i] < vec4<f32>(FLOOR));
            }
            if key0 + KEYS > args.m || (args.flags & (CAUSAL | SEEN)) != 0u {
                for (var e = 0u; e < 4u; e++) {
                    if is_hidden(batch, row, key + e) {
                        s[i][e] = LOWEST;
                    }
                }
            }
            top = max(top, greatest_of(s[i]));
        }
        top = max(top, subgroupShuffleXor(top, 1u));
        // What the row's earlier sums are to be multiplied by.
        var shrink = 1.0;
        if top - r > GROW {
            shrink = exp2(r - top);
            r = top;
            // The first tile finds no sums.
            if key0 > 0u {
                atomicStore(&moved, key0);
            }
        }
        // Where a row has seen no key yet, hidden ones weigh 1, and its first key makes that 0.
        var added = vec4<f32>();
        for (var i = 0u; i < QUADS; i++) {
            let weight = V(exp2(s[i] - r));
            weights[mine * WEIGHT_PITCH + half * QUADS + i] = weight;
            added += vec4<f32>(weight);
        }
        l = fma(l, shrink, (added.x + added.y) + (added.z + added.w));

        keep(thread, values, KEYS);
        keep(thread, next_keys, 0u);
        workgroupBarrier();

        if key0 > 0u && atomicLoad(&moved) == key0 {
            for (var piece = 0u; piece < PIECES; piece++) {
                for (var round = 0u; round < ROUNDS; round++) {
                    let part = subgroup + round * subgroups;
                    if part < PARTS {
                        for (var i = 0u; i < SPLIT; i++) {
                            coopStoreT(sums[round * SUMS + piece * SPLIT + i], &scores[place(part, i)], SCORE_PITCH);
                        }
                    }
                }
                workgroupBarrier();
                for (var i = half; i < SPLIT * SIZE / 4u; i += 2u) {
                    scores[mine * SCORE_PITCH + i] *= shrink;
                }
                workgroupBarrier();
                for (var round = 0u; round < ROUNDS; round++) {
                    let part = subgroup + round * subgroups;
                    if part < PARTS {
                        for (var i = 0u; i < SPLIT; i++) {
                            sums[round * SUMS + piece * SPLIT + i] = coopLoadT<Sums>(&scores[place(part, i)], SCORE_PITCH);
                        }
                    }
                }
                workgroupBarrier();
            }
        }
        for (var round = 0u; round < ROUNDS; round++) {
            let part = subgroup + round * subgroups;
            if part < PARTS {
                for (var step = 0u; step < KEYS / SIZE; step++) {
                    var weighing: array<MatA, SPLIT>;
                    for (var i = 0u; i < SPLIT; i++) {
                        let line = (part / SPLIT * SPLIT + i) * SIZE;
                        weighing[i] = coopLoadT<MatA>(&weights[line * WEIGHT_PITCH + step * (SIZE / 4u)], WEIGHT_PITCH);
                    }
                    for (var piece = 0u; piece < PIECES; piece++) {
                        let column = (part % SPLIT * PIECES + piece) * (SIZE / 4u);
                        let value = coopLoadT<MatB>(&tile[(KEYS + step * SIZE) * PITCH + column], PITCH);
                        for (var i = 0u; i < SPLIT; i++) {
                            let at = round * SUMS + piece * SPLIT + i;
                            sums[at] = coopMultiplyAdd(weighing[i], value, sums[at]);
                        }
                    }
                }
            }
        }
    }

    l += subgroupShuffleXor(l, 1u);
    for (var piece = 0u; piece < PIECES; piece++) {
        for (var round = 0u; round < ROUNDS; round++) {
            let part = subgroup + round * subgroups;
            if part < PARTS {
                for (var i = 0u; i < SPLIT; i++) {
                    coopStoreT(sums[round * SUMS + piece * SPLIT + i], &scores[place(part, i)], SCORE_PITCH);
                }
            }
        }
        workgroupBarrier();
        for (var i = half; i < SPLIT * SIZE / 4u; i += 2u) {
            let four = (i / (SIZE / 4u) * PIECES + piece) * (SIZE / 4u) + i % (SIZE / 4u);
            if row0 + mine < args.n && four < D / 4u {
                out[((batch * args.n + row) * args.heads + head) * (D / 4u) + four] = narrow(scores[mine * SCORE_PITCH + i] / l);
            }
        }
        workgroupBarrier();
    }
}
