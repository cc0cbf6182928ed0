// Matrix product with an epilogue, and convolution as an implicit matrix product, in f16 by the card's matrix units.
//
//   out[m, n] = epilogue(a[m, k] . w[n, k]^T)      both operands contiguous along k, sums in f32
//
// Epilogue of one sum, each part switched by `flags` (bit 0 bias, 1 gate, 2 residual):
//   v = sum + bias[n];  v = activation(v);  v *= gate[(row / rows_per_gate) * gate_stride + n];
//   v += residual[row * ldr + n];  out[row * ldo + n] = v
// `out` and `residual` may be the same memory: an element is read by the thread that then writes it.
//
// With CONV, `a` is a map [batch, in_h, in_w, in_c] and w is [n, kernel, kernel, in_c]: row (b, oy, ox) of the product takes,
// at index (ky, kx, c) of k, the pixel (oy * stride - pad + ky, ox * stride - pad + kx); pixels outside the map are zero, so
// `pad` stands for the top and the left, and out_h, out_w decide what is read beyond the bottom and the right.
//
// A matrix unit takes squares of SIZE x SIZE numbers, held by a subgroup together. A tile of outputs is divided into parts of
// PART_M x PART_N squares, one for a subgroup: 4 for SIZE 16 if the part is half a tile long and wide, so 128 threads have work
// where a subgroup has 32 lanes. Fewer subgroups than parts take them in rounds, each a full pass over k.
//
// Header: `enable wgpu_cooperative_matrix`, and SIZE (16 or 8) with
//   alias MatA = coop_mat16x16<f16, A>;  alias MatB = coop_mat16x16<f16, B>;  alias Sums = coop_mat16x16<f32, C>;
// O, WIDE numbers in the format of out and residual: V, or F with OUT_F32 = 1.
// WIDE 4 if n, ldo, ldr and gate_stride are multiples of 4 and bias, gate, residual and out start at multiples of 4 numbers.
// Defines: OUT_F32, CONV (0 or 1), TILE (128 or 64), PART_M, PART_N (2 or 4), BUFFERS (1 or 2 stages of the operands).
// Usual are TILE 128 with parts of 4 x 4, TILE 64 with 2 x 2, and 128 threads. TILE * 4 / THREADS is 1, 2 or 4.
// Workgroup memory: BUFFERS * TILE * 160 + (TILE / SIZE)^2 / PART_M / PART_N * SIZE * (SIZE + 8) * 4 bytes.
// Grid: ceil(m / TILE) * ceil(n / TILE) groups in one dimension, folded where that is too many.
// k, lda and in_c are multiples of 8, and a and w start at multiples of 16 bytes; m, n, ldr, ldo are free.

// Eight neighbouring numbers, which are read as one.
alias Piece = mat2x4<f16>;

@group(0) @binding(0) var<storage, read_write> a: array<Piece>;
@group(0) @binding(1) var<storage, read_write> w: array<Piece>;
@group(0) @binding(2) var<storage, read_write> bias: array<F>;
@group(0) @binding(3) var<storage, read_write> gate: array<F>;
@group(0) @binding(4) var<storage, read_write> residual: array<O>;
@group(0) @binding(5) var<storage, read_write> out: array<O>;
@group(0) @binding(6) var<storage, read> args: Args;

// Row tiles that share a stretch of column tiles.
const GROUP: u32 = 8u;
// Numbers along k of one step.
const STEP: u32 = 32u;
const PIECES: u32 = STEP / 8u;
// Pieces of each operand that a thread copies in a step, and how many rows lie between them.
const COPIES: u32 = TILE * PIECES / THREADS;
const COPY_ROWS: u32 = THREADS / PIECES;
// Fours from one row of a stage to the next: with 16 bytes more than a step has, eight rows at one index of k lie in
// different banks of the memory.
const APART: u32 = STEP / 4u + 2u;
const OPERAND: u32 = TILE * APART;
const STAGE: u32 = 2u * OPERAND;
const PARTS_M: u32 = TILE / (PART_M * SIZE);
const PARTS_N: u32 = TILE / (PART_N * SIZE);
const PARTS: u32 = PARTS_M * PARTS_N;
// A square of sums in workgroup memory, in rows of SIZE and a filling against bank conflicts.
const SQUARE_APART: u32 = (SIZE + 8u) / WIDE;
const SQUARE: u32 = SIZE * SQUARE_APART;

var<workgroup> staged: array<vec4<f16>, BUFFERS * STAGE>; // of each stage a's rows, then w's
var<workgroup> squares: array<F, PARTS * SQUARE>; // one of each part

@compute @workgroup_size(THREADS)
fn product(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    let tiles_m = (args.m + TILE - 1u) / TILE;
    let tiles_n = (args.n + TILE - 1u) / TILE;
    let tile = group.x + group.y * groups.x;
    if (tile >= tiles_m * tiles_n) {
        return;
    }
    // Neighbouring groups share a column tile and differ in the row tile, GROUP rows at a time, so that what runs together
    // covers a compact patch of the output and finds its operands in the second-level cache.
    let stretch = tile / (GROUP * tiles_n);
    let within = tile - stretch * GROUP * tiles_n;
    let stretch_rows = min(tiles_m - stretch * GROUP, GROUP);
    let column_tile = within / stretch_rows;
    let m0 = (stretch * GROUP + within - column_tile * stretch_rows) * TILE;
    let n0 = column_tile * TILE;

    // Eight neighbouring threads take two pieces of every other of eight rows: as few as a store of 16 bytes serves at once,
    // and their places in a stage lie in different banks.
    let copied = t / 32u * 8u + t / 2u % 4u * 2u + t / 8u % 2u;
    let piece = t % 2u + t / 16u % 2u * 2u;
    let rows = Rows(
        place(m0 + copied), row_of_w(n0 + copied),
        place(m0 + copied + COPY_ROWS), row_of_w(n0 + copied + COPY_ROWS),
        place(m0 + copied + COPY_ROWS * 2u), row_of_w(n0 + copied + COPY_ROWS * 2u),
        place(m0 + copied + COPY_ROWS * 3u), row_of_w(n0 + copied + COPY_ROWS * 3u),
    );
    let copy_to = copied * APART + piece * 2u;

    let k = args.k;
    let steps = (k + STEP - 1u) / STEP;
    for (var first_part = 0u; first_part < PARTS; first_part += subgroups) {
        // A subgroup without a part repeats the last, as naga wants matrix operations in uniform control flow;
        // its sums are not stored.
        let part = min(first_part + subgroup, PARTS - 1u);
        let part_a = part / PARTS_N * PART_M * SIZE * APART;
        let part_w = OPERAND + part % PARTS_N * PART_N * SIZE * APART;
        // By row and column. Not an array, so that no compiler has a reason to put them anywhere but in registers.
        var s00: Sums; var s01: Sums; var s02: Sums; var s03: Sums;
        var s10: Sums; var s11: Sums; var s12: Sums; var s13: Sums;
        var s20: Sums; var s21: Sums; var s22: Sums; var s23: Sums;
        var s30: Sums; var s31: Sums; var s32: Sums; var s33: Sums;
        var kk = piece * 8u;
        var tap = settled(Tap(0u, 0u, kk));
        var next = fetched(rows, kk, k, tap);
        for (var s = 0u; s < steps; s++) {
            let stage = s % BUFFERS * STAGE;
            if (kk >= k) {
                next = Pieces(); // behind the last number are zeros
            }
            if (BUFFERS == 1u) {
                workgroupBarrier(); // the step before has been read
            }
            let to = stage + copy_to;
            put(to, next.a0, is_inside(rows.a0, tap));
            put(to + OPERAND, next.w0, true);
            if (COPIES > 1u) {
                put(to + COPY_ROWS * APART, next.a1, is_inside(rows.a1, tap));
                put(to + COPY_ROWS * APART + OPERAND, next.w1, true);
            }
            if (COPIES > 2u) {
                put(to + COPY_ROWS * 2u * APART, next.a2, is_inside(rows.a2, tap));
                put(to + COPY_ROWS * 2u * APART + OPERAND, next.w2, true);
                put(to + COPY_ROWS * 3u * APART, next.a3, is_inside(rows.a3, tap));
                put(to + COPY_ROWS * 3u * APART + OPERAND, next.w3, true);
            }
            workgroupBarrier();
            // The next step's pieces are on their way while these are multiplied.
            kk += STEP;
            tap = settled(Tap(tap.ky, tap.kx, tap.c + STEP));
            next = fetched(rows, kk, k, tap);
            // Two squares along k are written out, which is all of a step for SIZE 16: compilers need not unroll this.
            for (var q = 0u; q < STEP; q += 2u * SIZE) {
                let a0 = stage + part_a + q / 4u;
                let w0 = stage + part_w + q / 4u;
                let u00 = coopLoadT<MatA>(&staged[a0], APART);
                let u01 = coopLoadT<MatA>(&staged[a0 + SIZE * APART], APART);
                let v00 = coopLoad<MatB>(&staged[w0], APART);
                let v01 = coopLoad<MatB>(&staged[w0 + SIZE * APART], APART);
                var u02: MatA;
                var u03: MatA;
                if (PART_M == 4u) {
                    u02 = coopLoadT<MatA>(&staged[a0 + SIZE * 2u * APART], APART);
                    u03 = coopLoadT<MatA>(&staged[a0 + SIZE * 3u * APART], APART);
                }
                s00 = coopMultiplyAdd(u00, v00, s00);
                s01 = coopMultiplyAdd(u00, v01, s01);
                s10 = coopMultiplyAdd(u01, v00, s10);
                s11 = coopMultiplyAdd(u01, v01, s11);
                if (PART_M == 4u) {
                    s20 = coopMultiplyAdd(u02, v00, s20);
                    s21 = coopMultiplyAdd(u02, v01, s21);
                    s30 = coopMultiplyAdd(u03, v00, s30);
                    s31 = coopMultiplyAdd(u03, v01, s31);
                }
                if (PART_N == 4u) {
                    let v02 = coopLoad<MatB>(&staged[w0 + SIZE * 2u * APART], APART);
                    let v03 = coopLoad<MatB>(&staged[w0 + SIZE * 3u * APART], APART);
                    s02 = coopMultiplyAdd(u00, v02, s02);
                    s03 = coopMultiplyAdd(u00, v03, s03);
                    s12 = coopMultiplyAdd(u01, v02, s12);
                    s13 = coopMultiplyAdd(u01, v03, s13);
                    if (PART_M == 4u) {
                        s22 = coopMultiplyAdd(u02, v02, s22);
                        s23 = coopMultiplyAdd(u02, v03, s23);
                        s32 = coopMultiplyAdd(u03, v02, s32);
                        s33 = coopMultiplyAdd(u03, v03, s33);
                    }
                }
                let a1 = stage + part_a + q / 4u + SIZE / 4u;
                let w1 = stage + part_w + q / 4u + SIZE / 4u;
                let u10 = coopLoadT<MatA>(&staged[a1], APART);
                let u11 = coopLoadT<MatA>(&staged[a1 + SIZE * APART], APART);
                let v10 = coopLoad<MatB>(&staged[w1], APART);
                let v11 = coopLoad<MatB>(&staged[w1 + SIZE * APART], APART);
                var u12: MatA;
                var u13: MatA;
                if (PART_M == 4u) {
                    u12 = coopLoadT<MatA>(&staged[a1 + SIZE * 2u * APART], APART);
                    u13 = coopLoadT<MatA>(&staged[a1 + SIZE * 3u * APART], APART);
                }
                s00 = coopMultiplyAdd(u10, v10, s00);
                s01 = coopMultiplyAdd(u10, v11, s01);
                s10 = coopMultiplyAdd(u11, v10, s10);
                s11 = coopMultiplyAdd(u11, v11, s11);
                if (PART_M == 4u) {
                    s20 = coopMultiplyAdd(u12, v10, s20);
                    s21 = coopMultiplyAdd(u12, v11, s21);
                    s30 = coopMultiplyAdd(u13, v10, s30);
                    s31 = coopMultiplyAdd(u13, v11, s31);
                }
                if (PART_N == 4u) {
                    let v12 = coopLoad<MatB>(&staged[w1 + SIZE * 2u * APART], APART);
                    let v13 = coopLoad<MatB>(&staged[w1 + SIZE * 3u * APART], APART);
                    s02 = coopMultiplyAdd(u10, v12, s02);
                    s03 = coopMultiplyAdd(u10, v13, s03);
                    s12 = coopMultiplyAdd(u11, v12, s12);
                    s13 = coopMultiplyAdd(u11, v13, s13);
                    if (PART_M == 4u) {
                        s22 = coopMultiplyAdd(u12, v12, s22);
                        s23 = coopMultiplyAdd(u12, v13, s23);
                        s32 = coopMultiplyAdd(u13, v12, s32);
                        s33 = coopMultiplyAdd(u13, v13, s33);
                    }
                }
            }
        }

        // Through workgroup memory, square by square, so that neighbouring threads write neighbouring outputs.
        let has_part = first_part + subgroup < PARTS;
        let square = subgroup * SQUARE;
        let taken = min(subgroups, PARTS - first_part);
        for (var i = 0u; i < 16u; i++) {
            if (i / 4u >= PART_M || i % 4u >= PART_N) {
                continue;
            }
            workgroupBarrier();
            if (has_part) {
                switch i {
                    case 0u: { coopStoreT(s00, &squares[square], SQUARE_APART); }
                    case 1u: { coopStoreT(s01, &squares[square], SQUARE_APART); }
                    case 2u: { coopStoreT(s02, &squares[square], SQUARE_APART); }
                    case 3u: { coopStoreT(s03, &squares[square], SQUARE_APART); }
                    case 4u: { coopStoreT(s10, &squares[square], SQUARE_APART); }
                    case 5u: { coopStoreT(s11, &squares[square], SQUARE_APART); }
                    case 6u: { coopStoreT(s12, &squares[square], SQUARE_APART); }
                    case 7u: { coopStoreT(s13, &squares[square], SQUARE_APART); }
                    case 8u: { coopStoreT(s20, &squares[square], SQUARE_APART); }
                    case 9u: { coopStoreT(s21, &squares[square], SQUARE_APART); }
                    case 10u: { coopStoreT(s22, &squares[square], SQUARE_APART); }
                    case 11u: { coopStoreT(s23, &squares[square], SQUARE_APART); }
                    case 12u: { coopStoreT(s30, &squares[square], SQUARE_APART); }
                    case 13u: { coopStoreT(s31, &squares[square], SQUARE_APART); }
                    case 14u: { coopStoreT(s32, &squares[square], SQUARE_APART); }
                    default: { coopStoreT(s33, &squares[square], SQUARE_APART); }
                }
            }
            workgroupBarrier();
            for (var e = t; e < taken * SIZE * SIZE / WIDE; e += THREADS) {
                let column = e % (SIZE / WIDE);
                let row = e / (SIZE / WIDE) % SIZE;
                let its = e / (SIZE * SIZE / WIDE);
                let its_part = first_part + its;
                finish(
                    squares[its * SQUARE + row * SQUARE_APART + column],
                    m0 + (its_part / PARTS_N * PART_M + i / 4u) * SIZE + row,
                    n0 + (its_part % PARTS_N * PART_N + i % 4u) * SIZE + column * WIDE,
                );
            }
        }
    }
}

fn put(to: u32, fetched: Piece, is_there: bool) {
    var numbers = fetched;
    if (!is_there) {
        numbers = Piece();
    }
    staged[to] = numbers[0];
    staged[to + 1u] = numbers[1];
}

// WIDE sums from `column` on.
fn finish(sum: F, row: u32, column: u32) {
    if (row >= args.m || column >= args.n) {
        return;
    }
    var v = sum;
    if ((args.flags & 1u) != 0u) {
        v += bias[column / WIDE];
    }
    v = activated(v, args.activation);
    if ((args.flags & 2u) != 0u) {
        v *= gate[(row / args.rows_per_gate * args.gate_stride + column) / WIDE];
    }
    if ((args.flags & 4u) != 0u) {
        v += F(residual[(row * args.ldr + column) / WIDE]);
    }
    let at = (row * args.ldo + column) / WIDE;
    if (OUT_F32 == 1u) {
        out[at] = O(v);
    } else {
        out[at] = O(narrow(v));
    }
}

// Where a row of `a` starts, in pieces; with CONV, where the window's top left pixel would lie, which may be outside of the map
// (below zero, numbers wrap and are as large as no coordinate is).
// Rows beyond the last are replaced by the last: what they yield is never stored.
struct Place { at: u32, y: u32, x: u32 }

fn place(wanted: u32) -> Place {
    let row = min(wanted, args.m - 1u);
    if (CONV == 0u) {
        return Place(row * (args.lda / 8u), 0u, 0u);
    }
    let line = row / args.out_w;
    let b = line / args.out_h;
    let y = (line - b * args.out_h) * args.stride - args.pad;
    let x = (row - line * args.out_w) * args.stride - args.pad;
    return Place(((b * args.in_h + y) * args.in_w + x) * (args.in_c / 8u), y, x);
}

fn row_of_w(row: u32) -> u32 {
    return min(row, args.n - 1u) * (args.k / 8u);
}

// What a thread copies of a step: the same piece of up to four rows of each operand.
struct Rows { a0: Place, w0: u32, a1: Place, w1: u32, a2: Place, w2: u32, a3: Place, w3: u32 }
struct Pieces { a0: Piece, w0: Piece, a1: Piece, w1: Piece, a2: Piece, w2: Piece, a3: Piece, w3: Piece }

// No read is in a branch, which would wait for it: in place of what is not there, something else is read. Behind the last
// number that is the last piece.
fn fetched(rows: Rows, wanted: u32, k: u32, tap: Tap) -> Pieces {
    let across = min(wanted, k - 8u) / 8u;
    var pieces: Pieces;
    pieces.a0 = a[piece_of_a(rows.a0, across, tap)];
    pieces.w0 = w[rows.w0 + across];
    if (COPIES > 1u) {
        pieces.a1 = a[piece_of_a(rows.a1, across, tap)];
        pieces.w1 = w[rows.w1 + across];
    }
    if (COPIES > 2u) {
        pieces.a2 = a[piece_of_a(rows.a2, across, tap)];
        pieces.w2 = w[rows.w2 + across];
        pieces.a3 = a[piece_of_a(rows.a3, across, tap)];
        pieces.w3 = w[rows.w3 + across];
    }
    return pieces;
}

// With CONV the map's first piece stands for one outside of the map.
fn piece_of_a(start: Place, across: u32, tap: Tap) -> u32 {
    if (CONV == 0u) {
        return start.at + across;
    }
    let at = start.at + (tap.ky * args.in_w + tap.kx) * (args.in_c / 8u) + tap.c / 8u;
    return select(0u, at, is_inside(start, tap));
}

fn is_inside(start: Place, tap: Tap) -> bool {
    return CONV == 0u || (start.y + tap.ky < args.in_h && start.x + tap.kx < args.in_w);
}
