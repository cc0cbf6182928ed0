// Group norm over a map [b, pixels, c] (NHWC), in two launches without atomics: the result does not depend on timing.
//
//   group_stats: per (batch, group, split of the pixels) the mean and the sum of squared differences from it
//                -> partial float2 [b, groups, splits]
//   group_apply: merges the splits, y = (x - mean) / sqrt(var + eps) * weight + bias, then the activation of that number
//
// Maps have means far above their spread, so no sum of plain squares is taken. A thread sums the differences from the
// first value it sees of a channel; what threads, channels and splits found is merged by the formula of Chan, Golub and
// LeVeque (1979): M2 = sum(M2_i) + sum(n_i (mean_i - mean)^2).
//
// A group of threads has a slab, which is whole groups of channels whose ends fall on runs of WIDE, and walks over it by pieces of
// at most CHANNELS. Within a piece a thread keeps to one run and walks over pixels. Channels are told apart until the end, so
// that a run, and a piece, may have parts of several groups: groups of any width do.
//
// WIDE = 4 where c is a multiple of 4, else 1.
//
// Launch, both entries: THREADS = 256, grid (splits, slabs, b); args.splits is the grid's first size in both.
// Any number of slabs and splits is right; for speed,
//   slabs  = max(1, c / 320)
//   splits = clamp(ceil(4 * multiprocessors / (b * slabs)), 1, ceil(pixels * (c / slabs) / (WIDE * 1024)))

struct Args { pixels: u32, c: u32, groups: u32, splits: u32, activation: u32, eps: f32 }

@group(0) @binding(0) var<storage, read_write> x: array<V>;
@group(0) @binding(1) var<storage, read_write> partial: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> args_of_stats: Args;

@group(0) @binding(2) var<storage, read_write> weight: array<F>;
@group(0) @binding(3) var<storage, read_write> bias: array<F>;
@group(0) @binding(4) var<storage, read_write> out: array<V>;
@group(0) @binding(5) var<storage, read> args_of_apply: Args;

const CHANNELS: u32 = THREADS * WIDE;  // the most that a group of threads takes at a time
const BATCH: u32 = 4u;                 // pixels a thread has under way
const SHARE: u32 = 8u;                 // threads that merge what there is of one group

var<workgroup> means: array<f32, CHANNELS>;
var<workgroup> spreads: array<f32, CHANNELS>;
var<workgroup> inverses: array<f32, CHANNELS>;
var<workgroup> slots: array<vec2<f32>, THREADS>;
var<workgroup> earlier: vec2<f32>;

// What a group of threads works on: groups first .. last, `count` pixels from `pixel` on.
struct Part { width: u32, first: u32, last: u32, pixel: u32, count: u32 }

fn pixels_of_split(split: u32, args: Args) -> u32 {
    let span = (args.pixels - 1u) / args.splits + 1u;
    return min((split + 1u) * span, args.pixels) - min(split * span, args.pixels);
}

fn part_of(group: vec3<u32>, slabs: u32, args: Args) -> Part {
    let width = args.c / args.groups;
    let low = width & (~width + 1u);     // the greatest power of two in the width
    let unit = WIDE / min(low, WIDE);    // groups that together end on a run
    let share = ((args.groups + slabs - 1u) / slabs + unit - 1u) / unit * unit;
    let first = min(group.y * share, args.groups);
    let span = (args.pixels - 1u) / args.splits + 1u;
    return Part(width, first, min(first + share, args.groups), min(group.x * span, args.pixels), pixels_of_split(group.x, args));
}

// The sum of what the threads of one share have; for the first of them.
fn share_sum(thread: u32) -> vec2<f32> {
    var sum = vec2<f32>();
    for (var i = 0u; i < SHARE; i++) { sum += slots[thread + i]; }
    return sum;
}

@compute @workgroup_size(THREADS)
fn group_stats(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let args = args_of_stats;
    let part = part_of(group, groups.y, args);
    let width = part.width;
    let count = part.count;
    let found = group.z * args.groups * args.splits + group.x;

    if (count == 0u) {  // the last splits may be empty: their weight is zero, their numbers must be finite
        for (var k = part.first + thread; k < part.last; k += THREADS) { partial[found + k * args.splits] = vec2<f32>(); }
        return;
    }

    let end = part.last * width;
    for (var channel = part.first * width; channel < end; channel += CHANNELS) {
        let channels = min(CHANNELS, end - channel);
        let runs = channels / WIDE;
        let rows = THREADS / runs;
        let row = thread / runs;
        if (row < min(rows, count)) {
            let next = args.c / WIDE;
            let begin = (group.z * args.pixels + part.pixel) * next + channel / WIDE + thread % runs;
            let start = widen(x[begin + row * next]);
            var sum = F(0.0);
            var squares = F(0.0);
            for (var i = row; i < count; i += BATCH * rows) {
                var r: array<V, BATCH>;
                for (var a = 0u; a < BATCH; a++) { r[a] = x[begin + min(i + a * rows, count - 1u) * next]; }
                // Sums of sums, which are rounded less than one long one.
                var few = F(0.0);
                var few_squares = F(0.0);
                for (var a = 0u; a < BATCH; a++) {
                    if (i + a * rows >= count) { continue; }
                    let f = widen(r[a]) - start;
                    few += f;
                    few_squares += f * f;
                }
                sum += few;
                squares += few_squares;
            }
            let mean = sum / f32((count - row - 1u) / rows + 1u);
            let all_means = vec4<f32>(start + mean);
            let all_spreads = vec4<f32>(squares - sum * mean);
            for (var e = 0u; e < WIDE; e++) {
                means[thread * WIDE + e] = all_means[e];
                spreads[thread * WIDE + e] = all_spreads[e];
            }
        }
        workgroupBarrier();

        let last = (channel + channels - 1u) / width + 1u;
        for (var base = channel / width; base < last; base += THREADS / SHARE) {
            let k = base + thread / SHARE;
            let is_there = k < last;
            // Channels low .. high of the piece are the group's.
            let low = select(0u, max(k * width, channel) - channel, is_there);
            let high = select(0u, min((k + 1u) * width, channel + channels) - channel, is_there);
            let own = high - low;
            let pivot = means[low];  // any value near the mean keeps the squares small
            var sums = vec2<f32>();
            for (var e = thread % SHARE; e < min(rows, count) * own; e += SHARE) {
                let r = e / own;
                let at = r * channels + low + e % own;
                let n = f32((count - r - 1u) / rows + 1u);
                let f = means[at] - pivot;
                sums += vec2<f32>(n * f, n * f * f + spreads[at]);
            }
            slots[thread] = sums;
            workgroupBarrier();
            if (is_there && thread % SHARE == 0u) {
                sums = share_sum(thread);
                let n = f32(count * own);
                let mean = sums.x / n;
                var merged = vec2<f32>(pivot + mean, sums.y - sums.x * mean);
                let before = f32(count * (channel + low - k * width));
                if (before > 0.0) {
                    let f = merged.x - earlier.x;
                    merged = vec2<f32>(earlier.x + f * (n / (before + n)), earlier.y + merged.y + f * f * before * (n / (before + n)));
                }
                if ((k + 1u) * width > channel + channels) {
                    earlier = merged;
                } else {
                    partial[found + k * args.splits] = merged;
                }
            }
            workgroupBarrier();
        }
    }
}

@compute @workgroup_size(THREADS)
fn group_apply(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let args = args_of_apply;
    let part = part_of(group, groups.y, args);
    let width = part.width;
    let count = part.count;
    let found = group.z * args.groups * args.splits;
    let end = part.last * width;
    if (count == 0u) { return; }

    for (var channel = part.first * width; channel < end; channel += CHANNELS) {
        let channels = min(CHANNELS, end - channel);
        let first = channel / width;
        let last = (channel + channels - 1u) / width + 1u;
        for (var base = first; base < last; base += THREADS / SHARE) {
            let k = min(base + thread / SHARE, last - 1u);
            let begin = found + k * args.splits;
            let pivot = partial[begin].x;
            var sums = vec2<f32>();
            for (var i = thread % SHARE; i < args.splits; i += SHARE) {
                let n = f32(pixels_of_split(i, args) * width);
                let split = partial[begin + i];
                let f = split.x - pivot;
                if (n > 0.0) { sums += vec2<f32>(n * f, n * f * f + split.y); }
            }
            slots[thread] = sums;
            workgroupBarrier();
            if (base + thread / SHARE < last && thread % SHARE == 0u) {
                sums = share_sum(thread) / f32(args.pixels * width);
                let variance = sums.y - sums.x * sums.x;
                means[k - first] = pivot + sums.x;
                inverses[k - first] = inverseSqrt(select(variance, 0.0, variance < 0.0) + args.eps);
            }
            workgroupBarrier();
        }

        let runs = channels / WIDE;
        let rows = THREADS / runs;
        let row = thread / runs;
        if (row < rows) {
            let run = thread % runs;
            var all_means = vec4<f32>();
            var all_inverses = vec4<f32>();
            for (var e = 0u; e < WIDE; e++) {
                let k = (channel + run * WIDE + e) / width - first;
                all_means[e] = means[k];
                all_inverses[e] = inverses[k];
            }
            let mean = front(all_means);
            let factor = front(all_inverses) * weight[channel / WIDE + run];
            let plus = bias[channel / WIDE + run];
            let next = args.c / WIDE;
            let begin = (group.z * args.pixels + part.pixel) * next + channel / WIDE + run;
            for (var i = row; i < count; i += BATCH * rows) {
                var r: array<V, BATCH>;
                for (var a = 0u; a < BATCH; a++) { r[a] = x[begin + min(i + a * rows, count - 1u) * next]; }
                for (var a = 0u; a < BATCH; a++) {
                    let pixel = i + a * rows;
                    if (pixel >= count) { continue; }
                    out[begin + pixel * next] = narrow(activated((widen(r[a]) - mean) * factor + plus, args.activation));
                }
            }
        }
        workgroupBarrier();
    }
}
