// Fused attention on matrix units, for f16: what attend.wgsl computes, from the same buffers and arguments.
//
// Keys come in tiles of KEYS. A subgroup multiplies SIZE queries and the tile's keys in cooperative matrices and stores the scores to
// workgroup memory, where SHARE threads a row make weights of them; weights and values are multiplied onto sums that stay in
// cooperative matrices. These cannot be multiplied row by row, so a row's reference score r moves only when its scores outgrow it by
// GROW: weights are 2^(score - r) and stay below 2^GROW. When a row's r moves, the group's sums go through workgroup memory, which is
// rare. The quotient of the sums does not depend on r. Scores are in base 2: the scale is multiplied by log2(e) once.
//
// Work is cut into PARTS, one for a subgroup: the scores of SIZE queries each; and of the sums SIZE queries × all channels or, where
// these can be halved, twice as many queries × half of the channels, which reads less. Subgroups beyond the parts only move numbers.
//
// Matrices that live on are variables of their own, and what is done to each is written out: an array of them that a compiler does
// not resolve, as it would not unroll a loop, lies in memory. For the same reason no read of the buffers is in a branch, which would
// wait for it: beyond the last key the last one is read, and beyond the last channel the last ones.
//
// Defines: D (a multiple of 8, at most 160); LANES, the most lanes that a subgroup of the card can have, at most 64.
// The header has SIZE, 8 or 16, and `alias MatA = coop_mat16x16<f16, A>; alias MatB = coop_mat16x16<f16, B>; alias Sums =
// coop_mat16x16<f32, C>;` or the same with 8x8. WIDE is 4. THREADS = max(128, 64 / SIZE * LANES), which is 128 or 256.
// q, k and v start at multiples of 16 bytes, and their strides are multiples of 8. Grid (ceil(n / 64), heads, b).

// Eight neighbouring numbers, which are read as one.
alias Piece = mat2x4<f16>;

@group(0) @binding(0) var<storage, read_write> q: array<Piece>;
@group(0) @binding(1) var<storage, read_write> k: array<Piece>;
@group(0) @binding(2) var<storage, read_write> v: array<Piece>;
@group(0) @binding(3) var<storage, read_write> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> seen: array<u32>;
@group(0) @binding(5) var<storage, read_write> out: array<V>;
@group(0) @binding(6) var<storage, read> args: Args;

const GROW: f32 = 12.0;
const KEYS: u32 = select(16u, 32u, D <= 128u);
const PARTS: u32 = ROWS / SIZE;
const_assert THREADS >= PARTS * LANES;
const SHARE: u32 = THREADS / ROWS;

// A head's channels in matrices, padded with what counts as zeros; and how a part's sums are made up of matrices: SPLIT times SQUARES,
// of which there are at most ten.
const LEAST: u32 = (D + SIZE - 1u) / SIZE;
const STEPS: u32 = LEAST + select(0u, LEAST % 2u, LEAST > 10u);
const SPLIT: u32 = 2u - STEPS % 2u;
const SQUARES: u32 = STEPS / SPLIT;
// Whether scores are multiplied two squares at a time, so that one need not wait for the other.
const PAIRED: bool = KEYS > SIZE;

// In fours of numbers. Rows in workgroup memory are longer than they need to be, against bank conflicts; the last one is not.
const FOUR: u32 = SIZE / 4u;
const PITCH: u32 = STEPS * FOUR + 2u;
const SCORE_PITCH: u32 = max(KEYS, SPLIT * SIZE) / 4u + 2u;
const WEIGHT_PITCH: u32 = KEYS / 4u + 2u;
// What a thread brings of a tile in pieces, and its scores in fours: every SHAREth of its row.
const ACROSS: u32 = STEPS * SIZE / 8u;
const LOADS: u32 = (KEYS * ACROSS + THREADS - 1u) / THREADS;
const QUADS: u32 = KEYS / 4u / SHARE;

// A tile's keys, then its values; before all, queries.
var<workgroup> tile: array<V, 2u * KEYS * PITCH - 2u>;
// Scores; or, side by side where channels are halved, one matrix of each part's sums.
var<workgroup> scores: array<vec4<f32>, ROWS * SCORE_PITCH - 2u>;
var<workgroup> weights: array<V, ROWS * WEIGHT_PITCH - 2u>;
// The first key of the last tile in which a row's r moved. One of four: matrices are loaded from multiples of 16 bytes, wherever a driver puts this.
var<workgroup> moved: array<atomic<u32>, 4>;

// A thread's share of a tile of keys or values.
struct Share { p0: Piece, p1: Piece, p2: Piece, p3: Piece }

// Where rows of keys or values are: the first, how far apart they are in pieces, and the last one's number.
struct Lines { at: u32, token: u32, last: u32 }

// Where piece i of a thread's share is.
fn source(thread: u32, i: u32, lines: Lines, key0: u32) -> u32 {
    let n = i * THREADS + thread;
    return lines.at + min(key0 + n / ACROSS, lines.last) * lines.token + min(n % ACROSS, D / 8u - 1u);
}

fn fetch_keys(thread: u32, lines: Lines, key0: u32) -> Share {
    var share: Share;
    share.p0 = k[source(thread, 0u, lines, key0)];
    if LOADS > 1u { share.p1 = k[source(thread, 1u, lines, key0)]; }
    if LOADS > 2u { share.p2 = k[source(thread, 2u, lines, key0)]; }
    if LOADS > 3u { share.p3 = k[source(thread, 3u, lines, key0)]; }
    return share;
}

fn fetch_values(thread: u32, lines: Lines, key0: u32) -> Share {
    var share: Share;
    share.p0 = v[source(thread, 0u, lines, key0)];
    if LOADS > 1u { share.p1 = v[source(thread, 1u, lines, key0)]; }
    if LOADS > 2u { share.p2 = v[source(thread, 2u, lines, key0)]; }
    if LOADS > 3u { share.p3 = v[source(thread, 3u, lines, key0)]; }
    return share;
}

// Puts what was fetched into a tile that begins at line `first`.
fn keep(thread: u32, share: Share, first: u32) {
    put(thread, first, share.p0);
    if LOADS > 1u { put(THREADS + thread, first, share.p1); }
    if LOADS > 2u { put(THREADS * 2u + thread, first, share.p2); }
    if LOADS > 3u { put(THREADS * 3u + thread, first, share.p3); }
}

fn put(n: u32, first: u32, piece: Piece) {
    if KEYS * ACROSS % THREADS == 0u || n < KEYS * ACROSS {
        let at = (first + n / ACROSS) * PITCH + n % ACROSS * 2u;
        tile[at] = piece[0];
        tile[at + 1u] = piece[1];
    }
}

// Where in `scores` matrix `i` of a part's sums of one square goes.
fn place(part: u32, i: u32) -> u32 {
    return (part / SPLIT * SPLIT + i) * SIZE * SCORE_PITCH + part % SPLIT * FOUR;
}

// What becomes of four scores before they are compared.
fn settled(score: vec4<f32>, flags: u32, head: u32, batch: u32, row: u32, key: u32, is_masked: bool) -> vec4<f32> {
    var s = score;
    if (flags & (RELATIVE | FULL)) != 0u {
        let line = bias_line(head, row);
        let last = args.m - 1u;
        let b = vec4<f32>(bias[line + min(key, last)], bias[line + min(key + 1u, last)],
                          bias[line + min(key + 2u, last)], bias[line + min(key + 3u, last)]);
        s = fma(b, vec4<f32>(LOG2E), s);
        s = select(s, vec4<f32>(FLOOR), s < vec4<f32>(FLOOR));
    }
    if is_masked {
        let hidden = vec4<bool>(is_hidden(batch, row, key), is_hidden(batch, row, key + 1u),
                                is_hidden(batch, row, key + 2u), is_hidden(batch, row, key + 3u));
        s = select(s, vec4<f32>(LOWEST), hidden);
    }
    return s;
}

// Cooperative operations are in branches that a subgroup takes as a whole. naga cannot see that, and has put them under this rule.
@diagnostic(off, derivative_uniformity)
@compute @workgroup_size(THREADS)
fn attend(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_id) part: u32,
          @builtin(subgroup_invocation_id) lane: u32, @builtin(subgroup_size) lanes: u32) {
    let thread = part * lanes + lane;
    let has_part = part < PARTS;
    let row0 = group.x * ROWS;
    let head = group.y;
    let batch = group.z;
    let q_at = (batch * args.q_batch + head * args.q_head) / 8u;
    let k_lines = Lines((batch * args.k_batch + head * args.k_head) / 8u, args.k_token / 8u, args.m - 1u);
    let v_lines = Lines((batch * args.v_batch + head * args.v_head) / 8u, args.v_token / 8u, args.m - 1u);
    let flags = args.flags;

    // The part's queries, step by step.
    var q0: MatA; var q1: MatA; var q2: MatA; var q3: MatA; var q4: MatA;
    var q5: MatA; var q6: MatA; var q7: MatA; var q8: MatA; var q9: MatA;
    var q10: MatA; var q11: MatA; var q12: MatA; var q13: MatA; var q14: MatA;
    var q15: MatA; var q16: MatA; var q17: MatA; var q18: MatA; var q19: MatA;
    for (var first = 0u; first < ROWS; first += 2u * KEYS) {
        for (var i = thread; i < 2u * KEYS * ACROSS; i += THREADS) {
            let row = row0 + first + i / ACROSS;
            let piece = i % ACROSS;
            var query = Piece();
            if row < args.n && piece < D / 8u {
                query = q[q_at + row * (args.q_token / 8u) + piece];
            }
            let at = i / ACROSS * PITCH + piece * 2u;
            tile[at] = query[0];
            tile[at + 1u] = query[1];
        }
        workgroupBarrier();
        let line = part * SIZE;
        if line >= first && line < min(ROWS, first + 2u * KEYS) {
            let at = (line - first) * PITCH;
            q0 = coopLoadT<MatA>(&tile[at + 0u * FOUR], PITCH);
            if STEPS > 1u { q1 = coopLoadT<MatA>(&tile[at + 1u * FOUR], PITCH); }
            if STEPS > 2u { q2 = coopLoadT<MatA>(&tile[at + 2u * FOUR], PITCH); }
            if STEPS > 3u { q3 = coopLoadT<MatA>(&tile[at + 3u * FOUR], PITCH); }
            if STEPS > 4u { q4 = coopLoadT<MatA>(&tile[at + 4u * FOUR], PITCH); }
            if STEPS > 5u { q5 = coopLoadT<MatA>(&tile[at + 5u * FOUR], PITCH); }
            if STEPS > 6u { q6 = coopLoadT<MatA>(&tile[at + 6u * FOUR], PITCH); }
            if STEPS > 7u { q7 = coopLoadT<MatA>(&tile[at + 7u * FOUR], PITCH); }
            if STEPS > 8u { q8 = coopLoadT<MatA>(&tile[at + 8u * FOUR], PITCH); }
            if STEPS > 9u { q9 = coopLoadT<MatA>(&tile[at + 9u * FOUR], PITCH); }
            if STEPS > 10u { q10 = coopLoadT<MatA>(&tile[at + 10u * FOUR], PITCH); }
            if STEPS > 11u { q11 = coopLoadT<MatA>(&tile[at + 11u * FOUR], PITCH); }
            if STEPS > 12u { q12 = coopLoadT<MatA>(&tile[at + 12u * FOUR], PITCH); }
            if STEPS > 13u { q13 = coopLoadT<MatA>(&tile[at + 13u * FOUR], PITCH); }
            if STEPS > 14u { q14 = coopLoadT<MatA>(&tile[at + 14u * FOUR], PITCH); }
            if STEPS > 15u { q15 = coopLoadT<MatA>(&tile[at + 15u * FOUR], PITCH); }
            if STEPS > 16u { q16 = coopLoadT<MatA>(&tile[at + 16u * FOUR], PITCH); }
            if STEPS > 17u { q17 = coopLoadT<MatA>(&tile[at + 17u * FOUR], PITCH); }
            if STEPS > 18u { q18 = coopLoadT<MatA>(&tile[at + 18u * FOUR], PITCH); }
            if STEPS > 19u { q19 = coopLoadT<MatA>(&tile[at + 19u * FOUR], PITCH); }
        }
        workgroupBarrier();
    }

    // The part's sums, square by square: of its first queries, and of as many more where channels are halved.
    var x0: Sums; var x1: Sums; var x2: Sums; var x3: Sums; var x4: Sums;
    var x5: Sums; var x6: Sums; var x7: Sums; var x8: Sums; var x9: Sums;
    var y0: Sums; var y1: Sums; var y2: Sums; var y3: Sums; var y4: Sums;
    var y5: Sums; var y6: Sums; var y7: Sums; var y8: Sums; var y9: Sums;
    // Of the thread's row: the reference, and the thread's share of the sum of weights.
    var r = LOWEST;
    var l = 0.0;
    let mine = thread / SHARE;
    let share = thread % SHARE;
    let row = min(row0 + mine, args.n - 1u);
    let scale = args.scale * LOG2E;

    let m = args.m;
    var keys = m;
    if (flags & CAUSAL) != 0u {
        keys = min(keys, row0 + ROWS);
    }
    if thread == 0u {
        atomicStore(&moved[0], 0u);
    }
    keep(thread, fetch_keys(thread, k_lines, 0u), 0u);
    workgroupBarrier();
    for (var key0 = 0u; key0 < keys; key0 += KEYS) {
        // Fetched early: they are on their way while matrices are multiplied.
        let values = fetch_values(thread, v_lines, key0);
        let next_keys = fetch_keys(thread, k_lines, key0 + KEYS);
        if has_part {
            for (var i = 0u; i < KEYS / SIZE; i += 2u) {
                let at = i * SIZE * PITCH;
                let at2 = at + SIZE * PITCH;
                var p: Sums;
                var p2: Sums;
                p = coopMultiplyAdd(q0, coopLoad<MatB>(&tile[at], PITCH), p);
                if PAIRED { p2 = coopMultiplyAdd(q0, coopLoad<MatB>(&tile[at2], PITCH), p2); }
                if STEPS > 1u { p = coopMultiplyAdd(q1, coopLoad<MatB>(&tile[at + 1u * FOUR], PITCH), p); }
                if STEPS > 1u && PAIRED { p2 = coopMultiplyAdd(q1, coopLoad<MatB>(&tile[at2 + 1u * FOUR], PITCH), p2); }
                if STEPS > 2u { p = coopMultiplyAdd(q2, coopLoad<MatB>(&tile[at + 2u * FOUR], PITCH), p); }
                if STEPS > 2u && PAIRED { p2 = coopMultiplyAdd(q2, coopLoad<MatB>(&tile[at2 + 2u * FOUR], PITCH), p2); }
                if STEPS > 3u { p = coopMultiplyAdd(q3, coopLoad<MatB>(&tile[at + 3u * FOUR], PITCH), p); }
                if STEPS > 3u && PAIRED { p2 = coopMultiplyAdd(q3, coopLoad<MatB>(&tile[at2 + 3u * FOUR], PITCH), p2); }
                if STEPS > 4u { p = coopMultiplyAdd(q4, coopLoad<MatB>(&tile[at + 4u * FOUR], PITCH), p); }
                if STEPS > 4u && PAIRED { p2 = coopMultiplyAdd(q4, coopLoad<MatB>(&tile[at2 + 4u * FOUR], PITCH), p2); }
                if STEPS > 5u { p = coopMultiplyAdd(q5, coopLoad<MatB>(&tile[at + 5u * FOUR], PITCH), p); }
                if STEPS > 5u && PAIRED { p2 = coopMultiplyAdd(q5, coopLoad<MatB>(&tile[at2 + 5u * FOUR], PITCH), p2); }
                if STEPS > 6u { p = coopMultiplyAdd(q6, coopLoad<MatB>(&tile[at + 6u * FOUR], PITCH), p); }
                if STEPS > 6u && PAIRED { p2 = coopMultiplyAdd(q6, coopLoad<MatB>(&tile[at2 + 6u * FOUR], PITCH), p2); }
                if STEPS > 7u { p = coopMultiplyAdd(q7, coopLoad<MatB>(&tile[at + 7u * FOUR], PITCH), p); }
                if STEPS > 7u && PAIRED { p2 = coopMultiplyAdd(q7, coopLoad<MatB>(&tile[at2 + 7u * FOUR], PITCH), p2); }
                if STEPS > 8u { p = coopMultiplyAdd(q8, coopLoad<MatB>(&tile[at + 8u * FOUR], PITCH), p); }
                if STEPS > 8u && PAIRED { p2 = coopMultiplyAdd(q8, coopLoad<MatB>(&tile[at2 + 8u * FOUR], PITCH), p2); }
                if STEPS > 9u { p = coopMultiplyAdd(q9, coopLoad<MatB>(&tile[at + 9u * FOUR], PITCH), p); }
                if STEPS > 9u && PAIRED { p2 = coopMultiplyAdd(q9, coopLoad<MatB>(&tile[at2 + 9u * FOUR], PITCH), p2); }
                if STEPS > 10u { p = coopMultiplyAdd(q10, coopLoad<MatB>(&tile[at + 10u * FOUR], PITCH), p); }
                if STEPS > 10u && PAIRED { p2 = coopMultiplyAdd(q10, coopLoad<MatB>(&tile[at2 + 10u * FOUR], PITCH), p2); }
                if STEPS > 11u { p = coopMultiplyAdd(q11, coopLoad<MatB>(&tile[at + 11u * FOUR], PITCH), p); }
                if STEPS > 11u && PAIRED { p2 = coopMultiplyAdd(q11, coopLoad<MatB>(&tile[at2 + 11u * FOUR], PITCH), p2); }
                if STEPS > 12u { p = coopMultiplyAdd(q12, coopLoad<MatB>(&tile[at + 12u * FOUR], PITCH), p); }
                if STEPS > 12u && PAIRED { p2 = coopMultiplyAdd(q12, coopLoad<MatB>(&tile[at2 + 12u * FOUR], PITCH), p2); }
                if STEPS > 13u { p = coopMultiplyAdd(q13, coopLoad<MatB>(&tile[at + 13u * FOUR], PITCH), p); }
                if STEPS > 13u && PAIRED { p2 = coopMultiplyAdd(q13, coopLoad<MatB>(&tile[at2 + 13u * FOUR], PITCH), p2); }
                if STEPS > 14u { p = coopMultiplyAdd(q14, coopLoad<MatB>(&tile[at + 14u * FOUR], PITCH), p); }
                if STEPS > 14u && PAIRED { p2 = coopMultiplyAdd(q14, coopLoad<MatB>(&tile[at2 + 14u * FOUR], PITCH), p2); }
                if STEPS > 15u { p = coopMultiplyAdd(q15, coopLoad<MatB>(&tile[at + 15u * FOUR], PITCH), p); }
                if STEPS > 15u && PAIRED { p2 = coopMultiplyAdd(q15, coopLoad<MatB>(&tile[at2 + 15u * FOUR], PITCH), p2); }
                if STEPS > 16u { p = coopMultiplyAdd(q16, coopLoad<MatB>(&tile[at + 16u * FOUR], PITCH), p); }
                if STEPS > 16u && PAIRED { p2 = coopMultiplyAdd(q16, coopLoad<MatB>(&tile[at2 + 16u * FOUR], PITCH), p2); }
                if STEPS > 17u { p = coopMultiplyAdd(q17, coopLoad<MatB>(&tile[at + 17u * FOUR], PITCH), p); }
                if STEPS > 17u && PAIRED { p2 = coopMultiplyAdd(q17, coopLoad<MatB>(&tile[at2 + 17u * FOUR], PITCH), p2); }
                if STEPS > 18u { p = coopMultiplyAdd(q18, coopLoad<MatB>(&tile[at + 18u * FOUR], PITCH), p); }
                if STEPS > 18u && PAIRED { p2 = coopMultiplyAdd(q18, coopLoad<MatB>(&tile[at2 + 18u * FOUR], PITCH), p2); }
                if STEPS > 19u { p = coopMultiplyAdd(q19, coopLoad<MatB>(&tile[at + 19u * FOUR], PITCH), p); }
                if STEPS > 19u && PAIRED { p2 = coopMultiplyAdd(q19, coopLoad<MatB>(&tile[at2 + 19u * FOUR], PITCH), p2); }
                let to = part * SIZE * SCORE_PITCH + i * FOUR;
                coopStoreT(p, &scores[to], SCORE_PITCH);
                if PAIRED { coopStoreT(p2, &scores[to + FOUR], SCORE_PITCH); }
            }
        }
        workgroupBarrier();

        let is_masked = key0 + KEYS > m || (flags & (CAUSAL | SEEN)) != 0u;
        let line = mine * SCORE_PITCH + share;
        let key = key0 + share * 4u;
        var s0 = settled(scores[line] * scale, flags, head, batch, row, key, is_masked);
        var s1: vec4<f32>;
        var s2: vec4<f32>;
        var s3: vec4<f32>;
        var top = greatest_of(s0);
        if QUADS > 1u {
            s1 = settled(scores[line + SHARE] * scale, flags, head, batch, row, key + SHARE * 4u, is_masked);
            top = max(top, greatest_of(s1));
        }
        if QUADS > 2u {
            s2 = settled(scores[line + SHARE * 2u] * scale, flags, head, batch, row, key + SHARE * 8u, is_masked);
            s3 = settled(scores[line + SHARE * 3u] * scale, flags, head, batch, row, key + SHARE * 12u, is_masked);
            top = max(top, max(greatest_of(s2), greatest_of(s3)));
        }
        top = max(top, subgroupShuffleXor(top, 1u));
        if SHARE > 2u {
            top = max(top, subgroupShuffleXor(top, 2u));
        }
        // What the row's earlier sums are to be multiplied by.
        var shrink = 1.0;
        if top - r > GROW {
            shrink = exp2(r - top);
            r = top;
            // The first tile finds no sums.
            if key0 > 0u {
                atomicStore(&moved[0], key0);
            }
        }
        // Where a row has seen no key yet, hidden ones weigh 1, and its first key makes that 0.
        let to = mine * WEIGHT_PITCH + share;
        let w0 = V(exp2(s0 - r));
        weights[to] = w0;
        var added = vec4<f32>(w0);
        if QUADS > 1u {
            let w1 = V(exp2(s1 - r));
            weights[to + SHARE] = w1;
            added += vec4<f32>(w1);
        }
        if QUADS > 2u {
            let w2 = V(exp2(s2 - r));
            let w3 = V(exp2(s3 - r));
            weights[to + SHARE * 2u] = w2;
            weights[to + SHARE * 3u] = w3;
            added += vec4<f32>(w2) + vec4<f32>(w3);
        }
        l = fma(l, shrink, (added.x + added.y) + (added.z + added.w));

        keep(thread, values, KEYS);
        keep(thread, next_keys, 0u);
        workgroupBarrier();

        if key0 > 0u && atomicLoad(&moved[0]) == key0 {
            for (var square = 0u; square < SQUARES; square++) {
                if has_part {
                    let first = place(part, 0u);
                    let second = place(part, SPLIT - 1u);
                    switch square {
                        case 0u: { coopStoreT(x0, &scores[first], SCORE_PITCH); if SPLIT == 2u { coopStoreT(y0, &scores[second], SCORE_PITCH); } }
                        case 1u: { coopStoreT(x1, &scores[first], SCORE_PITCH); if SPLIT == 2u { coopStoreT(y1, &scores[second], SCORE_PITCH); } }
                        case 2u: { coopStoreT(x2, &scores[first], SCORE_PITCH); if SPLIT == 2u { coopStoreT(y2, &scores[second], SCORE_PITCH); } }
                        case 3u: { coopStoreT(x3, &scores[first], SCORE_PITCH); if SPLIT == 2u { coopStoreT(y3, &scores[second], SCORE_PITCH); } }
                        case 4u: { coopStoreT(x4, &scores[first], SCORE_PITCH); if SPLIT == 2u { coopStoreT(y4, &scores[second], SCORE_PITCH); } }
                        case 5u: { coopStoreT(x5, &scores[first], SCORE_PITCH); if SPLIT == 2u { coopStoreT(y5, &scores[second], SCORE_PITCH); } }
                        case 6u: { coopStoreT(x6, &scores[first], SCORE_PITCH); if SPLIT == 2u { coopStoreT(y6, &scores[second], SCORE_PITCH); } }
                        case 7u: { coopStoreT(x7, &scores[first], SCORE_PITCH); if SPLIT == 2u { coopStoreT(y7, &scores[second], SCORE_PITCH); } }
                        case 8u: { coopStoreT(x8, &scores[first], SCORE_PITCH); if SPLIT == 2u { coopStoreT(y8, &scores[second], SCORE_PITCH); } }
                        default: { coopStoreT(x9, &scores[first], SCORE_PITCH); if SPLIT == 2u { coopStoreT(y9, &scores[second], SCORE_PITCH); } }
                    }
                }
                workgroupBarrier();
                for (var i = share; i < SPLIT * FOUR; i += SHARE) {
                    scores[mine * SCORE_PITCH + i] *= shrink;
                }
                workgroupBarrier();
                if has_part {
                    let first = place(part, 0u);
                    let second = place(part, SPLIT - 1u);
                    switch square {
                        case 0u: { x0 = coopLoadT<Sums>(&scores[first], SCORE_PITCH); if SPLIT == 2u { y0 = coopLoadT<Sums>(&scores[second], SCORE_PITCH); } }
                        case 1u: { x1 = coopLoadT<Sums>(&scores[first], SCORE_PITCH); if SPLIT == 2u { y1 = coopLoadT<Sums>(&scores[second], SCORE_PITCH); } }
                        case 2u: { x2 = coopLoadT<Sums>(&scores[first], SCORE_PITCH); if SPLIT == 2u { y2 = coopLoadT<Sums>(&scores[second], SCORE_PITCH); } }
                        case 3u: { x3 = coopLoadT<Sums>(&scores[first], SCORE_PITCH); if SPLIT == 2u { y3 = coopLoadT<Sums>(&scores[second], SCORE_PITCH); } }
                        case 4u: { x4 = coopLoadT<Sums>(&scores[first], SCORE_PITCH); if SPLIT == 2u { y4 = coopLoadT<Sums>(&scores[second], SCORE_PITCH); } }
                        case 5u: { x5 = coopLoadT<Sums>(&scores[first], SCORE_PITCH); if SPLIT == 2u { y5 = coopLoadT<Sums>(&scores[second], SCORE_PITCH); } }
                        case 6u: { x6 = coopLoadT<Sums>(&scores[first], SCORE_PITCH); if SPLIT == 2u { y6 = coopLoadT<Sums>(&scores[second], SCORE_PITCH); } }
                        case 7u: { x7 = coopLoadT<Sums>(&scores[first], SCORE_PITCH); if SPLIT == 2u { y7 = coopLoadT<Sums>(&scores[second], SCORE_PITCH); } }
                        case 8u: { x8 = coopLoadT<Sums>(&scores[first], SCORE_PITCH); if SPLIT == 2u { y8 = coopLoadT<Sums>(&scores[second], SCORE_PITCH); } }
                        default: { x9 = coopLoadT<Sums>(&scores[first], SCORE_PITCH); if SPLIT == 2u { y9 = coopLoadT<Sums>(&scores[second], SCORE_PITCH); } }
                    }
                }
                workgroupBarrier();
            }
        }
        if has_part {
            for (var step = 0u; step < KEYS / SIZE; step++) {
                let from_weights = part / SPLIT * SPLIT * SIZE * WEIGHT_PITCH + step * FOUR;
                let u = coopLoadT<MatA>(&weights[from_weights], WEIGHT_PITCH);
                var u2: MatA;
                if SPLIT == 2u { u2 = coopLoadT<MatA>(&weights[from_weights + SIZE * WEIGHT_PITCH], WEIGHT_PITCH); }
                let at = (KEYS + step * SIZE) * PITCH + part % SPLIT * SQUARES * FOUR;
                let value0 = coopLoadT<MatB>(&tile[at], PITCH);
                x0 = coopMultiplyAdd(u, value0, x0);
                if SPLIT == 2u { y0 = coopMultiplyAdd(u2, value0, y0); }
                if SQUARES > 1u {
                    let value1 = coopLoadT<MatB>(&tile[at + 1u * FOUR], PITCH);
                    x1 = coopMultiplyAdd(u, value1, x1);
                    if SPLIT == 2u { y1 = coopMultiplyAdd(u2, value1, y1); }
                }
                if SQUARES > 2u {
                    let value2 = coopLoadT<MatB>(&tile[at + 2u * FOUR], PITCH);
                    x2 = coopMultiplyAdd(u, value2, x2);
                    if SPLIT == 2u { y2 = coopMultiplyAdd(u2, value2, y2); }
                }
                if SQUARES > 3u {
                    let value3 = coopLoadT<MatB>(&tile[at + 3u * FOUR], PITCH);
                    x3 = coopMultiplyAdd(u, value3, x3);
                    if SPLIT == 2u { y3 = coopMultiplyAdd(u2, value3, y3); }
                }
                if SQUARES > 4u {
                    let value4 = coopLoadT<MatB>(&tile[at + 4u * FOUR], PITCH);
                    x4 = coopMultiplyAdd(u, value4, x4);
                    if SPLIT == 2u { y4 = coopMultiplyAdd(u2, value4, y4); }
                }
                if SQUARES > 5u {
                    let value5 = coopLoadT<MatB>(&tile[at + 5u * FOUR], PITCH);
                    x5 = coopMultiplyAdd(u, value5, x5);
                    if SPLIT == 2u { y5 = coopMultiplyAdd(u2, value5, y5); }
                }
                if SQUARES > 6u {
                    let value6 = coopLoadT<MatB>(&tile[at + 6u * FOUR], PITCH);
                    x6 = coopMultiplyAdd(u, value6, x6);
                    if SPLIT == 2u { y6 = coopMultiplyAdd(u2, value6, y6); }
                }
                if SQUARES > 7u {
                    let value7 = coopLoadT<MatB>(&tile[at + 7u * FOUR], PITCH);
                    x7 = coopMultiplyAdd(u, value7, x7);
                    if SPLIT == 2u { y7 = coopMultiplyAdd(u2, value7, y7); }
                }
                if SQUARES > 8u {
                    let value8 = coopLoadT<MatB>(&tile[at + 8u * FOUR], PITCH);
                    x8 = coopMultiplyAdd(u, value8, x8);
                    if SPLIT == 2u { y8 = coopMultiplyAdd(u2, value8, y8); }
                }
                if SQUARES > 9u {
                    let value9 = coopLoadT<MatB>(&tile[at + 9u * FOUR], PITCH);
                    x9 = coopMultiplyAdd(u, value9, x9);
                    if SPLIT == 2u { y9 = coopMultiplyAdd(u2, value9, y9); }
                }
            }
        }
    }

    l += subgroupShuffleXor(l, 1u);
    if SHARE > 2u {
        l += subgroupShuffleXor(l, 2u);
    }
    for (var square = 0u; square < SQUARES; square++) {
        if has_part {
            let first = place(part, 0u);
            let second = place(part, SPLIT - 1u);
            switch square {
                case 0u: { coopStoreT(x0, &scores[first], SCORE_PITCH); if SPLIT == 2u { coopStoreT(y0, &scores[second], SCORE_PITCH); } }
                case 1u: { coopStoreT(x1, &scores[first], SCORE_PITCH); if SPLIT == 2u { coopStoreT(y1, &scores[second], SCORE_PITCH); } }
                case 2u: { coopStoreT(x2, &scores[first], SCORE_PITCH); if SPLIT == 2u { coopStoreT(y2, &scores[second], SCORE_PITCH); } }
                case 3u: { coopStoreT(x3, &scores[first], SCORE_PITCH); if SPLIT == 2u { coopStoreT(y3, &scores[second], SCORE_PITCH); } }
                case 4u: { coopStoreT(x4, &scores[first], SCORE_PITCH); if SPLIT == 2u { coopStoreT(y4, &scores[second], SCORE_PITCH); } }
                case 5u: { coopStoreT(x5, &scores[first], SCORE_PITCH); if SPLIT == 2u { coopStoreT(y5, &scores[second], SCORE_PITCH); } }
                case 6u: { coopStoreT(x6, &scores[first], SCORE_PITCH); if SPLIT == 2u { coopStoreT(y6, &scores[second], SCORE_PITCH); } }
                case 7u: { coopStoreT(x7, &scores[first], SCORE_PITCH); if SPLIT == 2u { coopStoreT(y7, &scores[second], SCORE_PITCH); } }
                case 8u: { coopStoreT(x8, &scores[first], SCORE_PITCH); if SPLIT == 2u { coopStoreT(y8, &scores[second], SCORE_PITCH); } }
                default: { coopStoreT(x9, &scores[first], SCORE_PITCH); if SPLIT == 2u { coopStoreT(y9, &scores[second], SCORE_PITCH); } }
            }
        }
        workgroupBarrier();
        for (var i = share; i < SPLIT * FOUR; i += SHARE) {
            let four = (i / FOUR * SQUARES + square) * FOUR + i % FOUR;
            if row0 + mine < args.n && four < D / 4u {
                out[((batch * args.n + row) * args.heads + head) * (D / 4u) + four] = narrow(scores[mine * SCORE_PITCH + i] / l);
            }
        }
        workgroupBarrier();
    }
}
