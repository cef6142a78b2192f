//! A record batch that was read: its records, taken from the body on demand.

use std::ops::Range;
use std::sync::Arc;

use super::builder::RecordBuilder;
use super::column::ColumnPlace;
use super::headers::Headers;
use super::sections::{
    sections_of, Section, FLAG_MUST_UNDERSTAND, HEADERS, HEADER_OFFSETS, KEYS, KEY_OFFSETS,
    KEY_VALIDITY, TS_DELTAS, UNKNOWN_SECTION, VALUES, VALUE_OFFSETS,
};
use super::shared_bytes::SharedBytes;
use crate::format::record_batch::{BatchHeader, RECORDS_MAX};
use crate::format::{Control, Damage};
use crate::types::{Micros, Position, SequenceNumber, ShardId};

/// Most payload bytes of a batch that was never on disk: its offsets have 31 bits, and the sections
/// around the payloads need space.
pub const IN_MEMORY_BYTES_MAX: usize = (1 << 31) - (1 << 24);

/// A record batch that was read, verified and decompressed.
#[derive(Debug, Clone)]
pub struct DecodedBatch {
    header: BatchHeader,
    position: Position,
    stream: Arc<str>,
    shard: ShardId,
    body: SharedBytes,
    control: Option<Control>,
    values: ColumnPlace,
    keys: Option<ColumnPlace>,
    key_validity: Option<Range<usize>>,
    headers: Option<ColumnPlace>,
    ts_deltas: Option<Range<usize>>,
}

impl DecodedBatch {
    /// Takes apart a decompressed body.
    ///
    /// # Errors
    /// [`Damage`] if sections overlap the end, offsets do not rise, a key is not UTF-8, or a list of
    /// headers is not whole; [`UNKNOWN_SECTION`] if one that must be understood is not known.
    pub fn new(
        header: BatchHeader,
        position: Position,
        stream: Arc<str>,
        shard: ShardId,
        body: SharedBytes,
    ) -> Result<Self, Damage> {
        let mut batch = Self {
            header,
            position,
            stream,
            shard,
            body,
            control: None,
            values: ColumnPlace::default(),
            keys: None,
            key_validity: None,
            headers: None,
            ts_deltas: None,
        };
        if header.is_control {
            batch.control = Some(Control::decode(&batch.body)?);
        } else {
            batch.read_table()?;
            batch.check().ok_or(Damage("the columns do not fit the body"))?;
            batch.check_headers()?;
        }
        Ok(batch)
    }

    fn read_table(&mut self) -> Result<(), Damage> {
        for section in sections_of(&self.body.clone())? {
            let Section { kind, flags, place } = section?;
            match kind {
                VALUE_OFFSETS => self.values.offsets = place,
                VALUES => self.values.bytes = place,
                KEY_OFFSETS => self.keys.get_or_insert_default().offsets = place,
                KEYS => self.keys.get_or_insert_default().bytes = place,
                HEADER_OFFSETS => self.headers.get_or_insert_default().offsets = place,
                HEADERS => self.headers.get_or_insert_default().bytes = place,
                TS_DELTAS => self.ts_deltas = Some(place),
                KEY_VALIDITY => self.key_validity = Some(place),
                _ if flags & FLAG_MUST_UNDERSTAND != 0 => {
                    return Err(UNKNOWN_SECTION);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check(&self) -> Option<()> {
        let count = self.header.record_count;
        self.values.check(&self.body, count)?;
        if let Some(keys) = &self.keys {
            keys.check(&self.body, count)?;
            // WHY: each key on its own, not the column at once: a border inside a character would
            // make two broken keys out of valid bytes.
            for index in 0..count {
                std::str::from_utf8(keys.get(&self.body, index)).ok()?;
            }
        }
        if let Some(headers) = &self.headers {
            headers.check(&self.body, count)?;
        }
        if self.key_validity.as_ref().is_some_and(|bits| bits.len() < (count as usize).div_ceil(8))
        {
            return None;
        }
        if self.ts_deltas.as_ref().is_some_and(|deltas| deltas.len() != count as usize * 4) {
            return None;
        }
        Some(())
    }

    /// WHY here: later, when a caller asks for a header, its loss cannot be reported any more.
    fn check_headers(&self) -> Result<(), Damage> {
        let Some(headers) = &self.headers else { return Ok(()) };
        let is_whole = |index| Headers::new(headers.get(&self.body, index)).is_whole();
        let all = (0..self.header.record_count).all(is_whole);
        all.then_some(()).ok_or(Damage("a list of headers is not whole"))
    }

    /// Sequence number of the first record.
    pub fn base_seq(&self) -> SequenceNumber {
        self.header.base_seq
    }

    /// Sequence numbers it takes: its records, or 1 for CLOSE and EPOCH.
    pub fn count(&self) -> u32 {
        self.header.record_count
    }

    /// The first sequence number after it.
    pub fn next_seq(&self) -> SequenceNumber {
        self.header.next_seq()
    }

    /// Its header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Where it begins.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The mark it carries instead of records.
    pub fn control(&self) -> Option<&Control> {
        self.control.as_ref()
    }

    /// Name of its stream.
    pub fn stream(&self) -> &Arc<str> {
        &self.stream
    }

    /// Its shard.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Payload of record `index`, counted from the batch's first.
    pub fn value(&self, index: u32) -> &[u8] {
        self.values.get(&self.body, index)
    }

    /// Partition key of a record.
    pub fn key(&self, index: u32) -> Option<&str> {
        let keys = self.keys.as_ref()?;
        if let Some(bits) = &self.key_validity {
            let byte = *self.body.get(bits.start + index as usize / 8)?;
            if byte & (1 << (index % 8)) == 0 {
                return None;
            }
        }
        // `check` has seen that it is UTF-8.
        std::str::from_utf8(keys.get(&self.body, index)).ok()
    }

    /// Headers of a record.
    pub fn headers(&self, index: u32) -> Headers<'_> {
        Headers::new(self.headers.as_ref().map_or(&[], |headers| headers.get(&self.body, index)))
    }

    /// Append time of a record, µs UTC.
    pub fn timestamp(&self, index: u32) -> Micros {
        let delta = self.ts_deltas.as_ref().and_then(|deltas| {
            let at = deltas.start + index as usize * 4;
            self.body.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
        });
        self.header.base_ts.saturating_add(u64::from(delta.unwrap_or(0)))
    }

    /// Bytes of a record as limits count them: data, key and encoded headers.
    pub fn record_bytes(&self, index: u32) -> usize {
        let length = |place: &Option<ColumnPlace>| {
            place.as_ref().map_or(0, |p| p.get(&self.body, index).len())
        };
        self.value(index).len() + length(&self.keys) + length(&self.headers)
    }

    /// The same of all records of a range, which is not looked through.
    pub fn range_bytes(&self, range: &Range<u32>) -> usize {
        let length = |place: &ColumnPlace| {
            place.offset(&self.body, range.end) - place.offset(&self.body, range.start)
        };
        [Some(&self.values), self.keys.as_ref(), self.headers.as_ref()]
            .into_iter()
            .flatten()
            .map(length)
            .sum()
    }

    /// The payloads of a range behind one another, and where each of them ends in that.
    pub fn value_run(&self, range: &Range<u32>) -> (&[u8], impl Iterator<Item = usize> + '_) {
        self.values.run(&self.body, range)
    }

    /// The payloads of a range, one by one. Takes a third of the instructions that `value` does for
    /// each: an offset is read once, as the end of one record and the beginning of the next.
    pub fn values(&self, range: &Range<u32>) -> impl Iterator<Item = &[u8]> {
        let (run, ends) = self.value_run(range);
        let mut begin = 0;
        ends.map(move |end| {
            let value = run.get(begin..end).unwrap_or_default();
            begin = end;
            value
        })
    }

    /// The append time of all its records; `None` if each has its own.
    pub fn common_timestamp(&self) -> Option<Micros> {
        self.ts_deltas.is_none().then_some(self.header.base_ts)
    }

    /// Whether any of its records may have a key.
    pub fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// Whether any of its records may have headers.
    pub fn has_headers(&self) -> bool {
        self.headers.is_some()
    }

    /// Memory it keeps alive, in bytes.
    pub fn memory(&self) -> usize {
        self.body.len() + std::mem::size_of::<Self>()
    }

    /// The same records with other numbers: the first one is `base_seq`. Only for a batch of
    /// [`DecodedBatch::in_memory`]; what is on disk has its numbers for good.
    #[must_use]
    pub fn renumbered(&self, base_seq: SequenceNumber) -> Self {
        let mut copy = self.clone();
        copy.header.base_seq = base_seq;
        copy
    }

    /// A batch that never was on disk, for records that come from elsewhere.
    ///
    /// # Panics
    /// If the builder is empty, or holds more than [`IN_MEMORY_BYTES_MAX`].
    pub fn in_memory(
        records: &RecordBuilder,
        base_seq: SequenceNumber,
        timestamp: Micros,
        stream: Arc<str>,
        shard: ShardId,
    ) -> Self {
        let body = records.with_body(|parts| parts.concat());
        let raw_len = u32::try_from(body.len()).expect("< 2 GiB");
        assert!(records.count() > 0 && records.count() <= RECORDS_MAX);
        assert!(records.payload_bytes() <= IN_MEMORY_BYTES_MAX);
        let header = BatchHeader {
            has_keys: records.has_keys(),
            body_len: raw_len,
            raw_len,
            base_seq,
            record_count: records.count(),
            base_ts: timestamp,
            max_ts: timestamp,
            ..BatchHeader::default()
        };
        Self::new(header, Position::default(), stream, shard, SharedBytes::whole(body))
            .expect("the builder makes valid bodies")
    }
}
