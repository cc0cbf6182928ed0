use std::fmt;

use serde::Serialize;

use crate::Bytes;

/// What a run holds of memory at one moment, beside what its plan said: the one value from which events, logs and pages tell it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemoryReport {
    /// How many events of the run were before it.
    pub at: u64,
    /// The stage that has just ended, as the plan calls it.
    pub stage: String,
    /// What infotexts call the model.
    pub model: String,
    /// What the plan says of the stage: the most that the run holds while it lasts, in bytes.
    pub planned: Bytes,
    /// The most that the process had allocated in blocks of 1 MiB and more since the report before, in bytes; `None` for a program whose
    /// allocator doesn't count them.
    pub allocated: Option<Bytes>,
    /// The most that the process had in memory since it began, in bytes, with the pages of files that it reads; `None` where the system
    /// doesn't say it.
    pub process: Option<Bytes>,
    /// The memory of each device beside the host's that the run computes on; empty on the CPU.
    pub device: Vec<DeviceReport>,
}

/// What a device's memory holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceReport {
    /// What configs call the device.
    pub name: String,
    /// What its driver has free, in bytes; `None` where it doesn't say it.
    pub free: Option<Bytes>,
}

impl fmt::Display for MemoryReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { stage, planned, process, .. } = self;
        match process {
            Some(process) => write!(f, "{stage}: {process} of memory so far, planned {planned}"),
            None => write!(f, "{stage}: planned {planned} of memory"),
        }
    }
}
