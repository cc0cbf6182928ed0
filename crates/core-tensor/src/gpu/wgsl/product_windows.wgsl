// How convolutions walk over their windows.

// With CONV, what of the window an index of k stands for.
struct Tap { ky: u32, kx: u32, c: u32 }

fn settled(before: Tap) -> Tap {
    var tap = before;
    if (CONV == 1u) {
        while (tap.c >= args.in_c) {
            tap.c -= args.in_c;
            tap.kx++;
            if (tap.kx == args.kernel) {
                tap.kx = 0u;
                tap.ky++;
            }
        }
    }
    return tap;
}
