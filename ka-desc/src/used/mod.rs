//! The parts of a file system that are in use. Pure over a function that reads.

pub mod ntfs;
