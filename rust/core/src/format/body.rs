//! The body of a record batch: a struct of arrays in the layout of Arrow `Binary` columns.
//!
//! ```text
//! body    := n_sections u16 | 0 u16 | 0 u32 | n × section | padding and the sections themselves
//! section := kind u16 | flags u16 | offset u32 | length u32        offset from the body's start, 8-aligned
//! ```
//! Kinds: 1 value offsets `i32[n+1]`, 2 values, 3 key offsets, 4 keys, 5 header offsets, 6 headers,
//! 7 timestamp deltas `u32[n]` µs, 9 key validity bitmap. Flag 1: a reader must know the section.

use std::cell::Cell;
use std::ops::{Deref, Range};
use std::sync::Arc;

use super::record_batch::{BatchHeader, RECORDS_MAX};
use super::{align8, Bytes, Control, Damage};
use crate::types::{Micros, Position, SequenceNumber, ShardId};

const VALUE_OFFSETS: u16 = 1;
const VALUES: u16 = 2;
const KEY_OFFSETS: u16 = 3;
const KEYS: u16 = 4;
const HEADER_OFFSETS: u16 = 5;
const HEADERS: u16 = 6;
const TS_DELTAS: u16 = 7;
const KEY_VALIDITY: u16 = 9;
const FLAG_MUST_UNDERSTAND: u16 = 1;

/// Of a section that a newer version wrote, and that no reader may step over.
pub const UNKNOWN_SECTION: Damage =
    Damage("a section of a kind that must be understood is unknown");

/// Most payload bytes of a batch that never was on disk: its offsets are 31-bit, and there is room for
/// the sections around the payloads.
pub const IN_MEMORY_BYTES_MAX: usize = (1 << 31) - (1 << 24);

const TABLE_HEAD_BYTES: usize = 8;
const SECTION_BYTES: usize = 12;
const SECTIONS_MAX: usize = 32;
static PADDING: [u8; 8] = [0; 8];

/// Most memory that a thread keeps for its next batch; one that has grown beyond it is let go. Twice the
/// payloads that a batch should hold, for they grow by doubling, with some room for offsets and keys.
pub(super) const KEPT_BYTES_MAX: usize = (2 * 1024 + 512) * 1024;

thread_local! {
    static SPARE: Cell<Option<RecordBuilder>> = const { Cell::new(None) };
}

/// One column of variable-length values under construction. Without offsets it is not in the body.
#[derive(Debug, Default, Clone)]
struct Column {
    offsets: Vec<u8>,
    bytes: Vec<u8>,
}

impl Column {
    fn has_begun(&self) -> bool {
        !self.offsets.is_empty()
    }

    /// Begins with `count` empty values, unless it has begun.
    fn begin(&mut self, count: u32) {
        if !self.has_begun() {
            self.offsets.resize((count as usize + 1) * 4, 0);
        }
    }

    #[inline]
    fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        let end = u32::try_from(self.bytes.len()).expect("a batch is split long before 2 GiB");
        self.offsets.extend_from_slice(&end.to_le_bytes());
    }

    /// Adds the `count` values of another column; they are empty if that has not begun.
    fn append(&mut self, other: &Self, count: u32) {
        let base = u32::try_from(self.bytes.len()).expect("a batch is split long before 2 GiB");
        if !other.has_begun() {
            (0..count).for_each(|_| self.offsets.extend_from_slice(&base.to_le_bytes()));
        }
        for end in other.offsets.chunks_exact(4).skip(1) {
            let end = u32::from_le_bytes(end.try_into().expect("4 bytes"));
            self.offsets.extend_from_slice(&(base + end).to_le_bytes());
        }
        self.bytes.extend_from_slice(&other.bytes);
    }

    fn clear(&mut self) {
        self.offsets.clear();
        self.bytes.clear();
    }

    fn capacity(&self) -> usize {
        self.offsets.capacity() + self.bytes.capacity()
    }
}

/// Records on their way into one record batch, already in the order of the body's sections.
#[derive(Debug, Clone)]
pub struct RecordBuilder {
    count: u32,
    values: Column,
    /// Begun by the first record that has a key.
    keys: Column,
    /// One bit for each record, set if it has a key; kept only with `keys`.
    key_validity: Vec<u8>,
    keyed: u32,
    /// Begun by the first record that has headers.
    headers: Column,
}

impl Default for RecordBuilder {
    fn default() -> Self {
        let mut values = Column::default();
        values.begin(0);
        Self {
            count: 0,
            values,
            keys: Column::default(),
            key_validity: Vec::new(),
            keyed: 0,
            headers: Column::default(),
        }
    }
}

impl RecordBuilder {
    /// An empty one, in the memory of the last that this thread has recycled.
    pub fn recycled() -> Self {
        SPARE.take().unwrap_or_default()
    }

    /// Keeps its memory for this thread's next [`RecordBuilder::recycled`].
    ///
    /// WHY: a new one copies itself as it grows, and it depends on what else is in memory whether the
    /// allocator takes that from the kernel each time and gives it back: then an append of 100 B took
    /// 84 ns instead of 58.
    pub fn recycle(mut self) {
        let columns = [&self.values, &self.keys, &self.headers];
        if columns.map(Column::capacity).iter().sum::<usize>() <= KEPT_BYTES_MAX {
            self.clear();
            SPARE.set(Some(self));
        }
    }

    fn clear(&mut self) {
        for column in [&mut self.values, &mut self.keys, &mut self.headers] {
            column.clear();
        }
        self.values.begin(0);
        self.key_validity.clear();
        (self.count, self.keyed) = (0, 0);
    }

    /// How many records are in it.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of data, keys and headers in it, without offsets.
    pub fn payload_bytes(&self) -> usize {
        self.values.bytes.len() + self.keys.bytes.len() + self.headers.bytes.len()
    }

    /// Adds a record. `headers` is encoded by [`encode_headers`]; empty means none.
    #[inline]
    pub fn push(&mut self, data: &[u8], key: Option<&str>, headers: &[u8]) {
        self.values.push(data);
        if key.is_some() || self.has_keys() {
            self.keys.begin(self.count);
            self.keys.push(key.unwrap_or_default().as_bytes());
            self.note_key(self.count, key.is_some());
        }
        if !headers.is_empty() || self.headers.has_begun() {
            self.headers.begin(self.count);
            self.headers.push(headers);
        }
        self.count += 1;
    }

    fn note_key(&mut self, index: u32, has_key: bool) {
        self.key_validity.resize(index as usize / 8 + 1, 0);
        if has_key {
            if let Some(last) = self.key_validity.last_mut() {
                *last |= 1 << (index % 8);
            }
            self.keyed += 1;
        }
    }

    /// Adds all records of another builder behind those in it.
    pub fn append(&mut self, other: &Self) {
        self.values.append(&other.values, other.count);
        if other.has_keys() || self.has_keys() {
            self.keys.begin(self.count);
            self.keys.append(&other.keys, other.count);
            for index in 0..other.count {
                let byte = other.key_validity.get(index as usize / 8).copied().unwrap_or(0);
                self.note_key(self.count + index, byte & (1 << (index % 8)) != 0);
            }
        }
        if other.headers.has_begun() || self.headers.has_begun() {
            self.headers.begin(self.count);
            self.headers.append(&other.headers, other.count);
        }
        self.count += other.count;
    }

    /// Whether any record has a key.
    pub fn has_keys(&self) -> bool {
        self.keys.has_begun()
    }

    fn sections(&self) -> Vec<(u16, &[u8])> {
        let mut sections: Vec<(u16, &[u8])> =
            vec![(VALUE_OFFSETS, &self.values.offsets), (VALUES, &self.values.bytes)];
        if self.has_keys() {
            sections.extend([(KEY_OFFSETS, &*self.keys.offsets), (KEYS, &*self.keys.bytes)]);
            if self.keyed < self.count {
                sections.push((KEY_VALIDITY, &self.key_validity));
            }
        }
        if self.headers.has_begun() {
            let headers = &self.headers;
            sections.extend([(HEADER_OFFSETS, &*headers.offsets), (HEADERS, &*headers.bytes)]);
        }
        sections
    }

    /// Hands the body to `write` as pieces that lie behind one another, without copying the values.
    pub fn with_body<T>(&self, write: impl FnOnce(&[&[u8]]) -> T) -> T {
        with_body_of(&self.sections(), write)
    }

    /// Writes the body into `body`, all sections of offsets behind the others; returns where they begin.
    pub fn write_offsets_last(&self, body: &mut Vec<u8>) -> usize {
        let mut sections = self.sections();
        sections.sort_by_key(|(kind, _)| is_of_offsets(*kind));
        body.clear();
        with_body_of(&sections, |parts| parts.iter().for_each(|part| body.extend_from_slice(part)));
        let offsets = sections.iter().filter(|(kind, _)| is_of_offsets(*kind));
        let length: usize = offsets.map(|(_, bytes)| align8(bytes.len())).sum();
        body.len() - length
    }
}

fn is_of_offsets(kind: u16) -> bool {
    matches!(kind, VALUE_OFFSETS | KEY_OFFSETS | HEADER_OFFSETS)
}

/// Hands a body of these sections to `write`.
fn with_body_of<T>(sections: &[(u16, &[u8])], write: impl FnOnce(&[&[u8]]) -> T) -> T {
    let mut table = Vec::with_capacity(TABLE_HEAD_BYTES + sections.len() * SECTION_BYTES + 8);
    table.extend(u16::try_from(sections.len()).expect("<= 8").to_le_bytes());
    table.extend([0; 6]);
    let mut offset = align8(TABLE_HEAD_BYTES + sections.len() * SECTION_BYTES);
    let data_at = offset;
    for (kind, bytes) in sections {
        table.extend(kind.to_le_bytes());
        table.extend([0; 2]);
        table.extend(u32::try_from(offset).expect("< 2 GiB").to_le_bytes());
        table.extend(u32::try_from(bytes.len()).expect("< 2 GiB").to_le_bytes());
        offset += align8(bytes.len());
    }
    table.resize(data_at, 0);
    let mut parts: Vec<&[u8]> = Vec::with_capacity(1 + 2 * sections.len());
    parts.push(&table);
    for (_, bytes) in sections {
        parts.push(bytes);
        parts.extend(PADDING.get(..align8(bytes.len()) - bytes.len()));
    }
    write(&parts)
}

/// Encodes the headers of one record: count, then for each a name and a value, with their lengths.
///
/// Returns `None` if a name or a value is longer than its length field can say.
pub fn encode_headers<'a>(
    headers: impl ExactSizeIterator<Item = (&'a str, &'a [u8])>,
) -> Option<Vec<u8>> {
    if headers.len() == 0 {
        return Some(Vec::new());
    }
    let mut bytes = Vec::new();
    bytes.extend(u16::try_from(headers.len()).ok()?.to_le_bytes());
    for (name, value) in headers {
        bytes.extend(u16::try_from(name.len()).ok()?.to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(u32::try_from(value.len()).ok()?.to_le_bytes());
        bytes.extend(value);
    }
    Some(bytes)
}

/// The headers of one record, read as they are asked for.
#[derive(Debug, Clone)]
pub struct Headers<'a> {
    left: u16,
    rest: Bytes<'a>,
}

impl<'a> Headers<'a> {
    /// Reads what [`encode_headers`] wrote; no bytes mean no headers.
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut rest = Bytes(bytes);
        Self { left: rest.u16().unwrap_or(0), rest }
    }

    /// Whether all of them are there and nothing else.
    fn is_whole(&self) -> bool {
        let mut all = self.clone();
        all.by_ref().for_each(drop);
        all.left == 0 && all.rest.0.is_empty()
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let left = self.left.checked_sub(1)?;
        let length = self.rest.u16()? as usize;
        let name = std::str::from_utf8(self.rest.take(length)?).ok()?;
        let length = self.rest.u32()? as usize;
        let value = self.rest.take(length)?;
        self.left = left;
        Some((name, value))
    }
}

/// Part of a buffer that several owners read.
#[derive(Debug, Clone)]
pub struct SharedBytes {
    buffer: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl SharedBytes {
    /// The part of `buffer` in `range`; `None` if it is not that long.
    pub fn new(buffer: Arc<Vec<u8>>, range: Range<usize>) -> Option<Self> {
        buffer.get(range.clone())?;
        Some(Self { buffer, range })
    }

    /// All of a buffer.
    pub fn whole(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { buffer: Arc::new(bytes), range }
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.get(self.range.clone()).unwrap_or_default()
    }
}

/// Where a column lies in a body: its offsets and its bytes.
#[derive(Debug, Clone, Default)]
struct ColumnPlace {
    offsets: Range<usize>,
    bytes: Range<usize>,
}

impl ColumnPlace {
    /// Checks that there are `count + 1` offsets, that they rise from 0 and end inside the bytes.
    fn check(&self, body: &[u8], count: u32) -> Option<()> {
        let offsets = body.get(self.offsets.clone())?;
        if offsets.len() != (count as usize + 1) * 4 {
            return None;
        }
        let mut before = 0;
        for (index, offset) in offsets.chunks_exact(4).enumerate() {
            let offset = u32::from_le_bytes(offset.try_into().ok()?);
            if offset < before || (index == 0 && offset != 0) {
                return None;
            }
            before = offset;
        }
        (before as usize <= self.bytes.len()).then_some(())
    }

    fn get<'a>(&self, body: &'a [u8], index: u32) -> &'a [u8] {
        let at = self.offsets.start + index as usize * 4;
        // One load for both ends: the first in the low half.
        let Some(ends) = body.get(at..at + 8).and_then(|ends| ends.try_into().ok()) else {
            return &[];
        };
        let ends = u64::from_le_bytes(ends);
        let (first, last) = ((ends & 0xffff_ffff) as usize, (ends >> 32) as usize);
        body.get(self.bytes.start + first..self.bytes.start + last).unwrap_or_default()
    }

    /// Offset `index`, counted from the beginning of the bytes; there is one more than entries.
    fn offset(&self, body: &[u8], index: u32) -> usize {
        let at = self.offsets.start + index as usize * 4;
        let offset = body.get(at..at + 4).and_then(|offset| offset.try_into().ok());
        offset.map_or(0, u32::from_le_bytes) as usize
    }

    /// The entries of a range behind one another, and where each of them ends in that.
    fn run<'a>(
        &self,
        body: &'a [u8],
        range: &Range<u32>,
    ) -> (&'a [u8], impl Iterator<Item = usize> + 'a) {
        let (first, last) = (self.offset(body, range.start), self.offset(body, range.end));
        let bytes = body.get(self.bytes.start + first..self.bytes.start + last).unwrap_or_default();
        let at = |index: u32| self.offsets.start + index as usize * 4;
        let ends = body.get(at(range.start + 1)..at(range.end + 1)).unwrap_or_default();
        let ends = ends.chunks_exact(4).map(move |end| {
            let end = end.try_into().map_or(0, u32::from_le_bytes);
            end as usize - first
        });
        (bytes, ends)
    }
}

/// An entry of the section table.
struct Section {
    kind: u16,
    flags: u16,
    place: Range<usize>,
}

/// The table of a body, read as it is asked for.
fn sections_of(
    body: &[u8],
) -> Result<impl Iterator<Item = Result<Section, Damage>> + use<'_>, Damage> {
    let short = Damage("the section table is cut off");
    let mut from = Bytes(body);
    let count = from.u16().ok_or(short)? as usize;
    from.take(6).ok_or(short)?;
    if count > SECTIONS_MAX {
        return Err(Damage("the section table is longer than any writer makes it"));
    }
    Ok((0..count).map(move |_| {
        let (kind, flags) = (from.u16().ok_or(short)?, from.u16().ok_or(short)?);
        let (offset, length) =
            (from.u32().ok_or(short)? as usize, from.u32().ok_or(short)? as usize);
        let place = offset..offset + length;
        body.get(place.clone()).ok_or(Damage("a section lies outside the body"))?;
        Ok(Section { kind, flags, place })
    }))
}

/// Where the sections of offsets lie in a body.
pub(super) fn offsets_of(body: &[u8]) -> Result<Vec<Range<usize>>, Damage> {
    let is_wanted = |section: &Result<Section, Damage>| {
        section.as_ref().map_or(true, |section| is_of_offsets(section.kind))
    };
    sections_of(body)?.filter(is_wanted).map(|section| Ok(section?.place)).collect()
}

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

    /// WHY here: later, when somebody asks for a header, there is nobody to tell that it is lost.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Plain = (Vec<u8>, Option<String>, Vec<(String, Vec<u8>)>);

    fn push(builder: &mut RecordBuilder, (data, key, headers): &Plain) {
        let encoded = encode_headers(headers.iter().map(|(n, v)| (n.as_str(), v.as_slice())));
        builder.push(data, key.as_deref(), &encoded.unwrap());
    }

    fn read(batch: &DecodedBatch) -> Vec<Plain> {
        let headers =
            |index| batch.headers(index).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        (0..batch.count())
            .map(|i| (batch.value(i).to_owned(), batch.key(i).map(str::to_owned), headers(i)))
            .collect()
    }

    fn decode(builder: &RecordBuilder) -> DecodedBatch {
        DecodedBatch::in_memory(builder, 5, 6, "s".into(), ShardId(0))
    }

    fn records() -> impl Strategy<Value = Vec<Plain>> {
        let header = (".{0,8}", prop::collection::vec(any::<u8>(), 0..16));
        let record = (
            prop::collection::vec(any::<u8>(), 0..64),
            prop::option::of(".{0,12}"),
            prop::collection::vec(header, 0..3),
        );
        prop::collection::vec(record, 1..40)
    }

    proptest! {
        #[test]
        fn records_come_back_as_they_were(records in records()) {
            let mut builder = RecordBuilder::default();
            for record in &records {
                push(&mut builder, record);
            }

            prop_assert_eq!(&records, &read(&decode(&builder)));
        }

        #[test]
        fn a_range_has_the_payloads_and_the_bytes_of_its_records(
            records in records(),
            cut in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            let mut builder = RecordBuilder::default();
            for record in &records {
                push(&mut builder, record);
            }
            let batch = decode(&builder);
            let [a, b] = [cut.0, cut.1].map(|cut| u32::try_from(cut.index(records.len() + 1)).unwrap());
            let range = a.min(b)..a.max(b);

            let bytes: usize = range.clone().map(|index| batch.record_bytes(index)).sum();
            prop_assert_eq!(bytes, batch.range_bytes(&range));
            let (run, ends) = batch.value_run(&range);
            let mut from = 0;
            let payloads: Vec<&[u8]> =
                ends.map(|end| &run[std::mem::replace(&mut from, end)..end]).collect();
            prop_assert_eq!(run.len(), from);
            let expected: Vec<&[u8]> = range.map(|index| batch.value(index)).collect();
            prop_assert_eq!(expected, payloads);
        }

        #[test]
        fn joining_builders_is_pushing_one_after_the_other(a in records(), b in records()) {
            let (mut first, mut second) = (RecordBuilder::default(), RecordBuilder::default());
            for record in &a {
                push(&mut first, record);
            }
            for record in &b {
                push(&mut second, record);
            }
            first.append(&second);

            prop_assert_eq!([a, b].concat(), read(&decode(&first)));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused_without_panic(body in prop::collection::vec(any::<u8>(), 0..512), count in 1u32..40) {
            let header = BatchHeader { record_count: count, ..BatchHeader::default() };
            if let Ok(batch) = DecodedBatch::new(header, Position::default(), "s".into(), ShardId(0), SharedBytes::whole(body)) {
                read(&batch);
            }
        }
    }

    #[test]
    fn a_list_of_headers_that_is_cut_or_changed_is_damage() {
        let whole = encode_headers([("h", &b"vv"[..]), ("n\u{f6}", b"")].into_iter()).unwrap();
        let refused = |list: &[u8]| {
            let mut builder = RecordBuilder::default();
            builder.push(b"before", None, &[]);
            builder.push(b"data", None, list);
            let body = SharedBytes::whole(builder.with_body(|parts| parts.concat()));
            let header = BatchHeader { record_count: 2, ..BatchHeader::default() };
            let batch =
                DecodedBatch::new(header, Position::default(), "s".into(), ShardId(0), body);
            batch.err().map(|damage| damage.0)
        };

        assert_eq!(None, refused(&whole));
        let damage = Some("a list of headers is not whole");
        for length in 1..whole.len() {
            assert_eq!(damage, refused(&whole[..length]), "{length} bytes");
        }
        assert_eq!(damage, refused(&[&whole[..], &[0]].concat()), "a byte too many");
        for (place, byte) in [(0, 1), (0, 3), (2, 2), (5, 1), (12, 0xff)] {
            let mut changed = whole.clone();
            changed[place] = byte;
            assert_eq!(damage, refused(&changed), "byte {place}");
        }
    }

    #[test]
    fn a_key_that_is_empty_and_one_that_is_missing_differ() {
        let mut builder = RecordBuilder::default();
        builder.push(b"a", None, &[]);
        builder.push(b"b", Some(""), &[]);

        let batch = decode(&builder);

        assert_eq!((None, Some("")), (batch.key(0), batch.key(1)));
    }

    #[test]
    fn a_record_is_measured_with_key_and_headers() {
        let mut builder = RecordBuilder::default();
        let headers = encode_headers([("h", &b"vv"[..])].into_iter()).unwrap();
        builder.push(b"data", Some("key"), &headers);

        assert_eq!(4 + 3 + headers.len(), decode(&builder).record_bytes(0));
    }
}
