// Matrix product for few rows: out[m, n] = epilogue(x[m, k] . w[n, k]^T), m at most 16, x and out f32, w of type T.
// Its time is that of reading w, which is done once, for all rows together.
//
// Epilogue, each part switched by `flags` (bit 0 bias, 1 gate, 2 residual; bit 3: SiLU of x as it is read):
//   v = sum + bias[n];  v = activation(v);  v *= gate[(row / rows_per_gate) * gate_stride + n];
//   v += residual[row * ldr + n];  out[row * ldo + n] = v
//
// Header: WIDE 4. Grid: ceil(n / 16) groups of 128 threads, folded where that is too many; 32 threads take 4 outputs of every row.
// k is a multiple of 8, lda of 4; w and x start at multiples of 16 bytes; n, ldr, ldo are free.

// Eight neighbouring numbers, which are read as one.
alias Piece = mat2x4<T>;

@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> w: array<Piece>;
@group(0) @binding(2) var<storage, read_write> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> gate: array<f32>;
@group(0) @binding(4) var<storage, read_write> residual: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;
@group(0) @binding(6) var<storage, read> args: Args;

// Threads that share four outputs.
const TEAM: u32 = 32u;
const OUTPUTS: u32 = THREADS / TEAM * 4u;

// What each thread has of four rows' sums.
var<workgroup> shares: array<vec4<f32>, 4u * THREADS>;

@compute @workgroup_size(THREADS)
fn thin(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let first = (group.x + group.y * groups.x) * OUTPUTS;
    if (first >= args.n) {
        return;
    }
    let pieces = args.k / 8u;
    let mine = first + t / TEAM * 4u;
    // Outputs beyond the last are computed as the last again, and not stored.
    let w0 = min(mine, args.n - 1u) * pieces;
    let w1 = min(mine + 1u, args.n - 1u) * pieces;
    let w2 = min(mine + 2u, args.n - 1u) * pieces;
    let w3 = min(mine + 3u, args.n - 1u) * pieces;

    var sums: array<vec4<f32>, 16>; // of a row, four outputs; indexed by literals alone, so that they stay in registers
    var at = t % TEAM;
    var next0: Piece;
    var next1: Piece;
    var next2: Piece;
    var next3: Piece;
    if (at < pieces) {
        next0 = w[w0 + at];
        next1 = w[w1 + at];
        next2 = w[w2 + at];
        next3 = w[w3 + at];
    }
    while (at < pieces) {
        let left = mat4x4<f32>(vec4<f32>(next0[0]), vec4<f32>(next1[0]), vec4<f32>(next2[0]), vec4<f32>(next3[0]));
        let right = mat4x4<f32>(vec4<f32>(next0[1]), vec4<f32>(next1[1]), vec4<f32>(next2[1]), vec4<f32>(next3[1]));
        let of_x = at * 2u;
        at += TEAM;
        // The next pieces are on their way while these are used.
        if (at < pieces) {
            next0 = w[w0 + at];
            next1 = w[w1 + at];
            next2 = w[w2 + at];
            next3 = w[w3 + at];
        }
        add(&sums, left, of_x);
        add(&sums, right, of_x + 1u);
    }

    for (var row = 0u; row < args.m; row += 4u) {
        workgroupBarrier();
        switch row {
            case 0u: { put(t, sums[0], sums[1], sums[2], sums[3]); }
            case 4u: { put(t, sums[4], sums[5], sums[6], sums[7]); }
            case 8u: { put(t, sums[8], sums[9], sums[10], sums[11]); }
            default: { put(t, sums[12], sums[13], sums[14], sums[15]); }
        }
        workgroupBarrier();
        if (t < 4u * OUTPUTS) {
            let output = t % OUTPUTS;
            let shared_by = t / OUTPUTS * THREADS + output / 4u * TEAM;
            var sum = 0.0;
            for (var i = 0u; i < TEAM; i++) {
                // Each four of threads starts elsewhere, in other banks of the memory.
                sum += shares[shared_by + (i + t / 4u) % TEAM][output % 4u];
            }
            finish(sum, row + t / OUTPUTS, first + output);
        }
    }
}

// Adds the product of four numbers of every row, at one index of k, and of four outputs.
fn add(sums: ptr<function, array<vec4<f32>, 16>>, by: mat4x4<f32>, at: u32) {
    (*sums)[0] += numbers(0u, at) * by;
    if (args.m > 1u) {
        (*sums)[1] += numbers(1u, at) * by;
    }
    if (args.m > 2u) {
        (*sums)[2] += numbers(2u, at) * by;
        (*sums)[3] += numbers(3u, at) * by;
    }
    if (args.m > 4u) {
        (*sums)[4] += numbers(4u, at) * by;
        (*sums)[5] += numbers(5u, at) * by;
        (*sums)[6] += numbers(6u, at) * by;
        (*sums)[7] += numbers(7u, at) * by;
    }
    if (args.m > 8u) {
        (*sums)[8] += numbers(8u, at) * by;
        (*sums)[9] += numbers(9u, at) * by;
        (*sums)[10] += numbers(10u, at) * by;
        (*sums)[11] += numbers(11u, at) * by;
        (*sums)[12] += numbers(12u, at) * by;
        (*sums)[13] += numbers(13u, at) * by;
        (*sums)[14] += numbers(14u, at) * by;
        (*sums)[15] += numbers(15u, at) * by;
    }
}

// Rows beyond the last are the last again, and not stored.
fn numbers(row: u32, at: u32) -> vec4<f32> {
    let v = x[min(row, args.m - 1u) * (args.lda / 4u) + at];
    if ((args.flags & 8u) != 0u) {
        return activated(v, 3u);
    }
    return v;
}

fn put(t: u32, v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>) {
    shares[t] = v0;
    shares[t + THREADS] = v1;
    shares[t + THREADS * 2u] = v2;
    shares[t + THREADS * 3u] = v3;
}

fn finish(sum: f32, row: u32, column: u32) {
    if (row >= args.m || column >= args.n) {
        return;
    }
    var v = sum;
    if ((args.flags & 1u) != 0u) {
        v += bias[column];
    }
    v = activated(F(v), args.activation).x;
    if ((args.flags & 2u) != 0u) {
        v *= gate[row / args.rows_per_gate * args.gate_stride + column];
    }
    if ((args.flags & 4u) != 0u) {
        v += residual[row * args.ldr + column];
    }
    out[row * args.ldo + column] = v;
}
