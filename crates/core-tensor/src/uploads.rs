//! What is brought to a device.

#[cfg(feature = "vulkan")]
mod way;

use burn::tensor::Bytes;
use burn_cubecl::tensor::CubeTensor;
use cubecl::server::Handle;

#[cfg(feature = "vulkan")]
pub(crate) use self::way::know;

/// Bytes on the device that a tensor is on.
pub(crate) fn uploaded(like: &CubeTensor, bytes: Vec<u8>) -> Handle {
    #[cfg(feature = "vulkan")]
    if let Some(way) = way::Way::to(like, bytes.len() as u64) {
        return way.upload(&like.client, bytes);
    }
    like.client.create(Bytes::from_bytes_vec(bytes))
}
