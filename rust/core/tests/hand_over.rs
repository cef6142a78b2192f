//! Two processes hand a turn to each other through the control page, each asleep until it is woken:
//! none of very many wake-ups is lost.
//!
//! `STREAMFN_HAND_OVERS` sets how many (100,000 if it is not set; `make hand-overs` sets ten million).

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(clippy::cast_precision_loss, reason = "rounded for people")]
#![allow(clippy::disallowed_methods, reason = "a test looks at the clock itself")]
#![allow(clippy::print_stdout, reason = "the figures are the result")]

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use streamfn_core::memory::SharedMemory;
use streamfn_core::{Log, OpenOptions};

/// A sleeper that was not woken gives up after this long; whoever is late only because the machine is
/// busy is not asleep.
const LOST: Duration = Duration::from_secs(5);
const TURN: usize = 0;
const LOST_SEEN: usize = 1;
const PARTNER: &str = "STREAMFN_HAND_OVER_PARTNER";

fn hand_overs() -> u64 {
    std::env::var("STREAMFN_HAND_OVERS").map_or(100_000, |text| text.parse().unwrap())
}

fn open(path: &Path) -> Arc<Log> {
    let options = OpenOptions { housekeeping: false, ..OpenOptions::default() };
    Log::open(path, &options).unwrap()
}

/// Takes every second turn, as a reader waits for a record and a writer shows one.
fn play(log: &Log, shared: &SharedMemory, first: u64) -> Duration {
    let (turn, end) = (shared.word(TURN), hand_overs());
    let mut longest = Duration::ZERO;
    for mine in (first..end).step_by(2) {
        let since = Instant::now();
        loop {
            let seen = log.wake_word();
            if turn.load(Ordering::Acquire) == mine {
                break;
            }
            // WHY: sleeps begin at many distances from the wake that ends them.
            for _ in 0..mine % 64 {
                std::hint::spin_loop();
            }
            let asleep = Instant::now();
            log.wait(seen, LOST);
            if asleep.elapsed() >= LOST && turn.load(Ordering::Acquire) == mine {
                shared.word(LOST_SEEN).fetch_add(1, Ordering::AcqRel);
            }
        }
        longest = longest.max(since.elapsed());
        turn.store(mine + 1, Ordering::Release);
        log.bump();
    }
    longest
}

#[test]
fn no_wake_up_between_two_processes_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let shared = SharedMemory::create("turns", 2).unwrap();
    let passed = rustix::io::dup(borrow(&shared)).unwrap();
    let fd = passed.as_raw_fd();
    let since = Instant::now();
    let mut partner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "partner", "--ignored"])
        .env(PARTNER, format!("{fd} {}", folder.path().display()))
        .spawn()
        .unwrap();

    let longest = play(&log, &shared, 0);

    assert!(partner.wait().unwrap().success());
    let elapsed = since.elapsed();
    let (handed, lost) = (hand_overs(), shared.word(LOST_SEEN).load(Ordering::Acquire));
    println!(
        "{handed} hand-overs between two processes: {lost} wake-ups lost, {:.2} µs each, longest {longest:?}",
        elapsed.as_secs_f64() * 1e6 / handed as f64
    );
    assert_eq!(0, lost);
    assert_eq!(handed, shared.word(TURN).load(Ordering::Acquire));
}

/// Its descriptor; a copy of it is inherited.
fn borrow(shared: &SharedMemory) -> BorrowedFd<'_> {
    #[expect(unsafe_code, reason = "the memory gives its descriptor as a number")]
    // SAFETY: it is open as long as `shared` lives.
    unsafe {
        BorrowedFd::borrow_raw(shared.fd())
    }
}

#[test]
#[ignore = "the other process of the test above"]
fn partner() {
    let told = std::env::var(PARTNER).expect("only the test above runs it");
    let (fd, path) = told.split_once(' ').unwrap();
    let shared = SharedMemory::attach(fd.parse::<RawFd>().unwrap(), 2).unwrap();

    play(&open(Path::new(path)), &shared, 1);
}
