//! Values as programs write them.

/// 2⁵³: above it not every whole number is one of 64-bit floats.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A whole number, also written as a float: `20`, `20.0`.
pub(super) fn whole(text: &str) -> Option<u64> {
    let text = text.trim();
    let float = || text.parse::<f64>().ok().filter(|x| x.fract() == 0.0 && (0.0..EXACT).contains(x)).map(|x| x as u64);
    text.parse().ok().or_else(float)
}

/// A finite number.
pub(super) fn number(text: &str) -> Option<f32> {
    text.trim().parse().ok().filter(|x: &f32| x.is_finite())
}

/// A size: `512x768`, `512 X 768`, `512×768`, `512*768`, `(512, 768)`.
pub(super) fn size(text: &str) -> Option<(usize, usize)> {
    let text = text.trim().trim_matches(['(', ')', '[', ']', '"']);
    let mut sides = text.split(['x', 'X', '×', '*', ',']).map(|side| {
        let side = side.trim().trim_matches(['\'', '"']);
        whole(side).and_then(|n| usize::try_from(n).ok())
    });
    match (sides.next()?, sides.next()?, sides.next()) {
        (Some(width), Some(height), None) if width > 0 && height > 0 => Some((width, height)),
        _ => None,
    }
}

/// A list of finite numbers, in brackets or not.
pub(super) fn list(text: &str) -> Option<Vec<f64>> {
    let inner = text.trim().trim_matches(['[', ']']).trim().trim_end_matches(',');
    let number = |level: &str| level.trim().parse().ok().filter(|x: &f64| x.is_finite());
    inner.split(',').map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sizes_are_read_as_programs_write_them() {
        assert_eq!(["20", " 20 ", "20.0", "2e1"].map(whole), [Some(20); 4]);
        assert_eq!(whole("18446744073709551615"), Some(u64::MAX));
        for wrong in ["", "x", "-1", "1.5", "18446744073709551616", "1e17", "nan", "inf"] {
            assert_eq!(whole(wrong), None, "{wrong}");
        }
        assert_eq!(
            [number("7"), number("1.000000"), number("nan"), number("inf"), number("1e39")],
            [Some(7.0), Some(1.0), None, None, None]
        );
        for same in
            ["512x768", "512X768", "512 x 768", "512×768", "(512, 768)", "[512,768]", "('512', '768')", "512*768"]
        {
            assert_eq!(size(same), Some((512, 768)), "{same}");
        }
        for wrong in ["512", "512x", "0x512", "x768", "512x768x3", "512x-768", "1.5x2", "", "a x b"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
        assert_eq!(list("[14.6, 1, 0.0]"), Some(vec![14.6, 1.0, 0.0]));
        assert_eq!(list("1, 0.5,"), Some(vec![1.0, 0.5]));
        assert_eq!([list(""), list("[a]"), list("[1, nan]")], [const { None::<Vec<f64>> }; 3]);
    }
}
