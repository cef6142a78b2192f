//! Runs a decoder on very many inputs and holds every execution to the same promises.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::memory::largest_allocation;
use crate::mutation::{mutate, Random};

const SEED: u64 = 20_130_101;
/// An execution may take this long: on a machine that does other work too, no decoder comes near.
const TIME_MAX: Duration = Duration::from_secs(1);
/// Structures that a campaign starts from, beside the corpus.
const STRUCTURES: usize = 256;

/// How a decoder ended, if it kept its promises.
pub(crate) enum Outcome {
    /// It took the input for what it should be.
    Accepted,
    /// It said why not.
    Refused(&'static str),
}

/// One decoder under test.
pub(crate) trait Decoder: Sync {
    /// Its name in the table and in the corpus.
    fn name(&self) -> &'static str;

    /// A valid structure.
    fn structure(&self, random: &mut Random) -> Vec<u8>;

    /// How many of the first bytes hold most of the numbers.
    fn hot(&self) -> usize;

    /// Makes the checksums right again, so that what lies behind them is reached.
    fn fix(&self, bytes: &mut [u8]);

    /// Decodes, and checks what came out: it comes back the same when encoded and decoded again, and
    /// it is within the documented limits.
    ///
    /// # Errors
    /// What is wrong with what came out.
    fn run(&self, bytes: &[u8]) -> Result<Outcome, String>;

    /// The largest piece of memory it may ask for at once, in bytes.
    fn allocation_max(&self) -> usize;
}

/// How long a campaign goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Size {
    /// So many executions.
    Executions(u64),
    /// So long.
    Time(Duration),
}

impl Size {
    /// From `STREAMFN_FUZZ_EXECUTIONS` or `STREAMFN_FUZZ_SECONDS`; a moment if there is neither.
    pub(crate) fn wanted() -> Self {
        let number = |name| std::env::var(name).ok().map(|text| text.parse().expect(name));
        match (number("STREAMFN_FUZZ_EXECUTIONS"), number("STREAMFN_FUZZ_SECONDS")) {
            (Some(executions), _) => Self::Executions(executions),
            (None, seconds) => Self::Time(Duration::from_secs(seconds.unwrap_or(1))),
        }
    }

    fn is_over(self, done: u64, since: Instant) -> bool {
        match self {
            Self::Executions(most) => done >= most,
            Self::Time(most) => done.is_multiple_of(64) && since.elapsed() >= most,
        }
    }
}

/// What a campaign found, a row of the table.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) name: &'static str,
    pub(crate) executions: u64,
    pub(crate) accepted: u64,
    /// How often it refused for which reason.
    pub(crate) refusals: BTreeMap<&'static str, u64>,
    largest: usize,
    elapsed: Duration,
}

impl Report {
    pub(crate) const HEADING: &'static str = "\
decoder               executions  executions/s  accepted  reasons to refuse  largest allocation
--------------------  ----------  ------------  --------  -----------------  ------------------";
}

impl fmt::Display for Report {
    #[allow(clippy::cast_precision_loss, reason = "rounded for people")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<20}  {:>10}  {:>12.0}  {:>7.1}%  {:>17}  {:>16} B",
            self.name,
            self.executions,
            self.executions as f64 / self.elapsed.as_secs_f64(),
            100.0 * self.accepted as f64 / self.executions as f64,
            self.refusals.len(),
            self.largest,
        )
    }
}

/// Where a decoder's corpus is.
fn corpus_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(slug(name))
}

/// A name for a file.
fn slug(text: &str) -> String {
    let letters = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    letters.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
}

/// Inputs in the tree: what was found once, and what each reason to refuse looks like.
pub(crate) fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(corpus_folder(name))
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    files.sort_unstable();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Runs one decoder; `now` shows which execution is under way.
///
/// # Errors
/// The first input that broke a promise.
pub(crate) fn run(decoder: &dyn Decoder, size: Size, now: &AtomicU64) -> Result<Report, String> {
    let inputs = Inputs::of(decoder);
    let since = Instant::now();
    let mut report = Report {
        name: decoder.name(),
        executions: 0,
        accepted: 0,
        refusals: BTreeMap::new(),
        largest: 0,
        elapsed: Duration::ZERO,
    };
    while !size.is_over(report.executions, since) {
        now.store(report.executions, Ordering::Relaxed);
        let bytes = inputs.get(decoder, report.executions);
        let (outcome, largest) = execute(decoder, &bytes)
            .map_err(|broken| inputs.explain(decoder, report.executions, &broken))?;
        report.largest = report.largest.max(largest);
        match outcome {
            Outcome::Accepted => report.accepted += 1,
            Outcome::Refused(reason) => *report.refusals.entry(reason).or_default() += 1,
        }
        report.executions += 1;
    }
    report.elapsed = since.elapsed();
    Ok(report)
}

/// One execution, held to the promises.
///
/// # Errors
/// Which promise was broken, and how.
pub(crate) fn execute(decoder: &dyn Decoder, bytes: &[u8]) -> Result<(Outcome, usize), String> {
    let since = Instant::now();
    let (caught, largest) =
        largest_allocation(|| catch_unwind(AssertUnwindSafe(|| decoder.run(bytes))));
    let elapsed = since.elapsed();
    let outcome = caught.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        format!("it panicked: {}", text.or(panic.downcast_ref().copied()).unwrap_or("?"))
    })??;
    if elapsed > TIME_MAX {
        return Err(format!("it took {elapsed:?}"));
    }
    if largest > decoder.allocation_max() {
        return Err(format!("it asked for {largest} bytes at once"));
    }
    Ok((outcome, largest))
}

/// All inputs of a campaign, by number.
struct Inputs {
    bases: Vec<Vec<u8>>,
}

impl Inputs {
    fn of(decoder: &dyn Decoder) -> Self {
        let structures =
            (0..STRUCTURES as u64).map(|n| decoder.structure(&mut Random::new(SEED, n)));
        let corpus = corpus(decoder.name()).into_iter().map(|(_, bytes)| bytes);
        Self { bases: structures.chain(corpus).collect() }
    }

    /// Input `number`: first each base as it is, then mutations of them.
    fn get(&self, decoder: &dyn Decoder, number: u64) -> Vec<u8> {
        if let Some(base) = self.bases.get(number as usize) {
            return base.clone();
        }
        let mut random = Random::new(!SEED, number);
        if random.once_in(100) {
            return random.bytes(2 * decoder.hot());
        }
        let mut bytes = random.choose(&self.bases).clone();
        let other = random.choose(&self.bases);
        mutate(&mut bytes, decoder.hot(), other, &mut random);
        if !random.once_in(8) {
            decoder.fix(&mut bytes);
        }
        bytes
    }

    /// The report of a finding; the input is left under `target/fuzz`.
    fn explain(&self, decoder: &dyn Decoder, number: u64, broken: &str) -> String {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
        let path = folder.join(format!("{}-{number}.bin", slug(decoder.name())));
        let kept = std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&path, self.get(decoder, number)));
        let place = kept.map_or_else(|error| error.to_string(), |()| path.display().to_string());
        format!("{}, execution {number}: {broken}; the input: {place}", decoder.name())
    }
}

/// Writes one input for each outcome that the corpus does not have yet.
pub(crate) fn keep(decoder: &dyn Decoder, executions: u64) {
    let inputs = Inputs::of(decoder);
    let outcome = |bytes: &[u8]| match decoder.run(bytes) {
        Ok(Outcome::Refused(reason)) => reason,
        _ => "accepted",
    };
    let known = corpus(decoder.name());
    let mut seen: std::collections::BTreeSet<_> =
        known.iter().map(|(_, bytes)| outcome(bytes)).collect();
    let folder = corpus_folder(decoder.name());
    std::fs::create_dir_all(&folder).unwrap();
    for number in 0..executions {
        let bytes = inputs.get(decoder, number);
        let reason = outcome(&bytes);
        if seen.insert(reason) {
            std::fs::write(folder.join(slug(reason) + ".bin"), bytes).unwrap();
        }
    }
}
