//! Records picked out of decoded batches: what one call of a function receives.
//!
//! A [`Selection`] names records, it does not copy them: a list of parts, each a shared batch and the
//! indices picked from it. Cloning and slicing cost one reference count, whatever the length.
//!
//! ```text
//! parts   [ batch A: 3..7 | batch B: [0, 4, 9] ]     the numbers are indices within the batch
//! window          ^-------------^                    a slice: indices 2..6 of the whole
//! ```

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::DecodedBatch;
use crate::types::SequenceNumber;

/// Indices of the records picked from one batch, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Picked {
    /// All of a range.
    Range(Range<u32>),
    /// Those listed in `of[within]`; the list is shared by the lanes of a shard.
    List {
        /// Ascending indices, of this lane and of others.
        of: Arc<[u32]>,
        /// This part's piece of the list.
        within: Range<usize>,
    },
}

impl Picked {
    /// Number of records picked.
    pub fn len(&self) -> usize {
        match self {
            Self::Range(range) => range.len(),
            Self::List { within, .. } => within.len(),
        }
    }

    /// Whether none is picked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `i`-th index picked.
    pub fn get(&self, i: usize) -> Option<u32> {
        match self {
            Self::Range(range) => {
                let index = u32::try_from(i).ok()?.checked_add(range.start)?;
                range.contains(&index).then_some(index)
            }
            Self::List { of, within } => of.get(within.clone())?.get(i).copied(),
        }
    }

    /// How many of the indices picked lie below `index`.
    pub fn below(&self, index: u32) -> usize {
        match self {
            Self::Range(range) => (index.clamp(range.start, range.end) - range.start) as usize,
            Self::List { of, within } => {
                of.get(within.clone()).map_or(0, |list| list.partition_point(|&i| i < index))
            }
        }
    }

    /// Those that `keep` says; the same list or range if it says all.
    #[must_use]
    pub fn retain(&self, mut keep: impl FnMut(u32) -> bool) -> Self {
        let all = || (0..self.len()).filter_map(|i| self.get(i));
        let kept: Vec<u32> = all().filter(|index| keep(*index)).collect();
        if kept.len() == self.len() {
            return self.clone();
        }
        Self::List { within: 0..kept.len(), of: kept.into() }
    }

    /// Those at `from..to`, counted among the picked ones.
    ///
    /// # Panics
    /// If the range is not within `0..len()`.
    #[must_use]
    pub fn slice(&self, from: usize, to: usize) -> Self {
        assert!(from <= to && to <= self.len(), "slice within the indices picked");
        match self {
            Self::Range(range) => Self::Range(part_of(range, &(from..to))),
            Self::List { of, within } => {
                Self::List { of: of.clone(), within: within.start + from..within.start + to }
            }
        }
    }
}

/// What lies at `shown` of a range, which is as long at least.
fn part_of(range: &Range<u32>, shown: &Range<usize>) -> Range<u32> {
    #[allow(clippy::cast_possible_truncation, reason = "both are at most its length, a u32")]
    let (from, to) = (shown.start as u32, shown.end as u32);
    range.start + from..range.start + to
}

/// Some records of one batch.
#[derive(Clone)]
struct Part {
    batch: Arc<DecodedBatch>,
    picked: Picked,
    /// Records in this part and all before it.
    end: usize,
}

impl Part {
    fn start(&self) -> usize {
        self.end - self.picked.len()
    }

    /// Sequence number of its last record; a part is never empty.
    fn last(&self) -> SequenceNumber {
        let index = self.picked.get(self.picked.len() - 1);
        self.batch.base_seq() + u64::from(index.expect("a part is never empty"))
    }
}

/// Records in ascending order of their sequence numbers, shared with the batches they are in.
#[derive(Clone)]
pub struct Selection {
    parts: Arc<[Part]>,
    /// What of all the parts this selection shows.
    window: Range<usize>,
}

impl Default for Selection {
    fn default() -> Self {
        Self { parts: Arc::new([]), window: 0..0 }
    }
}

impl std::fmt::Debug for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Selection({} records", self.len())?;
        if let (Some(first), Some(last)) = (self.first(), self.last()) {
            write!(f, ", {first}..={last}")?;
        }
        write!(f, ")")
    }
}

impl Selection {
    /// All records of one batch; empty if it is a control batch.
    pub fn of_batch(batch: &Arc<DecodedBatch>) -> Self {
        let mut builder = Builder::default();
        if batch.control().is_none() {
            builder.push(batch, Picked::Range(0..batch.count()));
        }
        builder.finish()
    }

    /// One after another.
    ///
    /// # Panics
    /// If a part's records do not come after those of the part before it.
    pub fn concat<'a>(parts: impl IntoIterator<Item = &'a Selection>) -> Self {
        let mut builder = Builder::default();
        for selection in parts {
            for (batch, picked) in selection.pieces() {
                builder.push(batch, picked);
            }
        }
        builder.finish()
    }

    /// The same of records that a caller put together.
    ///
    /// # Errors
    /// [`Error::Config`] if a part's records do not come after those of the part before it.
    pub fn joined<'a>(parts: impl IntoIterator<Item = &'a Selection>) -> Result<Self> {
        let parts: Vec<&Selection> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        for (before, after) in parts.iter().zip(parts.iter().skip(1)) {
            if let (Some(last), Some(first)) = (before.last(), after.first()) {
                if first <= last {
                    let reason = format!(
                        "#{first} comes after #{last}, but sequence numbers rise in a batch; \
                         records that are made without any are numbered"
                    );
                    return Err(Error::config("records", reason));
                }
            }
        }
        Ok(Self::concat(parts))
    }

    /// One record that a caller made, with its number; `batch` holds nothing else.
    pub fn by_hand(batch: &Arc<DecodedBatch>, number: SequenceNumber) -> Self {
        if batch.base_seq() == number {
            return Self::of_batch(batch);
        }
        Self::of_batch(&Arc::new(batch.renumbered(number)))
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.window.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.window.is_empty()
    }

    /// The `i`-th record: its batch, and its index there.
    pub fn get(&self, i: usize) -> Option<(&Arc<DecodedBatch>, u32)> {
        let at = self.window.start.checked_add(i).filter(|at| self.window.contains(at))?;
        let part = self.parts.get(self.parts.partition_point(|part| part.end <= at))?;
        Some((&part.batch, part.picked.get(at - part.start())?))
    }

    /// Every record: its batch, and its index there.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<DecodedBatch>, u32)> + '_ {
        self.parts_shown().flat_map(|(part, shown)| {
            shown.filter_map(|i| part.picked.get(i)).map(|index| (&part.batch, index))
        })
    }

    /// The payload of every record.
    pub fn values(&self) -> impl Iterator<Item = &[u8]> + '_ {
        self.parts_shown().flat_map(|(part, shown)| match &part.picked {
            // WHY not of one alone: to begin a run costs more than it saves.
            Picked::Range(range) if shown.len() > 1 => {
                Values::Run(part.batch.values(&part_of(range, &shown)))
            }
            picked => {
                let indices = shown.filter_map(|i| picked.get(i));
                Values::OneByOne(indices.map(|index| part.batch.value(index)))
            }
        })
    }

    /// The batches it is made of, each with what is picked from it.
    pub fn pieces(&self) -> impl Iterator<Item = (&Arc<DecodedBatch>, Picked)> + '_ {
        self.parts_shown()
            .map(|(part, shown)| (&part.batch, part.picked.slice(shown.start, shown.end)))
    }

    /// Sequence number of the `i`-th record.
    pub fn sequence_number(&self, i: usize) -> Option<SequenceNumber> {
        self.get(i).map(|(batch, index)| batch.base_seq() + u64::from(index))
    }

    /// Sequence number of the first record.
    pub fn first(&self) -> Option<SequenceNumber> {
        self.sequence_number(0)
    }

    /// Sequence number of the last record.
    pub fn last(&self) -> Option<SequenceNumber> {
        self.sequence_number(self.len().checked_sub(1)?)
    }

    /// Payload bytes of all records, keys and headers included.
    pub fn bytes(&self) -> usize {
        self.pieces()
            .map(|(batch, picked)| match &picked {
                Picked::Range(range) => batch.range_bytes(range),
                Picked::List { .. } => (0..picked.len())
                    .filter_map(|i| picked.get(i))
                    .map(|index| batch.record_bytes(index))
                    .sum(),
            })
            .sum()
    }

    /// The records at `range`, without copying.
    ///
    /// # Panics
    /// If the range is not within `0..len()`.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len(), "slice within the selection");
        let start = self.window.start;
        Self { parts: self.parts.clone(), window: start + range.start..start + range.end }
    }

    /// Index of the record with this sequence number; else where it would be.
    ///
    /// # Errors
    /// The index of the first record above it, if it is not among them.
    pub fn search(&self, seq: SequenceNumber) -> std::result::Result<usize, usize> {
        let at = self.parts.partition_point(|part| part.last() < seq);
        let found = self.parts.get(at).map_or(self.window.end, |part| {
            let index = seq.saturating_sub(part.batch.base_seq());
            part.start() + part.picked.below(u32::try_from(index).unwrap_or(u32::MAX))
        });
        let i = found.clamp(self.window.start, self.window.end) - self.window.start;
        if self.sequence_number(i) == Some(seq) {
            Ok(i)
        } else {
            Err(i)
        }
    }

    /// The records with `first <= sequence number <= last`.
    #[must_use]
    pub fn between(&self, first: SequenceNumber, last: SequenceNumber) -> Self {
        let from = self.search(first).unwrap_or_else(|i| i);
        let to = self.search(last).map_or_else(|i| i, |i| i + 1);
        self.slice(from..to.max(from))
    }

    /// The parts that the window touches, with the indices shown of each.
    fn parts_shown(&self) -> impl Iterator<Item = (&Part, Range<usize>)> + '_ {
        let window = self.window.clone();
        let first = self.parts.partition_point(|part| part.end <= window.start);
        let parts = self.parts.get(first..).unwrap_or_default();
        parts.iter().take_while(move |part| part.start() < self.window.end).map(move |part| {
            let start = part.start();
            let from = window.start.max(start) - start;
            let to = window.end.min(part.end) - start;
            (part, from..to)
        })
    }
}

/// Payloads of one part.
enum Values<Run, OneByOne> {
    Run(Run),
    OneByOne(OneByOne),
}

impl<'a, Run, OneByOne> Iterator for Values<Run, OneByOne>
where
    Run: Iterator<Item = &'a [u8]>,
    OneByOne: Iterator<Item = &'a [u8]>,
{
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match self {
            Self::Run(values) => values.next(),
            Self::OneByOne(values) => values.next(),
        }
    }
}

/// Puts a [`Selection`] together, part by part.
#[derive(Default)]
pub struct Builder {
    parts: Vec<Part>,
}

impl Builder {
    /// Adds records of `batch`; nothing if none is picked.
    ///
    /// # Panics
    /// If they do not come after all records added so far: a lane never goes back.
    pub fn push(&mut self, batch: &Arc<DecodedBatch>, picked: Picked) {
        let Some(first) = picked.get(0) else { return };
        let first = batch.base_seq() + u64::from(first);
        assert!(self.last().is_none_or(|last| last < first), "records of a lane only ascend");
        let end = self.len() + picked.len();
        self.parts.push(Part { batch: batch.clone(), picked, end });
    }

    /// Number of records so far.
    pub fn len(&self) -> usize {
        self.parts.last().map_or(0, |part| part.end)
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Sequence number of the first record so far.
    pub fn first(&self) -> Option<SequenceNumber> {
        let part = self.parts.first()?;
        Some(part.batch.base_seq() + u64::from(part.picked.get(0)?))
    }

    /// Sequence number of the last record so far.
    pub fn last(&self) -> Option<SequenceNumber> {
        self.parts.last().map(Part::last)
    }

    /// The selection of all that was added; the builder is empty again.
    pub fn finish(&mut self) -> Selection {
        let window = 0..self.len();
        Selection { parts: std::mem::take(&mut self.parts).into(), window }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Control, RecordBuilder};
    use crate::types::ShardId;
    use proptest::prelude::*;

    /// Payloads of 10 bytes that tell the number of their record.
    fn batch(base_seq: u64, count: u32) -> Arc<DecodedBatch> {
        let mut builder = RecordBuilder::default();
        for index in 0..count {
            builder.push(
                &payload(base_seq + u64::from(index)),
                (index % 2 == 0).then_some("key"),
                &[],
            );
        }
        Arc::new(DecodedBatch::in_memory(&builder, base_seq, 0, "s".into(), ShardId(0)))
    }

    fn payload(number: u64) -> Vec<u8> {
        format!("{number:010}").into_bytes()
    }

    fn numbers(selection: &Selection) -> Vec<u64> {
        selection.iter().map(|(batch, index)| batch.base_seq() + u64::from(index)).collect()
    }

    /// Parts of up to five batches, some with gaps between them, and the numbers they name.
    fn selections() -> impl Strategy<Value = (Selection, Vec<u64>)> {
        let part = (0_u64..5, prop::collection::vec(any::<bool>(), 1..12), any::<bool>());
        prop::collection::vec(part, 0..5).prop_map(|parts| {
            let (mut builder, mut named, mut next) = (Builder::default(), Vec::new(), 0);
            for (gap, picks, is_range) in parts {
                let base_seq = next + gap;
                let count = u32::try_from(picks.len()).unwrap();
                next = base_seq + u64::from(count);
                let indices: Vec<u32> = (0..)
                    .zip(&picks)
                    .filter(|(_, pick)| is_range || **pick)
                    .map(|(i, _)| i)
                    .collect();
                named.extend(indices.iter().map(|index| base_seq + u64::from(*index)));
                let picked = if is_range {
                    Picked::Range(0..count)
                } else {
                    // A list is shared: this lane's piece lies between those of others.
                    let others = [u32::MAX];
                    let of = [&others, indices.as_slice(), &others].concat().into();
                    Picked::List { of, within: 1..1 + indices.len() }
                };
                builder.push(&batch(base_seq, count), picked);
            }
            (builder.finish(), named)
        })
    }

    proptest! {
        #[test]
        fn it_reads_like_the_list_of_its_records((selection, named) in selections()) {
            prop_assert_eq!(&named, &numbers(&selection));
            prop_assert_eq!(named.len(), selection.len());
            prop_assert_eq!(named.first().copied(), selection.first());
            prop_assert_eq!(named.last().copied(), selection.last());
            for i in 0..=named.len() {
                prop_assert_eq!(named.get(i).copied(), selection.sequence_number(i));
            }
            let pieces: usize = selection.pieces().map(|(_, picked)| picked.len()).sum();
            prop_assert_eq!(named.len(), pieces);
        }

        #[test]
        fn slices_of_slices_are_slices((selection, named) in selections(), at: [prop::sample::Index; 4]) {
            let [a, b, c, d] = at;
            let ends = |a: prop::sample::Index, b: prop::sample::Index, length: usize| {
                let (a, b) = (a.index(length + 1), b.index(length + 1));
                a.min(b)..a.max(b)
            };
            let outer = ends(a, b, named.len());
            let inner = ends(c, d, outer.len());
            let sliced = selection.slice(outer.clone()).slice(inner.clone());
            let expected = &named[outer][inner];
            prop_assert_eq!(expected, numbers(&sliced));
            prop_assert_eq!(expected.last().copied(), sliced.last());
            let payloads: Vec<_> = expected.iter().copied().map(payload).collect();
            prop_assert_eq!(payloads, sliced.values().collect::<Vec<_>>());
        }

        #[test]
        fn a_record_is_found_by_its_number_also_in_a_slice(
            (selection, named) in selections(), cut: prop::sample::Index, seq in 0_u64..80
        ) {
            let cut = cut.index(named.len() + 1);
            let (sliced, named) = (selection.slice(cut..named.len()), &named[cut..]);
            prop_assert_eq!(named.binary_search(&seq), sliced.search(seq));
        }

        #[test]
        fn a_range_of_numbers_takes_what_lies_in_it(
            (selection, named) in selections(), first in 0_u64..80, length in 0_u64..40
        ) {
            let last = first + length;
            let expected: Vec<u64> =
                named.into_iter().filter(|seq| (first..=last).contains(seq)).collect();
            prop_assert_eq!(expected, numbers(&selection.between(first, last)));
        }

        #[test]
        fn what_was_cut_in_two_can_be_joined((selection, named) in selections(), at: prop::sample::Index) {
            let at = at.index(named.len() + 1);
            let halves = [selection.slice(0..at), selection.slice(at..named.len())];
            prop_assert_eq!(named, numbers(&Selection::concat(&halves)));
        }
    }

    #[test]
    fn its_bytes_are_those_of_its_records() {
        let selection = Selection::of_batch(&batch(0, 3));
        assert_eq!(10 + 3 + 10 + 10 + 3, selection.bytes());
        assert_eq!(10, selection.slice(1..2).bytes());
    }

    #[test]
    #[should_panic(expected = "only ascend")]
    fn records_never_go_back() {
        let (first, second) = (batch(0, 3), batch(2, 3));
        let parts = [Selection::of_batch(&first), Selection::of_batch(&second)];
        let _ = Selection::concat(&parts);
    }

    #[test]
    fn a_control_batch_has_no_records() {
        use crate::format::{BatchHeader, SharedBytes};
        use crate::types::Position;
        let header = BatchHeader { is_control: true, record_count: 1, ..BatchHeader::default() };
        let body = SharedBytes::whole(Control::Epoch { reason: 1 }.encode());
        let close = DecodedBatch::new(header, Position::default(), "s".into(), ShardId(0), body);
        assert!(Selection::of_batch(&Arc::new(close.unwrap())).is_empty());
    }
}
