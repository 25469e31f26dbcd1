//! A data link before the tape flows: [`dial`] a parent, and the [`frames`] that both ends send beside the tape.

pub(crate) mod dial;
pub(crate) mod frames;
