use std::{
    io::{IsTerminal, stderr},
    path::Path,
};

use forge::{Converted, Written};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::{print, print_json};
use crate::error::Result;

/// Tells how a conversion goes: a bar on a terminal, and lines where they are asked for.
pub(crate) struct Conversion {
    json: bool,
    report: bool,
    bar: Option<ProgressBar>,
    /// Whether every line reached who reads them.
    told: Result<()>,
}

impl Conversion {
    pub(crate) fn new(json: bool, report: bool) -> Self {
        let bar = (!json && stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            let style =
                ProgressStyle::with_template("convert  {bytes}/{total_bytes} [{bar:20}]  {eta} left  {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            bar
        });
        Self { json, report, bar, told: Ok(()) }
    }

    /// Tells of a tensor that was written. No reason to stop where nobody reads it.
    pub(crate) fn written(&mut self, tensor: &Written) {
        let Written { name, from, to, weights, most, bytes: [at, whole], .. } = tensor;
        if let Some(bar) = &self.bar {
            bar.set_length(*whole);
            bar.set_position(*at);
            bar.set_message(name.clone());
        }
        let told = if self.json {
            print_json(&json!({
                "event": "tensor", "name": name, "from": from, "to": to, "weights": weights,
                "error": tensor.error(), "most": most, "bytes": at, "of": whole,
            }))
        } else if self.report {
            let line = format!("{:<8} {:<8} {:>9.6}  {:>10.3e}  {name}", from, to, tensor.error(), most);
            match &self.bar {
                Some(bar) => bar.suspend(|| print(&line)),
                None => print(&line),
            }
        } else {
            Ok(())
        };
        self.told = std::mem::replace(&mut self.told, Ok(())).and(told);
    }

    /// Tells of the whole file.
    pub(crate) fn finish(self, output: &Path, converted: &Converted) -> Result<()> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.told?;
        let Converted { tensors, bytes, loras, .. } = converted;
        for report in loras {
            let told = match self.json {
                true => {
                    let unmatched =
                        report.unmatched.iter().map(|one| json!({ "name": one.name, "why": one.why.to_string() }));
                    print_json(&json!({
                        "event": "lora", "file": report.label, "matched": report.matched, "modules": report.total,
                        "unmatched": unmatched.collect::<Vec<_>>(),
                    }))
                }
                false => print(&report.to_string()),
            };
            told?;
        }
        if self.json {
            return print_json(&json!({
                "event": "converted", "path": output.display().to_string(), "tensors": tensors, "bytes": bytes,
                "error": converted.error(),
            }));
        }
        let megabytes = *bytes as f64 / 1e6;
        let error = converted.error();
        let plural = if *tensors == 1 { "" } else { "s" };
        let (path, told) = (output.display(), format!("{tensors} tensor{plural}  {megabytes:.1} MB"));
        print(&format!("{path}  {told}  off by {error:.6} of the weights"))
    }
}
