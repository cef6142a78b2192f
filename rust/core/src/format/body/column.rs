//! One column of variable-length values: under construction, and in a body.

use std::ops::Range;

/// One column of variable-length values under construction. Without offsets it is not in the body.
#[derive(Debug, Default, Clone)]
pub(super) struct Column {
    pub(super) offsets: Vec<u8>,
    pub(super) bytes: Vec<u8>,
}

impl Column {
    #[inline]
    pub(super) fn has_begun(&self) -> bool {
        !self.offsets.is_empty()
    }

    /// Begins with `count` empty values, unless it has begun.
    #[inline]
    pub(super) fn begin(&mut self, count: u32) {
        if !self.has_begun() {
            self.offsets.resize((count as usize + 1) * 4, 0);
        }
    }

    #[inline]
    pub(super) fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        let end = u32::try_from(self.bytes.len()).expect("a batch is split long before 2 GiB");
        self.offsets.extend_from_slice(&end.to_le_bytes());
    }

    /// Adds the `count` values of another column; they are empty if that has not begun.
    pub(super) fn append(&mut self, other: &Self, count: u32) {
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

    pub(super) fn clear(&mut self) {
        self.offsets.clear();
        self.bytes.clear();
    }

    pub(super) fn capacity(&self) -> usize {
        self.offsets.capacity() + self.bytes.capacity()
    }
}

/// Where a column lies in a body: its offsets and its bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct ColumnPlace {
    pub(super) offsets: Range<usize>,
    pub(super) bytes: Range<usize>,
}

impl ColumnPlace {
    /// Checks that there are `count + 1` offsets, that they rise from 0 and end inside the bytes.
    pub(super) fn check(&self, body: &[u8], count: u32) -> Option<()> {
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

    #[inline]
    pub(super) fn get<'a>(&self, body: &'a [u8], index: u32) -> &'a [u8] {
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
    #[inline]
    pub(super) fn offset(&self, body: &[u8], index: u32) -> usize {
        let at = self.offsets.start + index as usize * 4;
        let offset = body.get(at..at + 4).and_then(|offset| offset.try_into().ok());
        offset.map_or(0, u32::from_le_bytes) as usize
    }

    /// The entries of a range behind one another, and where each of them ends in that.
    #[inline]
    pub(super) fn run<'a>(
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
