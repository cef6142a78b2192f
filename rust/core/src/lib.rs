//! The storage and delivery core of streamfn: a durable, sharded event log, and the lanes that
//! hand its records to functions.
//!
//! ```
//! use std::time::Duration;
//! use streamfn_core::{Log, OpenOptions, Patience, ReadBuffer, ShardId, Start, StreamConfig};
//!
//! # fn main() -> streamfn_core::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! let log = Log::open(folder.path(), &OpenOptions::default())?;
//! let patience = Patience::of(Duration::from_secs(30));
//! let orders = log.create_stream("orders", &StreamConfig::default(), &patience)?;
//! let mut put = orders.begin_put()?;
//! put.push(b"42", Some("alice"), std::iter::empty())?;
//! put.commit(&patience)?;
//!
//! let shard = orders.shard(ShardId(0))?;
//! let cursor = shard.cursor(Start::TrimHorizon)?;
//! let (batch, _after) = shard.read(&cursor, &mut ReadBuffer::default())?.expect("one batch");
//! assert_eq!(b"42", batch.value(0));
//! # Ok(())
//! # }
//! ```

pub mod checkpoint;
pub mod clock;
pub mod control;
pub mod counts;
pub mod error;
pub mod filter;
pub mod format;
pub mod fs;
pub mod fsck;
pub mod lane;
pub mod log;
pub mod memory;
pub mod memory_fs;
pub mod stream;
pub mod sync;
pub mod sys;
pub mod types;

pub use clock::{Deadline, Patience};
pub use error::{Error, Result};
pub use format::{Control, DecodedBatch, RecordBuilder};
pub use log::{Cursor, ReadBuffer, ShardLog};
pub use stream::{Log, OpenOptions, Retention, SettingsChange, ShardMeta, Stream, StreamConfig};
pub use types::{Compression, Durability, Position, SequenceNumber, ShardId, Start};
