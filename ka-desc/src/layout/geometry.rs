//! The size of a disk.

/// The size of a disk and of its sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// All of it, in bytes.
    pub disk_bytes: u64,
    /// One sector (a logical one, as the kernel has it), in bytes.
    pub sector_bytes: u32,
}
