//! A partition of a disk that was written.

use super::apply;
use super::error::Error;
use super::nodes;
use super::nodes::Node;
use super::prepare::Prepared;
use crate::machine::Machine;
use crate::run::Runner;

/// The node of one partition of a disk that was written: the kernel's, or a loop device where there is none.
///
/// # Errors
/// The plan has no such partition, or a loop device cannot be had.
pub fn partition(
    machine: &Machine,
    runner: &mut dyn Runner,
    disk: &Prepared,
    number: u32,
) -> Result<Node, Error> {
    let placed =
        disk.plan.partitions.iter().find(|placed| placed.number == number).ok_or_else(|| {
            Error::Names(format!("{} gets no partition {number}", disk.facts.path.display()))
        })?;
    let whole = nodes::disk(runner, &disk.facts.path, &disk.facts.kind, disk.plan.geometry)?;
    apply::partition(machine, runner, disk, placed, &whole)
}
