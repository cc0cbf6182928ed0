use std::{
    io::{IsTerminal, stderr},
    path::Path,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::{print, print_json};
use crate::error::Result;

/// Tells how pictures are made larger: a bar on a terminal, and a line for each that is written.
pub(crate) struct Enlarging {
    json: bool,
    bar: Option<ProgressBar>,
}

impl Enlarging {
    pub(crate) fn new(json: bool) -> Self {
        let bar = (!json && stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            let style = ProgressStyle::with_template("upscale  {pos}/{len} [{bar:20}]  {eta} left  {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            bar
        });
        Self { json, bar }
    }

    /// Tells what the upscaler is.
    pub(crate) fn begin(&self, about: &str) -> Result<()> {
        if let Some(bar) = &self.bar {
            bar.set_message(about.to_owned());
        }
        if self.json { print_json(&json!({ "event": "loaded", "model": about })) } else { Ok(()) }
    }

    /// Tells how much of a picture is done.
    pub(crate) fn further(&self, done: usize, all: usize) {
        if let Some(bar) = &self.bar {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        }
    }

    /// Tells of a picture that is written.
    pub(crate) fn written(&self, input: &Path, output: &Path, [width, height]: [usize; 2]) -> Result<()> {
        if self.json {
            let (from, path) = (input.display().to_string(), output.display().to_string());
            return print_json(
                &json!({ "event": "image", "from": from, "path": path, "width": width, "height": height }),
            );
        }
        let line = format!("{}  {width}x{height}", output.display());
        match &self.bar {
            Some(bar) => bar.suspend(|| print(&line)),
            None => print(&line),
        }
    }

    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
