//! No circle between the modules of a crate: where one uses its neighbour, that one does not use it back, be it through others.
//!
//! A module and what is inside it are one place, as a file and the folder of its name are. Tests don't count, nor does a `pub use`, which
//! names what others may use; it is followed to where the name comes from.

use std::collections::{BTreeMap, BTreeSet};

use super::{Fault, rust};

/// Which modules each module uses, of those beside it.
type Edges = BTreeMap<Vec<String>, BTreeSet<Vec<String>>>;

/// The modules of one crate by their paths; the crate itself is the empty one.
type Modules = BTreeMap<Vec<String>, Module>;

/// A module's path, its file and its text.
type Source<'a> = (Vec<String>, &'a str, &'a str);

struct Module {
    file: String,
    uses: Vec<Vec<String>>,
    /// What the names of its `use` stand for.
    names: BTreeMap<String, Vec<String>>,
}

/// A name that a `use` brings in, the path that it stands for, and whether it is passed on.
struct Import {
    name: String,
    path: Vec<String>,
}

/// The faults of all Rust files, `(path, text)`.
pub(super) fn check(files: &[(&str, &str)]) -> Vec<Fault> {
    let mut crates: BTreeMap<&str, Vec<Source>> = BTreeMap::new();
    for &(path, text) in files {
        if let Some((of, inside)) = path.split_once("/src/") {
            crates.entry(of).or_default().push((module(inside), path, text));
        }
    }
    crates.into_values().flat_map(|files| circles(&modules(&files))).collect()
}

/// `weights/stored.rs` is `[weights, stored]`, `lib.rs` is `[]`.
fn module(file: &str) -> Vec<String> {
    let mut path: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    path.pop_if(|last| last == "lib" || last == "mod");
    path
}

fn modules(files: &[(Vec<String>, &str, &str)]) -> Modules {
    let known: BTreeSet<&[String]> = files.iter().map(|(path, ..)| &path[..]).collect();
    let read = |(path, file, text): &(Vec<String>, &str, &str)| {
        let mut module = Module { file: (*file).to_owned(), uses: Vec::new(), names: BTreeMap::new() };
        let absolute = |relative: &[String]| absolute(path, relative, &known);
        let tokens = tokens(text);
        let mut at = 0;
        while at < tokens.len() {
            if tokens[at] == "use" {
                let passed_on = at > 0 && matches!(tokens[at - 1], "pub" | ")");
                let mut imports = Vec::new();
                at = tree(&tokens, at + 1, &[], &mut imports);
                for Import { name, path } in imports {
                    let Some(path) = absolute(&path) else { continue };
                    if !passed_on {
                        module.uses.push(path.clone());
                    }
                    module.names.insert(name, path);
                }
            } else if tokens.get(at + 1) == Some(&"::") && (at == 0 || tokens[at - 1] != "::") {
                let names = tokens[at..].chunks(2).take_while(|pair| pair.len() == 2 && pair[1] == "::");
                let mut relative: Vec<String> = names.map(|pair| pair[0].to_owned()).collect();
                at += 2 * relative.len();
                relative.extend(tokens.get(at).map(|&last| last.to_owned()));
                module.uses.extend(absolute(&relative));
            } else {
                at += 1;
            }
        }
        (path.clone(), module)
    };
    files.iter().map(read).collect()
}

/// The words and signs of a file up to its tests, `::` as one.
fn tokens(text: &str) -> Vec<&str> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let code = rust::code(text);
    let mut tokens: Vec<&str> = Vec::new();
    for (start, piece) in code {
        if piece == ":" && tokens.last() == Some(&":") && text[..start].ends_with(':') {
            tokens.pop();
            tokens.push("::");
        } else if !piece.trim().is_empty() {
            tokens.push(piece);
        }
    }
    tokens
}

/// Reads one tree of a `use` from `at`; what is behind it.
fn tree(tokens: &[&str], mut at: usize, before: &[String], imports: &mut Vec<Import>) -> usize {
    let mut path = before.to_vec();
    while let Some(&token) = tokens.get(at) {
        match token {
            "{" => {
                at += 1;
                while !matches!(tokens.get(at), None | Some(&"}")) {
                    at = tree(tokens, at, &path, imports);
                    at += usize::from(tokens.get(at) == Some(&","));
                }
                return at + 1;
            }
            "::" => at += 1,
            "as" => {
                let name = tokens.get(at + 1).copied().unwrap_or_default().to_owned();
                imports.push(Import { name, path });
                return at + 2;
            }
            "," | "}" | ";" => break,
            name => {
                path.push(name.to_owned());
                at += 1;
            }
        }
    }
    let name = path.last().cloned().unwrap_or_default();
    imports.push(Import { name, path });
    // Never where it was, so that no text is read without end.
    at.max(1)
}

/// A path from the crate's root; none for one into another crate.
fn absolute(module: &[String], path: &[String], known: &BTreeSet<&[String]>) -> Option<Vec<String>> {
    let above = path.iter().take_while(|name| *name == "super").count();
    let first = path.first()?;
    let child = [module, std::slice::from_ref(first)].concat();
    match &**first {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([module, &path[1..]].concat()),
        "super" => Some([&module[..module.len().checked_sub(above)?], &path[above..]].concat()),
        _ if known.contains(&child[..]) => Some([module, path].concat()),
        _ => None,
    }
}

/// The module that a path leads into, through the names that modules pass on.
fn home<'a>(modules: &'a Modules, path: &[String], depth: usize) -> &'a [String] {
    let (at, module) = (0..=path.len())
        .rev()
        .find_map(|end| modules.get_key_value(&path[..end]))
        .unwrap_or_else(|| modules.first_key_value().expect("a crate has a module: that of the path's file"));
    let onward = path.get(at.len()).and_then(|name| module.names.get(name));
    match onward {
        // A name that stands for itself would lead round and round.
        Some(to) if depth < 8 => home(modules, &[&to[..], &path[at.len() + 1..]].concat(), depth + 1),
        _ => at,
    }
}

fn circles(modules: &Modules) -> Vec<Fault> {
    // Which neighbours use which: the first steps apart of a module and of the one that it uses.
    let mut edges = Edges::new();
    for (from, module) in modules {
        for path in &module.uses {
            let to = home(modules, path, 0);
            let shared = from.iter().zip(to).take_while(|(a, b)| a == b).count();
            if from.len() > shared && to.len() > shared {
                edges.entry(from[..=shared].to_vec()).or_default().insert(to[..=shared].to_vec());
            }
        }
    }
    let (mut told, mut faults) = (BTreeSet::new(), Vec::new());
    for from in edges.keys() {
        let circle: Vec<_> =
            reached(&edges, from).into_iter().filter(|other| reached(&edges, other).contains(from)).collect();
        let file = modules.get(from).map_or("", |module| &module.file);
        let names = circle.iter().map(|path| path.join("::")).collect::<Vec<_>>().join(", ");
        if !circle.is_empty() && told.insert(names.clone()) {
            let message = format!("{names} use each other in a circle: move what they share below them");
            faults.push(Fault::new(file, None, message));
        }
    }
    faults
}

/// All that `from` uses, be it through others.
fn reached<'a>(edges: &'a Edges, from: &'a Vec<String>) -> BTreeSet<&'a Vec<String>> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(at) = open.pop() {
        open.extend(edges.get(at).into_iter().flatten().filter(|next| reached.insert(*next)));
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(files: &[(&str, &str)]) -> Vec<String> {
        let paths: Vec<String> = files.iter().map(|(path, _)| format!("crates/a/src/{path}")).collect();
        let files: Vec<_> = paths.iter().zip(files).map(|(path, (_, text))| (path.as_str(), *text)).collect();
        check(&files).iter().map(Fault::to_string).collect()
    }

    #[test]
    fn neighbours_that_use_each_other_are_told_once() {
        let faults = told(&[
            ("lib.rs", "mod one;\nmod three;\nmod two;\n"),
            ("one.rs", "use crate::two::{self, Two};\n"),
            ("two.rs", "use std::fmt;\nuse super::three::Three as Other;\n"),
            ("three.rs", "fn f() { crate::one::f(\"crate::four::f\") }\n"),
        ]);
        assert_eq!(
            faults,
            ["crates/a/src/one.rs: one, three, two use each other in a circle: move what they share below them"]
        );
    }

    #[test]
    fn a_name_that_is_passed_on_is_followed_home() {
        let faults = told(&[
            ("lib.rs", "mod one;\nmod two;\npub use one::One;\npub(crate) use two::{Two, inner::Three};\n"),
            ("one.rs", "use crate::Three;\n"),
            ("two.rs", "pub mod inner;\n"),
            ("two/inner.rs", "use crate::One;\n"),
        ]);
        assert_eq!(faults.len(), 1, "{faults:?}");
    }

    #[test]
    fn a_module_and_what_is_inside_it_are_one_place() {
        let inside = [("lib.rs", "mod one;"), ("one.rs", "mod two;\nuse two::Two;"), ("one/two.rs", "use super::One;")];
        assert_eq!(told(&inside), [""; 0]);
        // and what it is inside of uses for it
        let (outside, through) = ("mod one;\nmod two;", "use crate::one::inner::f;");
        let files = [
            ("lib.rs", outside),
            ("one.rs", "mod inner;"),
            ("one/inner.rs", "use crate::two::g;"),
            ("two.rs", through),
        ];
        assert_eq!(told(&files).len(), 1);
    }

    #[test]
    fn tests_comments_and_other_crates_do_not_count() {
        let two =
            "// crate::one::f\nuse one::f;\nuse other::one;\n#[cfg(test)]\nmod tests {\n    use crate::one::f;\n}\n";
        let files = [("lib.rs", "mod one;\nmod two;\n"), ("one.rs", "use crate::two::g;\n"), ("two.rs", two)];
        assert_eq!(told(&files), [""; 0]);
    }

    #[test]
    fn a_text_that_is_cut_ends() {
        for text in ["use", "use a::{", "use a::{b, ", "use super::super::a as", "crate::", "use ,;", "use }"] {
            told(&[("lib.rs", text), ("one.rs", text)]);
        }
    }
}
