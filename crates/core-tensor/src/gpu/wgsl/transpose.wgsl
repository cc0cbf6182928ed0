// [b, rows, cols] -> [b, cols, out_cols], out_cols >= rows: each matrix of the batch transposed, the rest of every
// output row zero. NCHW -> NHWC is rows = channels, cols = pixels; NHWC -> NCHW the other way.
// Input rows are in_stride >= cols elements apart (padding channels are left behind by cols < in_stride).
//
// The header has, besides T, the number format I of the input and O of the output: T or f32 each. WIDE is 1.
//
// A tile of 4096 elements goes through workgroup memory so that both sides are accessed along their rows. Its shape
// follows the matrix: 64 x 64, or as narrow as needed where one side is short (3 colours, 4 latent channels).
//
// Launch: blocks of 256 threads, grid b * ceil(out_cols / tile_rows) * ceil(cols / tile_cols), folded, where, with
// p(n) = the least power of two >= max(n, 4):
//   cols <= 32:      tile_cols = p(cols),     tile_rows = 4096 / tile_cols
//   out_cols <= 32:  tile_rows = p(out_cols), tile_cols = 4096 / tile_rows
//   otherwise:       64, 64

struct Args { b: u32, rows: u32, cols: u32, in_stride: u32, out_cols: u32, pad: u32 }

@group(0) @binding(0) var<storage, read_write> x: array<I>;
@group(0) @binding(1) var<storage, read_write> out: array<O>;
@group(0) @binding(2) var<storage, read> args: Args;

const TILE_BITS: u32 = 12u;
const TILE: u32 = 1u << TILE_BITS;
const EACH: u32 = TILE / THREADS;  // elements of a thread, all read before the first is kept

var<workgroup> tile: array<f32, TILE>;

// What 16 bits hold of 2049 is 2048.
const IS_OUT_F32: bool = f32(O(2049.0)) == 2049.0;

// The largest number of f16 in place of what is larger, but only where the output is f16: an infinity of f16 stays one in f32.
fn stored(v: f32) -> O {
    if (IS_OUT_F32) { return O(v); }
    return O(narrow(v));
}

// log2 of the least power of two that holds n, from 4 on.
fn bits_for(n: u32) -> u32 {
    return select(32u - countLeadingZeros(n - 1u), 2u, n <= 4u);
}

@compute @workgroup_size(THREADS)
fn transpose(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    var col_bits = TILE_BITS / 2u;
    if (args.cols <= 32u) {
        col_bits = bits_for(args.cols);
    } else if (args.out_cols <= 32u) {
        col_bits = TILE_BITS - bits_for(args.out_cols);
    }
    let row_bits = TILE_BITS - col_bits;
    let col_mask = (1u << col_bits) - 1u;
    let row_mask = (1u << row_bits) - 1u;
    let across = ((args.cols - 1u) >> col_bits) + 1u;
    let down = ((args.out_cols - 1u) >> row_bits) + 1u;
    let block = group.x + group.y * groups.x;
    let batch = block / (across * down);
    if (batch >= args.b) { return; }
    let rest = block % (across * down);
    let row0 = (rest / across) << row_bits;
    let col0 = (rest % across) << col_bits;

    // Against bank conflicts the columns of a row of the tile change places, as (row << spread >> fold) says: the 32
    // elements that are accessed at once are in as many banks, along a row and along a column, whatever the tile's shape.
    let spread = 5u - min(row_bits, 5u);
    let fold = 5u - min(col_bits, 5u);
    let bank_mask = min(col_mask, 31u);

    let start = batch * args.rows * args.in_stride;
    var v: array<I, EACH>;
    for (var i = 0u; i < EACH; i++) {
        let e = thread + i * THREADS;
        let r = row0 + (e >> col_bits);
        let c = col0 + (e & col_mask);
        if (r < args.rows && c < args.cols) { v[i] = x[start + r * args.in_stride + c]; }
    }
    for (var i = 0u; i < EACH; i++) {
        let e = thread + i * THREADS;
        let r = e >> col_bits;
        tile[(r << col_bits) + ((e & col_mask) ^ (((r << spread) >> fold) & bank_mask))] = f32(v[i]);
    }
    workgroupBarrier();
    let to = batch * args.cols * args.out_cols;
    for (var i = 0u; i < EACH; i++) {
        let e = thread + i * THREADS;
        let r = e & row_mask;
        let c = e >> row_bits;
        if (row0 + r < args.out_cols && col0 + c < args.cols) {
            let at = (r << col_bits) + (c ^ (((r << spread) >> fold) & bank_mask));
            out[to + (col0 + c) * args.out_cols + row0 + r] = stored(tile[at]);
        }
    }
}
