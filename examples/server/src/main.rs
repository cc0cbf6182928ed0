//! As a server does it: two jobs of one model on two threads, both previewed, one stopped in the midst of a step.

use std::{
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use forge::{
    Cancel, Config, Event, Fault, Forge, Job, Preview, Txt2Img, Wrap,
    core_tensor::Tensor,
    diffusion_engine::{Call, HookError, Hooks, Image, Site},
};

/// What a job tells those who asked for it.
#[derive(Debug)]
enum Told {
    Event(Event),
    Pictures(Vec<Image>),
    Failed(Fault, String),
}

/// A job that was taken on.
struct Ticket {
    name: &'static str,
    cancel: Cancel,
    preview: Preview,
    thread: thread::JoinHandle<()>,
}

fn take_on(forge: &Forge, name: &'static str, job: Job, tell: Sender<(&'static str, Told)>) -> forge::Result<Ticket> {
    let mut run = forge.start(job)?;
    let (cancel, preview) = (run.cancel(), run.preview());
    let thread = thread::spawn(move || {
        let told = loop {
            match run.next() {
                Some(Ok(event)) => drop(tell.send((name, Told::Event(event)))),
                Some(Err(error)) => break Told::Failed(error.fault(), error.to_string()),
                None => match run.images() {
                    Ok(pictures) => break Told::Pictures(pictures),
                    Err(error) => break Told::Failed(error.fault(), error.to_string()),
                },
            }
        };
        let _ = tell.send((name, told));
    });
    Ok(Ticket { name, cancel, preview, thread })
}

/// A model that is slow: each block of its network waits, and the third says that it runs.
struct Slow(Sender<()>);

impl Hooks for Slow {
    fn after(&self, at: Site, call: Option<Call>, x: Tensor<3>) -> Result<Tensor<3>, HookError> {
        if call.is_some() {
            thread::sleep(Duration::from_millis(20));
            if call.is_some_and(|call| call.sigma < 0.9) && at.index == Some(2) {
                let _ = self.0.send(());
            }
        }
        Ok(x)
    }
}

struct Slowed(Arc<Slow>);

impl Wrap for Slowed {
    fn hooks(&self) -> Option<Arc<dyn Hooks>> {
        Some(self.0.clone())
    }
}

fn main() -> forge::Result<()> {
    let config = Config::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../flux.toml").as_ref())?;
    let forge = Forge::load(&config)?;
    let request = |prompt: &str, seed| -> forge::Result<Txt2Img> {
        Ok(config.request(|| 0)?.seed(seed).steps(12).with(|pass| pass.prompt = prompt.into()))
    };
    let (tell, told) = channel();
    let (running, block) = channel();
    let slow =
        Job::of(request("a blue fish on a yellow background", 1)?)?.with(Arc::new(Slowed(Arc::new(Slow(running)))));
    let stopped = take_on(&forge, "stopped", slow, tell.clone())?;
    let whole = take_on(&forge, "whole", Job::of(request("a red apple on a white background", 2)?)?, tell)?;

    // One is stopped while a block of its network runs, and both are looked at.
    block.recv().expect("the slow job is running");
    let asked = Instant::now();
    stopped.cancel.ask();
    let [seen, other] = [&stopped, &whole].map(|ticket| (ticket.name, ticket.preview.image()));
    for (name, preview) in [seen, other] {
        match preview? {
            Some(Image { width, height, .. }) => println!("{name}: preview {width}x{height}"),
            None => println!("{name}: no preview yet"),
        }
    }
    let mut ends = Vec::new();
    for (name, told) in told {
        match told {
            Told::Event(Event::Step(step)) => println!("{name}: {step}"),
            Told::Event(_) => {}
            Told::Pictures(pictures) => ends.push((name, pictures.len(), None)),
            Told::Failed(fault, error) => {
                println!("{name}: {error}, {:?} after it was asked", asked.elapsed());
                ends.push((name, 0, Some(fault)));
            }
        }
    }
    for ticket in [stopped, whole] {
        ticket.thread.join().expect("a job does not panic");
    }
    ends.sort_unstable_by_key(|(name, ..)| *name);
    assert_eq!(ends, [("stopped", 0, Some(Fault::Stopped)), ("whole", 1, None)]);
    Ok(())
}
