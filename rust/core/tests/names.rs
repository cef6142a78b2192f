//! A stream may have any name that is allowed, also that of a file which stands in a mapping's folder.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
#![allow(clippy::disallowed_methods, reason = "a test damages files behind the engine's back")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use streamfn_core::checkpoint::removal::remove_mapping;
use streamfn_core::checkpoint::{Mapping, ResumePoint};
use streamfn_core::fsck::{examine, repair, Kind, Options};
use streamfn_core::{Log, OpenOptions, Patience, ShardId, Start, StreamConfig};

const NAMES: [&str; 2] = ["mapping", "removed"];

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(30))
}

fn open(folder: &Path) -> Arc<Log> {
    let options = OpenOptions { housekeeping: false, ..OpenOptions::default() };
    Log::open(folder, &options).unwrap()
}

/// A log with a stream of this name and a function that has read two of its records.
fn log(folder: &Path, name: &str) -> Arc<Log> {
    let log = open(folder);
    let stream = log.create_stream(name, &StreamConfig::default(), &patience()).unwrap();
    for value in [b"a", b"b", b"c"] {
        let mut put = stream.begin_put().unwrap();
        put.push(value, None, std::iter::empty()).unwrap();
        put.commit(&patience()).unwrap();
    }
    let mapping = Mapping::register(&log, "app.f", 1, Start::TrimHorizon).unwrap();
    mapping.prepare(name).unwrap();
    let file = mapping.lanes_file(name, ShardId(0)).unwrap();
    file.take(0).unwrap();
    file.checkpoint(0, ResumePoint { next_seq: 2, ..ResumePoint::default() }, 1).unwrap();
    file.sync().unwrap();
    log
}

fn position(log: &Arc<Log>, name: &str) -> (String, u64) {
    let lanes = Mapping::open(log, "app.f").unwrap().unwrap().lanes(None).unwrap();
    assert_eq!(1, lanes.len(), "{name}");
    (lanes[0].stream.clone(), lanes[0].checkpoint)
}

fn kinds(folder: &Path) -> Vec<Kind> {
    let report = examine(folder, &Options::default(), &mut |_, _| true).unwrap();
    report.findings.iter().map(|finding| finding.kind).collect()
}

#[test]
fn a_function_keeps_its_positions_in_a_stream_of_any_name() {
    for name in NAMES {
        let folder = tempfile::tempdir().unwrap();
        log(folder.path(), name).close().unwrap();

        assert_eq!(Vec::<Kind>::new(), kinds(folder.path()), "{name}");
        let log = open(folder.path());
        assert_eq!((name.to_owned(), 2), position(&log, name));
        assert!(remove_mapping(&log, "app.f", &patience()).unwrap(), "{name}");
        assert_eq!(Vec::<String>::new(), Mapping::names(&log).unwrap());
        assert!(!folder.path().join("mappings/app.f").exists(), "{name}");
    }
}

#[test]
fn the_record_of_a_function_that_reads_one_is_worked_out_anew() {
    for name in NAMES {
        let folder = tempfile::tempdir().unwrap();
        log(folder.path(), name).close().unwrap();
        let record = folder.path().join("mappings/app.f/mapping");
        std::fs::write(&record, vec![0x55; 8192]).unwrap();
        assert_eq!(vec![Kind::MappingDamaged], kinds(folder.path()), "{name}");

        let report = repair(folder.path(), &Options::default(), &mut |_, _| true).unwrap();

        assert!(!report.is_damaged(), "{name}: {report:#?}");
        assert_eq!((name.to_owned(), 2), position(&open(folder.path()), name));
    }
}
