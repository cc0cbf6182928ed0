use std::ops::Range;

/// A name by which adapters call a module of a network, or rows of one, beside the network's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spelling {
    /// The name; where programs join its steps by `_`, that is read as the point that it stands for.
    pub name: String,
    /// What it stands for, in the order of its rows.
    pub spans: Vec<Span>,
}

/// Rows of what a [`Spelling`] calls a module, as rows of a module of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The rows of the spelling; `None` for all of them.
    pub rows: Option<Range<usize>>,
    /// The module by its name in the layout, without `weight`.
    pub module: String,
    /// The row of the module that the first of them is.
    pub start: usize,
}

impl Spelling {
    /// Another name of a whole module.
    pub fn whole(name: impl Into<String>, module: impl Into<String>) -> Self {
        let span = Span { rows: None, module: module.into(), start: 0 };
        Self { name: name.into(), spans: vec![span] }
    }

    /// A name of some rows of a module.
    pub fn part(name: impl Into<String>, module: impl Into<String>, rows: Range<usize>) -> Self {
        let span = Span { rows: Some(0..rows.len()), module: module.into(), start: rows.start };
        Self { name: name.into(), spans: vec![span] }
    }

    /// A name of modules of these heights that lie one below the other.
    pub fn stacked(name: impl Into<String>, modules: impl IntoIterator<Item = (String, usize)>) -> Self {
        let mut above = 0;
        let span = |(module, height): (String, usize)| {
            let rows = above..above + height;
            above += height;
            Span { rows: Some(rows), module, start: 0 }
        };
        Self { name: name.into(), spans: modules.into_iter().map(span).collect() }
    }
}
