//! The records of one record batch that is being built.

use std::cell::Cell;

use super::column::Column;
use super::sections::{
    is_of_offsets, with_body_of, HEADERS, HEADER_OFFSETS, KEYS, KEY_OFFSETS, KEY_VALIDITY, VALUES,
    VALUE_OFFSETS,
};
use crate::format::align8;

/// Most memory that a thread keeps for its next batch; a larger buffer is freed. It is twice the
/// payload that a batch should hold, because buffers grow by doubling, and some space for offsets
/// and keys.
pub(in crate::format) const KEPT_BYTES_MAX: usize = (2 * 1024 + 512) * 1024;

thread_local! {
    static SPARE: Cell<Option<RecordBuilder>> = const { Cell::new(None) };
}

/// The records of a batch that is being built, already in the order of the body's sections.
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
    /// An empty one, in the memory that this thread recycled last.
    pub fn recycled() -> Self {
        SPARE.take().unwrap_or_default()
    }

    /// Keeps its memory for this thread's next [`RecordBuilder::recycled`].
    ///
    /// WHY: a new builder copies itself as it grows. And depending on what else is in memory, the
    /// allocator may take its memory from the kernel and give it back each time: then an append of
    /// 100 B took 84 ns instead of 58.
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
