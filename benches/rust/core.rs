//! What a record costs in the core, by criterion: `make bench-core`.

#![allow(clippy::disallowed_methods, reason = "a bench times")]
#![allow(missing_docs, reason = "the macros' functions have none")]

use std::time::{Duration, Instant};

use criterion::{criterion_group, criterion_main, BenchmarkId, Criterion, Throughput};
use streamfn_bench::{consume, Bench, BATCH_RECORDS};
use streamfn_core::Compression;

const SIZES: [usize; 2] = [100, 1024];
/// Batches in a stream before it is made anew, so that the disk does not fill.
const BATCHES: u64 = 200;

/// Appends of whole batches into the page cache.
fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for (record_bytes, compression) in cases() {
        group.throughput(Throughput::Elements(BATCH_RECORDS as u64));
        group.bench_function(name(record_bytes, compression), |bencher| {
            bencher.iter_custom(|batches| {
                timed(batches, |count| {
                    let bench = Bench::new(record_bytes, compression).expect("a new stream");
                    let begun = Instant::now();
                    for _ in 0..count {
                        bench.append().expect("an append");
                    }
                    begun.elapsed()
                })
            });
        });
    }
    group.finish();
}

/// Batches of a lane, settled one after another.
fn lane(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lane");
    for (record_bytes, compression) in cases() {
        group.throughput(Throughput::Elements(BATCH_RECORDS as u64));
        group.bench_function(name(record_bytes, compression), |bencher| {
            let mut bench = Bench::new(record_bytes, compression).expect("a new stream");
            for _ in 0..BATCHES {
                bench.append().expect("an append");
            }
            bencher.iter_custom(|batches| {
                timed(batches, |count| {
                    let lanes = bench.lane().expect("a lane");
                    let begun = Instant::now();
                    for _ in 0..count {
                        assert_eq!(BATCH_RECORDS, consume(&lanes).expect("a batch"));
                    }
                    begun.elapsed()
                })
            });
        });
    }
    group.finish();
}

fn cases() -> impl Iterator<Item = (usize, Compression)> {
    let both = [Compression::None, Compression::Zstd];
    both.into_iter().flat_map(|compression| SIZES.map(|size| (size, compression)))
}

fn name(record_bytes: usize, compression: Compression) -> BenchmarkId {
    BenchmarkId::new(format!("{compression:?}").to_lowercase(), format!("{record_bytes} B"))
}

/// Sums up what `run` takes for `batches`, at most `BATCHES` at a time.
fn timed(batches: u64, mut run: impl FnMut(u64) -> Duration) -> Duration {
    let mut left = batches;
    let mut total = Duration::ZERO;
    while left > 0 {
        let count = left.min(BATCHES);
        total += run(count);
        left -= count;
    }
    total
}

criterion_group! {
    name = paths;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).sample_size(20);
    targets = append, lane
}
criterion_main!(paths);
