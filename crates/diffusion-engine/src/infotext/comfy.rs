//! ComfyUI's graph: the pass that starts from noise, from its sampler back to the prompts.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{
    Infotext, TextFault, Writer,
    graph::{Graph, Link, Next, Node, plain},
};

/// Nodes that sample, of ComfyUI itself; those of others are told by their inputs.
const SAMPLERS: [&str; 4] = ["KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced"];

/// Nodes that are a sampler with its options, by the name that it has elsewhere (comfy_extras/nodes_custom_sampler.py, v0.3.64).
const SAMPLER_NODES: [(&str, &str); 12] = [
    ("SamplerEulerAncestral", "euler_ancestral"),
    ("SamplerEulerAncestralCFGPP", "euler_ancestral_cfg_pp"),
    ("SamplerEulerCFGpp", "euler_cfg_pp"),
    ("SamplerDPMPP_2M_SDE", "dpmpp_2m_sde"),
    ("SamplerDPMPP_3M_SDE", "dpmpp_3m_sde"),
    ("SamplerDPMPP_SDE", "dpmpp_sde"),
    ("SamplerDPMPP_2S_Ancestral", "dpmpp_2s_ancestral"),
    ("SamplerDPMAdaptative", "dpm_adaptive"),
    ("SamplerLMS", "lms"),
    ("SamplerER_SDE", "er_sde"),
    ("SamplerSASolver", "sa_solver"),
    ("SamplerGradientEstimation", "gradient_estimation"),
];

/// Nodes that are a schedule with its options.
const SCHEDULE_NODES: [(&str, &str); 8] = [
    ("KarrasScheduler", "karras"),
    ("ExponentialScheduler", "exponential"),
    ("PolyexponentialScheduler", "polyexponential"),
    ("LaplaceScheduler", "laplace"),
    ("VPScheduler", "vp"),
    ("BetaSamplingScheduler", "beta"),
    ("AlignYourStepsScheduler", "align_your_steps"),
    ("GITSScheduler", "gits"),
];

/// Nodes that do nothing to a picture but show, keep or decode it. `Primitive…` hold a value for another.
const PLUMBING: [&str; 8] =
    ["SaveImage", "PreviewImage", "VAEDecode", "VAELoader", "Reroute", "Note", "MarkdownNote", "SaveImageWebsocket"];

const SEED: &str = "the seed";
const STEPS: &str = "the number of steps";
const SAMPLER: &str = "the sampler";
const LEVELS: &str = "the schedule";
const CFG: &str = "cfg";
const PROMPT: &str = "the prompt";
const SIZE: &str = "the size";
const MODEL: &str = "the model";
const NOISE: &str = "the noise";

/// Reads a graph; what keeps it from being a request is a fault of the infotext.
pub(super) fn read(object: &Map<String, Value>) -> Infotext {
    let graph = Graph::of(object);
    let mut walk = Walk { graph: &graph, pairs: Vec::new(), rest: Vec::new(), seen: BTreeSet::new() };
    match walk.pass() {
        Ok((prompt, negative)) => {
            let Walk { pairs, mut rest, seen, .. } = walk;
            let is_told = |node: &Node| {
                !seen.contains(node.id) && !is_plumbing(node.class) && !node.class.starts_with("Primitive")
            };
            let unseen = graph.nodes().filter(is_told);
            rest.extend(unseen.map(|node| node.class.to_owned()));
            let mut told = BTreeSet::new();
            rest.retain(|class| told.insert(class.clone()));
            Infotext { prompt, negative, pairs, from: Writer::ComfyGraph, rest, fault: None }
        }
        Err(fault) => Infotext { pairs: walk.pairs, ..Infotext::faulty(Writer::ComfyGraph, fault) },
    }
}

struct Walk<'g, 'a> {
    graph: &'g Graph<'a>,
    pairs: Vec<(String, String)>,
    /// Classes and inputs that this engine has nothing for.
    rest: Vec<String>,
    /// Nodes of which something was read.
    seen: BTreeSet<&'a str>,
}

impl<'a> Walk<'_, 'a> {
    /// Finds the pass that starts from noise, and reads it; returns its prompts.
    fn pass(&mut self) -> Result<(String, String), TextFault> {
        let sampler = self.first_sampler()?;
        self.seen.insert(sampler.id);
        if sampler.class == "SamplerCustomAdvanced" {
            return self.custom_advanced(sampler);
        }
        let seed = if sampler.input("seed").is_some() { "seed" } else { "noise_seed" };
        self.pair(sampler, seed, SEED)?;
        self.pair(sampler, "cfg", CFG)?;
        if sampler.class == "SamplerCustom" {
            self.sampler_of(sampler)?;
            self.levels_of(sampler)?;
        } else {
            self.pair(sampler, "steps", STEPS)?;
            self.pair(sampler, "sampler_name", SAMPLER)?;
            self.pair(sampler, "scheduler", LEVELS)?;
            self.denoise(sampler)?;
        }
        // A range of the steps is a part of a pass; the whole is what is said if nothing is.
        for (input, whole) in
            [("add_noise", "enable"), ("start_at_step", "0"), ("return_with_leftover_noise", "disable")]
        {
            if sampler.input(input).is_some_and(|value| plain(value) != whole && plain(value) != "true") {
                self.pair(sampler, input, STEPS)?;
            }
        }
        let (steps, end) = (sampler.input("steps"), sampler.input("end_at_step"));
        if let (Some(steps), Some(end)) = (steps.and_then(Value::as_f64), end.and_then(Value::as_f64))
            && end < steps
        {
            self.pair(sampler, "end_at_step", STEPS)?;
        }
        self.model(sampler)?;
        self.size(sampler)?;
        Ok((self.prompt(sampler, "positive", true)?, self.prompt(sampler, "negative", false)?))
    }

    fn custom_advanced(&mut self, sampler: Node<'a>) -> Result<(String, String), TextFault> {
        if let Some((noise, _)) = self.graph.link(sampler, "noise", NOISE)? {
            if noise.class != "RandomNoise" {
                return Err(noise.unknown(NOISE));
            }
            self.seen.insert(noise.id);
            self.pair(noise, "noise_seed", SEED)?;
        }
        self.sampler_of(sampler)?;
        self.levels_of(sampler)?;
        self.size(sampler)?;
        let (guider, _) = self.graph.link(sampler, "guider", CFG)?.ok_or_else(|| sampler.unknown(PROMPT))?;
        self.seen.insert(guider.id);
        self.model(guider)?;
        match guider.class {
            "BasicGuider" => {
                self.pairs.push(("cfg".into(), "1".into()));
                Ok((self.prompt(guider, "conditioning", true)?, String::new()))
            }
            "CFGGuider" => {
                self.pair(guider, "cfg", CFG)?;
                Ok((self.prompt(guider, "positive", true)?, self.prompt(guider, "negative", false)?))
            }
            _ => Err(guider.unknown(CFG)),
        }
    }

    /// Of the samplers that the saved picture comes from, the one that follows no other.
    fn first_sampler(&mut self) -> Result<Node<'a>, TextFault> {
        let of_class =
            |word: &'static str| self.graph.nodes().filter(move |node| node.class.to_lowercase().contains(word));
        let ends = ["save", "preview"].into_iter().find(|word| of_class(word).next().is_some());
        let drawn = ends.map(|word| self.graph.made_from(of_class(word)));
        let is_drawn = |node: &Node| drawn.as_ref().is_none_or(|drawn| drawn.contains(node.id));
        let samplers: Vec<_> = self.graph.nodes().filter(|node| is_sampler(node) && is_drawn(node)).collect();
        let mut first = Vec::new();
        for sampler in &samplers {
            if self.start(*sampler)?.sampler.is_none() {
                first.push(*sampler);
            }
        }
        match first.as_slice() {
            [] if samplers.is_empty() => Err(TextFault::NoSampler),
            [] => Err(TextFault::Endless { node: samplers[0].id.to_owned() }),
            [first] => {
                let later = samplers.iter().filter(|sampler| sampler.id != first.id);
                self.rest.extend(later.map(|sampler| sampler.class.to_owned()));
                Ok(*first)
            }
            several => Err(TextFault::SeveralSamplers { count: several.len() }),
        }
    }

    /// What a sampler starts from.
    fn start(&self, sampler: Node<'a>) -> Result<Start<'a>, TextFault> {
        const FROM: [&str; 9] = [
            "latent_image",
            "latent",
            "samples",
            "pixels",
            "image",
            "images",
            "any",
            "optional_latent",
            "samples_from",
        ];
        let mut start = Start { size: None, sampler: None, between: Vec::new() };
        let first = self.graph.first_link(sampler, &FROM, SIZE)?;
        let found = self.graph.follow(first, |(node, _)| {
            let sides = node.class.starts_with("Empty") && node.input("width").is_some()
                || node.input(LOADED_SIDES[0]).is_some();
            if sides || is_sampler(&node) {
                return Ok(Next::Done(node));
            }
            start.between.push(node);
            Ok(Next::Go(self.graph.first_link(node, &FROM, SIZE)?))
        })?;
        match found {
            Some(node) if is_sampler(&node) => start.sampler = Some(node),
            found => start.size = found,
        }
        Ok(start)
    }

    fn size(&mut self, sampler: Node<'a>) -> Result<(), TextFault> {
        let Start { size, between, .. } = self.start(sampler)?;
        self.rest.extend(between.iter().filter(|node| !is_plumbing(node.class)).map(|node| node.class.to_owned()));
        self.seen.extend(between.iter().map(|node| node.id));
        let Some(empty) = size else { return Ok(()) };
        self.seen.insert(empty.id);
        for (side, loaded) in ["width", "height"].into_iter().zip(LOADED_SIDES) {
            let input = if empty.input(loaded).is_some() { loaded } else { side };
            if let Some(value) = self.graph.value(empty, input, SIZE)? {
                self.pairs.push((side.to_owned(), value));
            }
        }
        // Which of several pictures this is, and which part of the noise it got, the graph does not say.
        if empty.input("batch_size").is_some_and(|count| plain(count) != "1") {
            self.pair(empty, "batch_size", SIZE)?;
        }
        Ok(())
    }

    fn sampler_of(&mut self, node: Node<'a>) -> Result<(), TextFault> {
        let Some((sampler, _)) = self.graph.link(node, "sampler", SAMPLER)? else { return Ok(()) };
        self.seen.insert(sampler.id);
        if sampler.class == "KSamplerSelect" {
            return self.pair(sampler, "sampler_name", SAMPLER);
        }
        let known = SAMPLER_NODES.iter().find(|(class, _)| *class == sampler.class);
        let (_, name) = known.ok_or_else(|| sampler.unknown(SAMPLER))?;
        let is_heun = *name == "dpmpp_2m_sde" && sampler.input("solver_type").is_some_and(|kind| plain(kind) == "heun");
        self.pairs.push(("sampler_name".into(), if is_heun { "dpmpp_2m_sde_heun" } else { name }.into()));
        self.options(sampler, &["solver_type"], SAMPLER)
    }

    fn levels_of(&mut self, node: Node<'a>) -> Result<(), TextFault> {
        let Some((levels, _)) = self.graph.link(node, "sigmas", LEVELS)? else { return Ok(()) };
        self.seen.insert(levels.id);
        match levels.class {
            "BasicScheduler" => {
                self.pair(levels, "scheduler", LEVELS)?;
                self.pair(levels, "steps", STEPS)?;
                self.denoise(levels)?;
                self.model(levels)
            }
            "ManualSigmas" => self.pair(levels, "sigmas", LEVELS),
            class => {
                let known = SCHEDULE_NODES.iter().find(|(known, _)| *known == class);
                let (_, name) = known.ok_or_else(|| levels.unknown(LEVELS))?;
                self.pairs.push(("scheduler".into(), (*name).into()));
                self.denoise(levels)?;
                self.options(levels, &["denoise"], LEVELS)
            }
        }
    }

    /// The values of a node's inputs, but for some, under their own names.
    fn options(&mut self, node: Node<'a>, but: &[&str], what: &'static str) -> Result<(), TextFault> {
        let names = node.inputs().map(|(name, _)| name.as_str()).filter(|name| !but.contains(name) && *name != "model");
        names.collect::<Vec<_>>().into_iter().try_for_each(|name| self.pair(node, name, what))
    }

    /// The share of the noise that is taken away, where it is not all.
    fn denoise(&mut self, node: Node<'a>) -> Result<(), TextFault> {
        let is_whole = |value: &Value| value.as_f64() == Some(1.0);
        if node.input("denoise").is_some_and(|value| !is_whole(value)) {
            self.pair(node, "denoise", STEPS)?;
        }
        Ok(())
    }

    fn pair(&mut self, node: Node<'a>, input: &str, what: &'static str) -> Result<(), TextFault> {
        if let Some(value) = self.graph.value(node, input, what)? {
            self.pairs.push((input.to_owned(), value));
        }
        Ok(())
    }

    /// The model's name, and what was done to it.
    fn model(&mut self, node: Node<'a>) -> Result<(), TextFault> {
        const NAMES: [&str; 4] = ["unet_name", "ckpt_name", "model_name", "model_path"];
        let (mut seen, mut name, mut changes) = (Vec::new(), None, Vec::new());
        self.graph.follow(self.graph.link(node, "model", MODEL)?, |(node, _)| {
            seen.push(node.id);
            if let Some(found) = NAMES.iter().find_map(|name| node.input(name)) {
                name = Some(plain(found));
                return Ok(Next::Done(()));
            }
            if !is_plumbing(node.class) {
                changes.push(node.class.to_owned());
            }
            Ok(Next::Go(self.graph.first_link(node, &["model", ""], MODEL)?))
        })?;
        self.seen.extend(seen);
        self.rest.extend(changes);
        if let Some(name) = name.filter(|_| !self.pairs.iter().any(|(key, _)| key == "Model")) {
            self.pairs.push(("Model".into(), name));
        }
        Ok(())
    }

    /// The prompt that a conditioning is made of. The guidance on the way is that of the positive one.
    fn prompt(&mut self, node: Node<'a>, input: &str, is_positive: bool) -> Result<String, TextFault> {
        let (mut seen, mut guidance, mut rest) = (Vec::new(), None, Vec::new());
        let mut skip = None;
        let graph = self.graph;
        let first = graph.link(node, input, PROMPT)?;
        // Without a link a node has its prompt from somewhere else; only the negative one may be left out.
        if first.is_none() && (is_positive || node.input(input).is_some()) {
            return Err(node.unknown(PROMPT));
        }
        let text = graph.follow(first, |(node, output): Link<'a>| {
            seen.push(node.id);
            if node.input("guidance").is_some() && guidance.is_none() {
                guidance = graph.value(node, "guidance", PROMPT)?;
            }
            match node.class {
                "ConditioningZeroOut" => return Ok(Next::Done(String::new())),
                class if class.starts_with("Reroute") || is_guidance(&node) => {
                    let next = graph.first_link(node, &["conditioning", "", "*", "any", "value"], PROMPT)?;
                    return next.map_or_else(|| Err(node.unknown(PROMPT)), |next| Ok(Next::Go(Some(next))));
                }
                // the text that a wildcard encoder was left with
                _ if node.input(FILLED).is_some() => {
                    rest.push(node.class.to_owned());
                    return Ok(Next::Done(graph.text(node, FILLED, PROMPT)?.unwrap_or_default()));
                }
                // a node that loads a model and encodes both prompts
                _ if ["positive", "negative"].iter().all(|name| node.input(name).is_some_and(Value::is_string)) => {
                    let own = if is_positive { "positive" } else { "negative" };
                    skip = graph.skipped(node, "clip_skip");
                    return Ok(Next::Done(graph.text(node, own, PROMPT)?.unwrap_or_default()));
                }
                class if class.contains("TextEncode") => {
                    if let Some((clip, _)) = graph.link(node, "clip", PROMPT)? {
                        skip = graph.skipped(clip, "stop_at_clip_layer");
                        seen.extend(skip.as_ref().map(|_| clip.id));
                    }
                    let mut texts = Vec::new();
                    let names = ["t5xxl", "text_g", "clip_g", "text", "prompt", "clip_l", "text_l"];
                    if names.iter().all(|name| node.input(name).is_none()) {
                        return Err(node.unknown(PROMPT));
                    }
                    for name in names {
                        let text = graph.text(node, name, PROMPT)?.filter(|text| !text.is_empty());
                        texts.extend(text.map(|text| (name, text)));
                    }
                    let mut texts = texts.into_iter();
                    let (_, first) = texts.next().unwrap_or_default();
                    rest.extend(texts.filter(|(_, text)| *text != first).map(|(name, _)| format!("{class}.{name}")));
                    return Ok(Next::Done(first));
                }
                _ => {}
            }
            let own = if output == 0 { "positive" } else { "negative" };
            match graph.first_link(node, &["conditioning", own], PROMPT)? {
                Some(next) => {
                    rest.push(node.class.to_owned());
                    Ok(Next::Go(Some(next)))
                }
                None => Err(node.unknown(PROMPT)),
            }
        })?;
        self.seen.extend(seen);
        self.rest.extend(rest);
        if let Some(guidance) = guidance.filter(|_| is_positive) {
            self.pairs.push(("guidance".into(), guidance));
        }
        if let Some(skip) = skip.filter(|_| is_positive) {
            self.pairs.push(("Clip skip".into(), skip));
        }
        Ok(text.unwrap_or_default())
    }
}

struct Start<'a> {
    /// The node that says how large the picture is.
    size: Option<Node<'a>>,
    /// The sampler before.
    sampler: Option<Node<'a>>,
    between: Vec<Node<'a>>,
}

/// What nodes that load a model call the sides of the latent that they make.
const LOADED_SIDES: [&str; 2] = ["empty_latent_width", "empty_latent_height"];

/// What nodes call the text in which wildcards are filled in.
const FILLED: &str = "populated_text";

/// Whether a node does nothing to a picture but show, keep or decode it, or only hands something on.
fn is_plumbing(class: &str) -> bool {
    PLUMBING.contains(&class) || class.starts_with("Reroute")
}

/// Whether a node adds a guidance to a conditioning, and does nothing else.
fn is_guidance(node: &Node) -> bool {
    node.input("guidance").is_some()
        && node.inputs().all(|(name, _)| matches!(name.as_str(), "guidance" | "conditioning"))
}

fn is_sampler(node: &Node) -> bool {
    let has = |names: &[&str]| names.iter().any(|name| node.input(name).is_some());
    SAMPLERS.contains(&node.class) || has(&["seed", "noise_seed"]) && has(&["steps"]) && has(&["sampler_name"])
}
