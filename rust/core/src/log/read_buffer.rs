//! The bytes of a segment that a reader of a shard has in memory.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::error::{IoContext, Result};
use crate::sync::Mutex;

use super::kept_file::KeptFile;

/// Bytes read at once.
const READ_BYTES: usize = 512 * 1024;
/// Bytes of buffers that are kept for reuse.
const SPENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The bytes of one reader of one shard.
#[derive(Debug, Default)]
pub struct ReadBuffer {
    file: Option<(u32, Arc<KeptFile>)>,
    start: u64,
    bytes: Arc<Vec<u8>>,
    /// The longest recent piece; the next one is assumed to be as long.
    longest: usize,
    spent: Arc<SpentBuffers>,
}

impl ReadBuffer {
    /// A buffer that shares `spent` with others.
    pub fn with(spent: &Arc<SpentBuffers>) -> Self {
        Self { spent: Arc::clone(spent), ..Self::default() }
    }

    /// Number of the segment that it reads.
    pub(super) fn segment(&self) -> Option<u32> {
        self.file.as_ref().map(|(ordinal, ..)| *ordinal)
    }

    /// Reads another segment from now on.
    pub(super) fn turn_to(&mut self, file: Arc<KeptFile>) {
        self.file = Some((file.segment().ordinal, file));
        self.start = u64::MAX;
    }

    /// `length` bytes at `offset`, fewer where the file or `limit` ends; `None` if they are not in
    /// memory and the segment was removed: then it reads no segment any more.
    pub(super) fn fetch(
        &mut self,
        offset: u64,
        length: usize,
        limit: u64,
    ) -> Result<Option<Range<usize>>> {
        self.longest = self.longest.max(length);
        if !self.has(offset, length) {
            if !self.read(offset, limit)? {
                return Ok(None);
            }
            // A batch that is far longer than those behind it is not remembered for ever.
            self.longest = (self.longest / 2).max(length);
        }
        let Some(from) = self.index_of(offset) else { return Ok(Some(0..0)) };
        Ok(Some(from..(from + length).min(self.bytes.len())))
    }

    pub(super) fn slice(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    /// All bytes read so far, to be shared.
    pub(super) fn shared(&self) -> Arc<Vec<u8>> {
        Arc::clone(&self.bytes)
    }

    fn index_of(&self, offset: u64) -> Option<usize> {
        usize::try_from(offset.checked_sub(self.start)?).ok().filter(|at| *at <= self.bytes.len())
    }

    fn has(&self, offset: u64, length: usize) -> bool {
        self.index_of(offset).is_some_and(|from| from + length <= self.bytes.len())
    }

    /// False if the segment was removed.
    fn read(&mut self, offset: u64, limit: u64) -> Result<bool> {
        let Some((_, kept)) = self.file.take() else { return Ok(false) };
        let Some(file) = kept.file() else { return Ok(false) };
        let most = usize::try_from(limit.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = match Arc::get_mut(&mut self.bytes) {
            Some(own) => std::mem::take(own),
            None => self.spent.take(),
        };
        bytes.resize(self.longest.max(READ_BYTES).min(most), 0);
        let got = file.read_at(&mut bytes, offset).at(kept.segment().path())?;
        bytes.truncate(got);
        self.start = offset;
        self.spent.keep(std::mem::replace(&mut self.bytes, Arc::new(bytes)));
        self.file = Some((kept.segment().ordinal, kept));
        Ok(true)
    }
}

/// Buffers that were read, kept for reuse. The reference count shows whether a batch still uses
/// one.
#[derive(Debug, Default)]
pub struct SpentBuffers(Mutex<VecDeque<Arc<Vec<u8>>>>);

impl SpentBuffers {
    /// A buffer that nothing uses any more, or a new one.
    ///
    /// WHY: a new one each time would be zeroed, and its pages made, before it is read into.
    fn take(&self) -> Vec<u8> {
        let mut spent = self.0.lock();
        let free = spent.iter().position(|bytes| Arc::strong_count(bytes) == 1);
        let bytes = free.and_then(|at| spent.remove(at));
        bytes.and_then(|bytes| Arc::try_unwrap(bytes).ok()).unwrap_or_default()
    }

    fn keep(&self, bytes: Arc<Vec<u8>>) {
        if bytes.capacity() == 0 || bytes.capacity() > SPENT_BYTES_MAX {
            return;
        }
        let mut spent = self.0.lock();
        spent.push_back(bytes);
        while spent.iter().map(|bytes| bytes.capacity()).sum::<usize>() > SPENT_BYTES_MAX {
            spent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_once_no_batch_is_in_it() {
        let spent = SpentBuffers::default();
        let bytes = Arc::new(vec![7; 100]);
        let batch = Arc::clone(&bytes);
        spent.keep(bytes);

        assert_eq!(0, spent.take().capacity());
        drop(batch);
        assert_eq!(vec![7; 100], spent.take());
    }

    #[test]
    fn a_buffer_that_is_too_large_to_keep_drives_no_other_out() {
        let spent = SpentBuffers::default();
        spent.keep(Arc::new(vec![7; 100]));
        spent.keep(Arc::new(vec![0; SPENT_BYTES_MAX + 1]));

        assert_eq!(vec![7; 100], spent.take());
        assert_eq!(0, spent.take().capacity());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let spent = SpentBuffers::default();
        for _ in 0..20 {
            spent.keep(Arc::new(vec![0; 1 << 20]));
            spent.keep(Arc::default());
        }

        let kept = std::iter::from_fn(|| Some(spent.take()).filter(|bytes| !bytes.is_empty()));
        assert_eq!(SPENT_BYTES_MAX, kept.map(|bytes| bytes.len()).sum::<usize>());
        assert!(spent.0.lock().is_empty());
    }
}
