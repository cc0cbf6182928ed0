//! What is read of a device after more was asked of it.

use std::sync::{Mutex, PoisonError};

use burn::tensor::{Bool, Tensor};
use burn_cubecl::{CubeBackend, CubeDevice, tensor::CubeTensor};
use cubecl::{client::Client, server::ServerError};

use crate::{Error, panics::caught, vulkan};

/// Has the one value of a tensor copied to the host, behind what was asked before and ahead of what is asked from now on; what is returned waits
/// for it, and fails where the device is lost. `None` for a device that is none of CubeCL's.
pub(crate) fn told(
    value: &Tensor<1, Bool>,
) -> Option<impl FnOnce() -> Result<Result<bool, ServerError>, Error> + Send + 'static> {
    let device = value.device();
    let value = value.clone().try_into_primitive::<CubeBackend>().ok()?;
    let client = client(&value);
    let read = caught(client, || client.read_async(vec![value.handle]));
    Some(move || {
        // Of a panic `answered` tells.
        let Some(read) = read else { return Ok(Ok(false)) };
        let read = vulkan::answer(&device, read)?;
        Ok(read.map(|read| read.iter().any(|bytes| bytes.iter().any(|&byte| byte != 0))))
    })
}

/// The client of a tensor's device, which lasts as long as the process: a read in progress borrows it. There is one for each device.
fn client(of: &CubeTensor) -> &'static Client {
    static CLIENTS: Mutex<Vec<(CubeDevice, &Client)>> = Mutex::new(Vec::new());
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, known)) = clients.iter().find(|(device, _)| *device == of.device) {
        return known;
    }
    let client = Box::leak(Box::new(of.client.clone()));
    clients.push((of.device.clone(), client));
    client
}
