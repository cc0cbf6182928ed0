//! Where a file's changes belong in a model.

use core_tensor::{Branch, Change, Kind, Need, Stored, Strength, WeightSource};
use diffusion_engine::family::{BESIDE, Duty, Span};

use crate::{
    Adapter, Algorithm, Dora, Error, LoraFile, Misfit, Report, Target, Unmatched,
    algorithms::{Scaled, Site},
    leaf::Leaf,
    names::Names,
    strengths::Place,
    tensors::{Tensors, count, values},
};

/// An adapter's changes as branches of a model's tensors.
#[derive(Debug)]
pub struct Fitted {
    /// What its strengths are set by; all of them are 0 at first.
    pub adapter: Adapter,
    /// What found its place and what did not.
    pub report: Report,
    /// By the place of their target in the list, and the tensors' names in that one's source.
    branches: Vec<(usize, String, Branch)>,
}

impl Fitted {
    /// The same, if all of the file found its place.
    ///
    /// # Errors
    /// [`Error::Partial`].
    pub fn whole(self) -> Result<Self, Error> {
        match self.report.unmatched.is_empty() {
            true => Ok(self),
            false => Err(Error::Partial { report: Box::new(self.report) }),
        }
    }

    /// The branches of one of the targets, by the tensors' names in its source.
    pub fn branches(&self, target: usize) -> impl Iterator<Item = (String, Branch)> {
        let of_target = self.branches.iter().filter(move |(of, ..)| *of == target);
        of_target.map(|(_, name, branch)| (name.clone(), branch.clone()))
    }
}

impl LoraFile {
    /// Finds the place of each change in a model, which messages call `model`.
    ///
    /// # Errors
    /// [`Error::NothingFits`] where there is no place for any of them: the file was made for another model.
    pub fn fitted(&self, model: &str, targets: &[Target], dora: Dora) -> Result<Fitted, Error> {
        let (names, adapter) = (Names::of(targets), Adapter::default());
        let mut branches = Vec::new();
        let unknown = self.unknown.iter().map(|name| Unmatched { name: name.clone(), why: Misfit::Unknown });
        let mut unmatched: Vec<Unmatched> = unknown.collect();
        let mut matched = 0;
        for (name, tensors) in &self.modules {
            let Some((part, spans)) = names.find(name) else {
                let nearest = if unmatched.len() < NEAREST { names.nearest(name) } else { None };
                unmatched.push(Unmatched { name: name.clone(), why: Misfit::NoModule { nearest } });
                continue;
            };
            let module = Module { target: &targets[part], spans, name };
            match module.branches(self, tensors, dora, &adapter) {
                Ok(made) => {
                    matched += 1;
                    branches.extend(made.into_iter().map(|(tensor, branch)| (part, tensor, branch)));
                }
                Err(why) => unmatched.push(Unmatched { name: name.clone(), why }),
            }
        }
        unmatched.sort_by(|a, b| a.name.cmp(&b.name));
        let total = self.modules.len() + self.unknown.len();
        let report = Report { label: self.label.clone(), model: model.to_owned(), matched, total, unmatched };
        match matched {
            0 => Err(Error::NothingFits { report: Box::new(report) }),
            _ => Ok(Fitted { adapter, report, branches }),
        }
    }
}

/// For how many modules without a place the nearest is looked for; messages list fewer.
const NEAREST: usize = 32;

/// The layer of Flux that takes the latent in.
const INPUT: &str = "img_in";

/// Rows of modules of a model that a file calls one.
struct Module<'m> {
    target: &'m Target,
    spans: &'m [Span],
    name: &'m str,
}

impl Module<'_> {
    /// What the tensors become for the model's own; by their names.
    fn branches(
        &self,
        file: &LoraFile,
        tensors: &Tensors,
        dora: Dora,
        adapter: &Adapter,
    ) -> Result<Vec<(String, Branch)>, Misfit> {
        let scale = file.scale(self.name, tensors)?;
        let (weights, biases) = (self.needs(&["weight", "scale"]), self.needs(&["bias"]));
        let mut made = Vec::new();
        let of_bias = tensors.has(Leaf::DiffBias) || tensors.has(Leaf::UpBias);
        if !of_bias || tensors.leaves().any(|leaf| !matches!(leaf, Leaf::DiffBias | Leaf::UpBias | Leaf::Alpha)) {
            let needs = weights.ok_or(Misfit::NoModule { nearest: None })?;
            let shape = self.shape(&needs)?;
            let multiplies = needs
                .iter()
                .all(|need| matches!(need.kind, Kind::Matrix { .. } | Kind::Convolution) && shape.len() >= 2);
            let module = self.spans.first().map_or("", |span| span.module.as_str());
            let base = || self.base(&needs);
            let site = Site { module, shape, base: &base, multiplies, dora };
            let widened = self.widened(&needs, tensors)?;
            let own = widened.as_ref().map_or(tensors, |(own, ..)| own);
            for (change, scale) in site.changes(own, scale)? {
                made.extend(self.cut(&needs, (change, scale), site.shape[0], adapter)?);
            }
            if let Some((_, further, beside)) = &widened {
                for (change, scale) in site.changes(further, scale)? {
                    made.extend(self.cut(&[beside], (change, scale), site.shape[0], adapter)?);
                }
            }
        }
        let rank = tensors.get(Leaf::Down).and_then(|down| down.shape().first().copied());
        for (leaf, scale) in [(Leaf::DiffBias, 1.0), (Leaf::UpBias, scale.of(rank))] {
            let Some(difference) = tensors.get(leaf) else { continue };
            values(difference)?;
            let found = difference.shape().to_vec();
            let expected = |expected| Misfit::Shape { module: self.name.to_owned(), expected, found: found.clone() };
            let module = || self.spans.first().map_or_else(String::new, |span| span.module.clone());
            let needs = biases.as_ref().ok_or_else(|| Misfit::NoBias { module: module() })?;
            let shape = self.shape(needs)?;
            if count(difference.shape()) != count(&shape) {
                return Err(expected(shape));
            }
            let height = shape[0];
            let change = Change::Difference(difference.clone().reshape(shape));
            made.extend(self.cut(needs, (change, scale), height, adapter)?);
        }
        Ok(made)
    }

    /// What is added to Flux's own inputs, what to as many more of a control picture beside the latent, and the tensor that these are called;
    /// `None` where it does not widen them so.
    ///
    /// As BFL's LoRAs for Canny and Depth do: `y = W x + up (down_x x + down_c c)`, whose columns of `down` are cut in two.
    fn widened(&self, needs: &[&Need], tensors: &Tensors) -> Result<Option<(Tensors, Tensors, Need)>, Misfit> {
        let ([span], &[need], Some(down)) = (self.spans, needs, tensors.get(Leaf::Down)) else { return Ok(None) };
        let (&[rank, width], &[_, own]) = (down.shape(), &need.shape[..]) else { return Ok(None) };
        let is_plain = Algorithm::of(tensors) == Some(Algorithm::Lora)
            && !tensors.has(Leaf::DoraScale)
            && !tensors.has(Leaf::Magnitude);
        if !is_plain || span.module != INPUT || self.target.duty != Duty::DENOISER || own.checked_mul(2) != Some(width)
        {
            return Ok(None);
        }
        let values = values(down)?;
        let half = |at: usize| {
            let columns =
                values.chunks_exact(width).flat_map(|row| &row[at * own..][..own]).copied().collect::<Vec<_>>();
            tensors.with(Leaf::Down, Stored::of(&columns, vec![rank, own]))
        };
        let beside = Need { name: format!("{}.{BESIDE}.weight", span.module), ..need.clone() };
        Ok(Some((half(0), half(1), beside)))
    }

    /// The tensors of the modules with one of these leaves; `None` where one has none.
    fn needs(&self, leaves: &[&str]) -> Option<Vec<&Need>> {
        let of_module =
            |module: &str| leaves.iter().find_map(|leaf| self.target.layout.get(&format!("{module}.{leaf}")));
        self.spans.iter().map(|span| of_module(&span.module)).collect()
    }

    /// The shape of all the rows.
    fn shape(&self, needs: &[&Need]) -> Result<Vec<usize>, Misfit> {
        let rows = self.spans.iter().zip(needs).map(|(span, need)| rows_of(span, need).len()).sum();
        let first = needs.first().ok_or(Misfit::NoModule { nearest: None })?;
        let mut shape = first.shape.clone();
        *shape.first_mut().ok_or(Misfit::NoModule { nearest: None })? = rows;
        Ok(shape)
    }

    /// The weight's values in the rows, as they are stored.
    fn base(&self, needs: &[&Need]) -> Result<Stored, Misfit> {
        let part = |(span, need): (&Span, &&Need)| {
            let unreadable = || Misfit::NoModule { nearest: None };
            let stored = self.target.source.read(&format!("{}{}", self.target.root, need.name));
            let stored = stored.map_err(|_| unreadable())?;
            let start = span.start;
            let end = start.saturating_add(rows_of(span, need).len());
            match stored.shape().first() {
                Some(&height) if end <= height => stored.rows(start..end).map_err(|_| unreadable()),
                Some(_) | None => Err(unreadable()),
            }
        };
        let parts = self.spans.iter().zip(needs).map(part).collect::<Result<Vec<_>, _>>()?;
        Stored::stacked(&parts).ok_or(Misfit::NoModule { nearest: None })
    }

    /// A change of all rows, cut to the tensors that these are rows of.
    fn cut(
        &self,
        needs: &[&Need],
        (change, scale): Scaled,
        height: usize,
        adapter: &Adapter,
    ) -> Result<Vec<(String, Branch)>, Misfit> {
        let whole = Branch { rows: 0..height, change, scale, strength: Strength::of(0.0) };
        let denoises = self.target.duty == Duty::DENOISER;
        let part = |(span, need): (&Span, &&Need)| {
            let strength = adapter.at(Place::of(&self.target.part, denoises, &span.module));
            let branch = whole.within(rows_of(span, need)).map_err(|_| Misfit::NoModule { nearest: None })?;
            let name = format!("{}{}", self.target.root, need.name);
            Ok(branch.map(|branch| (name, Branch { strength, ..branch.behind(span.start) })))
        };
        self.spans.iter().zip(needs).filter_map(|pair| part(pair).transpose()).collect()
    }
}

/// The rows of a spelling that a span is.
fn rows_of(span: &Span, need: &Need) -> std::ops::Range<usize> {
    span.rows.clone().unwrap_or(0..need.shape.first().copied().unwrap_or(0))
}
