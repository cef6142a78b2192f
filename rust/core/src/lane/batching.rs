//! When a batch closes. Pure: the caller passes sizes and ages; no records and no clock.
//!
//! ```text
//! empty --admit--> open --admit--> ... --a limit is reached, or the next record does not fit--> full
//! open --the window has passed--> due        due and full batches are handed out
//! ```

use std::time::Duration;

use crate::error::{Error, Result};
use crate::types::{Micros, BATCH_SIZE_MAX};

/// Limits of a batch; the first one reached closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most records.
    pub size: usize,
    /// Longest time since its first record; zero takes what is there.
    pub window: Duration,
    /// Most payload bytes, except that a batch holds at least one record.
    pub bytes: usize,
    /// Width of the tumbling windows, which no batch crosses; `None`: there are none.
    pub tumbling: Option<Micros>,
}

impl Limits {
    /// Checks the bounds.
    ///
    /// # Errors
    /// [`Error::Config`] naming the limit.
    pub fn check(&self) -> Result<()> {
        if !(1..=BATCH_SIZE_MAX as usize).contains(&self.size) {
            let reason = format!("{} is not 1 to {BATCH_SIZE_MAX}", self.size);
            return Err(Error::config("batch_size", reason));
        }
        if self.bytes == 0 {
            return Err(Error::config("batch_bytes", "0 bytes hold no record"));
        }
        if self.tumbling == Some(0) {
            return Err(Error::config("tumbling_window", "no record is in a window of no time"));
        }
        Ok(())
    }
}

/// How far a batch has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records in it.
    pub count: usize,
    /// Their payload bytes.
    pub bytes: usize,
    /// Whether no further record goes in.
    pub is_full: bool,
}

impl Tally {
    /// Whether a record of `bytes` goes into the batch; counts it if so.
    pub fn admit(&mut self, limits: &Limits, bytes: usize) -> bool {
        let total = self.bytes.saturating_add(bytes);
        if self.is_full || (self.count > 0 && total > limits.bytes) {
            self.is_full = true;
            return false;
        }
        self.count += 1;
        self.bytes = total;
        self.is_full = self.count >= limits.size || total >= limits.bytes;
        true
    }

    /// Whether `count` records of `bytes` together all go into the batch, with room to spare; counts
    /// them if so. If not they may still go in: `admit` says how many.
    pub fn admit_all(&mut self, limits: &Limits, count: usize, bytes: usize) -> bool {
        let (count, bytes) = (self.count + count, self.bytes.saturating_add(bytes));
        // WHY `<` of bytes: a batch is full with its last byte, and takes not even an empty record.
        if self.is_full || count > limits.size || bytes >= limits.bytes {
            return false;
        }
        *self = Self { count, bytes, is_full: count == limits.size };
        true
    }

    /// Whether the batch is handed out. `is_over`: its window has passed, or windows close at once.
    pub fn is_due(&self, is_over: bool) -> bool {
        self.count > 0 && (self.is_full || is_over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(size: usize, bytes: usize) -> Limits {
        Limits { size, window: Duration::ZERO, bytes, tumbling: None }
    }

    #[test]
    fn it_closes_at_its_size() {
        let mut tally = Tally::default();
        assert!(tally.admit(&limits(2, 100), 1));
        assert!(!tally.is_due(false));
        assert!(tally.admit(&limits(2, 100), 1));
        assert!(tally.is_due(false));
        assert!(!tally.admit(&limits(2, 100), 1));
    }

    #[test]
    fn it_closes_before_a_record_that_does_not_fit() {
        let mut tally = Tally::default();
        assert!(tally.admit(&limits(9, 100), 60));
        assert!(!tally.admit(&limits(9, 100), 41));
        assert_eq!(Tally { count: 1, bytes: 60, is_full: true }, tally);
    }

    #[test]
    fn a_record_larger_than_the_limit_is_a_batch_of_its_own() {
        let mut tally = Tally::default();
        assert!(tally.admit(&limits(9, 100), 500));
        assert!(tally.is_full);
    }

    #[test]
    fn it_is_due_once_its_window_is_over() {
        let tally = Tally { count: 1, bytes: 1, is_full: false };
        assert!(!tally.is_due(false));
        assert!(tally.is_due(true));
    }

    #[test]
    fn limits_that_no_batch_can_keep_are_refused() {
        assert!(limits(1, 1).check().is_ok());
        assert!(limits(BATCH_SIZE_MAX as usize, 1).check().is_ok());
        assert!(limits(0, 1).check().is_err());
        assert!(limits(BATCH_SIZE_MAX as usize + 1, 1).check().is_err());
        assert!(limits(1, 0).check().is_err());
        assert!(Limits { tumbling: Some(0), ..limits(1, 1) }.check().is_err());
    }

    #[test]
    fn an_empty_batch_is_never_due() {
        assert!(!Tally::default().is_due(true));
    }

    proptest! {
        #[test]
        fn all_at_once_is_as_one_by_one(
            before in prop::collection::vec(0_usize..30, 0..6),
            sizes in prop::collection::vec(0_usize..30, 1..12),
            size in 1_usize..16,
            bytes in 1_usize..200,
        ) {
            let limits = limits(size, bytes);
            let mut tally = Tally::default();
            for bytes in before {
                tally.admit(&limits, bytes);
            }
            let mut one_by_one = tally;
            let taken = sizes.iter().take_while(|&&bytes| one_by_one.admit(&limits, bytes)).count();

            let has_room = taken == sizes.len() && one_by_one.bytes < bytes;
            prop_assert_eq!(has_room, tally.admit_all(&limits, sizes.len(), sizes.iter().sum()));
            if has_room {
                prop_assert_eq!(one_by_one, tally);
            }
        }

        #[test]
        fn batches_are_as_long_as_the_limits_allow(
            sizes in prop::collection::vec(0usize..50, 1..200), size in 1usize..20, bytes in 1usize..100
        ) {
            let limits = limits(size, bytes);
            let mut rest = &sizes[..];
            while !rest.is_empty() {
                let mut tally = Tally::default();
                let taken = rest.iter().take_while(|&&bytes| tally.admit(&limits, bytes)).count();

                let total: usize = rest[..taken].iter().sum();
                prop_assert!(taken >= 1 && taken <= size);
                prop_assert!(taken == 1 || total <= bytes);
                prop_assert_eq!((taken, total), (tally.count, tally.bytes));
                let next = rest.get(taken).copied().unwrap_or(0);
                let is_longest = taken == size || total >= bytes || total + next > bytes;
                prop_assert!(taken == rest.len() || is_longest);
                rest = &rest[taken..];
            }
        }
    }
}
