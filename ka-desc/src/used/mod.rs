//! What of a file system is in use. Pure over a function that reads.

pub mod ntfs;
