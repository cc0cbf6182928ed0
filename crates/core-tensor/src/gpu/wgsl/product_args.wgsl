// The arguments of products, in the order of the numbers that they are launched with. Those of a window count in convolutions alone.

struct Args {
    m: u32, n: u32, k: u32, lda: u32, ldr: u32, ldo: u32, rows_per_gate: u32, gate_stride: u32, flags: u32, activation: u32,
    in_h: u32, in_w: u32, in_c: u32, out_h: u32, out_w: u32, kernel: u32, stride: u32, pad: u32,
}
