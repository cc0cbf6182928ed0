//! Everything that is printed: results on standard output, progress and errors on standard error.

mod conversion;
mod enlarging;
mod infotext;
mod inspection;
mod planned;
mod progress;
mod report;

pub(super) use conversion::Conversion;
pub(super) use enlarging::Enlarging;
pub(super) use infotext::show_infotext;
pub(super) use inspection::show_inspection;
pub(super) use planned::show_plan;
pub(super) use progress::Reporter;
pub(super) use report::{list_samplers, list_schedules, note, print, print_json, report, shown, written};
