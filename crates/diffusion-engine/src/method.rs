//! What a way of guiding a model is.

use std::sync::Arc;

use samplers::{Options, Value};

use crate::{Fallback, Key, Kind, Pass, Wrap};

/// The table of the config that their keys stand in.
pub const TABLE: &str = "guidance";

/// A way of guiding a model.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Its name in messages.
    pub id: &'static str,
    /// What it is set by. Without its first key it is off, and where that is 0 or `off`.
    pub keys: &'static [Key],
    /// The [networks](crate::Model::network) that it knows the inside of; empty where any will do.
    pub networks: &'static [&'static str],
    /// What it puts around the model where its first key is set, from the innermost outwards.
    pub wraps: fn(&Settings) -> Vec<Arc<dyn Wrap>>,
}

impl Method {
    /// Whether a pass asks for it.
    pub fn is_asked(&self, pass: &Pass) -> bool {
        match self.keys.first().and_then(|key| pass.knobs.value(key.name)) {
            Some(Value::Number(number)) => *number != 0.0,
            Some(Value::Name(name)) => name != OFF,
            None => false,
        }
    }
}

/// A key of a method, which is as `means` says where nothing sets it; `example` is what it might be set to, in TOML.
pub const fn key(name: &'static str, kind: Kind, means: &'static str, example: &'static str) -> Key {
    Key::of(kind, Fallback::Open { means, example }).at(TABLE, name, "")
}

/// A switch.
pub const SWITCH: Kind = Kind::Choice(&[OFF, "on"]);

const OFF: &str = "off";

/// A share of something.
pub const SHARE: Kind = Kind::Number { min: 0.0, max: 1.0 };

/// What a pass sets of a method's keys.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    knobs: &'a Options,
    /// The pass that is drawn.
    pub pass: &'a Pass,
}

impl<'a> Settings<'a> {
    /// What a pass sets.
    pub fn of(pass: &'a Pass) -> Self {
        Self { knobs: &pass.knobs, pass }
    }

    /// The number that a key is set to.
    pub fn number(&self, key: &Key) -> Option<f32> {
        self.knobs.number(key.name).map(|number| number as f32)
    }

    /// The name that a key is set to.
    pub fn name(&self, key: &Key) -> Option<&str> {
        self.knobs.name(key.name)
    }

    /// The places that a key of [`Kind::Places`] names.
    pub fn places(&self, key: &Key) -> Option<Vec<usize>> {
        self.knobs.value(key.name).and_then(|option| key.value(option).places())
    }

    /// Whether a [`SWITCH`] is on.
    pub fn is_on(&self, key: &Key) -> bool {
        self.name(key).is_some_and(|name| name != OFF)
    }
}
