//! Every decoder of the engine on very many damaged inputs: none panics, hangs or takes more memory
//! than its limit, and what is accepted is within the documented limits and comes back the same.
//!
//! Inputs are valid structures of all shapes and the corpus in the tree, changed where their numbers
//! stand or anywhere, most of them with checksums put right again, so that what lies behind the
//! checksums is reached. Execution *n* is the same in every run of one version.
//!
//! `make test` gives each decoder a moment, `.ci/run` half a minute, `make fuzz` ten million
//! executions, `make fuzz DECODER=segment` to one decoder alone. `STREAMFN_FUZZ_KEEP=1` adds to the corpus what it does not have yet.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
#![allow(clippy::cast_possible_truncation, reason = "chance needs no exact numbers")]
#![allow(clippy::disallowed_methods, reason = "a test writes files and looks at the clock itself")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is the result")]

mod batches;
mod campaign;
mod memory;
mod mutation;
mod segment;
mod slots;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use campaign::{Decoder, Outcome, Report, Size};
use mutation::Random;
use streamfn_core::format::compression;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

fn decoders() -> Vec<Box<dyn Decoder>> {
    vec![
        Box::new(segment::Segment::new()),
        Box::new(slots::ManifestFile),
        Box::new(batches::Batch { codec: compression::NONE }),
        Box::new(batches::Batch { codec: compression::ZSTD }),
        Box::new(batches::Batch { codec: compression::ZSTD_PACKED }),
        Box::new(batches::Header),
        Box::new(batches::ControlBatch),
        Box::new(slots::segment_header()),
        Box::new(slots::state()),
        Box::new(slots::head()),
        Box::new(slots::checkpoint()),
        Box::new(slots::in_flight()),
        Box::new(slots::mapping()),
        Box::new(slots::ranges()),
        Box::new(slots::window_pair()),
        Box::new(slots::list_of_holes()),
        Box::new(slots::index()),
    ]
}

/// The decoder that `STREAMFN_FUZZ_DECODER` names; all if it names none.
fn wanted_decoders() -> Vec<Box<dyn Decoder>> {
    let mut decoders = decoders();
    if let Ok(wanted) = std::env::var("STREAMFN_FUZZ_DECODER") {
        let names: Vec<_> = decoders.iter().map(|decoder| decoder.name()).collect();
        assert!(names.contains(&&*wanted), "there is no decoder `{wanted}`, only {names:?}");
        decoders.retain(|decoder| decoder.name() == wanted);
    }
    decoders
}

/// Ends the test run if one execution never ends: no other thread could say which it was.
fn watch(decoder: &dyn Decoder, now: &AtomicU64, is_done: &AtomicU64) {
    const HANGS: u32 = 60;
    let mut seen = (0, 0);
    while is_done.load(Ordering::Acquire) == 0 {
        std::thread::sleep(Duration::from_millis(20));
        let execution = now.load(Ordering::Relaxed);
        seen = if seen.0 == execution { (execution, seen.1 + 1) } else { (execution, 0) };
        if seen.1 > HANGS * 50 {
            eprintln!("{}, execution {execution}: it hangs", decoder.name());
            std::process::abort();
        }
    }
}

fn run_watched(decoder: &dyn Decoder, size: Size) -> Result<Report, String> {
    let (now, is_done) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| watch(decoder, &now, &is_done));
        let result = campaign::run(decoder, size, &now);
        is_done.store(1, Ordering::Release);
        result
    })
}

#[test]
fn no_decoder_panics_hangs_takes_too_much_memory_or_believes_nonsense() {
    let (decoders, size) = (wanted_decoders(), Size::wanted());
    let (next, findings) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("\n{}", Report::HEADING);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(decoder) = decoders.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let checked = run_watched(&**decoder, size).and_then(|report| {
                        println!("{report}");
                        // Else the campaign would have tried only one side of the decoder.
                        let is_two_sided = report.accepted > 0 && !report.refusals.is_empty();
                        is_two_sided.then_some(()).ok_or(format!("one-sided: {report:?}"))
                    });
                    if let Err(finding) = checked {
                        findings.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
                    }
                }
            });
        }
    });
    let findings = findings.into_inner().unwrap();
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn the_corpus_breaks_no_promise_and_what_was_accepted_still_is() {
    for decoder in decoders() {
        if std::env::var_os("STREAMFN_FUZZ_KEEP").is_some() {
            campaign::keep(&*decoder, 300_000);
        }
        let corpus = campaign::corpus(decoder.name());
        assert!(corpus.len() > 1, "{} has no corpus", decoder.name());
        for (path, bytes) in corpus {
            let (outcome, _) = campaign::execute(&*decoder, &bytes).expect("no promise is broken");
            let was_accepted = path.file_stem().is_some_and(|name| name == "accepted");
            let is_accepted = matches!(outcome, Outcome::Accepted);
            assert!(is_accepted || !was_accepted, "{}", path.display());
        }
    }
}

/// A decoder of one byte that can be told to be wrong.
struct Wrong(fn(&[u8]) -> Result<Outcome, String>);

impl Decoder for Wrong {
    fn name(&self) -> &'static str {
        "wrong"
    }

    fn structure(&self, random: &mut Random) -> Vec<u8> {
        vec![random.below(100) as u8, 0, 0, 0]
    }

    fn hot(&self) -> usize {
        4
    }

    fn fix(&self, bytes: &mut [u8]) {
        if let Some((first, [.., last])) = bytes.split_first_mut() {
            *last = *first;
        }
    }

    fn run(&self, bytes: &[u8]) -> Result<Outcome, String> {
        // What stands behind a checksum: most inputs must get past it.
        if bytes.len() > 1 && bytes.first() == bytes.last() {
            return (self.0)(bytes);
        }
        Ok(Outcome::Refused("checksum"))
    }

    fn allocation_max(&self) -> usize {
        1 << 16
    }
}

fn finding(run: fn(&[u8]) -> Result<Outcome, String>) -> String {
    let report = run_watched(&Wrong(run), Size::Executions(50_000));
    report.expect_err("the campaign finds what is wrong")
}

#[test]
fn a_panic_behind_a_checksum_is_found() {
    let found = finding(|bytes| {
        assert!(bytes[0] != 200, "a number nobody expected");
        Ok(Outcome::Accepted)
    });

    assert!(found.contains("a number nobody expected"), "{found}");
}

#[test]
fn a_length_that_is_believed_is_found() {
    let found = finding(|bytes| {
        let length = usize::from(bytes[0]) << 10;
        Ok(if vec![0u8; length].len() == length { Outcome::Accepted } else { unreachable!() })
    });

    assert!(found.contains("bytes at once"), "{found}");
}

#[test]
fn an_execution_that_takes_too_long_is_found() {
    let found = finding(|bytes| {
        if bytes[0] == 255 {
            std::thread::sleep(Duration::from_millis(1100));
        }
        Ok(Outcome::Accepted)
    });

    assert!(found.contains("it took"), "{found}");
}
