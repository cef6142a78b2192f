//! Decoded batches, shared by the lanes of a shard, under one byte budget for all shards.
//!
//! A batch stays until every lane of its shard in this runner has passed it, or until the budget
//! needs its bytes. Then the least recently used batch is dropped, and a lane that lags behind
//! reads it again. Which records belong to which lane is computed once for each batch and factor.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::sync::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use super::selection::Picked;
use crate::format::DecodedBatch;
use crate::log::Cursor;
use crate::types::{Position, SequenceNumber};

/// The lane of a shard that a record belongs to: by its key, or by its number if it has none.
pub fn slot_of(partition_key: Option<&str>, seq: SequenceNumber, factor: u32) -> u32 {
    let number = partition_key.map_or(seq, |key| xxh3_64(key.as_bytes()));
    u32::try_from(number % u64::from(factor.max(1))).expect("below the factor")
}

/// The records of a batch, lane after lane.
#[derive(Debug)]
struct Lanes {
    factor: u32,
    /// Indices of the records of lane 0, then of lane 1, …; ascending within a lane.
    indices: Arc<[u32]>,
    /// Where each lane's indices begin, and the end of the last.
    starts: Vec<usize>,
}

impl Lanes {
    /// A counting sort by lane: two passes, one hash a record.
    fn new(batch: &DecodedBatch, factor: u32) -> Self {
        let slots: Vec<u32> = (0..batch.count())
            .map(|i| slot_of(batch.key(i), batch.base_seq() + u64::from(i), factor))
            .collect();
        let mut starts = vec![0_usize; factor as usize + 1];
        for slot in &slots {
            if let Some(count) = starts.get_mut(*slot as usize + 1) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut next = starts.clone();
        let mut indices = vec![0_u32; slots.len()];
        for (index, slot) in (0..).zip(&slots) {
            let place = next.get_mut(*slot as usize).expect("a slot is below the factor");
            if let Some(entry) = indices.get_mut(*place) {
                *entry = index;
            }
            *place += 1;
        }
        Self { factor, indices: indices.into(), starts }
    }

    fn of(&self, slot: u32) -> Range<usize> {
        let start = |i: usize| self.starts.get(i).copied().unwrap_or(self.indices.len());
        start(slot as usize)..start(slot as usize + 1)
    }
}

/// A decoded batch and what follows it.
#[derive(Debug)]
pub struct CachedBatch {
    batch: Arc<DecodedBatch>,
    after: Cursor,
    /// Nearly always one factor; lanes of several mappings can differ, and then share nothing.
    lanes: OnceLock<Lanes>,
}

impl CachedBatch {
    pub(super) fn new(batch: Arc<DecodedBatch>, after: Cursor) -> Self {
        Self { batch, after, lanes: OnceLock::new() }
    }

    /// The batch.
    pub fn batch(&self) -> &Arc<DecodedBatch> {
        &self.batch
    }

    /// Where reading continues after it.
    pub fn after(&self) -> Cursor {
        self.after
    }

    /// The records of one lane with numbers from `from_seq` on; none of a control batch.
    pub fn picked(&self, factor: u32, slot: u32, from_seq: SequenceNumber) -> Picked {
        let count = self.batch.count();
        if self.batch.control().is_some() {
            return Picked::Range(0..0);
        }
        let all = if factor <= 1 { Picked::Range(0..count) } else { self.lane(factor, slot) };
        let below = from_seq.saturating_sub(self.batch.base_seq()).min(u64::from(count));
        let skipped = all.below(u32::try_from(below).expect("<= count"));
        all.slice(skipped, all.len())
    }

    fn lane(&self, factor: u32, slot: u32) -> Picked {
        let lanes = self.lanes.get_or_init(|| Lanes::new(&self.batch, factor));
        if lanes.factor == factor {
            return Picked::List { of: Arc::clone(&lanes.indices), within: lanes.of(slot) };
        }
        let lanes = Lanes::new(&self.batch, factor);
        Picked::List { within: lanes.of(slot), of: lanes.indices }
    }

    /// Bytes it holds, with room for the list of lanes.
    fn memory(&self) -> usize {
        self.batch.memory() + self.batch.count() as usize * size_of::<u32>()
    }
}

/// Shard (by its number in the set) and position.
type Key = (u32, Position);

#[derive(Debug)]
struct Kept {
    batch: Arc<CachedBatch>,
    last_use: u64,
    /// Lanes that have not passed it yet.
    expected: u32,
}

#[derive(Debug, Default)]
struct Shelf {
    kept: HashMap<Key, Kept>,
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
}

/// The batches in memory.
#[derive(Debug)]
pub struct BatchCache {
    budget: usize,
    shelf: Mutex<Shelf>,
}

impl BatchCache {
    /// An empty cache that holds at most `budget` bytes.
    pub fn new(budget: usize) -> Self {
        Self { budget, shelf: Mutex::default() }
    }

    /// The batch that was read at a position.
    pub fn get(&self, shard: u32, position: Position) -> Option<Arc<CachedBatch>> {
        let mut shelf = self.shelf.lock();
        let shelf = &mut *shelf;
        shelf.uses += 1;
        let kept = shelf.kept.get_mut(&(shard, position))?;
        shelf.by_use.remove(&kept.last_use);
        shelf.by_use.insert(shelf.uses, (shard, position));
        kept.last_use = shelf.uses;
        Some(Arc::clone(&kept.batch))
    }

    /// Keeps a batch read at a position until `expected` lanes have passed it. One that is larger
    /// than the budget is not kept.
    pub fn put(&self, shard: u32, position: Position, batch: &Arc<CachedBatch>, expected: u32) {
        let memory = batch.memory();
        if memory > self.budget || expected == 0 {
            return;
        }
        let mut shelf = self.shelf.lock();
        shelf.remove((shard, position));
        while shelf.bytes + memory > self.budget {
            let Some((_, &oldest)) = shelf.by_use.first_key_value() else { break };
            shelf.remove(oldest);
        }
        shelf.uses += 1;
        shelf.bytes += memory;
        let last_use = shelf.uses;
        shelf.by_use.insert(last_use, (shard, position));
        shelf.kept.insert((shard, position), Kept { batch: Arc::clone(batch), last_use, expected });
    }

    /// Notes that a lane is done with the batch at a position.
    pub fn pass(&self, shard: u32, position: Position) {
        let mut shelf = self.shelf.lock();
        let Some(kept) = shelf.kept.get_mut(&(shard, position)) else { return };
        kept.expected = kept.expected.saturating_sub(1);
        if kept.expected == 0 {
            shelf.remove((shard, position));
        }
    }

    /// Bytes held now.
    pub fn bytes(&self) -> usize {
        self.shelf.lock().bytes
    }
}

impl Shelf {
    fn remove(&mut self, key: Key) {
        if let Some(kept) = self.kept.remove(&key) {
            self.by_use.remove(&kept.last_use);
            self.bytes -= kept.batch.memory();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::RecordBuilder;
    use crate::types::ShardId;
    use proptest::prelude::*;

    /// A batch of records `base_seq..`, one for each key.
    fn batch(base_seq: u64, keys: &[Option<&str>]) -> Arc<CachedBatch> {
        let mut builder = RecordBuilder::default();
        for key in keys {
            builder.push(&[0; 1000], *key, &[]);
        }
        let batch = DecodedBatch::in_memory(&builder, base_seq, 0, "s".into(), ShardId(0));
        Arc::new(CachedBatch::new(Arc::new(batch), Cursor::default()))
    }

    fn indices(picked: &Picked) -> Vec<u32> {
        (0..picked.len()).filter_map(|i| picked.get(i)).collect()
    }

    fn place(n: u64) -> Position {
        Position { segment: 0, offset: 4096 + 8 * n }
    }

    #[test]
    fn the_slot_of_a_key_is_the_published_hash() {
        // SOURCE: XXH3-64 of "a", as `xxhsum -H3` prints it.
        assert_eq!(0xe6c6_32b6_1e96_4e1f, xxh3_64(b"a"));
        assert_eq!(
            u32::try_from(0xe6c6_32b6_1e96_4e1f_u64 % 256).unwrap(),
            slot_of(Some("a"), 3, 256)
        );
        assert_eq!(3, slot_of(None, 259, 256));
        assert_eq!(0, slot_of(Some("a"), 3, 1));
    }

    proptest! {
        #[test]
        fn each_record_belongs_to_one_lane(
            keys in prop::collection::vec(prop::option::of("[a-e]"), 1..100), factor in 1_u32..9, from in 0_u64..120
        ) {
            let keys: Vec<Option<&str>> = keys.iter().map(Option::as_deref).collect();
            let cached = batch(10, &keys);
            for slot in 0..factor {
                let expected: Vec<u32> = (0..u32::try_from(keys.len()).unwrap())
                    .filter(|&i| slot_of(keys[i as usize], 10 + u64::from(i), factor) == slot)
                    .filter(|&i| 10 + u64::from(i) >= from)
                    .collect();
                prop_assert_eq!(expected, indices(&cached.picked(factor, slot, from)));
            }
        }
    }

    #[test]
    fn lanes_of_two_factors_share_a_batch() {
        let keys: Vec<Option<&str>> = vec![None; 6];
        let cached = batch(0, &keys);
        assert_eq!(vec![1, 3, 5], indices(&cached.picked(2, 1, 0)));
        assert_eq!(vec![1, 4], indices(&cached.picked(3, 1, 0)));
        assert_eq!(vec![0, 2, 4], indices(&cached.picked(2, 0, 0)));
    }

    #[test]
    fn a_batch_goes_when_all_lanes_have_passed_it() {
        let cache = BatchCache::new(1 << 20);
        cache.put(0, place(0), &batch(0, &[None]), 2);
        cache.pass(0, place(0));
        assert!(cache.get(0, place(0)).is_some());
        assert!(cache.get(1, place(0)).is_none());
        cache.pass(0, place(0));

        assert!(cache.get(0, place(0)).is_none());
        assert_eq!(0, cache.bytes());
    }

    #[test]
    fn the_budget_takes_the_batch_not_used_for_longest() {
        let one = batch(0, &[None]).memory();
        let cache = BatchCache::new(2 * one);
        cache.put(0, place(0), &batch(0, &[None]), 9);
        cache.put(0, place(1), &batch(1, &[None]), 9);
        cache.get(0, place(0));
        cache.put(0, place(2), &batch(2, &[None]), 9);

        assert!(cache.get(0, place(0)).is_some());
        assert!(cache.get(0, place(1)).is_none());
        assert!(cache.get(0, place(2)).is_some());
        assert_eq!(2 * one, cache.bytes());
    }

    #[test]
    fn a_batch_above_the_budget_is_not_kept() {
        let cache = BatchCache::new(100);
        cache.put(0, place(0), &batch(0, &[None]), 9);
        assert_eq!(0, cache.bytes());
    }
}
