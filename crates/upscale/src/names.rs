//! One network under the names that its authors gave it over the years.

use std::collections::HashMap;

use core_tensor::{Error, Manifest, Stored, WeightSource};

/// ESRGAN's network under the names of BasicSR: `conv_first`, `body.0.rdb1.conv1`, `conv_up1`.
///
/// Read are those names, ESRGAN's first ones (`model.0`, `model.1.sub.0.RDB1.conv1.0`) and those of its second release
/// (`RRDB_trunk.0.RDB1.conv1`, `HRconv`), which BSRGAN and RealSR have. What a block adds to its input is a fifth of what it computes:
/// that factor is part of its last weights here, and twice so in a group's last block.
pub(crate) struct BasicSrNames<'s> {
    source: &'s dyn WeightSource,
    manifest: Manifest,
    theirs: HashMap<String, String>,
}

/// What a block adds to its input, as a share of what it computes.
pub(crate) const SHARE: f32 = 0.2; // basicsr/archs/rrdbnet_arch.py

impl<'s> BasicSrNames<'s> {
    /// Wraps the part of a source whose names begin with `prefix`, which does not stand before the new ones.
    pub(crate) fn under(prefix: &str, source: &'s dyn WeightSource) -> Self {
        let file = source.manifest();
        let last = file.under(prefix).filter_map(|(name, _)| sequential(name)?.0.parse::<usize>().ok()).max();
        let mut theirs = HashMap::new();
        let mut renamed = Vec::new();
        for (name, form) in file.under(prefix) {
            let ours = ours(name, last.unwrap_or(0));
            theirs.insert(ours.clone(), format!("{prefix}{name}"));
            renamed.push((ours, form.format, form.shape.to_vec()));
        }
        Self { source, manifest: renamed.into_iter().collect(), theirs }
    }
}

impl WeightSource for BasicSrNames<'_> {
    fn label(&self) -> &str {
        self.source.label()
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, name: &str) -> Result<Stored, Error> {
        let missing = || Error::Missing { name: name.to_owned(), source_name: self.label().to_owned() };
        let stored = self.source.read(self.theirs.get(name).ok_or_else(missing)?)?;
        let share = share(name);
        match stored.to_f32() {
            // What holds no floats is refused where a layer asks for it.
            Some(values) if share != 1.0 => {
                let scaled: Vec<f32> = values.into_iter().map(|value| value * share).collect();
                Ok(Stored::of(&scaled, stored.shape().to_vec()))
            }
            Some(_) | None => Ok(stored),
        }
    }
}

/// What a tensor is multiplied with.
fn share(name: &str) -> f32 {
    match name.split('.').collect::<Vec<_>>()[..] {
        ["body", _, "rdb1" | "rdb2", "conv5", _] => SHARE,
        ["body", _, "rdb3", "conv5", _] => SHARE * SHARE,
        _ => 1.0,
    }
}

/// The number of a layer among ESRGAN's first names, and what stands behind it.
fn sequential(name: &str) -> Option<(&str, &str)> {
    let (number, rest) = name.strip_prefix("model.")?.split_once('.')?;
    Some((number, rest))
}

/// BasicSR's name of a tensor; `last` is the last layer's number among the first names. Unknown ones stay.
fn ours(name: &str, last: usize) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        ["model", "1", "sub", block, dense, conv, ref rest @ .., leaf] if dense.starts_with("RDB") => {
            let rest = if rest == ["0"] { String::new() } else { rest.iter().map(|part| format!(".{part}")).collect() };
            format!("body.{block}.{}.{conv}{rest}.{leaf}", dense.to_lowercase())
        }
        ["model", "1", "sub", _, leaf] => format!("conv_body.{leaf}"),
        ["model", number, leaf] => match number.parse::<usize>() {
            Ok(0) => format!("conv_first.{leaf}"),
            Ok(n) if n == last => format!("conv_last.{leaf}"),
            Ok(n) if n.checked_add(2) == Some(last) => format!("conv_hr.{leaf}"),
            Ok(n) if n.is_multiple_of(3) => format!("conv_up{}.{leaf}", n / 3),
            Ok(_) | Err(_) => name.to_owned(),
        },
        ["RRDB_trunk", block, dense, ref rest @ ..] => {
            format!("body.{block}.{}.{}", dense.to_lowercase(), rest.join("."))
        }
        ["trunk_conv", leaf] => format!("conv_body.{leaf}"),
        ["HRconv", leaf] => format!("conv_hr.{leaf}"),
        [up, leaf] if up.starts_with("upconv") => format!("conv_up{}.{leaf}", &up["upconv".len()..]),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_three_releases_has_one_of_basicsr() {
        for (theirs, last, expected) in [
            ("model.0.weight", 10, "conv_first.weight"),
            ("model.1.sub.22.RDB3.conv5.0.bias", 10, "body.22.rdb3.conv5.bias"),
            ("model.1.sub.0.RDB1.conv1x1.weight", 10, "body.0.rdb1.conv1x1.weight"),
            ("model.1.sub.23.weight", 10, "conv_body.weight"),
            ("model.3.weight", 10, "conv_up1.weight"),
            ("model.6.bias", 10, "conv_up2.bias"),
            ("model.9.bias", 13, "conv_up3.bias"),
            ("model.8.weight", 10, "conv_hr.weight"),
            ("model.10.weight", 10, "conv_last.weight"),
            // A network that enlarges nothing has no layers between.
            ("model.2.weight", 4, "conv_hr.weight"),
            ("model.4.bias", 4, "conv_last.bias"),
            ("RRDB_trunk.7.RDB2.conv4.weight", 0, "body.7.rdb2.conv4.weight"),
            ("trunk_conv.bias", 0, "conv_body.bias"),
            ("upconv2.weight", 0, "conv_up2.weight"),
            ("HRconv.weight", 0, "conv_hr.weight"),
            ("body.3.rdb1.conv1.weight", 0, "body.3.rdb1.conv1.weight"),
            ("conv_up1.bias", 0, "conv_up1.bias"),
            ("model.5.weight", 10, "model.5.weight"),
            ("model.18446744073709551615.weight", 4, "conv_up6148914691236517205.weight"),
            ("upconv", 0, "upconv"),
            ("", 0, ""),
        ] {
            assert_eq!(ours(theirs, last), expected);
        }
    }
}
