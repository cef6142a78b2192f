//! Counts of a mapping that every process shares and no death takes back: `metrics/<name>.counts`.
//!
//! The file is one page of atomic words, mapped by every runner and supervisor of the mapping. Adding
//! is one atomic instruction; there is no lock and no system call. It is not part of the log: a file
//! that is missing or damaged is made anew, and counts again from zero.
//!
//! ```text
//! word 0                magic
//! word 8                the counters
//! word 40               histogram of the durations of calls
//! word 72               histogram of the records of calls
//! histogram := sum | one word for each bound, and one for what is above
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock::Patience;
use crate::error::{Error, IoContext, Result};
use crate::fs::{self, Fs, Open};
use crate::log::LockedFile;
use crate::memory::MappedWords;
use crate::stream::Log;

/// Counters of a mapping. The caller numbers them.
pub const COUNTERS: usize = 24;
/// Upper bounds of the buckets for durations of calls, in nanoseconds, both sides of 1 ms as fine as
/// users of Prometheus expect above it.
pub const DURATION_BOUNDS: [u64; 20] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
    30_000_000_000,
];
/// Upper bounds of the buckets for records of calls.
pub const SIZE_BOUNDS: [u64; 13] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];
/// Length of the file.
pub const COUNTS_BYTES: u64 = WORDS as u64 * 8;
/// Name of the folder in the log directory.
pub const FOLDER: &str = "metrics";
/// End of the name of a counts file.
pub const SUFFIX: &str = ".counts";
/// Ends of the names of all files that a mapping has in the folder; Python writes the history.
const SUFFIXES: [&str; 2] = [SUFFIX, ".history"];

const MAGIC: u64 = u64::from_le_bytes(*b"SFCOUNT\x01");
const WORDS: usize = 512;
const COUNTERS_START: usize = 8;
const DURATIONS_START: usize = 40;
const SIZES_START: usize = 72;
const _: () = assert!(COUNTERS_START + COUNTERS <= DURATIONS_START);
const _: () = assert!(DURATIONS_START + 2 + DURATION_BOUNDS.len() <= SIZES_START);
const _: () = assert!(SIZES_START + 2 + SIZE_BOUNDS.len() <= WORDS);
/// Longest wait for a process that makes a file.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// A histogram: the sum of the values, and how many fell into each bucket. The last bucket has no
/// upper bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Sum of all values.
    pub sum: u64,
    /// Number of values in each bucket, not added up.
    pub buckets: Vec<u64>,
}

/// All counts of a mapping at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountsNow {
    /// The counters.
    pub counters: [u64; COUNTERS],
    /// Durations of calls, in nanoseconds, by [`DURATION_BOUNDS`].
    pub durations: Histogram,
    /// Records of calls, by [`SIZE_BOUNDS`].
    pub sizes: Histogram,
}

/// The counts of one mapping.
#[derive(Debug)]
pub struct Counts {
    words: MappedWords,
}

impl Counts {
    /// Opens the counts of a mapping; makes the file if it is missing or damaged.
    ///
    /// # Errors
    /// [`Error::LogFull`], [`Error::Io`], [`Error::LockTimeout`]. A caller can do without counts.
    pub fn open(log: &Log, mapping: &str) -> Result<Self> {
        log.check()?;
        let (fs, folder) = (log.fs(), folder_of(log.root()));
        fs.create_dir(&folder).at(&folder)?;
        let path = path_of(log.root(), mapping);
        if let Some(counts) = Self::map(&**fs, &path, Open::Write)? {
            return Ok(counts);
        }
        // WHY a lock: two processes that replace the file would count in two files.
        let lock = LockedFile::open(fs, &folder.join("lock"))?;
        let _locked = lock.lock(&Patience::of(LOCK_PATIENCE))?;
        if let Some(counts) = Self::map(&**fs, &path, Open::Write)? {
            return Ok(counts);
        }
        let mut page = vec![0; WORDS * 8];
        page.splice(..8, MAGIC.to_le_bytes());
        // WHY written whole: a store to a page that has no place on a full disk kills the process.
        fs::replace(&**fs, &path, &page).at(&path)?;
        Self::map(&**fs, &path, Open::Write)?
            .ok_or_else(|| Error::io(&path, io::Error::other("the file was cut as it was made")))
    }

    /// The counts of a mapping at this moment; `None` if nothing was counted yet.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn read(log: &Log, mapping: &str) -> Result<Option<CountsNow>> {
        log.check()?;
        let path = path_of(log.root(), mapping);
        Ok(Self::map(&**log.fs(), &path, Open::Read)?.map(|counts| counts.now()))
    }

    /// Maps a file; `None` if it is missing or damaged.
    fn map(fs: &dyn Fs, path: &Path, how: Open) -> Result<Option<Self>> {
        let file = match fs.open(path, how) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.at(path)?,
        };
        if is_damaged(&*file).at(path)? {
            return Ok(None);
        }
        let words = match file.descriptor() {
            None => MappedWords::anonymous(WORDS),
            Some(fd) if how == Open::Read => MappedWords::map_for_reading(fd, WORDS),
            Some(fd) => MappedWords::map(fd, WORDS),
        };
        Ok(Some(Self { words: words.at(path)? }))
    }

    /// Adds to a counter.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such counter.
    pub fn add(&self, counter: usize, amount: u64) -> Result<()> {
        if counter >= COUNTERS {
            return Err(Error::config("counter", format!("{counter} is not below {COUNTERS}")));
        }
        self.words.word(COUNTERS_START + counter).fetch_add(amount, Ordering::Relaxed);
        Ok(())
    }

    /// Counts `calls` calls that took `duration` together and got `records` records together.
    pub fn add_calls(&self, calls: u64, duration: Duration, records: u64) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.observe(DURATIONS_START, &DURATION_BOUNDS, calls, nanoseconds);
        self.observe(SIZES_START, &SIZE_BOUNDS, calls, records);
    }

    /// Counts `number` values with the sum `sum` in the bucket of their mean.
    fn observe(&self, start: usize, bounds: &[u64], number: u64, sum: u64) {
        let Some(mean) = sum.checked_div(number) else { return };
        let bucket = bounds.partition_point(|bound| *bound < mean);
        self.words.word(start + 1 + bucket).fetch_add(number, Ordering::Relaxed);
        self.words.word(start).fetch_add(sum, Ordering::Relaxed);
    }

    /// All counts now. Others may count meanwhile, so they need not be of the same moment; none is
    /// ever lower than an earlier reading.
    pub fn now(&self) -> CountsNow {
        let word = |index: usize| self.words.word(index).load(Ordering::Relaxed);
        let histogram = |start: usize, bounds: usize| Histogram {
            sum: word(start),
            buckets: (0..=bounds).map(|bucket| word(start + 1 + bucket)).collect(),
        };
        CountsNow {
            counters: std::array::from_fn(|counter| word(COUNTERS_START + counter)),
            durations: histogram(DURATIONS_START, DURATION_BOUNDS.len()),
            sizes: histogram(SIZES_START, SIZE_BOUNDS.len()),
        }
    }
}

/// The folder of the counts in a log directory.
pub fn folder_of(root: &Path) -> PathBuf {
    root.join(FOLDER)
}

fn path_of(root: &Path, mapping: &str) -> PathBuf {
    folder_of(root).join(format!("{mapping}{SUFFIX}"))
}

/// Whether an open file holds no counts.
pub(crate) fn is_damaged(file: &dyn fs::File) -> io::Result<bool> {
    let mut magic = [0; 8];
    let got = file.read_at(&mut magic, 0)?;
    Ok(got < 8 || magic != MAGIC.to_le_bytes() || file.length()? != COUNTS_BYTES)
}

/// Removes the counts and the history of a mapping that was removed, if there are any.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn remove(log: &Log, mapping: &str) -> Result<()> {
    for suffix in SUFFIXES {
        let path = folder_of(log.root()).join(format!("{mapping}{suffix}"));
        unless_missing(log.fs().remove(&path), &path)?;
    }
    Ok(())
}

/// Gives the counts and the history of a mapping its new name, if there are any.
///
/// # Errors
/// [`Error::Io`].
pub fn rename(log: &Log, from: &str, to: &str) -> Result<()> {
    let folder = folder_of(log.root());
    for suffix in SUFFIXES {
        let path = folder.join(format!("{from}{suffix}"));
        unless_missing(log.fs().rename(&path, &folder.join(format!("{to}{suffix}"))), &path)?;
    }
    Ok(())
}

fn unless_missing(result: io::Result<()>, path: &Path) -> Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(path, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::stream::OpenOptions;

    fn log() -> (tempfile::TempDir, Arc<Log>) {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), &OpenOptions::default()).unwrap();
        (folder, log)
    }

    #[test]
    fn two_processes_count_in_one_file() {
        let (_folder, log) = log();
        let one = Counts::open(&log, "app.f").unwrap();
        let other = Counts::open(&log, "app.f").unwrap();
        one.add(0, 2).unwrap();
        other.add(23, 3).unwrap();
        other.add(0, 5).unwrap();

        let now = Counts::read(&log, "app.f").unwrap().unwrap();
        assert_eq!((7, 3), (now.counters[0], now.counters[23]));
        assert_eq!(None, Counts::read(&log, "app.g").unwrap());
        assert!(one.add(COUNTERS, 1).is_err());
    }

    #[test]
    fn a_value_on_a_bound_is_in_its_bucket_and_calls_count_by_their_mean() {
        let (_folder, log) = log();
        let counts = Counts::open(&log, "app.f").unwrap();
        counts.add_calls(1, Duration::from_micros(100), 1);
        counts.add_calls(4, Duration::from_micros(400), 8);
        counts.add_calls(1, Duration::from_secs(31), 10_001);
        counts.add_calls(0, Duration::from_secs(9), 0);

        let now = counts.now();
        assert_eq!([5, 0], now.durations.buckets[..2]);
        assert_eq!(1, now.durations.buckets[DURATION_BOUNDS.len()]);
        assert_eq!(31_000_500_000, now.durations.sum);
        assert_eq!([1, 4, 0], now.sizes.buckets[..3]);
        assert_eq!(1, now.sizes.buckets[SIZE_BOUNDS.len()]);
        assert_eq!(10_010, now.sizes.sum);
    }

    #[test]
    fn a_damaged_file_is_made_anew() {
        let (folder, log) = log();
        let path = path_of(folder.path(), "app.f");
        Counts::open(&log, "app.f").unwrap().add(1, 9).unwrap();
        for damage in [&b""[..], b"SFCOUNT\x01", &[7; 4096]] {
            let file = log.fs().open(&path, Open::Write).unwrap();
            file.truncate(0).unwrap();
            file.write_at(&[damage], 0).unwrap();
            assert_eq!(None, Counts::read(&log, "app.f").unwrap());
            let counts = Counts::open(&log, "app.f").unwrap();
            assert_eq!([0; COUNTERS], counts.now().counters);
            let file = log.fs().open(&path, Open::Read).unwrap();
            assert_eq!(COUNTS_BYTES, file.length().unwrap());
        }
    }

    #[test]
    fn counts_keep_their_numbers_under_a_new_name_and_go_with_their_mapping() {
        let (_folder, log) = log();
        let counts = Counts::open(&log, "app.f").unwrap();
        counts.add(2, 1).unwrap();
        rename(&log, "app.f", "app.g").unwrap();
        counts.add(2, 1).unwrap();
        assert_eq!(2, Counts::read(&log, "app.g").unwrap().unwrap().counters[2]);
        remove(&log, "app.g").unwrap();
        remove(&log, "app.g").unwrap();
        rename(&log, "app.g", "app.h").unwrap();
        assert_eq!(None, Counts::read(&log, "app.g").unwrap());
    }
}
