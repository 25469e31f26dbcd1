//! The words: every message of ka, and how each becomes bytes. `PROTOCOL.md` says the same clause by clause.
//!
//! ```text
//!   node                                    server                       parent
//!    │── question (UDP, keyed by the key) ────▶│                            │
//!    │◀─ answer (UDP, control port) ───────────│                            │
//!    │── control (TCP): preface, handshake ───▶│                            │
//!    │◀─ preface, handshake (server's key) ────│                            │
//!    │══ Hello (sealed, as all that follows) ═▶│                            │
//!    │◀═ Welcome (number, session, key) ═══════│                            │
//!    │            … the gate opens …           │                            │
//!    │◀═ View (my parent, my children) ════════│                            │
//!    │── data (TCP): preface, handshake ───────┼───────────────────────────▶│
//!    │◀─ preface, handshake (the link's key) ──┼────────────────────────────│
//!    │══ Attach ═══════════════════════════════╪═══════════════════════════▶│
//!    │◀═ Beat (yes) ═══════════════════════════╪════════════════════════════│
//!    │◀─ Begin  Segment Block Block …  End … ──┼────────────────────────────│
//!    │══ Grant (how far we hold, how far you may send) ════════════════════▶│
//!    │◀═ Beat, when there is nothing to send ══╪════════════════════════════│
//!    │══ Progress, LinkLost, Linked … ════════▶│                            │
//!    │◀═ Beat, View (another parent) … ════════│                            │
//!    │══ Complete, Receipt ═══════════════════▶│                            │
//!    │◀═ Release ══════════════════════════════│                            │
//! ```
//!
//! Magic and version stand outside of everything that is encoded, so that a node of another release is
//! told so. Each class of message has its own limit, checked before a byte of it is decoded.

pub mod codec;
pub mod control;
pub mod data;
pub mod discovery;
mod malformed;
mod preface;

pub use malformed::{Malformed, VERSION};
pub use preface::{PREFACE_BYTES, Plane, TAG_BYTES, check_preface, preface, refuses, refusing_preface};
