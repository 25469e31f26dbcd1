//! Buffers that come back: reading into fresh memory costs a page fault per page, more than the read itself.
//!
//! Both kinds grow as far as they are used and shrink again: what a stalled session needed is given back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

use crate::limits::BLOCK_BYTES;
use crate::wire::TAG_BYTES;
use crate::wire::data::HEADER_BYTES;

/// Bytes of a buffer: four blocks a read, so that a system call costs little beside hashing what it brought, and what
/// may come with their announcement.
pub(crate) const BUFFER_BYTES: usize = 4 * (HEADER_BYTES + BLOCK_BYTES + TAG_BYTES) + (4 << 10);

/// Free buffers a pool keeps: enough for a small window to pass through without asking the system for memory. What
/// a stall needed beyond that is given back.
const KEEP: usize = 64;

/// Buffers for a socket: whole frames are split off and sent on while the rest is still being filled.
///
/// A buffer that is used up is free once all that was split off it is dropped, which happens in order.
#[derive(Debug, Default)]
pub(crate) struct ReadPool {
    used_up: VecDeque<BytesMut>,
    /// The last one freed is the hottest, and the next to go.
    free: Vec<BytesMut>,
}

impl ReadPool {
    /// Replaces a buffer that has too little room: what is left in it moves to the new one.
    pub(crate) fn renew(&mut self, buffer: &mut BytesMut) {
        while let Some(mut oldest) = self.used_up.pop_front() {
            if !oldest.try_reclaim(BUFFER_BYTES) {
                self.used_up.push_front(oldest);
                break;
            }
            if self.free.len() < KEEP {
                self.free.push(oldest);
            }
        }
        let mut fresh = self.free.pop().unwrap_or_else(|| BytesMut::with_capacity(BUFFER_BYTES));
        fresh.extend_from_slice(buffer);
        buffer.clear();
        self.used_up.push_back(std::mem::replace(buffer, fresh));
    }
}

/// Bytes of a source's buffer: larger, because each goes from one thread to another, which costs more than its size.
pub(crate) const LEASE_BYTES: usize = 1 << 20;

/// Buffers for a source's thread, which fills one at a time and sends it off. The last one back is the
/// hottest, and the next to go.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeasePool(Arc<Mutex<Vec<Vec<u8>>>>);

impl LeasePool {
    /// A buffer of [`LEASE_BYTES`]; what it holds is of no meaning.
    pub(crate) fn lease(&self) -> Lease {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Lease { buffer: free.unwrap_or_else(|| vec![0; LEASE_BYTES]), pool: self.clone() }
    }
}

/// A buffer that goes back to its pool when it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    buffer: Vec<u8>,
    pool: LeasePool,
}

impl Lease {
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// The first `len` bytes, to be shared. A mostly empty buffer is copied from, not given away: a source
    /// that trickles must not hold a whole one for each drop.
    pub(crate) fn freeze(self, len: usize) -> Bytes {
        if len <= LEASE_BYTES / 4 {
            return Bytes::copy_from_slice(&self.buffer[..len]);
        }
        Bytes::from_owner(self).slice(..len)
    }
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut free = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEEP * BUFFER_BYTES / LEASE_BYTES {
            free.push(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_buffer_is_used_again_once_nobody_holds_a_part_of_it() {
        let mut pool = ReadPool::default();
        let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
        let memory = buffer.as_ptr();
        buffer.extend_from_slice(b"block");
        buffer.extend_from_slice(b"rest");
        let block = buffer.split_to(5).freeze();
        pool.renew(&mut buffer);
        assert_eq!(&buffer[..], b"rest");
        drop(block);
        pool.renew(&mut buffer);
        assert_eq!((&buffer[..], buffer.as_ptr()), (&b"rest"[..], memory));
    }

    #[test]
    fn a_leased_buffer_comes_back_when_its_bytes_are_dropped() {
        let pool = LeasePool::default();
        let mut lease = pool.lease();
        lease.bytes_mut()[0] = 7;
        let memory = lease.as_ref().as_ptr();
        let bytes = lease.freeze(LEASE_BYTES);
        drop(bytes.slice(..1));
        assert_ne!(pool.lease().as_ref().as_ptr(), memory);
        drop(bytes);
        assert_eq!(pool.lease().as_ref().as_ptr(), memory);
    }
}
