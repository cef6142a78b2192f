//! The disk has the room of removed segments back at once: nobody here keeps them open, idle or not.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
#![allow(clippy::disallowed_methods, reason = "a test looks at the descriptors of its process")]

use std::sync::Arc;
use std::time::Duration;

use streamfn_core::checkpoint::Mapping;
use streamfn_core::lane::{Added, LaneSet, Limits, Request};
use streamfn_core::{
    Compression, Cursor, Error, Log, OpenOptions, Patience, ReadBuffer, ShardId, ShardLog, Start,
    Stream, StreamConfig,
};

const SHARD: ShardId = ShardId(0);
/// Three of these fill a segment, and no two are read at once.
const RECORD_BYTES: usize = 300_000;

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(30))
}

struct World {
    folder: tempfile::TempDir,
    log: Arc<Log>,
    stream: Arc<Stream>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = OpenOptions { housekeeping: false, ..OpenOptions::default() };
        let log = Log::open(folder.path(), &options).unwrap();
        let stream = log.create_stream("s", &Self::config(), &patience()).unwrap();
        Self { folder, log, stream }
    }

    fn config() -> StreamConfig {
        StreamConfig {
            segment_bytes: 1 << 20,
            compression: Compression::None,
            ..StreamConfig::default()
        }
    }

    fn shard(&self) -> Arc<ShardLog> {
        self.stream.shard(SHARD).unwrap()
    }

    fn put(&self, sizes: &[usize]) {
        for size in sizes {
            let mut put = self.stream.begin_put().unwrap();
            put.push(&vec![b'x'; *size], None, std::iter::empty()).unwrap();
            put.commit(&patience()).unwrap();
        }
    }

    /// Has retention take everything below a number, and the housekeeper pass once.
    fn trim(&self, below: u64) {
        self.shard().trim(below, &patience()).unwrap();
        self.log.tick();
    }

    /// Segment files that this process has open.
    fn open_segments(&self) -> Vec<String> {
        let folder = self.folder.path().join("streams");
        let links = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| {
            // Another test may have closed it.
            std::fs::read_link(entry.unwrap().path()).ok()
        });
        let names = links.filter(|link| link.starts_with(&folder)).map(|link| {
            let name = link.file_name().unwrap();
            name.to_str().unwrap().to_owned()
        });
        names.filter(|name| name.contains(".seg")).collect()
    }

    /// Those of them that were removed.
    fn removed_but_open(&self) -> Vec<String> {
        let mut names = self.open_segments();
        names.retain(|name| name.ends_with(" (deleted)"));
        names
    }
}

/// A reader as users have them: it reads, and may then be left alone for hours.
struct Reader {
    shard: Arc<ShardLog>,
    cursor: Cursor,
    buffer: ReadBuffer,
}

impl Reader {
    fn new(world: &World) -> Self {
        let shard = world.shard();
        let cursor = shard.cursor(Start::TrimHorizon).unwrap();
        Self { shard, cursor, buffer: ReadBuffer::default() }
    }

    /// The number of the next record.
    fn read(&mut self) -> Result<Option<u64>, Error> {
        let Some((batch, after)) = self.shard.read(&self.cursor, &mut self.buffer)? else {
            return Ok(None);
        };
        self.cursor = after;
        Ok(Some(batch.base_seq()))
    }
}

fn lost(read: Result<Option<u64>, Error>) -> (u64, u64) {
    match read {
        Err(Error::SequenceTrimmed { lost_from, lost_to }) => (lost_from, lost_to),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_idle_reader_closes_them_and_is_told_what_it_lost() {
    let world = World::new();
    world.put(&[RECORD_BYTES; 9]);
    let mut readers = [(); 3].map(|()| Reader::new(&world));
    for (reader, count) in readers.iter_mut().zip([1, 4, 7]) {
        (0..count).for_each(|seq| assert_eq!(Some(seq), reader.read().unwrap()));
    }

    world.trim(6);

    assert_eq!(Vec::<String>::new(), world.removed_but_open());
    assert_eq!((1, 5), lost(readers[0].read()));
    assert_eq!((4, 5), lost(readers[1].read()));
    assert_eq!(Some(7), readers[2].read().unwrap(), "what is kept is read on");
}

#[test]
fn a_reader_that_was_done_with_them_loses_nothing() {
    let world = World::new();
    world.put(&[RECORD_BYTES; 3]);
    let mut reader = Reader::new(&world);
    (0..3).for_each(|seq| assert_eq!(Some(seq), reader.read().unwrap()));
    assert_eq!(None, reader.read().unwrap());
    world.put(&[RECORD_BYTES; 3]);

    world.trim(3);

    assert_eq!(Vec::<String>::new(), world.removed_but_open());
    assert_eq!(Some(3), reader.read().unwrap());
}

#[test]
fn a_reader_that_has_the_header_of_a_batch_and_not_its_body_is_told_of_no_damage() {
    let world = World::new();
    world.put(&[1_000, 900_000, RECORD_BYTES, 1_000]);
    let mut reader = Reader::new(&world);
    assert_eq!(Some(0), reader.read().unwrap());

    world.trim(2);

    assert_eq!(Vec::<String>::new(), world.removed_but_open());
    assert_eq!((1, 1), lost(reader.read()));
}

#[test]
fn a_segment_that_somebody_else_removed_by_hand_is_missing_and_no_torn_batch() {
    let world = World::new();
    world.put(&[RECORD_BYTES; 4]);
    let mut reader = Reader::new(&world);
    assert_eq!(Some(0), reader.read().unwrap());
    let first = world.shard().folder().join("00000000-00000000000000000000.seg");

    std::fs::remove_file(first).unwrap();
    world.log.tick();

    assert_eq!(Vec::<String>::new(), world.removed_but_open());
    let error = reader.read().unwrap_err();
    assert!(matches!(error, Error::Corruption { first: 1, last: 2, .. }), "{error:?}");
}

#[test]
fn idle_lanes_close_them_and_say_what_they_lost() {
    let world = World::new();
    world.put(&[RECORD_BYTES; 9]);
    let mapping = Mapping::register(&world.log, "shop.total", 2, Start::TrimHorizon).unwrap();
    mapping.prepare("s").unwrap();
    let set = LaneSet::new(&world.log, [7; 16], 1, 64 << 20).unwrap();
    let limits = Limits { size: 1, window: Duration::ZERO, bytes: 6 << 20, tumbling: None };
    for slot in 0..2 {
        let request = Request {
            lane: slot,
            stream: "s".into(),
            shard: SHARD,
            slot,
            limits,
            filtering: None,
            is_alone: false,
            is_exclusive: false,
            passes_damage: false,
        };
        assert_eq!(Added::Ok, set.add(&mapping, &request).unwrap());
    }
    let next = || set.next(Duration::from_secs(20));
    let mut in_hands = [next().unwrap().unwrap().lane, next().unwrap().unwrap().lane];
    in_hands.sort_unstable();
    assert_eq!([0, 1], in_hands);

    world.trim(6);

    assert_eq!(Vec::<String>::new(), world.removed_but_open());
    for lane in in_hands {
        set.settle(lane, 0).unwrap();
    }
    // Record 1, of the other lane, is in memory.
    let said = [(); 2].map(|()| lost(next().map(|_| None)));
    assert_eq!([(2, 5), (2, 5)], said);
    assert!(next().unwrap().unwrap().records.first() >= Some(6), "they go on with what is kept");
}

#[test]
fn those_who_have_a_removed_stream_open_close_them() {
    let world = World::new();
    world.put(&[RECORD_BYTES; 4]);
    let mut reader = Reader::new(&world);
    reader.read().unwrap();

    world.log.remove_stream("s", &patience()).unwrap();
    world.log.tick();

    assert_eq!(Vec::<String>::new(), world.removed_but_open());
    let error = reader.read().unwrap_err();
    assert!(matches!(error, Error::StreamNotFound { .. }), "{error:?}");
    // The readers of another stream of that name have nothing to do with those of the first.
    let again = world.log.create_stream("s", &World::config(), &patience()).unwrap();
    let world = World { stream: again, ..world };
    world.put(&[RECORD_BYTES]);
    assert_eq!(Some(0), Reader::new(&world).read().unwrap());
    assert!(reader.read().is_err());
}

#[test]
fn a_closed_log_has_no_segment_open() {
    let world = World::new();
    world.put(&[RECORD_BYTES; 4]);
    let mut reader = Reader::new(&world);
    reader.read().unwrap();
    assert!(!world.open_segments().is_empty());

    world.log.close().unwrap();

    assert_eq!(Vec::<String>::new(), world.open_segments());
    let error = reader.read().unwrap_err();
    assert!(matches!(error, Error::StreamClosed { .. }), "{error:?}");
}
