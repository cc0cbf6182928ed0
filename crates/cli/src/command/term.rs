//! Everything that is printed: results on standard output, progress and errors on standard error.

mod infotext;
mod inspection;
mod progress;
mod report;

pub use infotext::show_infotext;
pub use inspection::show_inspection;
pub use progress::Reporter;
pub use report::{list_samplers, list_schedules, print, print_json, report, shown};
