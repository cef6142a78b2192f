//! Segment files that readers keep open between calls, and the closing of removed ones.
//!
//! The space of a removed file is freed when its last descriptor is closed, whichever process has
//! it. So each process closes its own descriptors, even while no thread reads.

use std::sync::{Arc, Weak};

use crate::fs::File;
use crate::sync::Mutex;

use super::segment::{OpenSegment, Segment};

/// The open segment file of one reader.
#[derive(Debug)]
pub(crate) struct KeptFile {
    segment: Arc<Segment>,
    /// `None` once it was closed under the reader: the segment must be opened again, if it still
    /// exists.
    file: Mutex<Option<Arc<dyn File>>>,
}

impl KeptFile {
    pub(super) fn segment(&self) -> &Segment {
        &self.segment
    }

    /// The file, to be used for one call.
    pub(super) fn file(&self) -> Option<Arc<dyn File>> {
        self.file.lock().clone()
    }

    fn close(&self) {
        *self.file.lock() = None;
    }

    fn is_removed(&self) -> bool {
        // Of a file that cannot be asked nobody knows that it is gone.
        self.file().is_some_and(|file| file.is_removed().unwrap_or(false))
    }
}

/// The files that the readers of a shard keep open in this process.
#[derive(Debug, Default)]
pub(super) struct KeptFiles(Mutex<Vec<Weak<KeptFile>>>);

impl KeptFiles {
    /// Keeps a file open for a reader, until it is dropped or closed from here.
    pub(super) fn keep(&self, (segment, file): OpenSegment) -> Arc<KeptFile> {
        let kept = Arc::new(KeptFile { segment, file: Mutex::new(Some(file)) });
        let mut all = self.0.lock();
        if all.len() == all.capacity() {
            // Instead of growing: most readers are gone soon.
            all.retain(|kept| kept.strong_count() > 0);
        }
        all.push(Arc::downgrade(&kept));
        kept
    }

    /// Closes the files that were removed, but not that of the segment `in_use`, which is not
    /// checked.
    pub(super) fn close_removed(&self, in_use: Option<u32>) {
        for kept in self.all() {
            if Some(kept.segment.ordinal) != in_use && kept.is_removed() {
                kept.close();
            }
        }
    }

    /// Closes all files.
    pub(super) fn close_all(&self) {
        self.all().iter().for_each(|kept| kept.close());
    }

    fn all(&self) -> Vec<Arc<KeptFile>> {
        self.0.lock().iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{Fs, Open};
    use crate::log::Segments;
    use crate::memory_fs::MemoryFs;
    use std::path::Path;

    fn opened(fs: &Arc<dyn Fs>, ordinal: u32) -> OpenSegment {
        let name = format!("/{ordinal:08x}-{:020}.seg", 0);
        fs.open(Path::new(&name), Open::Create).unwrap();
        let segments = Segments::new(Arc::clone(fs), "/".into());
        segments.open(ordinal).unwrap().unwrap()
    }

    #[test]
    fn only_what_was_removed_is_closed() {
        let fs: Arc<dyn Fs> = Arc::new(MemoryFs::default());
        fs.create_dir(Path::new("/")).unwrap();
        let files = KeptFiles::default();
        let [old, new] = [0, 1].map(|ordinal| files.keep(opened(&fs, ordinal)));
        files.close_removed(None);
        assert!(old.file().is_some() && new.file().is_some());

        fs.remove(old.segment().path()).unwrap();
        files.close_removed(None);
        assert!(old.file().is_none() && new.file().is_some());

        fs.remove(new.segment().path()).unwrap();
        files.close_removed(Some(1));
        assert!(new.file().is_some(), "the segment in use is not asked");
        files.close_all();
        assert!(new.file().is_none());
    }

    #[test]
    fn readers_that_are_gone_are_forgotten() {
        let fs: Arc<dyn Fs> = Arc::new(MemoryFs::default());
        fs.create_dir(Path::new("/")).unwrap();
        let files = KeptFiles::default();
        let _stays = files.keep(opened(&fs, 0));
        for _ in 0..1_000 {
            drop(files.keep(opened(&fs, 0)));
        }
        assert!(files.0.lock().len() < 16);
    }
}
