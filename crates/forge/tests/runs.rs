//! Several runs of one Flux in miniature: side by side, interrupted, resumed, watched.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use fixtures::psnr;
use forge::{
    ComputeChoice, Config, Error, Event, Fault, Forge, Job, Run, Size, ThreadCount, Txt2Img, Wrap,
    core_tensor::{Tensor, values},
    diffusion_engine::{self, Call, HookError, Hooks, Site},
    memory::{Bytes, Plan},
    samplers::{Processes, Registry, Sampler},
};

/// `tiny-dev`, which computes in f32 as its goldens do.
fn config() -> Config {
    let mut config = Config::read(&fixtures::path("golden/tiny-dev/case.toml")).unwrap();
    config.device.compute = ComputeChoice::F32;
    config
}

fn request(steps: usize) -> Txt2Img {
    let request = config().request(|| 0).unwrap().steps(steps).size(Size { width: 32, height: 32 });
    Txt2Img { batch: 1, ..request }.with(|pass| pass.cfg = 1.0.into())
}

/// Every sampler that is made for flows.
fn of_flows() -> Vec<Sampler> {
    let registry = Registry::builtin();
    let all: Vec<_> = registry.samplers().iter().filter(|s| s.processes == Processes::All).cloned().collect();
    assert!(all.len() >= 36);
    all
}

fn pixels(mut run: Run) -> Vec<f32> {
    run.by_ref().try_for_each(|event| event.map(drop)).unwrap();
    values(&run.pixels().unwrap())
}

#[test]
fn a_forge_is_shared_and_a_run_goes_to_any_thread() {
    fn shared<T: Clone + Send + Sync>() {}
    fn goes<T: Send + 'static>() {}
    shared::<Forge>();
    goes::<Run>();
    shared::<forge::Preview>();
    shared::<forge::Cancel>();
}

#[test]
fn who_asks_to_stop_while_a_model_is_loaded_does_not_wait_until_it_is() {
    let forge = Forge::load(&config()).unwrap();
    let job = || Job::of(request(1)).unwrap();
    let cancel = forge::Cancel::default();
    cancel.ask();
    let stopped = forge.start_until(job(), cancel).map(drop).unwrap_err();
    assert_eq!(stopped.fault(), Fault::Stopped, "{stopped:?}");
    // the next is none of its business, and finds nothing of the half that was loaded
    let after = pixels(forge.start(job()).unwrap());
    assert_eq!(after, pixels(Forge::load(&config()).unwrap().start(job()).unwrap()));
}

#[test]
fn every_sampler_makes_the_same_pixels_when_it_is_interrupted_after_any_step() {
    let forge = Forge::load(&config()).unwrap();
    for sampler in of_flows() {
        // given a run of nine steps, of which a snapshot is taken after each of the first eight
        let mut run = forge.txt2img(request(9).with(|pass| pass.sampler = sampler.clone())).unwrap();
        let mut snapshots = Vec::new();
        while let Some(event) = run.next() {
            if let Event::Step(step) = event.unwrap()
                && step.step <= 8
            {
                snapshots.push(run.snapshot().unwrap());
            }
        }
        assert!(snapshots.len() >= 7, "{}", sampler.id);
        let whole = values(&run.pixels().unwrap());
        for snapshot in snapshots {
            // when it goes on from there, then nothing tells that it was away
            let step = snapshot.step();
            assert!(pixels(forge.resume(snapshot).unwrap()) == whole, "{} after step {step}", sampler.id);
        }
    }
}

#[test]
fn a_snapshot_goes_on_in_another_forge_of_the_same_model() {
    let mut run = Forge::load(&config()).unwrap().txt2img(request(4)).unwrap();
    run.by_ref().take(3).for_each(|event| drop(event.unwrap()));
    let snapshot = run.snapshot().unwrap();
    let resumed = Forge::load(&config()).unwrap().resume(snapshot).unwrap();
    assert!(pixels(resumed) == pixels(run));
}

#[test]
fn a_picture_that_has_no_room_at_once_is_nearly_the_same_in_tiles() {
    // given the demo, and less than decoding at once takes
    let mut config = Config::read(&fixtures::path("../flux.toml")).unwrap();
    let request = |config: &Config| config.request(|| 7).unwrap().steps(2).size(Size { width: 512, height: 384 });
    let whole = Forge::load(&config).unwrap();
    let run = whole.txt2img(request(&config)).unwrap();
    assert_eq!(run.job().room(), None);
    let expected = pixels(run);
    let decode = |plan: &Plan| plan.at("decode").unwrap().0;
    let ample = decode(&whole.plan(&Job::of(request(&config)).unwrap()).unwrap());
    config.device.memory = Some(Bytes(ample * 7 / 10));
    // when it is drawn with that
    let tight = Forge::load(&config).unwrap();
    let mut run = tight.txt2img(request(&config)).unwrap();
    assert!(run.job().room().is_some());
    run.by_ref().try_for_each(|event| event.map(drop)).unwrap();
    let snapshot = run.snapshot().unwrap();
    let tiled = values(&run.pixels().unwrap());
    // then it is another in few bits, and goes on elsewhere as it was
    let db = psnr(&tiled, &expected);
    assert!((30.0..90.0).contains(&db), "{db} dB");
    assert!(pixels(whole.resume(snapshot).unwrap()) == tiled);
}

#[test]
fn two_runs_in_turn_make_the_pixels_of_one_after_the_other() {
    let forge = Forge::load(&config()).unwrap();
    let requests = || {
        let one = request(5);
        let sampler = Registry::builtin().sampler("euler_ancestral").unwrap();
        let other = request(4).seed(9).size(Size { width: 48, height: 32 }).with(|pass| {
            (pass.sampler, pass.prompt, pass.cfg) = (sampler, "another".into(), 2.0.into());
        });
        [one, other]
    };
    let expected = requests().map(|request| pixels(forge.txt2img(request).unwrap()));
    let [mut one, mut other] = requests().map(|request| forge.txt2img(request).unwrap());
    loop {
        let (first, second) = (one.next(), other.next());
        if first.is_none() && second.is_none() {
            break;
        }
        [first, second].into_iter().flatten().for_each(|event| drop(event.unwrap()));
    }
    let found = [one, other].map(|mut run| values(&run.pixels().unwrap()));
    assert!(found == expected);
}

/// Tells of the first block that it sees, and makes the blocks behind it slow.
struct Slow {
    seen: Sender<()>,
    blocks: Arc<AtomicUsize>,
}

const BLOCK: Duration = Duration::from_millis(50);

impl Hooks for Slow {
    fn after(&self, at: Site, _: Option<Call>, x: Tensor<3>) -> Result<Tensor<3>, HookError> {
        if at.network == "transformer" {
            self.blocks.fetch_add(1, Ordering::Relaxed);
            let _ = self.seen.send(());
            thread::sleep(BLOCK);
        }
        Ok(x)
    }
}

/// Hooks and nothing else.
struct Hooked(Arc<dyn Hooks>);

impl Wrap for Hooked {
    fn hooks(&self) -> Option<Arc<dyn Hooks>> {
        Some(self.0.clone())
    }
}

#[test]
fn one_of_two_threads_is_stopped_in_the_midst_of_a_step_and_the_other_draws_on() {
    let forge = Forge::load(&config()).unwrap();
    let expected = pixels(forge.txt2img(request(4)).unwrap());
    // given two jobs of one model on two threads, one of them slow
    let (seen, block) = channel();
    let blocks = Arc::new(AtomicUsize::new(0));
    let slow = Hooked(Arc::new(Slow { seen, blocks: blocks.clone() }));
    let job = Job::of(request(50).seed(2)).unwrap().with(Arc::new(slow));
    let mut stopped = forge.start(job).unwrap();
    let (cancel, preview) = (stopped.cancel(), stopped.preview());
    let stopped = thread::spawn(move || stopped.find_map(Result::err));
    let other = forge.clone();
    let drawn = thread::spawn(move || {
        let mut run = other.txt2img(request(4)).unwrap();
        let preview = run.preview();
        run.by_ref().find(|event| matches!(event, Ok(Event::Step(_)))).unwrap().unwrap();
        let seen = preview.image().unwrap().unwrap();
        assert_eq!((seen.width, seen.height), (4, 4));
        pixels(run)
    });
    // when that one is stopped in the midst of a step
    block.recv().unwrap();
    let (asked, before) = (Instant::now(), blocks.load(Ordering::Relaxed));
    cancel.ask();
    let error = stopped.join().unwrap().unwrap();
    // then it is after the block that it was in
    assert!(asked.elapsed() < Duration::from_secs(1) + BLOCK, "{:?}", asked.elapsed());
    assert!(blocks.load(Ordering::Relaxed) <= before + 1);
    assert!(matches!(&error, Error::Run(diffusion_engine::Error::Stopped { steps: 50, .. })), "{error:?}");
    assert_eq!(error.fault(), Fault::Stopped);
    assert!(preview.image().is_ok());
    // and the other's picture is what it would have been alone
    assert!(drawn.join().unwrap() == expected);
}

#[test]
fn opening_reads_neither_sampling_nor_size_and_a_job_is_planned_by_its_own() {
    let mut config = config();
    config.sampling.sampler = "no such sampler".into();
    config.image.width = 1001;
    config.device.memory = Some(Bytes(192 << 20));
    let forge = Forge::load(&config).unwrap();
    let job = |side| Job::of(request(1).size(Size { width: side, height: side })).unwrap();
    assert!(forge.plan(&job(32)).unwrap().total() < forge.plan(&job(64)).unwrap().total());
    assert!(pixels(forge.start(job(32)).unwrap()).len() == 3 * 32 * 32);
    assert_eq!(forge.start(job(4096)).err().unwrap().fault(), Fault::Memory);
    assert_eq!(forge.start(job(40)).err().unwrap().fault(), Fault::Usage);
    // and after what did not fit it draws on
    assert!(forge.start(job(32)).is_ok());
}

#[test]
fn a_forge_computes_in_as_many_threads_as_its_config_says() {
    struct Counted(Sender<usize>);
    impl Hooks for Counted {
        fn after(&self, _: Site, _: Option<Call>, x: Tensor<3>) -> Result<Tensor<3>, HookError> {
            self.0.send(rayon::current_num_threads())?;
            Ok(x)
        }
    }
    for threads in [1, 3] {
        let mut config = config();
        config.device.threads = ThreadCount::new(threads).unwrap();
        let (counted, counts) = channel();
        let hooks = Hooked(Arc::new(Counted(counted)));
        let job = Job::of(request(1)).unwrap().with(Arc::new(hooks));
        drop(pixels(Forge::load(&config).unwrap().start(job).unwrap()));
        let counts: Vec<usize> = counts.iter().collect();
        assert!(!counts.is_empty() && counts.iter().all(|&count| count == threads), "{counts:?}");
    }
}
