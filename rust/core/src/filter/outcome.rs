//! Whether and how constraints hold in a part of an event.

use std::ops::Range;

use super::event::Event;

/// How constraints came to hold in a part of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    No,
    /// Only because fields are missing.
    ByAbsence,
    ByValue,
}

impl Outcome {
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::ByAbsence, Self::ByAbsence) => Self::ByAbsence,
            _ => Self::ByValue,
        }
    }

    pub(super) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::ByValue, _) | (_, Self::ByValue) => Self::ByValue,
            (Self::No, Self::No) => Self::No,
            _ => Self::ByAbsence,
        }
    }
}

/// How constraints come out in an array: all hold in one element, one of them by a value; or all
/// elements lack the fields. `nothing` is the outcome of an array without elements, `part` that of the
/// element at a node.
pub(super) fn in_array(
    event: &Event,
    text: &str,
    elements: Range<usize>,
    nothing: Outcome,
    mut part: impl FnMut(usize) -> Outcome,
) -> Outcome {
    let (mut element, mut outcome) = (elements.start, nothing);
    while element < elements.end {
        match part(element) {
            Outcome::ByValue => return Outcome::ByValue,
            Outcome::ByAbsence => {}
            Outcome::No => outcome = Outcome::No,
        }
        let Some((_, _, next)) = event.node(text, element) else { break };
        element = next;
    }
    outcome
}
