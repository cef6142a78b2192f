//! Walks one path of a record so many times: for a program that counts instructions or samples stacks.
//!
//! ```text
//! one-path append|lane RECORD_BYTES none|zstd BATCHES FILLED
//! ```
//! The stream has FILLED batches before that. What a path costs is the difference of two runs that
//! differ in BATCHES alone.

use streamfn_bench::{consume, Bench};
use streamfn_core::{Compression, Result};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, record_bytes, compression, batches, filled] = arguments.as_slice() else {
        panic!("one-path append|lane RECORD_BYTES none|zstd BATCHES FILLED");
    };
    let number = |text: &String| text.parse::<usize>().expect("a whole number");
    let compression = match compression.as_str() {
        "none" => Compression::None,
        "zstd" => Compression::Zstd,
        other => panic!("{other} is neither none nor zstd"),
    };
    let mut bench = Bench::new(number(record_bytes), compression)?;
    for _ in 0..number(filled) {
        bench.append()?;
    }
    match path.as_str() {
        "append" => {
            for _ in 0..number(batches) {
                bench.append()?;
            }
        }
        "lane" => {
            assert_ne!(0, number(filled), "a lane needs batches");
            let mut lanes = bench.lane()?;
            for _ in 0..number(batches) {
                if consume(&lanes)? == 0 {
                    lanes = bench.lane()?; // from the first batch again
                }
            }
        }
        other => panic!("{other} is neither append nor lane"),
    }
    Ok(())
}
