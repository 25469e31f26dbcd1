//! The faults of a desc as a whole: rules between words, lines and disks.

mod fault;
mod partition;
mod whole;

pub(super) use fault::Gaps;
pub use fault::{Fault, Field, Place};
pub(crate) use partition::unprintable;
pub use whole::faults;
pub(super) use whole::faults_but;
