//! When a tumbling window opens and when it is over. Pure: the caller passes times; no clock.
//!
//! ```text
//! none --admit: by the record's time--> open --admit: a record behind its end--> over
//!                                        |  --the shard ends, or by the clock--> over
//!                                        '--its state grew too large-----------> over
//! over --the final call is settled: close--> none
//! ```
//! Windows are the multiples of a width; they begin at the start of 1970, UTC. A record of a window
//! that was closed already counts in the one after it.

use crate::checkpoint::{OpenWindow, WindowState, Windows};
use crate::types::Micros;

/// The windows of one lane.
#[derive(Clone, Debug)]
pub(super) struct Windowing {
    width: Micros,
    /// As they stand on disk.
    written: Windows,
    /// The same, with the window that a batch on its way has opened.
    windows: Windows,
    is_over: bool,
    /// Of the last call that succeeded, not written yet.
    next: Option<Next>,
}

#[derive(Clone, Debug)]
struct Next {
    state: WindowState,
    is_ended_early: bool,
}

impl Windowing {
    pub(super) fn new(width: Micros, windows: Windows) -> Self {
        let written = windows.clone();
        Self { width: width.max(1), written, windows, is_over: false, next: None }
    }

    pub(super) fn open(&self) -> Option<&OpenWindow> {
        self.windows.open.as_ref()
    }

    /// Whether a record of this time counts in the window that is open, or opens one.
    pub(super) fn admit(&mut self, time: Micros) -> bool {
        if self.windows.open.is_none() {
            self.windows.open = Some(self.around(time));
        }
        let end = self.open().map_or(0, |open| open.end);
        self.is_over |= time >= end;
        !self.is_over()
    }

    /// Nothing more goes into the window that is open, if there is one.
    pub(super) fn end(&mut self) {
        self.is_over = self.windows.open.is_some();
    }

    /// Whether the window that is open has had its last record.
    pub(super) fn is_over(&self) -> bool {
        self.open().is_some_and(|open| self.is_over || open.is_ended_early)
    }

    /// Takes the state that a call left; it counts from the next [`Windowing::advanced`] on.
    pub(super) fn keep(&mut self, state: WindowState, is_ended_early: bool) {
        self.next = Some(Next { state, is_ended_early });
    }

    /// Forgets a state that was kept and not written.
    pub(super) fn forget(&mut self) {
        self.next = None;
    }

    /// The windows as they are to be written with the next position.
    pub(super) fn advanced(&self) -> Windows {
        let mut windows = self.windows.clone();
        if let Some((open, next)) = windows.open.as_mut().zip(self.next.as_ref()) {
            open.state = next.state.clone();
            open.is_ended_early = next.is_ended_early;
        }
        windows
    }

    /// The windows as they are to be written after the final call.
    pub(super) fn closed(&self) -> Windows {
        // WHY: what follows in a window that was ended early opens it once more.
        let end = self.open().filter(|open| !open.is_ended_early).map_or(0, |open| open.end);
        Windows { open: None, closed_to: self.windows.closed_to.max(end) }
    }

    /// Notes what was written.
    pub(super) fn wrote(&mut self, windows: Windows) {
        self.is_over &= windows.open.is_some();
        self.next = None;
        self.written = windows.clone();
        self.windows = windows;
    }

    /// Returns to the state on disk.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.width, self.written.clone());
    }

    fn around(&self, time: Micros) -> OpenWindow {
        let time = time.max(self.windows.closed_to);
        let start = time - time % self.width;
        let end = start.saturating_add(self.width);
        OpenWindow { start, end, state: WindowState::default(), is_ended_early: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(windowing: &Windowing) -> Option<(Micros, Micros)> {
        windowing.open().map(|open| (open.start, open.end))
    }

    #[test]
    fn a_window_is_the_multiple_of_its_width_that_its_first_record_lies_in() {
        let mut windowing = Windowing::new(60, Windows::default());

        assert!(windowing.admit(119));
        assert_eq!(Some((60, 120)), bounds(&windowing));
        assert!(!windowing.is_over());
    }

    #[test]
    fn a_record_at_its_end_is_not_in_it() {
        let mut windowing = Windowing::new(60, Windows::default());
        assert!(windowing.admit(60));

        assert!(!windowing.admit(120));
        assert!(windowing.is_over());
        assert_eq!(Some((60, 120)), bounds(&windowing), "until its final call");
    }

    #[test]
    fn a_record_of_a_closed_window_counts_in_the_open_one() {
        let mut windowing = Windowing::new(60, Windows::default());
        windowing.admit(60);
        windowing.end();
        let closed = windowing.closed();
        windowing.wrote(closed);

        assert!(windowing.admit(61));
        assert_eq!(Some((120, 180)), bounds(&windowing));
        assert!(windowing.admit(70));
    }

    #[test]
    fn what_follows_in_a_window_that_ended_early_opens_it_once_more() {
        let mut windowing = Windowing::new(60, Windows::default());
        windowing.admit(60);
        windowing.keep(WindowState::default(), true);
        let grown = windowing.advanced();
        windowing.wrote(grown);
        assert!(windowing.is_over());
        let closed = windowing.closed();
        windowing.wrote(closed);

        assert!(windowing.admit(61));
        assert_eq!(Some((60, 120)), bounds(&windowing));
        assert!(!windowing.is_over());
    }

    #[test]
    fn a_window_keeps_its_bounds_when_the_width_changes() {
        let mut old = Windowing::new(60, Windows::default());
        old.admit(60);
        let mut new = Windowing::new(10, old.advanced());

        assert!(new.admit(119));
        assert!(!new.admit(120));
        let closed = new.closed();
        new.wrote(closed);
        new.admit(121);
        assert_eq!(Some((120, 130)), bounds(&new));
    }

    #[test]
    fn a_state_that_was_not_written_does_not_count() {
        let mut windowing = Windowing::new(60, Windows::default());
        windowing.admit(60);
        windowing.keep(WindowState { bytes: (*b"1").into(), ..WindowState::default() }, false);
        windowing.forget();

        assert!(windowing.advanced().open.unwrap().state.bytes.is_empty());
    }

    #[test]
    fn without_an_open_window_nothing_is_over() {
        let mut windowing = Windowing::new(60, Windows::default());
        windowing.end();

        assert!(!windowing.is_over());
    }
}
