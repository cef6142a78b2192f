//! What the lanes of one shard were told, and what they may say after a power cut.

use streamfn_core::checkpoint::LaneView;

/// A checkpoint that was written, with the points between which it was, and when it was synced.
#[derive(Clone, Copy, Debug)]
struct Written {
    next_seq: u64,
    begun: usize,
    synced: Option<usize>,
}

/// What one generation of lanes was told.
#[derive(Clone, Debug)]
struct Generation {
    /// The point from which it may be in force.
    begun: usize,
    /// The point from which it, or a later one, is.
    since: usize,
    lanes: Vec<Vec<Written>>,
}

/// The lanes file of one shard, as its history tells it.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    generations: Vec<Generation>,
}

impl Ledger {
    /// A file made between two points, with lanes that begin at `start`.
    pub(crate) fn begin(factor: u32, start: u64, begun: usize, since: usize) -> Self {
        let mut ledger = Self { generations: Vec::new() };
        ledger.add_generation(factor, start, begun, since);
        ledger
    }

    /// A change of the factor, made between two points.
    pub(crate) fn change_factor(&mut self, factor: u32, begun: usize, since: usize) {
        // It makes all that counts durable before it begins.
        let lowest = self.latest().iter().map(|lane| lane.last().unwrap().next_seq).min().unwrap();
        self.note_synced(since);
        self.add_generation(factor, lowest, begun, since);
    }

    /// All lanes begin anew at a place, by a change made between two points.
    pub(crate) fn restart(&mut self, next_seq: u64, begun: usize, since: usize) {
        self.note_synced(since);
        let factor = u32::try_from(self.latest().len()).unwrap();
        self.add_generation(factor, next_seq, begun, since);
    }

    fn add_generation(&mut self, factor: u32, start: u64, begun: usize, since: usize) {
        // The slots of a generation count from the write of its head, which is synced before the
        // change returns; so they are never seen unsynced.
        let first = Written { next_seq: start, begun: 0, synced: Some(0) };
        let lanes = vec![vec![first]; factor as usize];
        self.generations.push(Generation { begun, since, lanes });
    }

    fn latest(&mut self) -> &mut Vec<Vec<Written>> {
        &mut self.generations.last_mut().unwrap().lanes
    }

    /// A checkpoint, whose writing began at a point.
    pub(crate) fn write(&mut self, slot: u32, next_seq: u64, begun: usize) {
        self.latest()[slot as usize].push(Written { next_seq, begun, synced: None });
    }

    /// All that was written is durable from this point on.
    pub(crate) fn note_synced(&mut self, point: usize) {
        for written in self.latest().iter_mut().flatten() {
            written.synced.get_or_insert(point);
        }
    }

    /// The point from which the file is there.
    pub(crate) fn since(&self) -> usize {
        self.generations[0].since
    }

    /// Looks at the lanes that a power cut after `point` changes left.
    pub(crate) fn check(&self, lanes: &[LaneView], point: usize) -> Result<(), String> {
        let generation = usize::try_from(lanes[0].head.generation).unwrap() - 1;
        let told = self.generations.get(generation).filter(|told| told.begun <= point);
        let told = told.ok_or_else(|| format!("generation {generation} is not of this time"))?;
        let newer = self.generations.get(generation + 1);
        if newer.is_some_and(|newer| newer.since <= point) {
            return Err(format!("generation {generation} is over"));
        }
        if told.lanes.len() != lanes.len() {
            return Err(format!("{} lanes, not {}", lanes.len(), told.lanes.len()));
        }
        for (slot, (lane, told)) in lanes.iter().zip(&told.lanes).enumerate() {
            let found = lane.checkpoint.next_seq;
            let is_synced = |written: &&Written| written.synced.is_some_and(|at| at <= point);
            let least = told.iter().rev().find(is_synced).map_or(0, |written| written.next_seq);
            let most = told.iter().rev().find(|written| written.begun <= point).unwrap().next_seq;
            if !(least..=most).contains(&found) {
                return Err(format!("lane {slot} is at {found}, not from {least} to {most}"));
            }
        }
        Ok(())
    }
}
