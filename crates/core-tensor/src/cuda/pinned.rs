//! Memory of the host that a card copies from by itself.

use std::{mem::MaybeUninit, sync::Arc};

use burn::tensor::Bytes;
use cubecl::{
    bytes::{AccessError, AccessPolicy, AllocationController, AllocationProperty},
    client::Client,
};

/// What writes weights as the card has them.
pub(crate) type Fill = Box<dyn Fn(&mut [u8]) + Send + Sync>;

/// Pinned buffers: one is copied from while the other is filled.
const BUFFERS: usize = 2;

/// A copy of less waits with others until its buffer is given back, so that it has one of CubeCL's own.
const LENT: usize = 16 << 20;

/// Pinned memory that is filled again once it was copied.
pub(super) struct Buffers {
    client: Client,
    length: usize,
    all: Vec<Arc<Bytes>>,
}

impl Buffers {
    /// For copies of at most so many bytes; there are none yet.
    pub(super) fn of(client: Client, length: usize) -> Self {
        Self { client, length, all: Vec::new() }
    }

    /// So many bytes that `fill` wrote.
    pub(super) fn filled(&mut self, length: usize, fill: impl Fn(&mut [u8])) -> Bytes {
        let pinned = (length >= LENT).then(|| self.pinned(length, &fill)).flatten();
        pinned.unwrap_or_else(|| {
            let mut bytes = vec![0; length];
            fill(&mut bytes);
            Bytes::from_bytes_vec(bytes)
        })
    }

    /// The same in pinned memory; `None` where all of it is being copied from.
    fn pinned(&mut self, length: usize, fill: impl Fn(&mut [u8])) -> Option<Bytes> {
        if self.all.len() < BUFFERS {
            let mut bytes = Bytes::from_bytes_vec(vec![0; self.length]);
            self.client.staging([&mut bytes].into_iter(), false);
            self.all.push(Arc::new(bytes));
        }
        // The one that was copied from first is the first to be free.
        self.all.rotate_left(1);
        let buffer = self.all.iter_mut().find(|buffer| Arc::strong_count(buffer) == 1)?;
        fill(&mut Arc::get_mut(buffer)?[..length]);
        Some(lent(buffer.clone(), length))
    }
}

/// The first bytes of a buffer, which is nobody's to write until they are dropped.
#[allow(unsafe_code, reason = "whoever makes `Bytes` promises that so many are written")]
fn lent(buffer: Arc<Bytes>, length: usize) -> Bytes {
    assert!(length <= buffer.len(), "{length} bytes of {}", buffer.len());
    // SAFETY: all bytes of `Bytes` are initialised, and there are so many.
    unsafe { Bytes::from_controller(Box::new(Lent(buffer)), length) }
}

/// A buffer as what a copy reads.
struct Lent(Arc<Bytes>);

impl AllocationController for Lent {
    fn alloc_align(&self) -> usize {
        self.0.align()
    }

    fn property(&self) -> AllocationProperty {
        self.0.property()
    }

    #[allow(unsafe_code, reason = "the trait's own; nothing is written")]
    unsafe fn memory_mut(&mut self, _: AccessPolicy) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        Err(AccessError::WouldCopy)
    }

    #[allow(unsafe_code, reason = "bytes that are written are bytes that may be written")]
    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let bytes: &[u8] = &self.0;
        // SAFETY: `MaybeUninit<u8>` has the layout of `u8`, and the slice is only read.
        Ok(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) })
    }
}
