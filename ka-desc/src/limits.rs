//! Every number of the language and of partition tables, with its reason.

/// Bytes of a mebibyte: the unit of a bare number, as in 2001, and the grain of every partition's start.
pub const MIB_BYTES: u64 = 1 << 20;

/// Bytes of a desc file. A thousand partitions fit; a disk image given by mistake does not.
pub const TEXT_BYTES_MAX: usize = 64 << 10;

/// Characters of a line. The longest sensible one (every option, long labels) has about 400.
pub const LINE_CHARS_MAX: usize = 1024;

/// Disks of a desc.
pub const DISKS_MAX: usize = 16;

/// Partitions of a disk: what a GPT of the usual size has entries for.
pub const PARTITIONS_MAX: usize = 128;

/// Subvolumes of a partition.
pub const SUBVOLUMES_MAX: usize = 64;

/// Problems that are reported at once. A file with more of them is the wrong file.
pub const PROBLEMS_MAX: usize = 20;

/// Primary partitions of an MBR, its extended one among them.
pub const PRIMARIES_MAX: u32 = 4;

/// The first sector that an MBR cannot name: 2 TiB with sectors of 512 bytes.
pub const MBR_SECTORS: u64 = 1 << 32;

/// Bytes of a GPT's array of 128 entries.
pub const GPT_ENTRIES_BYTES: u64 = 128 * 128;

/// Sector sizes that disks have.
pub const SECTOR_BYTES: [u32; 2] = [512, 4096];

/// The largest disk: 2^63 bytes is where the kernel's file offsets end, so sums of two sizes never overflow.
pub const DISK_BYTES_MAX: u64 = i64::MAX as u64;

/// The longest wait for the nodes of new partitions, in milliseconds. udev under load takes seconds.
pub const NODES_WAIT_MS: u64 = 10_000;

/// The longest wait for a disk's lock, in milliseconds: longer than udev looks at a disk.
pub const LOCK_WAIT_MS: u64 = 2000;
