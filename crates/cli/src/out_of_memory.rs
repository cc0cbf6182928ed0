use std::{
    io::{Write, stderr},
    sync::atomic::{AtomicBool, Ordering},
};

use memmap2::MmapMut;

use crate::standard_output::unbuffered_stdout;

/// Whether errors are events on standard output.
static AS_JSON: AtomicBool = AtomicBool::new(false);

/// Whether the command has a plan of its memory, which `memory` bounds.
static IS_PLANNED: AtomicBool = AtomicBool::new(false);

/// The exit code of a run that does not fit into memory.
const NOT_ENOUGH_MEMORY: i32 = 3;

/// From here on an error is told as an event, or as text, of a command that plans its memory or does not.
pub(crate) fn tell(json: bool, is_planned: bool) {
    AS_JSON.store(json, Ordering::Relaxed);
    IS_PLANNED.store(is_planned, Ordering::Relaxed);
}

/// Ends the process with an error where the system has no memory left for a request of so many bytes. For
/// [`HugePages::or_end`](kernels::HugePages::or_end): it takes no memory itself.
pub fn out_of_memory(bytes: usize) -> ! {
    end(
        bytes,
        match IS_PLANNED.load(Ordering::Relaxed) {
            true => "set `memory` lower, so that less is unpacked, or allow the process more",
            false => MORE,
        },
    )
}

const MORE: &str = "allow the process more memory";

fn end(bytes: usize, hint: &str) -> ! {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        // The buffer of standard output may be in use by the very line that asked for memory.
        let _ = match AS_JSON.load(Ordering::Relaxed) {
            true => unbuffered_stdout().and_then(|mut out| {
                writeln!(
                    out,
                    "{{\"causes\":[],\"code\":{NOT_ENOUGH_MEMORY},\"error\":\"the system has no more memory: {bytes} bytes were asked \
                     for\",\"event\":\"error\",\"hint\":\"{hint}\"}}"
                )
            }),
            false => writeln!(
                stderr(),
                "error: the system has no more memory: {bytes} bytes were asked for\n  hint: {hint}"
            ),
        };
    }
    let _abandoned = diffusion_engine::abandon_begun();
    std::process::exit(NOT_ENOUGH_MEMORY)
}

/// Memory that a run may ask for before it knows its plan, which says how much the process may have.
const HEADROOM: usize = 16 << 20;

/// Ends the process where it can't have as much. The system's own libraries ask for memory too, of threads and of a panic, and where they get none
/// they end the process in their own words.
pub(crate) fn has_headroom() {
    if MmapMut::map_anon(HEADROOM).is_err() {
        end(HEADROOM, MORE);
    }
}
