//! Waiting for what an adapter was asked for, if it is lost meanwhile.
//!
//! wgpu finds a loss where it waits for the adapter, on a thread of CubeCL's, which ends by a panic there; and nobody is left who would
//! wake the one that reads. So who reads asks for itself whether the adapter is still there, as long as it has no answer.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use burn::tensor::{TensorData, wgpu::wgpu};
use burn_cubecl::{CubeBackend, kernel::into_contiguous_aligned, tensor::CubeTensor};
use cubecl::{future::block_on, server::CopyDescriptor};

use super::{loss::lost, watch};
use crate::{Device, Error, Tensor, panics::caught};

/// How long an adapter may say nothing before it is asked whether it is still there.
const PATIENCE: Duration = Duration::from_millis(100);

/// What a read of a device comes to. One of another back end is waited for, however long it takes.
///
/// # Errors
/// [`Error::DeviceFault`] where the device is lost.
pub(crate) fn answer<T>(device: &Device, read: impl Future<Output = T>) -> Result<T, Error> {
    match watch::handle(device) {
        Some(handle) => answer_unless(read, || handle.is_lost()),
        None => Ok(block_on(read)),
    }
}

/// The values of a tensor; `None` for one of another back end.
///
/// # Errors
/// As [`answer`], and what the device failed of.
pub(crate) fn data<const D: usize>(tensor: &Tensor<D>) -> Option<Result<TensorData, Error>> {
    let device = tensor.device();
    watch::handle(&device)?;
    // Burn waits for it where nobody can give up, when the first value is looked at.
    let tensor = tensor.clone().try_into_primitive::<CubeBackend>().ok()?;
    let CubeTensor { client, handle, meta, dtype, .. } = into_contiguous_aligned(tensor);
    let of = CopyDescriptor::new(handle.binding(), meta.shape.clone(), meta.strides.clone(), dtype.size());
    let Some(read) = caught(&client, || client.read_one_tensor_async(of)) else {
        return Some(Err(watch::failure(&device).unwrap_or_else(lost)));
    };
    let read = answer(&device, read);
    Some(read.and_then(|read| match (watch::failure(&device), read) {
        (Some(failure), _) => Err(failure),
        (None, Ok(bytes)) => Ok(TensorData::from_bytes(bytes, meta.shape, dtype)),
        (None, Err(error)) => Err(Error::on_device(&error)),
    }))
}

fn answer_unless<T>(read: impl Future<Output = T>, is_lost: impl Fn() -> bool) -> Result<T, Error> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let (mut read, mut context) = (pin!(read), Context::from_waker(&waker));
    let mut is_last = false;
    loop {
        match read.as_mut().poll(&mut context) {
            Poll::Ready(answer) => return Ok(answer),
            Poll::Pending if is_last => return Err(lost()),
            Poll::Pending => {}
        }
        let asleep = Instant::now();
        thread::park_timeout(PATIENCE);
        // What came before the loss is still an answer, so it is looked for once more.
        is_last = asleep.elapsed() >= PATIENCE && is_lost();
    }
}

/// Waits until adapters have done what they were asked for, but no longer than so long for each.
pub(crate) fn rest(patience: Duration) {
    for handle in watch::handles() {
        let all = wgpu::PollType::Wait { submission_index: None, timeout: Some(patience) };
        // A lost one has nothing left to do.
        let _ = catch_unwind(AssertUnwindSafe(|| handle.device.poll(all)));
    }
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future};

    use cubecl::future::channel;

    use super::*;

    #[test]
    fn an_answer_is_waited_for_longer_than_a_device_may_say_nothing() {
        let (sender, receiver) = channel::bounded(1);
        let device = thread::spawn(move || {
            thread::sleep(3 * PATIENCE);
            sender.try_send(7).expect("somebody waits");
        });
        assert_eq!(answer_unless(receiver.recv(), || false).unwrap().unwrap(), 7);
        device.join().unwrap();
    }

    #[test]
    fn a_lost_device_ends_the_waiting_and_takes_no_answer_that_was_there() {
        let lost = answer_unless(future::pending::<()>(), || true);
        assert!(matches!(lost, Err(Error::DeviceFault { .. })), "{lost:?}");
        // what the device answered is found where it is asked whether it is there
        let came = Cell::new(false);
        let read = future::poll_fn(|_| if came.get() { Poll::Ready(7) } else { Poll::Pending });
        let lost = || {
            came.set(true);
            true
        };
        assert_eq!(answer_unless(read, lost).unwrap(), 7);
    }
}
