//! The first bytes of a connection: what it is for, and the version of its sender.

use super::malformed::{Malformed, VERSION};

/// The purpose of a connection, which its first bytes state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// Between a node and the coordinator.
    Control,
    /// Between a child and its parent.
    Data,
}

/// Bytes that sealing adds to a message.
pub const TAG_BYTES: usize = 16;

/// Bytes of a preface.
pub const PREFACE_BYTES: usize = 8;

/// The first eight bytes either side sends on a connection: `KA`, the plane, a zero, the version, two zeros.
/// In an insecure session a parent's says that it accepts the child.
#[must_use]
pub fn preface(plane: Plane) -> [u8; PREFACE_BYTES] {
    let v = VERSION.to_le_bytes();
    [b'K', b'A', plane.letter(), 0, v[0], v[1], 0, 0]
}

/// The preface of who does not know the key of who dials; or, in an insecure session, of a parent that does
/// not accept a child, which a refusing frame follows: one in the seventh byte.
#[must_use]
pub fn refusing_preface(plane: Plane) -> [u8; PREFACE_BYTES] {
    let mut bytes = preface(plane);
    bytes[REFUSES] = 1;
    bytes
}

/// Whether a preface that [`check_preface`] takes is a [`refusing_preface`].
#[must_use]
pub fn refuses(preface: &[u8; PREFACE_BYTES]) -> bool {
    preface[REFUSES] == 1
}

pub(super) const REFUSES: usize = 6;

/// Reads the other side's preface.
///
/// # Errors
/// [`Malformed`] when it is no preface of this plane, [`Malformed::Version`] when it is one of another release.
pub fn check_preface(plane: Plane, bytes: &[u8; PREFACE_BYTES]) -> Result<(), Malformed> {
    if bytes[..4] != [b'K', b'A', plane.letter(), 0] {
        return Err(Malformed::Magic);
    }
    match u16::from_le_bytes([bytes[4], bytes[5]]) {
        VERSION => Ok(()),
        other => Err(Malformed::Version(other)),
    }
}

impl Plane {
    fn letter(self) -> u8 {
        match self {
            Self::Control => b'c',
            Self::Data => b'd',
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preface_is_known_again_and_another_version_is_named() {
        assert_eq!(check_preface(Plane::Control, &preface(Plane::Control)), Ok(()));
        assert_eq!(check_preface(Plane::Data, &preface(Plane::Control)), Err(Malformed::Magic));
        let mut newer = preface(Plane::Data);
        newer[4] = 9;
        assert_eq!(check_preface(Plane::Data, &newer), Err(Malformed::Version(9)));
    }
}
