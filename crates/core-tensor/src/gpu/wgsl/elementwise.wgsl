// Operations that move every element once. One text, an entry for each:
//
//   activate(x, out; n_lo, n_hi, activation, pad)              out = f(x)
//   gated(x, gate, out; n_lo, n_hi, activation, pad)           out = x * f(gate)
//   add(x, y, out; n_lo, n_hi)                                 out = x + y
//   cast_down(x f32, out T; n_lo, n_hi)
//   cast_back(x T, out f32; n_lo, n_hi)
//   upsample(x, out; b, h, w, c)                               NHWC, nearest: [b, 2h, 2w, c]
//   join(x, y, out; pixels, x_c, y_c, pad)                     NHWC: the channels of x, then those of y
//
// n_hi is 0. Activations: as `activated` numbers them. activate, gated and add may write over an input.
//
// WIDE: 4 where n is a multiple of 4; of upsample where c is one, of join where x_c and y_c are.
//
// Launch: blocks of 256 threads, 1024 units of WIDE elements a block: grid ceil(units / 1024), folded, with
//   units = n / WIDE; of upsample b * h * w * c / WIDE; of join pixels * (x_c + y_c) / WIDE.

const EACH: u32 = 4u;  // units of a thread, all read before the first is written

struct Activation { n: u32, n_hi: u32, activation: u32, pad: u32 }
struct Count { n: u32, n_hi: u32 }
struct Map { b: u32, h: u32, w: u32, c: u32 }
struct Pair { pixels: u32, x_c: u32, y_c: u32, pad: u32 }

// Entries share binding numbers: only what an entry uses is bound.
@group(0) @binding(0) var<storage, read_write> x: array<V>;
@group(0) @binding(0) var<storage, read_write> cast_from: array<F>;

// Of one input.
@group(0) @binding(1) var<storage, read_write> mapped: array<V>;
@group(0) @binding(1) var<storage, read_write> cast_to: array<F>;
@group(0) @binding(2) var<storage, read> activate_args: Activation;
@group(0) @binding(2) var<storage, read> cast_args: Count;
@group(0) @binding(2) var<storage, read> upsample_args: Map;

// Of two.
@group(0) @binding(1) var<storage, read_write> y: array<V>;
@group(0) @binding(2) var<storage, read_write> out: array<V>;
@group(0) @binding(3) var<storage, read> gated_args: Activation;
@group(0) @binding(3) var<storage, read> add_args: Count;
@group(0) @binding(3) var<storage, read> join_args: Pair;

fn first_unit(group: vec3<u32>, groups: vec3<u32>, thread: u32) -> u32 {
    return (group.x + group.y * groups.x) * (THREADS * EACH) + thread;
}

@compute @workgroup_size(THREADS)
fn activate(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let units = activate_args.n / WIDE;
    let first = first_unit(group, groups, thread);
    var r: array<V, EACH>;
    for (var i = 0u; i < EACH; i++) {
        let at = first + i * THREADS;
        if (at < units) { r[i] = x[at]; }
    }
    for (var i = 0u; i < EACH; i++) {
        let at = first + i * THREADS;
        if (at < units) { mapped[at] = narrow(activated(widen(r[i]), activate_args.activation)); }
    }
}

@compute @workgroup_size(THREADS)
fn gated(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let units = gated_args.n / WIDE;
    let first = first_unit(group, groups, thread);
    var r: array<V, EACH>;
    var gate: array<V, EACH>;
    for (var i = 0u; i < EACH; i++) {
        let at = first + i * THREADS;
        if (at < units) {
            r[i] = x[at];
            gate[i] = y[at];
        }
    }
    for (var i = 0u; i < EACH; i++) {
        let at = first + i * THREADS;
        if (at < units) { out[at] = narrow(widen(r[i]) * activated(widen(gate[i]), gated_args.activation)); }
    }
}

@compute @workgroup_size(THREADS)
fn add(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let units = add_args.n / WIDE;
    let first = first_unit(group, groups, thread);
    var r: array<V, EACH>;
    var other: array<V, EACH>;
    for (var i = 0u; i < EACH; i++) {
        let at = first + i * THREADS;
        if (at < units) {
            r[i] = x[at];
            other[i] = y[at];
        }
    }
    for (var i = 0u; i < EACH; i++) {
        let at = first + i * THREADS;
        if (at < units) { out[at] = narrow(widen(r[i]) + widen(other[i])); }
    }
}

@compute @workgroup_size(THREADS)
fn cast_down(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let units = cast_args.n / WIDE;
    let first = first_unit(group, groups, thread);
    var r: array<F, EACH>;
    for (var i = 0u; i < EACH; i++) {
        let at = first + i * THREADS;
        if (at < units) { r[i] = cast_from[at]; }
    }
    for (var i = 0u; i < EACH; i++) {
        let at = first + i * THREADS;
        if (at < units) { mapped[at] = narrow(r[i]); }
    }
}

@compute @workgroup_size(THREADS)
fn cast_back(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let units = cast_args.n / WIDE;
    let first = first_unit(group, groups, thread);
    var r: array<V, EACH>;
    for (var i = 0u; i < EACH; i++) {
        let at = first + i * THREADS;
        if (at < units) { r[i] = x[at]; }
    }
    for (var i = 0u; i < EACH; i++) {
        let at = first + i * THREADS;
        if (at < units) { cast_to[at] = widen(r[i]); }
    }
}

// A pixel is read once and written four times. Row y of batch b is row b h + y of all, and becomes rows 2 (b h + y), + 1.
@compute @workgroup_size(THREADS)
fn upsample(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let c = upsample_args.c / WIDE;
    let w = upsample_args.w;
    let units = upsample_args.b * upsample_args.h * w * c;
    let line = 2u * w * c;
    let first = first_unit(group, groups, thread);
    var r: array<V, EACH>;
    for (var i = 0u; i < EACH; i++) {
        let at = first + i * THREADS;
        if (at < units) { r[i] = x[at]; }
    }
    for (var i = 0u; i < EACH; i++) {
        let at = first + i * THREADS;
        if (at >= units) { break; }
        let row = at / (w * c);
        let in_row = at - row * (w * c);
        let to = 2u * row * line + in_row + in_row / c * c;
        mapped[to] = r[i];
        mapped[to + c] = r[i];
        mapped[to + line] = r[i];
        mapped[to + line + c] = r[i];
    }
}

@compute @workgroup_size(THREADS)
fn join(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let x_c = join_args.x_c / WIDE;
    let y_c = join_args.y_c / WIDE;
    let units = join_args.pixels * (x_c + y_c);
    let first = first_unit(group, groups, thread);
    var r: array<V, EACH>;
    for (var i = 0u; i < EACH; i++) {
        let at = first + i * THREADS;
        if (at >= units) { break; }
        let pixel = at / (x_c + y_c);
        let c = at - pixel * (x_c + y_c);
        if (c < x_c) {
            r[i] = x[pixel * x_c + c];
        } else {
            r[i] = y[pixel * y_c + c - x_c];
        }
    }
    for (var i = 0u; i < EACH; i++) {
        let at = first + i * THREADS;
        if (at < units) { out[at] = r[i]; }
    }
}
