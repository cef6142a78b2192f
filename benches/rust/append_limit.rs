//! The least an append can cost: frames with their length, a CRC-32C, and `write` in pieces of
//! about 1 MiB. No keys, no numbers, no index, nobody else; nothing but `std`.
//!
//! ```text
//! append-limit FILE RECORD_BYTES RECORDS [RECORDS_A_FLUSH]
//! ```
//! Prints the seconds it took. With `RECORDS_A_FLUSH` a piece is so many records, and is flushed
//! before the next.

use std::fs::File;
use std::io::Write;
use std::time::Instant;

const PIECE_BYTES: usize = 1 << 20;
const USAGE: &str = "append-limit FILE RECORD_BYTES RECORDS [RECORDS_A_FLUSH]";

#[allow(clippy::print_stdout, clippy::disallowed_methods, reason = "nothing of streamfn is used")]
fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, numbers @ ..] = arguments.as_slice() else { panic!("{USAGE}") };
    let numbers: Vec<usize> = numbers.iter().map(|text| text.parse().expect(USAGE)).collect();
    let (record_bytes, records, records_a_flush) = match numbers.as_slice() {
        [record_bytes, records] => (*record_bytes, *records, None),
        [record_bytes, records, a_flush] => (*record_bytes, *records, Some(*a_flush)),
        _ => panic!("{USAGE}"),
    };
    let is_synced = records_a_flush.is_some();
    let piece_bytes = records_a_flush.map_or(PIECE_BYTES, |count| count * (4 + record_bytes));
    // Each in its own place, as those that streamfn and its peers are given.
    let source: Vec<Vec<u8>> =
        (0..records).map(|at| vec![u8::try_from(at % 251).unwrap_or(0); record_bytes]).collect();
    let mut file = File::create(path)?;
    let mut piece = Vec::with_capacity(piece_bytes + record_bytes + 8);
    let begun = Instant::now();
    for record in &source {
        piece.extend_from_slice(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_le_bytes());
        piece.extend_from_slice(record);
        if piece.len() >= piece_bytes {
            write(&mut file, &mut piece, is_synced)?;
        }
    }
    if !piece.is_empty() {
        write(&mut file, &mut piece, is_synced)?;
    }
    println!("{}", begun.elapsed().as_secs_f64());
    Ok(())
}

fn write(file: &mut File, piece: &mut Vec<u8>, is_synced: bool) -> std::io::Result<()> {
    let crc = crc32c(piece);
    piece.extend_from_slice(&crc.to_le_bytes());
    file.write_all(piece)?;
    piece.clear();
    if is_synced {
        file.sync_data()?;
    }
    Ok(())
}

/// CRC-32C by the processor's own instruction, eight bytes at a time.
#[cfg(target_arch = "x86_64")]
fn crc32c(bytes: &[u8]) -> u32 {
    #[allow(unsafe_code, reason = "the only way to an instruction that not every processor has")]
    #[target_feature(enable = "sse4.2")]
    fn of(bytes: &[u8]) -> u32 {
        use std::arch::x86_64::{_mm_crc32_u64, _mm_crc32_u8};
        let mut words = bytes.chunks_exact(8);
        let mut crc = u64::from(u32::MAX);
        for word in &mut words {
            let word = word.try_into().map_or(0, u64::from_le_bytes);
            crc = _mm_crc32_u64(crc, word);
        }
        let mut crc = u32::try_from(crc & u64::from(u32::MAX)).unwrap_or(0);
        for byte in words.remainder() {
            crc = _mm_crc32_u8(crc, *byte);
        }
        !crc
    }
    assert!(is_x86_feature_detected!("sse4.2"), "a processor without CRC-32C");
    #[allow(unsafe_code, reason = "the line above sees to it")]
    // SAFETY: the processor has the instruction.
    unsafe {
        of(bytes)
    }
}

/// CRC-32C from a table, where the processor's instruction is not to be had.
#[cfg(not(target_arch = "x86_64"))]
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}
