// Layer norm and RMS norm over rows, with an affine part and a modulation.
//
//   x [rows, d], rows x_stride elements apart  ->  out [rows, d], contiguous
//   y = (x - mean) / sqrt(var + eps)        (RMS: nothing is taken off, var is the mean of the squares)
//   y = y * weight + bias                   (each optional, float [d])
//   y = (1 + scale[b]) * y + shift[b]       (optional; b = row / rows_per_batch, rows of float [d], mod_stride apart)
//
// The variance is that of the differences from the mean. The mean itself is rounded, which shows in rows whose mean is far
// above their spread: what the differences have left as a mean is taken off as well.
// A row stays in registers between the passes; of a very long one, what is beyond HELD runs a thread is read again.
//
// Defines: LANES, the threads of one row, a power of two; HELD, how many runs of WIDE elements a thread keeps.
// WIDE = 4 where d, x_stride and mod_stride are multiples of 4, else 1.
//
// Launch: with runs = d / WIDE,
//   LANES   = min(256, least power of two >= max(min(runs, 32), ceil(runs / 4)))
//   HELD    = min(8, ceil(runs / LANES))
//   THREADS = max(LANES, 128): small rows share a group, side by side
//   grid      ceil(rows / (THREADS / LANES)), folded.

struct Args { rows: u32, d: u32, x_stride: u32, rows_per_batch: u32, mod_stride: u32, flags: u32, eps: f32 }

@group(0) @binding(0) var<storage, read_write> x: array<V>;
@group(0) @binding(1) var<storage, read_write> weight: array<F>;
@group(0) @binding(2) var<storage, read_write> bias: array<F>;
@group(0) @binding(3) var<storage, read_write> shift: array<F>;
@group(0) @binding(4) var<storage, read_write> scale: array<F>;
@group(0) @binding(5) var<storage, read_write> out: array<V>;
@group(0) @binding(6) var<storage, read> args: Args;

const RMS: u32 = 1u;
const WEIGHT: u32 = 2u;
const BIAS: u32 = 4u;
const MODULATED: u32 = 8u;

const ROWS: u32 = THREADS / LANES;
const PART: u32 = min(LANES, 16u);

var<workgroup> slots: array<vec2<f32>, THREADS>;

// The sums over the threads of one row, given to all of them: in two steps, as barriers cost more than reads that all share.
fn row_sums(mine: vec2<f32>, thread: u32) -> vec2<f32> {
    slots[thread] = mine;
    workgroupBarrier();
    var sums = vec2<f32>();
    for (var i = 0u; i < PART; i++) { sums += slots[thread / PART * PART + i]; }
    workgroupBarrier();
    if (LANES > PART) {
        if (thread % PART == 0u) { slots[thread / PART] = sums; }
        workgroupBarrier();
        sums = vec2<f32>();
        for (var i = 0u; i < LANES / PART; i++) { sums += slots[thread / LANES * (LANES / PART) + i]; }
        workgroupBarrier();
    }
    return sums;
}

// Everything after the normalisation, for one run of a row.
fn finished(normed: F, run: u32, modulation: u32) -> V {
    var y = normed;
    if ((args.flags & WEIGHT) != 0u) { y *= weight[run]; }
    if ((args.flags & BIAS) != 0u) { y += bias[run]; }
    if ((args.flags & MODULATED) != 0u) { y = (F(1.0) + scale[modulation + run]) * y + shift[modulation + run]; }
    return narrow(y);
}

@compute @workgroup_size(THREADS)
fn row_norm(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = (group.x + group.y * groups.x) * ROWS;
    if (first >= args.rows) { return; }
    let row = first + thread / LANES;
    let lane = thread % LANES;
    let runs = args.d / WIDE;
    // A row that is not there has no runs, but its threads meet the others at the barriers.
    let end = select(0u, runs, row < args.rows);
    let x_row = row * (args.x_stride / WIDE);
    let out_row = row * runs;
    let modulation = row / args.rows_per_batch * (args.mod_stride / WIDE);
    let is_centred = (args.flags & RMS) == 0u;
    let again = lane + HELD * LANES;

    var held: array<F, HELD>;
    for (var i = 0u; i < HELD; i++) {
        held[i] = F(0.0);
        if (lane + i * LANES < end) { held[i] = widen(x[x_row + lane + i * LANES]); }
    }

    var mean = 0.0;
    if (is_centred) {
        var sum = F(0.0);
        for (var i = 0u; i < HELD; i++) { sum += held[i]; }
        for (var run = again; run < end; run += LANES) { sum += widen(x[x_row + run]); }
        mean = row_sums(vec2<f32>(total(sum), 0.0), thread).x / f32(args.d);
    }

    var sum = F(0.0);
    var squares = F(0.0);
    for (var i = 0u; i < HELD; i++) {
        if (lane + i * LANES >= end) { continue; }
        held[i] -= F(mean);
        sum += held[i];
        squares += held[i] * held[i];
    }
    for (var run = again; run < end; run += LANES) {
        let f = widen(x[x_row + run]) - F(mean);
        sum += f;
        squares += f * f;
    }
    let means = row_sums(vec2<f32>(total(sum), total(squares)), thread) / f32(args.d);
    var left = 0.0;
    var variance = means.y;
    if (is_centred) {
        left = means.x;
        variance = max(means.y - left * left, 0.0);
    }
    let inverse = inverseSqrt(variance + args.eps);

    for (var i = 0u; i < HELD; i++) {
        let run = lane + i * LANES;
        if (run < end) { out[out_row + run] = finished((held[i] - F(left)) * inverse, run, modulation); }
    }
    for (var run = again; run < end; run += LANES) {
        out[out_row + run] = finished((widen(x[x_row + run]) - F(mean) - F(left)) * inverse, run, modulation);
    }
}
