use std::{
    io::{IsTerminal, Write, stderr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use core_tensor::compiled_kernels;
use diffusion_engine::{Cut, Event, Likeness, StepReport};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use memory::Bytes;
use serde_json::json;

use super::{print, print_json, shown};
use crate::error::{Result, told};

/// Tells a person, a log or a program how a run goes.
pub(crate) struct Reporter {
    json: bool,
    /// What is redrawn on a terminal while something goes on.
    bar: Option<Bar>,
    terminal: bool,
    started: Instant,
    last: Instant,
    /// How long each step took; the estimate uses their median, which the first slow one does not bend.
    steps: Vec<Duration>,
    /// Whether it was said that kernels are compiled.
    is_compiling_told: bool,
    /// Whether every event reached who reads them.
    told: Result<()>,
}

/// Why a first run on a card is slower than those after it.
const COMPILING: &str = "kernels are compiled for this card and kept: the first run takes longer than those after it";

impl Reporter {
    /// JSON lines on standard output, or text on standard error: one line that is redrawn on a terminal, plain lines elsewhere.
    pub(crate) fn new(json: bool) -> Self {
        let now = Instant::now();
        let terminal = !json && stderr().is_terminal() && can_redraw();
        Self {
            json,
            bar: None,
            terminal,
            started: now,
            last: now,
            steps: Vec::new(),
            is_compiling_told: false,
            told: Ok(()),
        }
    }

    /// Ends the telling.
    ///
    /// # Errors
    /// [`forge::Error::Write`] where an event could not be printed, though somebody was there to read it.
    pub(crate) fn finish(self) -> Result<()> {
        self.told
    }

    /// Shows that a part of the run goes on, until its event.
    pub(crate) fn begin(&mut self, part: &'static str) {
        if self.terminal {
            self.bar = Some(Bar::of(part));
        }
    }

    /// Tells of one event.
    pub(crate) fn event(&mut self, event: &Event) {
        self.tell(event);
        if !self.is_compiling_told && compiled_kernels() > 0 {
            self.is_compiling_told = true;
            self.tell(&Event::Note { note: COMPILING.to_owned() });
        }
    }

    fn tell(&mut self, event: &Event) {
        let took = self.last.elapsed();
        if !matches!(event, Event::Note { .. } | Event::Planned { .. } | Event::Memory(_)) {
            self.last = Instant::now();
        }
        if let Event::Step(_) = event {
            self.steps.push(took);
        }
        if self.json {
            // No reason to stop drawing; that events are missing is told in the end.
            let told = print_json(&self.json_event(event, took));
            self.told = std::mem::replace(&mut self.told, Ok(())).and(told);
            return;
        }
        match event {
            Event::Note { note } => self.line(&format!("note: {note}")),
            Event::Planned { bytes, tiles } => {
                let tiles = tiles.map_or_else(String::new, |tiles| format!(", pictures in {tiles} tiles"));
                self.line(&format!("plan    {:>9}  of memory at most{tiles}", Bytes(*bytes).to_string()))
            }
            Event::Loaded { model, device } => {
                let device = device.as_ref().map_or_else(String::new, |device| format!(" on {device}"));
                self.line(&format!("load     {:>8}  {model}{device}", seconds(took)));
            }
            Event::Encoded { cut } => {
                self.line(&format!("encode   {:>8}", seconds(took)));
                for Cut { encoder, kept, tokens } in cut {
                    self.line(&format!("note: the prompt has {tokens} tokens, {encoder} sees the first {kept}"));
                }
            }
            Event::Step(step) => self.step(step),
            // Of use to programs, and more than a person wants to know.
            Event::Memory(_) => {}
            Event::Decoded => self.line(&format!("decode   {:>8}", seconds(took))),
            Event::Image { path, width, height, seed } => self.line(&format!(
                "{}  {width}x{height}  seed {seed}  {}",
                path.display(),
                seconds(self.started.elapsed())
            )),
        }
    }

    /// Tells how a picture that was drawn again compares with what it was: a result, on standard output unless that has the picture
    /// (`is_taken`).
    pub(crate) fn compared(&mut self, picture: &Path, likeness: Likeness, pixels: usize, is_taken: bool) -> Result<()> {
        self.bar = None;
        let text = format!("{}: {}", picture.display(), told(&likeness, pixels));
        if is_taken {
            self.line(&text);
            return Ok(());
        }
        if !self.json {
            return print(&text);
        }
        let (differ, most) = match likeness {
            Likeness::Equal => (Some(0), Some(0)),
            Likeness::Differs { pixels, most } => (Some(pixels), Some(most)),
            Likeness::OtherSize { .. } | Likeness::Lossy => (None, None),
        };
        print_json(&json!({
            "event": "compared", "path": picture.display().to_string(), "pixels": pixels, "differ": differ, "most": most,
        }))
    }

    fn step(&mut self, step: &StepReport) {
        let median = self.median();
        let left = seconds(median * (step.steps - step.step) as u32);
        let sigmas = format!("sigma {:.2} -> {:.2}", step.sigma, step.sigma_next);
        if !self.terminal {
            let count = format!("{}/{}", step.step, step.steps);
            return self.line(&format!("step     {count:>8}  {}  {left} left  {sigmas}", rate(median)));
        }
        if step.step < step.steps {
            if let Some(bar) = &self.bar {
                bar.steps(step, &format!("{}  {left} left  {sigmas}", rate(median)));
            }
        } else {
            let all = seconds(self.steps.iter().sum());
            self.line(&format!("sample   {all:>8}  {} steps  {}", step.steps, rate(median)));
        }
    }

    /// A line that stays; what was shown of the part that it ends goes. A closed standard error is no reason to stop drawing.
    fn line(&mut self, text: &str) {
        self.bar = None;
        let _ = writeln!(stderr(), "{}", shown(text));
    }

    fn median(&self) -> Duration {
        let mut sorted = self.steps.clone();
        sorted.sort();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    /// An event and how long it took: a picture since the start, all else since the event before.
    fn json_event(&self, event: &Event, took: Duration) -> serde_json::Value {
        let mut value = serde_json::to_value(event).expect("an event is an object of texts and numbers");
        let seconds = match event {
            Event::Note { .. } | Event::Planned { .. } => None,
            Event::Image { .. } | Event::Memory(_) => Some(self.started.elapsed()),
            Event::Loaded { .. } | Event::Encoded { .. } | Event::Step(_) | Event::Decoded => Some(took),
        };
        if let Some(seconds) = seconds {
            value["seconds"] = seconds.as_secs_f64().into();
        }
        value
    }
}

/// A part of a run on a terminal: drawn at once and again while it lasts, and gone without a trace when it ends.
struct Bar {
    shown: ProgressBar,
    is_narrow: bool,
    ended: Arc<AtomicBool>,
}

/// Columns in which a bar and what stands beside it fit on one line.
const WIDE: u16 = 60;

impl Bar {
    fn of(part: &'static str) -> Self {
        let is_narrow = console::Term::stderr().size_checked().is_some_and(|(_, columns)| columns < WIDE);
        let shown = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        shown.set_style(style(if is_narrow { "{wide_msg}" } else { "{prefix:<8} {elapsed:>8}  {spinner}  {msg}" }));
        shown.set_prefix(part);
        shown.set_message(if is_narrow { part } else { "" });
        // Where the system refuses a thread the bar stands still between two steps.
        let ended = Arc::new(AtomicBool::new(false));
        let (ticked, done) = (shown.clone(), ended.clone());
        let tick = move || {
            let before = compiled_kernels();
            while !done.load(Ordering::Relaxed) {
                let compiled = compiled_kernels() - before;
                if compiled > 0 && !is_narrow && ticked.length().is_none() {
                    ticked.set_message(format!("{compiled} kernels compiled"));
                }
                ticked.tick();
                thread::sleep(Duration::from_millis(100));
            }
        };
        let _ = thread::Builder::new().spawn(tick);
        Self { shown, is_narrow, ended }
    }

    fn steps(&self, step: &StepReport, message: &str) {
        let (done, all) = (step.step, step.steps);
        if self.is_narrow {
            return self.shown.set_message(format!("{done}/{all}  {message}"));
        }
        if self.shown.length().is_none() {
            self.shown.set_style(style("{prefix:<8} {pos:>4}/{len} [{bar:20}]  {wide_msg}").progress_chars("=> "));
            self.shown.set_length(all as u64);
        }
        self.shown.set_message(message.to_owned());
        self.shown.set_position(done as u64);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.shown.finish_and_clear();
    }
}

/// Whether the terminal takes commands. Those of Unix say in `TERM` what they are.
fn can_redraw() -> bool {
    cfg!(windows) || std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// Seconds a step where it takes long, steps a second where it does not.
fn rate(step: Duration) -> String {
    match step.as_secs_f64() {
        s if s >= 1.0 => format!("{s:.1} s/it"),
        s if s > 0.0 => format!("{:.1} it/s", 1.0 / s),
        _ => "- it/s".into(),
    }
}

fn seconds(duration: Duration) -> String {
    match duration.as_secs_f64() {
        s if s < 1.0 => format!("{:.0} ms", s * 1000.0),
        s if s < 100.0 => format!("{s:.1} s"),
        s => format!("{:.0} min {:.0} s", (s / 60.0).floor(), s % 60.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_switch_at_one_second() {
        assert_eq!(rate(Duration::from_millis(12_400)), "12.4 s/it");
        assert_eq!(rate(Duration::from_millis(250)), "4.0 it/s");
        assert_eq!(rate(Duration::ZERO), "- it/s");
    }

    #[test]
    fn durations_read_well_at_any_length() {
        let of = |ms| seconds(Duration::from_millis(ms));
        assert_eq!([of(7), of(1_940), of(754_000)], ["7 ms", "1.9 s", "12 min 34 s"]);
    }
}
