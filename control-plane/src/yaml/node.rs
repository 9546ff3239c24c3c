//! What stands where: the shape of a document, without its values.
//!
//! Offsets are bytes of the text of the document. [`super::read`] makes nodes from the parser's events, with the spans as
//! the parser gives them; [`super::place`] then makes these exact, or says that it cannot.

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    /// Of its anchor or tag, or of its content; for an empty one where it would stand.
    pub(super) start: usize,
    /// Of its content, behind anchor and tag.
    pub(super) body: usize,
    /// Behind its content. Behind the last line of a block scalar, else not behind a line end.
    pub(super) end: usize,
    /// Number of its anchor; 0: none.
    pub(super) anchor: usize,
    pub(super) tagged: bool,
    pub(super) shape: Shape,
}

#[derive(Debug)]
pub(super) enum Shape {
    /// Nothing is written: `key:`.
    Empty,
    Plain,
    Single,
    Double,
    /// `|` or `>`; whether the lines at its end are part of it (`+`).
    Block {
        keeps: bool,
    },
    /// Number of the anchor it stands for.
    Alias(usize),
    Seq {
        flow: bool,
        items: Vec<Item>,
    },
    Map {
        form: Form,
        entries: Vec<Entry>,
    },
}

/// How a mapping is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Block,
    /// In braces.
    Flow,
    /// `[key: value]`: a mapping of one entry without braces.
    Pair,
}

#[derive(Debug)]
pub(super) struct Item {
    /// Of the `-`; in flow style the start of the node.
    pub(super) dash: usize,
    pub(super) node: Node,
}

#[derive(Debug)]
pub(super) struct Entry {
    /// The text of the key as JSON has it.
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Of the key, or of the `?` before it.
    pub(super) start: usize,
    /// Behind the colon; `None`: there is none.
    pub(super) colon: Option<usize>,
    pub(super) key: Node,
    pub(super) value: Node,
}

/// What an entry of a mapping is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Simple,
    /// `? key`.
    Explicit,
    /// `<<: *other`.
    Merge,
}

impl Node {
    /// A mapping or list of lines, with something in it.
    pub(super) fn is_block_collection(&self) -> bool {
        matches!(self.shape, Shape::Seq { flow: false, .. } | Shape::Map { form: Form::Block, .. })
    }
}
