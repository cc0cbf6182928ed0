//! Weights that have no room on a card and pass through a few slots of its memory: while it computes with one, the next are copied there.
//!
//! A thread of their own fills pinned memory and has it copied on a stream of its own, in the order in which they were asked for the last
//! time. A slot is written again once the card has done what was asked of it with the weights there.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    ops::Deref,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, SendError, Sender},
    },
    thread::{self, JoinHandle},
};

use burn::tensor::{Bytes, DType, Shape, StreamId};
use burn_cubecl::{CubeDevice, tensor::CubeTensor};
use cubecl::{
    client::Client,
    future::block_on,
    server::{Handle, ServerError},
};
use kernels::Compute;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::pinned::{Buffers, Fill};
use crate::{
    Device,
    device_matrix::DeviceMatrix,
    gpu::{View, dtype_of},
    packed::{Packed, foresee},
    packing::Content,
};

/// What of the card's memory weights pass through, each as large as the largest of them: one is computed with while others are written. Two
/// would do if each matrix took as long to compute with as the next takes to be copied; Flux has as many for its text, of which there is less,
/// as for its picture.
pub(crate) const SLOTS: usize = 3;

/// The stream on which they are copied. All else is asked for on stream 0.
const COPIES: StreamId = StreamId { value: 1 };

/// When the card has done what was asked of it before.
type Done = Pin<Box<dyn Future<Output = Result<(), ServerError>> + Send>>;

/// The weights of a model that pass through a card's memory.
pub(crate) struct Ahead {
    like: View,
    items: Mutex<Vec<Arc<Item>>>,
    /// Who brings them, from the first that is asked for on: the one that there is, or nobody where the system refused it.
    thread: Mutex<Option<Result<Thread, Refused>>>,
}

/// The system has no thread or no memory for it.
struct Refused;

struct Thread {
    messages: Sender<Message>,
    ended: JoinHandle<()>,
}

impl Thread {
    /// Waits for its end.
    fn join(self) {
        let Self { messages, ended } = self;
        drop(messages);
        // A panic there was told where its weights were missed.
        let _ = ended.join();
    }
}

/// A matrix, and what is computed in.
struct Item {
    content: Content,
    compute: Compute,
    fill: Fill,
}

impl Item {
    /// How it lies on the card.
    fn laid(&self) -> (Shape, DType) {
        match self.content {
            Content::Dense(shape) => (shape.into(), dtype_of(self.compute)),
            Content::Packed(packing) => ([packing.bytes() / DType::U32.size()].into(), DType::U32),
        }
    }

    fn bytes(&self) -> usize {
        let (shape, dtype) = self.laid();
        shape.iter().product::<usize>() * dtype.size()
    }
}

enum Message {
    /// Someone is about to compute with weights.
    Ask { number: usize, answer: Sender<Copied> },
    /// What computes with the weights in a slot is asked for, and done then.
    Used { slot: usize, done: Done },
    /// Who computes with weights gave up, and when their slot is free can't be told. Nothing is brought ahead from then on.
    Failed,
}

/// Weights in a slot, once `there`.
struct Copied {
    slot: usize,
    item: Arc<Item>,
    tensor: View,
    there: Done,
}

/// A matrix on the card, for as long as it takes to ask for what is computed with it.
pub(crate) struct Brought {
    matrix: DeviceMatrix,
    slot: usize,
    client: Client,
    messages: Sender<Message>,
}

impl fmt::Debug for Brought {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Brought({})", self.slot)
    }
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Ahead").finish_non_exhaustive()
    }
}

impl Ahead {
    /// `None` on a device other than CUDA's, and on one without kernels of ours.
    pub(crate) fn on(device: &Device) -> Option<Self> {
        let like = View::on(device).filter(|like| matches!(like.0.device, CubeDevice::Cuda(_)))?;
        Some(Self { like, items: Mutex::default(), thread: Mutex::default() })
    }

    /// The number of a matrix that is computed with in a number format, of which `fill` writes what passes. None is brought that is put in
    /// after the first was asked for.
    pub(crate) fn enrol(&self, content: Content, compute: Compute, fill: Fill) -> usize {
        if let Content::Packed(packing) = &content {
            foresee(&self.like.0.device, packing, dtype_of(compute));
        }
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        items.push(Arc::new(Item { content, compute, fill }));
        items.len() - 1
    }

    /// A matrix by its number; `None` where it has to be had in another way.
    pub(crate) fn bring(&self, number: usize) -> Option<Brought> {
        let messages = self.messages()?;
        let (answer, answers) = mpsc::channel();
        messages.send(Message::Ask { number, answer }).ok()?;
        let Copied { slot, item, tensor, there } = answers.recv().ok()?;
        // Whoever looks at what is computed with it hears of a copy that failed.
        let _ = block_on(there);
        let client = self.like.client().clone();
        let matrix = match item.content {
            Content::Dense(_) => DeviceMatrix::dense(tensor.into_tensor(), item.compute),
            Content::Packed(packing) => {
                DeviceMatrix::packed(Packed::of(tensor.0, packing, dtype_of(item.compute)), item.compute)
            }
        };
        Some(Brought { matrix, slot, client, messages })
    }

    /// What the thread hears. One that has ended, as whoever computed with its weights gave up, is followed by another.
    fn messages(&self) -> Option<Sender<Message>> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Ok(ended)) = thread.take_if(|thread| thread.as_ref().is_ok_and(|thread| thread.ended.is_finished()))
        {
            ended.join();
        }
        let thread = thread.get_or_insert_with(|| self.start().ok_or(Refused));
        thread.as_ref().ok().map(|thread| thread.messages.clone())
    }

    fn start(&self) -> Option<Thread> {
        let items: Vec<_> = self.items.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let largest = items.iter().map(|item| item.bytes()).max()?;
        let client = self.like.client();
        let slots = client.memory_persistent_allocation((), |()| [(); SLOTS].map(|()| client.empty(largest)));
        let (sender, messages) = mpsc::channel();
        let like = self.like.clone();
        // As many as compute here, who have little to do while the card does it. Whoever is in no pool would be given one of all cores.
        let pool = ThreadPoolBuilder::new().num_threads(rayon::current_num_threads()).build().ok()?;
        let carrier = move || {
            let free = (0..SLOTS).map(|slot| (slot, None)).collect();
            let buffers = Buffers::of(like.client().clone(), largest);
            let (ahead, follows) = (VecDeque::new(), BTreeMap::new());
            Carrier {
                like,
                items,
                pool,
                slots,
                free,
                buffers,
                ahead,
                filled: None,
                copying: None,
                follows,
                is_in_order: true,
            }
            .serve(&messages);
        };
        let carrier = move || COPIES.executes(carrier);
        let ended = thread::Builder::new().name("weights".into()).spawn(carrier).ok()?;
        Some(Thread { messages: sender, ended })
    }
}

impl Drop for Ahead {
    /// What the thread has of the card's memory is free afterwards.
    fn drop(&mut self) {
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(Ok(thread)) = thread.take() {
            thread.join();
        }
    }
}

impl Deref for Brought {
    type Target = DeviceMatrix;

    fn deref(&self) -> &DeviceMatrix {
        &self.matrix
    }
}

impl Drop for Brought {
    fn drop(&mut self) {
        let message = match thread::panicking() {
            true => Message::Failed,
            false => Message::Used { slot: self.slot, done: self.client.sync() },
        };
        // Nobody waits for the slot where the thread has ended.
        let _ = self.messages.send(message);
    }
}

/// The thread that brings weights.
struct Carrier {
    like: View,
    items: Vec<Arc<Item>>,
    /// Whose threads write what is copied.
    pool: ThreadPool,
    slots: [Handle; SLOTS],
    /// Slots that nobody has, and when they can be written.
    free: VecDeque<(usize, Option<Done>)>,
    buffers: Buffers,
    /// What is likely to be asked for next: on its way to the card, and behind that still on the host.
    ahead: VecDeque<(usize, Copied)>,
    filled: Option<(usize, Bytes)>,
    /// When the last copy is there. The next is asked for then: CubeCL waits for it when it takes the next one on, and nothing else is
    /// asked of the card meanwhile.
    copying: Option<Done>,
    /// What was asked for behind each the last time.
    follows: BTreeMap<usize, usize>,
    /// Whether nobody has asked yet for another than the one behind the last, which is what is foreseen of the first round.
    is_in_order: bool,
}

impl Carrier {
    /// Ends when nobody is left who could ask, or one of them failed.
    fn serve(mut self, messages: &Receiver<Message>) {
        let (mut waiting, mut last) = (VecDeque::new(), None);
        while let Ok(message) = messages.recv() {
            match message {
                Message::Used { slot, done } => self.free.push_back((slot, Some(done))),
                Message::Failed => break,
                Message::Ask { number, answer } => {
                    if let Some(last) = last.replace(number) {
                        self.follows.insert(last, number);
                        self.is_in_order &= number == self.behind(last);
                    }
                    match self.ahead.pop_front() {
                        Some((foreseen, copied)) if foreseen == number => {
                            self.give(copied, &answer);
                        }
                        other => {
                            let wrong = other.into_iter().chain(self.ahead.drain(..));
                            self.free.extend(wrong.map(|(_, Copied { slot, there, .. })| (slot, Some(there))));
                            waiting.push_back((number, answer));
                        }
                    }
                }
            }
            while !self.free.is_empty()
                && let Some((number, answer)) = waiting.pop_front()
            {
                if let Some(copied) = self.bring(number) {
                    self.give(copied, &answer);
                }
            }
            if let (Some(last), true) = (last, waiting.is_empty()) {
                self.look_ahead(last);
            }
        }
        let client = self.like.client().clone();
        drop(self);
        // The pinned memory among it. Others that copy ask for theirs anew, and what can't be given back stays.
        let _ = client.memory_cleanup();
    }

    /// Answers who asked, if it waits still.
    fn give(&mut self, copied: Copied, to: &Sender<Copied>) {
        if let Err(SendError(Copied { slot, there, .. })) = to.send(copied) {
            self.free.push_back((slot, Some(there)));
        }
    }

    /// Has what may be asked for next copied as long as there are slots, and fills a buffer with what comes behind that.
    fn look_ahead(&mut self, last: usize) {
        while self.ahead.len() < SLOTS - 1 {
            let last = self.ahead.back().map_or(last, |&(number, _)| number);
            let Some(next) = self.next(last) else { return };
            if self.filled.as_ref().is_none_or(|(filled, _)| *filled != next) {
                // One that was filled in vain is free again.
                self.filled = None;
                self.filled = self.fill(next).map(|bytes| (next, bytes));
            }
            match self.bring(next) {
                Some(copied) => self.ahead.push_back((next, copied)),
                None => return,
            }
        }
    }

    /// What is likely to be asked for behind another.
    fn next(&self, last: usize) -> Option<usize> {
        self.follows.get(&last).copied().or_else(|| self.is_in_order.then(|| self.behind(last)))
    }

    fn behind(&self, number: usize) -> usize {
        (number + 1) % self.items.len()
    }

    fn fill(&mut self, number: usize) -> Option<Bytes> {
        let (item, pool) = (self.items.get(number)?, &self.pool);
        Some(self.buffers.filled(item.bytes(), |to| pool.install(|| (item.fill)(to))))
    }

    /// Copies a matrix to a slot that nobody has; `None` where there is no such slot or matrix.
    fn bring(&mut self, number: usize) -> Option<Copied> {
        let item = self.items.get(number)?.clone();
        let (slot, done) = self.free.pop_front()?;
        let bytes = match self.filled.take() {
            Some((filled, bytes)) if filled == number => bytes,
            _ => self.fill(number)?,
        };
        // What failed on the card is told where its values are looked at.
        for done in [done, self.copying.take()].into_iter().flatten() {
            let _ = block_on(done);
        }
        let (client, memory) = (self.like.client(), &self.slots[slot]);
        let handle = memory.clone().offset_end(memory.size_in_used() - bytes.len() as u64);
        client.write(&handle, bytes);
        self.copying = Some(Box::pin(client.sync()));
        let device = self.like.0.device.clone();
        let (shape, dtype) = item.laid();
        let tensor = CubeTensor::new_contiguous(client.clone(), device, shape, handle, dtype);
        Some(Copied { slot, item, tensor: View(tensor), there: Box::pin(client.sync()) })
    }
}
