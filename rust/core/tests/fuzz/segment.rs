//! A whole segment file, read through the reader that functions are fed from.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use streamfn_core::format::{compression, BatchHeader, SegmentHeader};
use streamfn_core::fs::{File, Fs, Open};
use streamfn_core::memory_fs::MemoryFs;
use streamfn_core::{
    Compression, Durability, Error, Log, OpenOptions, Patience, ReadBuffer, RecordBuilder, ShardId,
    ShardLog, Start, StreamConfig,
};

use crate::batches::{batch, control, control_batch, fix_batch, records};
use crate::campaign::{Decoder, Outcome};
use crate::mutation::Random;

const HEADER: usize = 4096;
/// Length of the file: readers may see all of it.
const LENGTH: usize = 2 * HEADER;
/// What a batch of one record takes beside its value.
const OVERHEAD: usize = 136;

/// A log whose one segment is overwritten again and again.
pub(crate) struct Segment {
    _log: Arc<Log>,
    shard: Arc<ShardLog>,
    file: Arc<dyn File>,
    /// Keeps the engine's descriptor open between executions.
    _open: ReadBuffer,
}

impl Segment {
    pub(crate) fn new() -> Self {
        let fs = Arc::new(MemoryFs::default());
        fs.create_dir(Path::new("/log")).unwrap();
        let options =
            OpenOptions { fs: Arc::clone(&fs) as _, housekeeping: false, ..OpenOptions::default() };
        let log = Log::open(Path::new("/log"), &options).unwrap();
        let config = StreamConfig {
            durability: Durability::Process,
            compression: Compression::None,
            ..StreamConfig::default()
        };
        let patience = Patience::of(Duration::from_secs(30));
        let stream = log.create_stream("s", &config, &patience).unwrap();
        let mut put = stream.begin_put().unwrap();
        put.push(&[7; LENGTH - HEADER - OVERHEAD], None, std::iter::empty()).unwrap();
        put.commit(&patience).unwrap();
        let shard = stream.shard(ShardId(0)).unwrap();
        let path = shard.folder().join("00000000-00000000000000000000.seg");
        let file = fs.open(&path, Open::Write).unwrap();
        assert_eq!(LENGTH as u64, file.length().unwrap(), "all of it is visible");
        let mut open = ReadBuffer::default();
        shard.read(&shard.cursor(Start::TrimHorizon).unwrap(), &mut open).unwrap().unwrap();
        Self { _log: log, shard, file, _open: open }
    }

    /// Reads to the end or the first error.
    fn read(&self) -> Result<streamfn_core::Result<()>, String> {
        let mut buffer = ReadBuffer::default();
        let mut cursor = match self.shard.cursor(Start::TrimHorizon) {
            Ok(cursor) => cursor,
            Err(error) => return Ok(Err(error)),
        };
        loop {
            let (batch, after) = match self.shard.read(&cursor, &mut buffer) {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            };
            if after.position <= cursor.position || after.next_seq <= cursor.next_seq {
                return Err(format!("reading does not get on: {cursor:?}, then {after:?}"));
            }
            for index in 0..batch.count().min(64) {
                let _ = (batch.value(index), batch.key(index), batch.headers(index).count());
            }
            cursor = after;
        }
    }
}

impl Decoder for Segment {
    fn name(&self) -> &'static str {
        "segment"
    }

    fn structure(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = SegmentHeader {
            log_uuid: [1; 16],
            shard: ShardId(0),
            epoch: 0,
            base_seq: 0,
            created: 1,
            prev_header_crc: 0,
            incompatible: 0,
            read_only_compatible: 0,
            compatible: 0,
            hash_range: (0, u128::MAX),
            parents: Vec::new(),
        }
        .encode();
        let mut header = BatchHeader { base_ts: 5, max_ts: 5, ..BatchHeader::default() };
        loop {
            let (next, crc) = match random.below(6) {
                0 => control_batch(&control(random), header),
                1 => batch(&records(random, 6), header, compression::ZSTD),
                2 => batch(&records(random, 6), header, compression::ZSTD_PACKED),
                _ => batch(&records(random, 6), header, compression::NONE),
            };
            let room = LENGTH - bytes.len();
            if next.len() + OVERHEAD > room {
                let mut last = RecordBuilder::default();
                last.push(&vec![9; room - OVERHEAD], None, &[]);
                bytes.extend(batch(&last, header, compression::NONE).0);
                return bytes;
            }
            let count = u32::from_le_bytes(next[24..28].try_into().unwrap());
            header.base_seq += u64::from(count);
            header.prev_header_crc = crc;
            bytes.extend(next);
        }
    }

    fn hot(&self) -> usize {
        LENGTH
    }

    /// Checksums and chain, as far as the headers lead.
    fn fix(&self, bytes: &mut [u8]) {
        let mut at = HEADER;
        let mut previous: Option<[u8; 4]> = None;
        while let Some(rest) = bytes.get_mut(at..).filter(|rest| rest.len() >= 96) {
            if let Some(crc) = previous {
                rest[80..84].copy_from_slice(&crc);
            }
            let Some(length) = fix_batch(rest) else { return };
            previous = rest[92..96].try_into().ok();
            at += length;
        }
    }

    fn run(&self, bytes: &[u8]) -> Result<Outcome, String> {
        let mut image = [0; LENGTH];
        let length = bytes.len().min(LENGTH);
        image[HEADER..length.max(HEADER)]
            .copy_from_slice(bytes.get(HEADER..length).unwrap_or_default());
        self.file.write_at(&[&image[HEADER..]], HEADER as u64).unwrap();
        match self.read()? {
            Ok(()) => Ok(Outcome::Accepted),
            Err(Error::Corruption { first, last, position, .. }) => {
                if first > last || !position.is_multiple_of(8) {
                    return Err(format!("damage from {first} to {last} at byte {position}"));
                }
                Ok(Outcome::Refused("corruption"))
            }
            Err(Error::UnsupportedFormat { .. }) => Ok(Outcome::Refused("unsupported format")),
            Err(other) => Err(format!("an error of another kind: {other}")),
        }
    }

    fn allocation_max(&self) -> usize {
        // Whatever a header says of a body as it was before compression.
        streamfn_core::format::record_batch::RAW_BYTES_MAX as usize
    }
}
