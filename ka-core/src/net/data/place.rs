//! The tape as one node has it, to judge places that others claim.

use crate::tape::index::Index;
use crate::tape::ring::Ring;
use crate::types::{Position, Watermarks};
use crate::wire::data::Grant;

/// The position of a claimed place, as seen from a ring.
pub(crate) enum Place {
    Forgotten,
    Held,
    Ahead,
    /// The claimed place is no place of this tape.
    Nowhere,
}

/// The tape as one node has it.
#[derive(Clone, Copy)]
pub(crate) struct Tape<'a> {
    /// The items that are held of it.
    pub(crate) ring: &'a Ring,
    /// The places of everything on it, if the source can be read again.
    pub(crate) index: Option<&'a Index>,
}

impl Tape<'_> {
    /// The credible part of the claim of a child that wants to attach; `None` if its place is none of this tape.
    ///
    /// One that lacks what is forgotten is for the node to refuse. One that is ahead is put at the end of what is here:
    /// it waits there until the tape has come to its place, and only then is it known whether that is one.
    pub(crate) fn believe(&self, claim: Grant) -> Option<Grant> {
        let Grant { mut watermarks, upto } = claim;
        let known = Watermarks::all(Position::END);
        watermarks.0[0] = match self.place(known.held(), watermarks.held()) {
            Place::Forgotten | Place::Held => watermarks.held(),
            Place::Ahead => self.ring.end(),
            Place::Nowhere => return None,
        };
        let below = self.watermarks_below(&known, &watermarks)?;
        (claim.watermarks.held().offset <= upto).then_some(Grant { watermarks: below, upto })
    }

    /// Looks for `at`; `known` is a place to begin to look from.
    pub(crate) fn place(&self, known: Position, at: Position) -> Place {
        let (first, end) = (self.ring.first(), self.ring.end());
        if at.item < first.item {
            let is_none = self.index.is_some_and(|index| index.place(at.item) != Some(at));
            return if is_none { Place::Nowhere } else { Place::Forgotten };
        }
        if at.item > end.item {
            return if at.offset >= end.offset { Place::Ahead } else { Place::Nowhere };
        }
        let from = if first.item <= known.item && known.item <= at.item { known } else { first };
        if self.ring.walk(from, at.item) == Some(at) { Place::Held } else { Place::Nowhere }
    }

    /// `watermarks` with the levels below the first as they can be known here: no further back and no further ahead than
    /// what is held. `None` if one of them is no place of this tape.
    pub(crate) fn watermarks_below(&self, known: &Watermarks, watermarks: &Watermarks) -> Option<Watermarks> {
        let mut believed = *watermarks;
        for (at, known) in believed.0.iter_mut().zip(known.0).skip(1).filter(|(at, _)| **at != Position::END)
        {
            *at = match self.place(known, *at) {
                Place::Forgotten => self.ring.first(),
                Place::Held => *at,
                Place::Ahead => self.ring.end(),
                Place::Nowhere => return None,
            };
        }
        Some(believed)
    }
}
