//! Record batches: the header alone, the whole, and control batches.

use streamfn_core::format::body::encode_headers;
use streamfn_core::format::checksum::crc32c;
use streamfn_core::format::compression::{self, decompress, pack_offsets};
use streamfn_core::format::record_batch::{
    HeaderRead, BODY_BYTES_MAX, HEADER_BYTES, MAGIC, RAW_BYTES_MAX, RECORDS_MAX,
};
use streamfn_core::format::{align8, BatchHeader, Control, DecodedBatch, SharedBytes};
use streamfn_core::{Position, RecordBuilder, ShardId};

use crate::campaign::{Decoder, Outcome};
use crate::mutation::Random;

/// Decompressed bodies in a campaign are small; a decoder may ask for what the header says, which is
/// within the limit of the format.
const SMALL: usize = 64 * 1024;

/// `BatchHeader::decode`.
pub(crate) struct Header;

impl Decoder for Header {
    fn name(&self) -> &'static str {
        "batch header"
    }

    fn structure(&self, random: &mut Random) -> Vec<u8> {
        header(random).encode().0.to_vec()
    }

    fn hot(&self) -> usize {
        HEADER_BYTES
    }

    fn fix(&self, bytes: &mut [u8]) {
        fix_header(bytes);
    }

    fn run(&self, bytes: &[u8]) -> Result<Outcome, String> {
        match BatchHeader::decode(bytes) {
            HeaderRead::Valid(header, crc) => {
                check_header(&header)?;
                let stored = bytes.get(92..96).ok_or("shorter than a header")?;
                if crc.to_le_bytes() != stored {
                    return Err("its checksum is not the one it says".into());
                }
                let again = header.encode();
                match BatchHeader::decode(&again.0) {
                    HeaderRead::Valid(second, _) if second == header => Ok(Outcome::Accepted),
                    other => Err(format!("{header:?} came back as {other:?}")),
                }
            }
            HeaderRead::Empty => Ok(Outcome::Refused("empty")),
            HeaderRead::Damaged(damage) => Ok(Outcome::Refused(damage.0)),
            HeaderRead::Unsupported(_) => Ok(Outcome::Refused("unsupported")),
        }
    }

    fn allocation_max(&self) -> usize {
        0
    }
}

/// A whole record batch: header, stored body, records.
pub(crate) struct Batch {
    /// How its body is stored.
    pub(crate) codec: u8,
}

impl Decoder for Batch {
    fn name(&self) -> &'static str {
        match self.codec {
            compression::NONE => "batch",
            compression::ZSTD => "batch, zstd",
            _ => "batch, zstd, packed",
        }
    }

    fn structure(&self, random: &mut Random) -> Vec<u8> {
        let records = records(random, 8);
        batch(&records, header(random), self.codec).0
    }

    fn hot(&self) -> usize {
        // Header, section table, and the offsets of a few records.
        HEADER_BYTES + 160
    }

    fn fix(&self, bytes: &mut [u8]) {
        fix_batch(bytes);
    }

    fn run(&self, bytes: &[u8]) -> Result<Outcome, String> {
        let HeaderRead::Valid(header, _) = BatchHeader::decode(bytes) else {
            return Ok(Outcome::Refused("header"));
        };
        let end = HEADER_BYTES + header.body_len as usize;
        let Some(stored) = bytes.get(HEADER_BYTES..end) else {
            return Ok(Outcome::Refused("body cut off"));
        };
        if crc32c(stored) != header.body_crc {
            return Ok(Outcome::Refused("body checksum"));
        }
        let body = match header.codec {
            compression::NONE => Ok(stored.to_vec()),
            codec => decompress(codec, stored, header.raw_len),
        };
        match body.map(SharedBytes::whole).and_then(|body| decode(header, body)) {
            Ok(batch) => check_batch(&batch).map(|()| Outcome::Accepted),
            Err(damage) => Ok(Outcome::Refused(damage.0)),
        }
    }

    fn allocation_max(&self) -> usize {
        match self.codec {
            compression::NONE => SMALL,
            _ => RAW_BYTES_MAX as usize,
        }
    }
}

/// `Control::decode`.
pub(crate) struct ControlBatch;

impl Decoder for ControlBatch {
    fn name(&self) -> &'static str {
        "control batch"
    }

    fn structure(&self, random: &mut Random) -> Vec<u8> {
        control(random).encode()
    }

    fn hot(&self) -> usize {
        8
    }

    fn fix(&self, _: &mut [u8]) {}

    fn run(&self, bytes: &[u8]) -> Result<Outcome, String> {
        match Control::decode(bytes) {
            Err(damage) => Ok(Outcome::Refused(damage.0)),
            Ok(Control::Unknown { .. }) => Ok(Outcome::Refused("unknown kind, stepped over")),
            Ok(mark) => match Control::decode(&mark.encode()) {
                Ok(again) if again == mark => Ok(Outcome::Accepted),
                other => Err(format!("{mark:?} came back as {other:?}")),
            },
        }
    }

    fn allocation_max(&self) -> usize {
        SMALL
    }
}

fn decode(
    header: BatchHeader,
    body: SharedBytes,
) -> Result<DecodedBatch, streamfn_core::format::Damage> {
    DecodedBatch::new(header, Position::default(), "s".into(), ShardId(0), body)
}

/// The limits that docs/format.md gives a header.
pub(crate) fn check_header(header: &BatchHeader) -> Result<(), String> {
    let is_within = header.body_len <= BODY_BYTES_MAX
        && header.raw_len <= RAW_BYTES_MAX
        && header.record_count <= RECORDS_MAX
        && (header.record_count > 0 || header.is_control)
        && header.codec <= compression::ZSTD_PACKED
        && header.base_seq.checked_add(header.record_count.into()).is_some();
    is_within.then_some(()).ok_or_else(|| format!("beyond the limits: {header:?}"))
}

type Plain<'a> = (&'a [u8], Option<&'a str>, Vec<(&'a str, &'a [u8])>);

fn record(batch: &DecodedBatch, index: u32) -> Plain<'_> {
    (batch.value(index), batch.key(index), batch.headers(index).collect())
}

/// Builds the batch anew from its records and compares.
fn check_batch(batch: &DecodedBatch) -> Result<(), String> {
    check_header(batch.header())?;
    if batch.control().is_some() {
        return Ok(());
    }
    let mut builder = RecordBuilder::default();
    for index in 0..batch.count() {
        let (value, key, headers) = record(batch, index);
        let encoded = encode_headers(headers.into_iter()).ok_or("its headers cannot be written")?;
        builder.push(value, key, &encoded);
        if batch.timestamp(index) < batch.header().base_ts {
            return Err(format!("record {index} is older than its batch"));
        }
        if batch.record_bytes(index) < value.len() {
            return Err(format!("record {index} is measured too small"));
        }
    }
    let body = builder.with_body(|parts| parts.concat());
    let again = decode(*batch.header(), SharedBytes::whole(body))
        .map_err(|damage| format!("what was read is refused when written again: {damage}"))?;
    match (0..batch.count()).find(|index| record(batch, *index) != record(&again, *index)) {
        Some(index) => Err(format!("record {index} came back as another")),
        None => Ok(()),
    }
}

/// Some header; its body fields mean nothing.
fn header(random: &mut Random) -> BatchHeader {
    BatchHeader {
        codec: random.below(usize::from(compression::ZSTD_PACKED) + 1) as u8,
        has_keys: random.once_in(2),
        body_len: random.below(1 << 16) as u32,
        raw_len: random.below(1 << 20) as u32,
        base_seq: random.number() >> 1,
        record_count: 1 + random.below(RECORDS_MAX as usize) as u32,
        body_crc: random.number() as u32,
        base_ts: random.number() >> 13,
        max_ts: random.number() >> 13,
        shard_epoch: random.below(9) as u32,
        durable_end: random.number() >> 1,
        prev_header_crc: random.number() as u32,
        ..BatchHeader::default()
    }
}

/// Up to `most` records, some with keys, some with headers.
pub(crate) fn records(random: &mut Random, most: usize) -> RecordBuilder {
    let mut builder = RecordBuilder::default();
    let (has_keys, has_headers) = (random.once_in(2), random.once_in(3));
    for _ in 0..=random.below(most) {
        let key = (has_keys && !random.once_in(4)).then(|| "schlüssel".repeat(random.below(3)));
        let headers = random.bytes(6);
        let headers = has_headers.then(|| vec![("h", &*headers), ("größe", b"2")]);
        let headers = encode_headers(headers.unwrap_or_default().into_iter());
        builder.push(&random.bytes(24), key.as_deref(), &headers.unwrap_or_default());
    }
    builder
}

/// A stored batch with these records, and its header checksum.
pub(crate) fn batch(records: &RecordBuilder, header: BatchHeader, codec: u8) -> (Vec<u8>, u32) {
    let raw = records.with_body(|parts| parts.concat());
    let zstd = |raw: &[u8]| zstd::bulk::compress(raw, 1).unwrap();
    let body = match codec {
        compression::NONE => raw.clone(),
        compression::ZSTD => zstd(&raw),
        _ => {
            let mut raw = Vec::new();
            let offsets_at = records.write_offsets_last(&mut raw);
            pack_offsets(&mut raw).unwrap();
            [zstd(&raw[..offsets_at]), zstd(&raw[offsets_at..])].concat()
        }
    };
    stored(
        BatchHeader {
            codec,
            has_keys: records.has_keys(),
            raw_len: raw.len() as u32,
            record_count: records.count(),
            ..header
        },
        &body,
    )
}

/// A stored control batch, and its header checksum.
pub(crate) fn control_batch(mark: &Control, header: BatchHeader) -> (Vec<u8>, u32) {
    let body = mark.encode();
    let raw_len = body.len() as u32;
    stored(BatchHeader { is_control: true, raw_len, record_count: 1, ..header }, &body)
}

/// A CLOSE or an EPOCH.
pub(crate) fn control(random: &mut Random) -> Control {
    match random.below(2) {
        0 => Control::Close { children: (0..random.below(4)).map(|n| n as u32).collect() },
        _ => Control::Epoch { reason: random.below(3) as u32 },
    }
}

fn stored(header: BatchHeader, body: &[u8]) -> (Vec<u8>, u32) {
    let header = BatchHeader { body_len: body.len() as u32, body_crc: crc32c(body), ..header };
    let (head, crc) = header.encode();
    let mut bytes = [&head, body].concat();
    bytes.resize(HEADER_BYTES + align8(body.len()), 0);
    (bytes, crc)
}

/// Puts the header's checksum right.
fn fix_header(bytes: &mut [u8]) {
    if let Some(header) = bytes.get_mut(..HEADER_BYTES) {
        let crc = crc32c(&header[..HEADER_BYTES - 4]);
        header[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Puts both checksums right; returns how many bytes the batch takes, if its header can be believed.
pub(crate) fn fix_batch(bytes: &mut [u8]) -> Option<usize> {
    let length = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?) as usize;
    let end = HEADER_BYTES.checked_add(length)?;
    if let Some(body) = bytes.get(HEADER_BYTES..end) {
        let crc = crc32c(body);
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
    }
    fix_header(bytes);
    (bytes.get(..4)? == MAGIC).then_some(HEADER_BYTES + align8(length))
}
