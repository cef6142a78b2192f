//! A mapping's filter, as one lane uses it.

use std::sync::Arc;

use super::board::{self, Board};
use super::cache::CachedBatch;
use super::selection::Picked;
use super::share::Share;
use crate::error::Result;
use crate::filter::{Filter, Matcher, Verdict};
use crate::format::DecodedBatch;
use crate::types::SequenceNumber;

/// Which records of a mapping its function sees, and where the verdicts are counted.
#[derive(Clone, Debug)]
pub struct Filtering {
    /// The patterns.
    pub filter: Arc<Filter>,
    /// The board, and the mapping's place on it.
    pub counts: Option<(Arc<Board>, usize)>,
}

/// Picks a lane's records out of batches; each record is looked at once.
#[derive(Debug)]
pub(super) struct LaneFilter {
    matcher: Matcher,
    counts: Option<(Arc<Board>, usize)>,
    latest: Option<Latest>,
}

/// The verdicts on the batch that the lane is in.
#[derive(Debug)]
struct Latest {
    base_seq: SequenceNumber,
    from_seq: SequenceNumber,
    picked: Picked,
}

/// How many records had which verdict.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    matched: u64,
    filtered: u64,
    not_json: u64,
}

impl LaneFilter {
    pub(super) fn new(filtering: Filtering) -> Result<Self> {
        let Filtering { filter, counts } = filtering;
        if let Some((board, mapping)) = &counts {
            board.counters(*mapping)?;
        }
        Ok(Self { matcher: Matcher::new(filter), counts, latest: None })
    }

    /// The lane's records from `from_seq` on that the filter takes. For a batch larger than the
    /// lane takes at once, this is called again, from further on.
    pub(super) fn pick(
        &mut self,
        cached: &CachedBatch,
        share: Share,
        from_seq: SequenceNumber,
    ) -> Result<Picked> {
        let base_seq = cached.batch().base_seq();
        let is_known = |it: &&Latest| it.base_seq == base_seq && it.from_seq <= from_seq;
        if let Some(latest) = self.latest.as_ref().filter(is_known) {
            let below = u32::try_from(from_seq.saturating_sub(base_seq)).unwrap_or(u32::MAX);
            let picked = &latest.picked;
            return Ok(picked.slice(picked.below(below), picked.len()));
        }
        let all = share.of(cached, from_seq);
        let (picked, counts) = self.look_through(cached.batch(), &all);
        self.count(counts)?;
        self.latest = Some(Latest { base_seq, from_seq, picked: picked.clone() });
        Ok(picked)
    }

    /// What the filter takes of some records that were counted before.
    pub(super) fn retain(&mut self, batch: &DecodedBatch, picked: &Picked) -> Picked {
        self.look_through(batch, picked).0
    }

    fn look_through(&mut self, batch: &DecodedBatch, picked: &Picked) -> (Picked, Counts) {
        let mut counts = Counts::default();
        let taken = picked.retain(|index| {
            let verdict = self.matcher.record(batch, index);
            match verdict {
                Verdict::Matched => counts.matched += 1,
                Verdict::Filtered => counts.filtered += 1,
                Verdict::NotJson => counts.not_json += 1,
            }
            verdict == Verdict::Matched
        });
        (taken, counts)
    }

    fn count(&self, counts: Counts) -> Result<()> {
        let Some((board, mapping)) = &self.counts else { return Ok(()) };
        for (counter, amount) in [
            (board::MATCHED, counts.matched),
            (board::FILTERED, counts.filtered),
            (board::NOT_JSON, counts.not_json),
        ] {
            if amount > 0 {
                board.add(*mapping, counter, amount)?;
            }
        }
        Ok(())
    }
}
