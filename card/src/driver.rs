//! What a driver asks of its card, as C calls it.

use std::{
    ffi::{CStr, c_char, c_void},
    ptr, slice,
};

use crate::{
    block::{Shape, launch},
    memory,
    module::{Kernel, Module},
};

/// Memory of the card is there from now on, or no more where it has no bytes.
///
/// # Safety
/// As many bytes from the address on are the caller's to read and write, until they are told to be there no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn card_memory(address: u64, bytes: u64) {
    memory::tell(address, (bytes > 0).then_some(bytes));
}

/// A module of a text of PTX; null, and said why, where it is not understood.
///
/// # Safety
/// The text ends in a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn card_module(text: *const c_char) -> *mut c_void {
    // SAFETY: as above.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    match Module::of(&text) {
        Ok(module) => Box::into_raw(Box::new(module)).cast(),
        Err(error) => {
            eprintln!("card: {error}");
            ptr::null_mut()
        }
    }
}

/// A kernel of a module, by its name; null where it has none.
///
/// # Safety
/// The module is one of [`card_module`]'s, and the name ends in a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn card_kernel(module: *const c_void, name: *const c_char) -> *const c_void {
    // SAFETY: as above; modules are never freed.
    let (module, name) = unsafe { (&*module.cast::<Module>(), CStr::from_ptr(name)) };
    name.to_str()
        .ok()
        .and_then(|name| module.kernels.get(name))
        .map_or(ptr::null(), |kernel| ptr::from_ref(kernel).cast())
}

/// Runs a kernel to its end: whether nothing went wrong. `shape` has the numbers of blocks, of threads in each, and the bytes of memory that are
/// added.
///
/// # Safety
/// The kernel is one of [`card_kernel`]'s, `shape` has seven numbers, and there are as many arguments as the kernel has parameters, each as long.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn card_launch(
    kernel: *const c_void,
    shape: *const u32,
    arguments: *const *const c_void,
) -> bool {
    // SAFETY: as above.
    let (kernel, numbers) = unsafe { (&*kernel.cast::<Kernel>(), slice::from_raw_parts(shape, 7)) };
    let size = kernel.parameters.last().map_or(0, |(start, bytes)| start + bytes);
    let mut parameters = vec![0u8; size];
    for (i, &(start, bytes)) in kernel.parameters.iter().enumerate() {
        // SAFETY: as above.
        let argument = unsafe { slice::from_raw_parts((*arguments.add(i)).cast::<u8>(), bytes) };
        parameters[start..start + bytes].copy_from_slice(argument);
    }
    let three = |at: usize| [numbers[at], numbers[at + 1], numbers[at + 2]];
    let ended = launch(kernel, Shape { grid: three(0), block: three(3), shared: numbers[6] as usize }, &parameters);
    ended.inspect_err(|fault| eprintln!("card: {fault}")).is_ok()
}
