use std::{
    io::{IsTerminal, Write, stderr},
    path::Path,
    time::{Duration, Instant},
};

use diffusion_engine::{Cut, StepReport};

use super::print;

/// What happens in a run, in this order.
pub enum Event<'a> {
    /// The model is loaded.
    Loaded { model: &'a str },
    /// The prompt is encoded; `cut` tells where it was too long.
    Encoded { cut: &'a [Cut] },
    /// A step was taken.
    Step(StepReport),
    /// The latent is decoded.
    Decoded,
    /// A picture is on disk.
    Image { path: &'a Path, width: usize, height: usize, seed: u64 },
}

/// Tells a person, a log or a program how a run goes.
pub struct Reporter {
    json: bool,
    terminal: bool,
    started: Instant,
    last: Instant,
    /// How long each step took; the estimate uses their median, which the first slow one does not bend.
    steps: Vec<Duration>,
}

impl Reporter {
    /// JSON lines on standard output, or text on standard error: one line that is redrawn on a terminal, plain lines elsewhere.
    pub fn new(json: bool) -> Self {
        let now = Instant::now();
        Self { json, terminal: !json && stderr().is_terminal(), started: now, last: now, steps: Vec::new() }
    }

    /// Tells of one event.
    pub fn event(&mut self, event: &Event) {
        let took = self.last.elapsed();
        self.last = Instant::now();
        if let Event::Step(_) = event {
            self.steps.push(took);
        }
        if self.json {
            // A reader that has gone is no reason to stop drawing.
            let _ = print(&self.json_line(event, took));
            return;
        }
        match event {
            Event::Loaded { model } => self.line(&format!("load     {:>8}  {model}", seconds(took))),
            Event::Encoded { cut } => {
                self.line(&format!("encode   {:>8}", seconds(took)));
                for Cut { encoder, kept, tokens } in *cut {
                    self.line(&format!("note: the prompt has {tokens} tokens, {encoder} sees the first {kept}"));
                }
            }
            Event::Step(step) => self.step(step),
            Event::Decoded => self.line(&format!("decode   {:>8}", seconds(took))),
            Event::Image { path, width, height, seed } => self.line(&format!(
                "{}  {width}x{height}  seed {seed}  {}",
                path.display(),
                seconds(self.started.elapsed())
            )),
        }
    }

    fn step(&self, step: &StepReport) {
        let median = self.median();
        let text = format!(
            "step     {:>8}  {}  {} left  sigma {:.2} -> {:.2}",
            format!("{}/{}", step.step, step.steps),
            rate(median),
            seconds(median * (step.steps - step.step) as u32),
            step.sigma,
            step.sigma_next
        );
        if !self.terminal {
            return self.line(&text);
        }
        // The line is redrawn in place; the last step leaves the summary.
        if step.step < step.steps {
            let _ = write!(stderr(), "\r\x1b[2K{text}");
            let _ = stderr().flush();
        } else {
            let all = seconds(self.steps.iter().sum());
            self.line(&format!("\r\x1b[2Ksample   {all:>8}  {} steps  {}", step.steps, rate(median)));
        }
    }

    /// A closed standard error is no reason to stop drawing.
    fn line(&self, text: &str) {
        let _ = writeln!(stderr(), "{text}");
    }

    fn median(&self) -> Duration {
        let mut sorted = self.steps.clone();
        sorted.sort();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    fn json_line(&self, event: &Event, took: Duration) -> String {
        let took = took.as_secs_f64();
        let value = match event {
            Event::Loaded { model } => serde_json::json!({"event": "loaded", "model": model, "seconds": took}),
            Event::Encoded { cut } => {
                let cut: Vec<_> = cut
                    .iter()
                    .map(|c| serde_json::json!({"encoder": c.encoder, "kept": c.kept, "tokens": c.tokens}))
                    .collect();
                serde_json::json!({"event": "encoded", "cut": cut, "seconds": took})
            }
            Event::Step(s) => serde_json::json!({
                "event": "step", "step": s.step, "steps": s.steps, "sigma": s.sigma, "sigma_next": s.sigma_next,
                "seconds": took,
            }),
            Event::Decoded => serde_json::json!({"event": "decoded", "seconds": took}),
            Event::Image { path, width, height, seed } => serde_json::json!({
                "event": "image", "path": path.to_string_lossy(), "width": width, "height": height, "seed": seed,
                "seconds": self.started.elapsed().as_secs_f64(),
            }),
        };
        value.to_string()
    }
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
