//! What a lanes file says about one lane.

use crate::checkpoint::resume_point::ResumePoint;
use crate::checkpoint::slot::{Checkpoint, Head, InFlight};
use crate::checkpoint::window::{OpenWindow, Pair as WindowPair, Windows};

/// What a lanes file says about one lane.
#[derive(Clone, Debug)]
pub struct LaneView {
    /// The head it was read under.
    pub head: Head,
    /// The valid checkpoint that counts.
    pub checkpoint: Checkpoint,
    /// The in-flight slot as it stands, void or not.
    pub in_flight: Option<InFlight>,
    /// What the window files say; `None` of a lane without windows.
    pub windows: Option<Windows>,
}

impl LaneView {
    /// The part of the batch in flight that counts; `None` if the slot is void or was never
    /// written.
    pub fn still_open(&self, boot_id: [u8; 16]) -> Option<InFlight> {
        let next_seq = self.checkpoint.next_seq;
        let open = self.in_flight.clone()?.still_open(boot_id, self.head.generation, next_seq)?;
        // A final call is over once its window is: that is written before the slot is cleared.
        let is_awaited = || open.formed_at == next_seq && self.window().is_some();
        (!open.is_final || is_awaited()).then_some(open)
    }

    /// The window that is open.
    pub fn window(&self) -> Option<&OpenWindow> {
        self.windows.as_ref()?.open.as_ref()
    }
}

/// A lane as its slots say, or its window files if it has some.
pub(super) fn view_of(
    head: Head,
    slot: Checkpoint,
    pair: Option<(u64, WindowPair)>,
    in_flight: Option<InFlight>,
) -> LaneView {
    let Some((_, pair)) = pair else {
        return LaneView { head, checkpoint: slot, in_flight, windows: None };
    };
    let WindowPair { counter, place, written, windows, .. } = pair;
    let ResumePoint { next_seq, hint, shard_epoch } = place;
    let checkpoint = Checkpoint { counter, next_seq, hint, written, shard_epoch, ..slot };
    LaneView { head, checkpoint, in_flight, windows: Some(windows) }
}
