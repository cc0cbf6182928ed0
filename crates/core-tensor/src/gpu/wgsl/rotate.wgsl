// Attention heads out of fused projections: each head's vector is normalised, rotated and laid out for attention, of up to six
// sets of heads (queries, keys and values of two streams of tokens) in one launch, which go to up to three outputs.
//
//   set j: x viewed as [b, n, heads, d] (strides x_batch, x_token, x_head; d contiguous)
//     ->  its out [b, heads, out_tokens, d], tokens before .. before + n of it
//   flag 1: v = v / sqrt(mean(v^2) + eps) * scale            (scale float [d], of each set)
//   flag 2: (v[2i], v[2i+1]) = (a c - b s, a s + b c)         (c, s float [tokens, d / 2], of token before + t)
//   neither: a copy, rearranged. d is even.
//
// A group of lanes has one token and walks over its heads, so the angles are read once and stay in registers. A lane has
// HELD units of a head: one run of four elements, or a pair of elements where WIDE is 1.
//
// Defines: LANES and HELD, of which a lane group is made; AT_ONCE, how many of a token's heads lane groups have side by side.
// WIDE = 4 where d and the strides of all sets are multiples of 4, else 1.
//
// Launch: with units = d / max(WIDE, 2),
//   LANES   = least power of two >= ceil(units / 4), at most 64
//   HELD    = ceil(units / LANES)
//   AT_ONCE = min(128 / LANES, greatest power of two that divides heads)
//   THREADS = 128, grid (blocks, sets) for blocks = ceil(b * n / (128 / LANES / AT_ONCE)) of the longest set;
//   where those are more than one dimension takes, x and z of the grid share them: block = x + z * (size of x).

struct Set { n: u32, x_batch: u32, x_token: u32, x_head: u32, before: u32, flags: u32, out: u32 }
struct Args { b: u32, heads: u32, d: u32, out_tokens: u32, eps: f32, sets: array<Set, 6> }

@group(0) @binding(0) var<storage, read_write> x0: array<V>;
@group(0) @binding(1) var<storage, read_write> x1: array<V>;
@group(0) @binding(2) var<storage, read_write> x2: array<V>;
@group(0) @binding(3) var<storage, read_write> x3: array<V>;
@group(0) @binding(4) var<storage, read_write> x4: array<V>;
@group(0) @binding(5) var<storage, read_write> x5: array<V>;
@group(0) @binding(6) var<storage, read_write> scale0: array<F>;
@group(0) @binding(7) var<storage, read_write> scale1: array<F>;
@group(0) @binding(8) var<storage, read_write> scale2: array<F>;
@group(0) @binding(9) var<storage, read_write> scale3: array<F>;
@group(0) @binding(10) var<storage, read_write> scale4: array<F>;
@group(0) @binding(11) var<storage, read_write> scale5: array<F>;
@group(0) @binding(12) var<storage, read_write> cosine: array<f32>;
@group(0) @binding(13) var<storage, read_write> sine: array<f32>;
@group(0) @binding(14) var<storage, read_write> out0: array<V>;
@group(0) @binding(15) var<storage, read_write> out1: array<V>;
@group(0) @binding(16) var<storage, read_write> out2: array<V>;
@group(0) @binding(17) var<storage, read> args: Args;

const NORM: u32 = 1u;
const ROTATE: u32 = 2u;

const GROUPS: u32 = THREADS / LANES;
const TOKENS: u32 = GROUPS / AT_ONCE;
const UNIT: u32 = max(WIDE, 2u);
const PER_UNIT: u32 = UNIT / WIDE;       // elements of V that a unit is made of
const PARTS: u32 = HELD * PER_UNIT;

// A double row, of which one is read while the next is written: one barrier a head is enough.
var<workgroup> slots: array<f32, 2u * THREADS>;

// Where the parts of a lane's units lie, counted from the beginning of a vector; what is beyond its end is the last one's.
fn places(lane: u32) -> array<u32, PARTS> {
    var at: array<u32, PARTS>;
    for (var i = 0u; i < PARTS; i++) {
        at[i] = min(lane + i / PER_UNIT * LANES, args.d / UNIT - 1u) * PER_UNIT + i % PER_UNIT;
    }
    return at;
}

// The parts of a vector, of one of six sets: chosen once for all, so that all reads are under way together.
fn vector(which: u32, begin: u32, at: array<u32, PARTS>) -> array<V, PARTS> {
    var v: array<V, PARTS>;
    switch (which) {
        case 0u: { for (var i = 0u; i < PARTS; i++) { v[i] = x0[begin + at[i]]; } }
        case 1u: { for (var i = 0u; i < PARTS; i++) { v[i] = x1[begin + at[i]]; } }
        case 2u: { for (var i = 0u; i < PARTS; i++) { v[i] = x2[begin + at[i]]; } }
        case 3u: { for (var i = 0u; i < PARTS; i++) { v[i] = x3[begin + at[i]]; } }
        case 4u: { for (var i = 0u; i < PARTS; i++) { v[i] = x4[begin + at[i]]; } }
        default: { for (var i = 0u; i < PARTS; i++) { v[i] = x5[begin + at[i]]; } }
    }
    return v;
}

fn scale(which: u32, at: u32) -> F {
    switch (which) {
        case 0u: { return scale0[at]; }
        case 1u: { return scale1[at]; }
        case 2u: { return scale2[at]; }
        case 3u: { return scale3[at]; }
        case 4u: { return scale4[at]; }
        default: { return scale5[at]; }
    }
}

fn write(which: u32, at: u32, v: V) {
    switch (which) {
        case 0u: { out0[at] = v; }
        case 1u: { out1[at] = v; }
        default: { out2[at] = v; }
    }
}

@compute @workgroup_size(THREADS)
fn rotate(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let own = args.sets[group.y];
    let tokens = args.b * own.n;
    let first = (group.x + group.z * groups.x) * TOKENS;
    if (first >= tokens) { return; }

    let lane = thread % LANES;
    let lanes = thread / LANES;
    let units = args.d / UNIT;
    // A group of lanes without a token does what the last one's does, but writes nothing.
    let is_alive = first + lanes / AT_ONCE < tokens;
    let token = min(first + lanes / AT_ONCE, tokens - 1u);
    let batch = token / own.n;
    let t = token % own.n;
    let x_token = (batch * own.x_batch + t * own.x_token) / WIDE;
    let out_token = (batch * args.heads * args.out_tokens + own.before + t) * (args.d / WIDE);
    let is_normed = (own.flags & NORM) != 0u;
    let is_rotated = (own.flags & ROTATE) != 0u;

    let at = places(lane);
    var angles: array<vec4<f32>, HELD>;  // c and s of a unit's first pair, and of its second
    var scales: array<F, PARTS>;
    for (var i = 0u; i < HELD; i++) {
        angles[i] = vec4<f32>(1.0, 0.0, 1.0, 0.0);
        if (is_rotated) {
            let pair = (own.before + t) * (args.d / 2u) + at[i * PER_UNIT] * WIDE / 2u;
            angles[i] = vec4<f32>(cosine[pair], sine[pair], cosine[pair + UNIT / 2u - 1u], sine[pair + UNIT / 2u - 1u]);
        }
    }
    for (var i = 0u; i < PARTS; i++) {
        scales[i] = F(1.0);
        if (is_normed) { scales[i] = scale(group.y, at[i]); }
    }

    var row = 0u;
    for (var base = 0u; base < args.heads; base += AT_ONCE) {
        let head = base + lanes % AT_ONCE;
        let v = vector(group.y, x_token + head * own.x_head / WIDE, at);
        var inverse = 1.0;
        if (is_normed) {
            var squares = F(0.0);
            for (var i = 0u; i < PARTS; i++) {
                let f = widen(v[i]);
                if (lane + i / PER_UNIT * LANES < units) { squares += f * f; }
            }
            slots[row + thread] = total(squares);
            workgroupBarrier();
            var sum = 0.0;
            for (var i = 0u; i < LANES; i++) { sum += slots[row + lanes * LANES + i]; }
            row = THREADS - row;
            inverse = inverseSqrt(sum / f32(args.d) + args.eps);
        }
        let begin = out_token + head * args.out_tokens * (args.d / WIDE);
        for (var i = 0u; i < HELD; i++) {
            if (!is_alive || lane + i * LANES >= units) { continue; }
            // Of two parts each is one number, and what vec4 repeats of it is not looked at.
            let part = i * PER_UNIT;
            var f = vec4<f32>(widen(v[part]) * (inverse * scales[part]));
            if (PER_UNIT == 2u) { f.y = vec4<f32>(widen(v[part + PER_UNIT - 1u]) * (inverse * scales[part + PER_UNIT - 1u])).x; }
            if (is_rotated) {
                let c = angles[i].xxzz;
                let s = angles[i].yyww * vec4<f32>(-1.0, 1.0, -1.0, 1.0);
                f = f * c + f.yxwz * s;
            }
            write(own.out, begin + at[part], narrow(front(f)));
            if (PER_UNIT == 2u) { write(own.out, begin + at[part] + 1u, narrow(front(f.yxwz))); }
        }
    }
}
