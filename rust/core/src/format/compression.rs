//! zstd bodies: compresses the parts of a batch, and decompresses them.
//!
//! ```text
//! codec 1 := frame of the body
//! codec 2 := frame of the body up to its offsets | frame of the offsets, packed
//! ```
//! Packed offsets are lengths: the lowest bytes of all lengths, then the second bytes, and so on.
//!
//! WHY: offsets rise, so no two are alike, and zstd leaves most of them as they are: 5 of the 36
//! bytes that are left of a JSON event of 250. WHY two frames: lengths have symbols of their own,
//! which would spoil those of the values. A batch takes 2 % more than the library makes of the bare
//! lines; with offsets it took 17 %.

use std::cell::RefCell;
use std::io;

use zstd::zstd_safe::{compress_bound, find_frame_compressed_size, get_frame_content_size};

use super::body::{offsets_of, RecordBuilder, KEPT_BYTES_MAX};
use super::record_batch::{RAW_BYTES_MAX, RECORDS_MAX};
use super::Damage;

pub use super::codec::{NONE, ZSTD, ZSTD_PACKED};

/// The fastest level that still finds the repetition in JSON.
const LEVEL: i32 = 1;
/// Bodies below this are left alone: there is nothing to find in them.
const COMPRESS_BYTES_MIN: u32 = 256;
const OFFSETS_BYTES_MAX: usize = (RECORDS_MAX as usize + 1) * 4;

/// What a thread keeps from one batch to the next.
///
/// WHY: making a context costs more than compressing a small batch, and the kernel hands out new
/// memory for a large one page by page.
struct Workshop {
    context: zstd::bulk::Compressor<'static>,
    raw: Vec<u8>,
    stored: Vec<u8>,
}

/// The body of some records, `raw_len` bytes, for [`ZSTD_PACKED`]; `None` where compression does not pay.
///
/// # Errors
/// zstd has no memory.
pub fn compress(records: &RecordBuilder, raw_len: u32) -> io::Result<Option<Vec<u8>>> {
    thread_local! {
        static WORKSHOP: RefCell<Option<Workshop>> = const { RefCell::new(None) };
    }
    if raw_len < COMPRESS_BYTES_MIN {
        return Ok(None);
    }
    WORKSHOP.with_borrow_mut(|workshop| {
        let workshop = match workshop {
            Some(workshop) => workshop,
            None => workshop.insert(Workshop::open()?),
        };
        let stored = workshop.compress(records);
        workshop.tidy_up();
        stored
    })
}

impl Workshop {
    fn open() -> io::Result<Self> {
        let context = zstd::bulk::Compressor::new(LEVEL)?;
        Ok(Self { context, raw: Vec::new(), stored: Vec::new() })
    }

    fn compress(&mut self, records: &RecordBuilder) -> io::Result<Option<Vec<u8>>> {
        let offsets_at = records.write_offsets_last(&mut self.raw);
        pack_offsets(&mut self.raw).expect("the builder makes valid bodies");
        let (values, lengths) = self.raw.split_at(offsets_at);
        let longest = compress_bound(values.len()) + compress_bound(lengths.len());
        if self.stored.len() < longest {
            self.stored.resize(longest, 0);
        }
        let first = self.context.compress_to_buffer(values, &mut *self.stored)?;
        let (_, rest) = self.stored.split_at_mut(first);
        let second = self.context.compress_to_buffer(lengths, rest)?;
        let stored = self.stored.get(..first + second).expect("it is as long as both can be");
        Ok((stored.len() < self.raw.len()).then(|| stored.to_vec()))
    }

    fn tidy_up(&mut self) {
        for kept in [&mut self.raw, &mut self.stored] {
            if kept.capacity() > KEPT_BYTES_MAX {
                *kept = Vec::new();
            }
        }
    }
}

/// Decompresses a stored body of a codec that is not [`NONE`], which has to become `raw_len` bytes.
///
/// # Errors
/// [`Damage`] if it is not zstd frames of that length, longer than any writer makes it, or if it has
/// offsets for more records than a batch can hold.
pub fn decompress(codec: u8, stored: &[u8], raw_len: u32) -> Result<Vec<u8>, Damage> {
    thread_local! {
        // WHY: making a context costs more than decompressing a small batch.
        static CONTEXT: RefCell<zstd::bulk::Decompressor<'static>> =
            RefCell::new(zstd::bulk::Decompressor::new().expect("only fails without memory"));
    }
    let damage = Damage("the body does not decompress to its length");
    // WHY: most frames say how long they become; memory is only taken where that agrees.
    let said = content_size(stored)?;
    if raw_len > RAW_BYTES_MAX || said.is_some_and(|said| said != u64::from(raw_len)) {
        return Err(damage);
    }
    let raw = CONTEXT.with_borrow_mut(|context| context.decompress(stored, raw_len as usize));
    let mut raw = raw.ok().filter(|raw| raw.len() == raw_len as usize).ok_or(damage)?;
    if codec == ZSTD_PACKED {
        for_offsets(&mut raw, unpack)?;
    }
    Ok(raw)
}

/// Packs the offsets in a body, as [`ZSTD_PACKED`] compresses them.
///
/// # Errors
/// [`Damage`] if it is no body.
pub fn pack_offsets(body: &mut [u8]) -> Result<(), Damage> {
    for_offsets(body, pack)
}

/// What all frames say they become; `None` if one does not say.
fn content_size(mut stored: &[u8]) -> Result<Option<u64>, Damage> {
    let damage = Damage("there are no whole frames");
    let mut sum = Some(0_u64);
    loop {
        let said = get_frame_content_size(stored).map_err(|_| damage)?;
        sum = sum.zip(said).and_then(|(sum, said)| sum.checked_add(said));
        let length = find_frame_compressed_size(stored).map_err(|_| damage)?;
        stored = stored.get(length..).ok_or(damage)?;
        if stored.is_empty() {
            return Ok(sum);
        }
    }
}

/// Turns each section of offsets in a body into something else of the same length.
fn for_offsets(body: &mut [u8], turn: fn(&[u8], &mut [u8])) -> Result<(), Damage> {
    for place in offsets_of(body)? {
        let section = body.get_mut(place).unwrap_or_default();
        if section.len() > OFFSETS_BYTES_MAX {
            return Err(Damage("there are more offsets than a batch has records"));
        }
        let before = section.to_vec();
        turn(&before, section);
    }
    Ok(())
}

fn pack(offsets: &[u8], packed: &mut [u8]) {
    let count = offsets.len() / 4;
    let (first, rest) = packed.split_at_mut(count);
    let (second, rest) = rest.split_at_mut(count);
    let (third, fourth) = rest.split_at_mut(count);
    let planes = first.iter_mut().zip(second).zip(third).zip(fourth);
    let mut before = 0_u32;
    for (offset, (((first, second), third), fourth)) in offsets.chunks_exact(4).zip(planes) {
        let offset = u32::from_le_bytes(offset.try_into().expect("4 bytes"));
        [*first, *second, *third, *fourth] = offset.wrapping_sub(before).to_le_bytes();
        before = offset;
    }
}

fn unpack(packed: &[u8], offsets: &mut [u8]) {
    let count = packed.len() / 4;
    let (first, rest) = packed.split_at(count);
    let (second, rest) = rest.split_at(count);
    let (third, fourth) = rest.split_at(count);
    let planes = first.iter().zip(second).zip(third).zip(fourth);
    let mut offset = 0_u32;
    for (place, (((first, second), third), fourth)) in offsets.chunks_exact_mut(4).zip(planes) {
        offset = offset.wrapping_add(u32::from_le_bytes([*first, *second, *third, *fourth]));
        place.copy_from_slice(&offset.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_another_length_is_damage() {
        let stored = zstd::bulk::compress(&[7; 1000], 1).unwrap();
        let two = [&*stored, &*stored].concat();

        assert_eq!(Ok(vec![7; 1000]), decompress(ZSTD, &stored, 1000));
        assert_eq!(Ok(vec![7; 2000]), decompress(ZSTD, &two, 2000));
        for length in [0, 999, 1000, 1001, 1999, 2001, u32::MAX] {
            assert!(decompress(ZSTD, &two, length).is_err(), "{length}");
        }
    }

    /// 200 records of different lengths, every third with a key, every fourth with headers.
    fn records() -> RecordBuilder {
        let mut records = RecordBuilder::default();
        for number in 0..200_usize {
            let value = vec![b'v'; number * number % 700];
            let key = number.is_multiple_of(3).then(|| "k".repeat(number % 5));
            let headers = if number.is_multiple_of(4) { &b"\0\0"[..] } else { b"" };
            records.push(&value, key.as_deref(), headers);
        }
        records
    }

    #[test]
    fn what_is_compressed_comes_back_but_for_the_order_of_its_sections() {
        let records = records();
        let mut body = Vec::new();
        records.write_offsets_last(&mut body);
        let raw_len = u32::try_from(body.len()).unwrap();

        let stored = compress(&records, raw_len).unwrap().unwrap();

        assert_eq!(Ok(body), decompress(ZSTD_PACKED, &stored, raw_len));
    }

    #[test]
    fn any_bytes_are_packed_and_come_back() {
        for length in 0..40_u8 {
            let offsets: Vec<u8> = (0..length).map(|at| at.wrapping_mul(97)).collect();
            let (mut packed, mut back) = (offsets.clone(), offsets.clone());

            pack(&offsets, &mut packed);
            unpack(&packed, &mut back);

            assert_eq!(offsets, back);
        }
    }

    #[test]
    fn lengths_stand_in_planes() {
        let offsets: Vec<u8> =
            [0, 0x0102, 0x0102, 0x0405_0709_u32].into_iter().flat_map(u32::to_le_bytes).collect();
        let mut packed = offsets.clone();

        pack(&offsets, &mut packed);

        assert_eq!([0, 2, 0, 7, 0, 1, 0, 6, 0, 0, 0, 5, 0, 0, 0, 4], *packed);
    }

    #[test]
    fn more_offsets_than_records_are_damage() {
        let length = u32::try_from(OFFSETS_BYTES_MAX + 4).unwrap();
        let mut body = [&[1, 0, 0, 0, 0, 0, 0, 0][..], &[1, 0, 0, 0, 24, 0, 0, 0]].concat();
        body.extend(length.to_le_bytes());
        body.resize(24 + length as usize, 0);
        let stored = zstd::bulk::compress(&body, 1).unwrap();

        let raw_len = u32::try_from(body.len()).unwrap();
        assert!(decompress(ZSTD, &stored, raw_len).is_ok());
        assert!(decompress(ZSTD_PACKED, &stored, raw_len).is_err());
    }
}
