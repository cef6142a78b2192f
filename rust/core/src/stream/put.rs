//! Puts records: checks them, routes them, and appends them to their shards.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use crate::clock::Patience;
use crate::error::{Error, Result};
use crate::format::body::encode_headers;
use crate::format::record_batch::RECORDS_MAX;
use crate::format::{DecodedBatch, RecordBuilder};
use crate::log::{Appended, Attempt, BATCH_BYTES_TARGET};
use crate::types::{
    SequenceNumber, ShardId, DEAD_LETTER_BYTES_EXTRA, HEADERS_BYTES_MAX, PARTITION_KEY_CHARS_MAX,
    RECORD_BYTES_MAX,
};

use super::{routing, Stream};

/// The records of one call on their way to their shards. Nothing is written before [`Put::commit`].
#[derive(Debug)]
pub struct Put<'a> {
    stream: &'a Stream,
    /// Hash range and number of each shard that takes records, by first hash key.
    targets: Vec<(u128, u128, ShardId)>,
    /// What goes to each target.
    builders: Vec<Vec<RecordBuilder>>,
    /// The target of each record; empty while all go to `keyless`.
    routes: Vec<u32>,
    keyless: usize,
    count: usize,
    record_bytes_max: usize,
    headers_bytes_max: usize,
}

/// Where a call's records went.
#[derive(Debug, Clone)]
pub struct PutOutcome {
    shards: Vec<(ShardId, Appended)>,
    /// The shard of each record, as an index; empty if there is only one.
    routes: Vec<u32>,
    count: usize,
}

impl PutOutcome {
    /// How many records there were.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Shard and sequence number of each record, in the order of the call.
    pub fn places(&self) -> Vec<(ShardId, SequenceNumber)> {
        let mut cursors: Vec<_> = self
            .shards
            .iter()
            .map(|(id, appended)| {
                let numbers =
                    appended.runs.iter().flat_map(|(first, n)| *first..*first + u64::from(*n));
                (*id, numbers)
            })
            .collect();
        let only = if self.routes.is_empty() { self.count } else { 0 };
        let routes = self.routes.iter().copied().chain(std::iter::repeat_n(0, only));
        routes
            .filter_map(|route| {
                let (id, numbers) = cursors.get_mut(route as usize)?;
                Some((*id, numbers.next()?))
            })
            .collect()
    }
}

impl Stream {
    /// Begins a call of puts.
    ///
    /// # Errors
    /// The log was closed, or opened before a fork.
    pub fn begin_put(&self) -> Result<Put<'_>> {
        self.directory.check()?;
        let mut targets: Vec<_> = self
            .known
            .lock()
            .iter()
            .filter(|meta| meta.is_open)
            .map(|meta| (meta.hash_range.0, meta.hash_range.1, meta.id))
            .collect();
        targets.sort_unstable();
        let keyless = self.next_keyless.fetch_add(1, Ordering::Relaxed) % targets.len().max(1);
        let builders = vec![Vec::new(); targets.len()];
        let extra = if self.is_internal { DEAD_LETTER_BYTES_EXTRA } else { 0 };
        Ok(Put {
            stream: self,
            targets,
            builders,
            routes: Vec::new(),
            keyless,
            count: 0,
            record_bytes_max: RECORD_BYTES_MAX + extra,
            headers_bytes_max: HEADERS_BYTES_MAX + extra,
        })
    }

    /// The shard that owns a partition key.
    ///
    /// # Errors
    /// The log was closed, or opened before a fork.
    pub fn shard_of(&self, partition_key: &str) -> Result<ShardId> {
        let put = self.begin_put()?;
        let target = put.target_of(partition_key);
        Ok(put.targets.get(target).map_or(ShardId(0), |(.., id)| *id))
    }
}

impl Put<'_> {
    /// Adds a record.
    ///
    /// # Errors
    /// [`Error::RecordTooLarge`] or [`Error::Config`]: the call is refused as a whole.
    pub fn push<'h>(
        &mut self,
        data: &[u8],
        partition_key: Option<&str>,
        headers: impl ExactSizeIterator<Item = (&'h str, &'h [u8])>,
    ) -> Result<()> {
        let headers = encode_headers(headers).ok_or_else(|| {
            let reason = "a name has more than 65,535 bytes, or there are more than 65,535 headers";
            Error::config("headers", format!("entry {}: {reason}", self.count))
        })?;
        self.check(data, partition_key, &headers)?;
        self.place(data, partition_key, &headers)
    }

    #[inline]
    fn place(&mut self, data: &[u8], partition_key: Option<&str>, headers: &[u8]) -> Result<()> {
        let target = partition_key.map_or(self.keyless, |key| self.target_of(key));
        if self.targets.len() > 1 {
            self.routes.push(u32::try_from(target).expect("<= 4096 shards"));
        }
        let size = data.len() + headers.len() + partition_key.map_or(0, str::len);
        let Some(builders) = self.builders.get_mut(target) else {
            return Err(Error::config(
                "stream",
                format!("`{}` has no open shard", self.stream.name),
            ));
        };
        if builders.last().is_none_or(|last| {
            last.count() > 0
                && (last.payload_bytes() + size > BATCH_BYTES_TARGET || last.count() >= RECORDS_MAX)
        }) {
            builders.push(RecordBuilder::recycled());
        }
        if let Some(last) = builders.last_mut() {
            last.push(data, partition_key, headers);
        }
        self.count += 1;
        Ok(())
    }

    /// Appends all records and waits as the stream's durability says.
    ///
    /// # Errors
    /// As [`crate::log::ShardLog::append`], except for a closed shard: its records go to its
    /// children. In a call for several shards, records of the others may have been appended.
    ///
    /// # Durability
    /// That of the stream, when it returns.
    pub fn commit(mut self, patience: &Patience<'_>) -> Result<PutOutcome> {
        let mut shards = Vec::with_capacity(self.targets.len());
        let mut jobs = self.take_jobs();
        // INVARIANT: a route is the place of its job, here and in `shards`.
        while let Some((id, builders)) = jobs.pop_front() {
            let attempt = if builders.is_empty() {
                Attempt::Appended(Appended::default())
            } else {
                self.stream.shard(id)?.try_append(builders, patience)?
            };
            let appended = match attempt {
                Attempt::Appended(appended) => appended,
                Attempt::Closed(batches) => {
                    self.stream.follow(id, patience)?;
                    let mut again = self.stream.begin_put()?;
                    again.take_over(&batches)?;
                    self.reroute(shards.len(), shards.len() + 1 + jobs.len(), &again);
                    jobs.extend(again.take_jobs());
                    Appended::default()
                }
            };
            shards.push((id, appended));
        }
        Ok(PutOutcome { shards, routes: self.routes, count: self.count })
    }

    fn take_jobs(&mut self) -> VecDeque<(ShardId, Vec<RecordBuilder>)> {
        let builders = std::mem::take(&mut self.builders);
        self.targets.iter().map(|(.., id)| *id).zip(builders).collect()
    }

    /// Adds records that were on their way to a shard that is closed.
    fn take_over(&mut self, batches: &[DecodedBatch]) -> Result<()> {
        for batch in batches {
            for index in 0..batch.count() {
                let headers: Vec<_> = batch.headers(index).collect();
                let headers =
                    encode_headers(headers.into_iter()).expect("they were encoded before");
                self.place(batch.value(index), batch.key(index), &headers)?;
            }
        }
        Ok(())
    }

    /// Notes that the records of job `from` are those of another call, whose first job is `base`.
    fn reroute(&mut self, from: usize, base: usize, again: &Put<'_>) {
        let number = |job: usize| u32::try_from(job).expect("a few jobs for each shard");
        if self.routes.is_empty() {
            self.routes = vec![0; self.count];
        }
        let mut targets = again.routes.iter().copied();
        for route in self.routes.iter_mut().filter(|route| **route == number(from)) {
            *route = number(base) + targets.next().unwrap_or(0);
        }
    }

    fn target_of(&self, partition_key: &str) -> usize {
        if self.targets.len() <= 1 {
            return 0;
        }
        let hash = routing::hash_key(partition_key);
        self.targets.partition_point(|(first, ..)| *first <= hash).saturating_sub(1)
    }

    fn too_large(&self, size: usize, limit: usize, what: &'static str) -> Error {
        Error::RecordTooLarge { size, limit, what, index: self.count }
    }

    #[inline]
    fn check(&self, data: &[u8], key: Option<&str>, headers: &[u8]) -> Result<()> {
        if let Some(key) = key {
            if key.is_empty() {
                let reason = format!(
                    "entry {}: the key is empty; leave it out for a record without order",
                    self.count
                );
                return Err(Error::config("partition_key", reason));
            }
            // A character has at most 4 bytes: short keys need no counting.
            if key.len() > PARTITION_KEY_CHARS_MAX && key.chars().count() > PARTITION_KEY_CHARS_MAX
            {
                return Err(self.too_large(
                    key.chars().count(),
                    PARTITION_KEY_CHARS_MAX,
                    "partition key characters",
                ));
            }
        }
        if headers.len() > self.headers_bytes_max {
            return Err(self.too_large(headers.len(), self.headers_bytes_max, "header bytes"));
        }
        let size = data.len() + headers.len() + key.map_or(0, str::len);
        if size > self.record_bytes_max {
            return Err(self.too_large(size, self.record_bytes_max, "record bytes"));
        }
        Ok(())
    }
}
