//! How names are told apart: by their letters, not by how programs and people space them.

/// The words of a name, in lower case: what spaces, `_` and `-` are between. `++` is spelled `pp`, as in names without signs.
pub(crate) fn words(name: &str) -> Vec<String> {
    let separate = |c: char| c.is_whitespace() || c == '_' || c == '-';
    let words = name.split(separate).filter(|word| !word.is_empty());
    words.map(|word| word.to_lowercase().replace("++", "pp")).collect()
}

/// What two names have in common that differ in case and spaces alone: `DPM++ 2M`, `dpmpp-2m` and `dpm++2m`.
pub(crate) fn normal(name: &str) -> String {
    words(name).concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_name_are_one() {
        for name in ["DPM++ 2M", "dpmpp_2m", "dpm++2m", "DPMPP-2M", "  dpm++ \t2m ", "dpmpp__2m_"] {
            assert_eq!(normal(name), "dpmpp2m", "{name:?}");
        }
        assert_eq!(words(" Euler-a  SGM_Uniform"), ["euler", "a", "sgm", "uniform"]);
        assert_eq!(normal(" _-"), "");
        assert_ne!(normal("Euler+"), normal("Euler"));
    }
}
