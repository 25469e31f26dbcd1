//! What is told while a clone is finished.

/// What [`finish`](super::finish) tells as it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remark<'a> {
    /// Something is done, or stays as it is.
    Step(&'a str),
    /// Something may be wrong with the clone, though it will boot.
    Warning(&'a str),
}
