// What both texts of attention have in common: their arguments, and what becomes of scores.

struct Args {
    heads: u32, n: u32, m: u32,
    q_batch: u32, q_head: u32, q_token: u32,
    k_batch: u32, k_head: u32, k_token: u32,
    v_batch: u32, v_head: u32, v_token: u32,
    scale: f32,
    flags: u32,
}

const CAUSAL: u32 = 1u;
const RELATIVE: u32 = 2u;
const FULL: u32 = 4u;
const SEEN: u32 = 8u;

const LOG2E: f32 = 1.4426950408889634;
// What hidden keys score. No bias makes a score less than FLOOR, so that a row of masking biases still tells its keys from hidden ones.
const LOWEST: f32 = -3.4e38;
const FLOOR: f32 = -1.7e38;

// Queries of a block.
const ROWS: u32 = 64u;

fn greatest_of(x: vec4<f32>) -> f32 {
    return max(max(x.x, x.y), max(x.z, x.w));
}

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
