//! The settings of a stream, and their defaults: each exists here and nowhere else.

use crate::error::{Error, Result};
use crate::log::{SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::types::{is_valid_internal_name, is_valid_name, Compression, Durability, SHARDS_MAX};

/// When sealed segments may be removed; never, if nothing is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Oldest append time kept, in µs before now.
    pub age_us: Option<u64>,
    /// Most bytes kept on disk, by shard.
    pub bytes: Option<u64>,
    /// Whether records that every mapping has consumed may be removed.
    pub is_consumed: bool,
}

/// The settings of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamConfig {
    // Behaviour.
    /// Shards it begins with.
    pub shards: u32,
    /// What an acknowledgement survives.
    pub durability: Durability,
    /// When sealed segments may be removed.
    pub retention: Retention,
    /// Whether this is an internal stream (dead letters, redrive): dots in its name are allowed.
    pub is_internal: bool,
    // Performance.
    /// How batches are stored; zstd saves disk and cold reads, none saves CPU.
    pub compression: Compression,
    /// Size at which a new segment begins, in bytes; the unit of retention.
    pub segment_bytes: u64,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            shards: 1,
            durability: Durability::Group,
            retention: Retention::default(),
            is_internal: false,
            compression: Compression::Zstd,
            segment_bytes: SEGMENT_BYTES_DEFAULT,
        }
    }
}

impl StreamConfig {
    /// Checks the bounds and the name.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self, name: &str) -> Result<()> {
        if !(is_valid_name(name) || (self.is_internal && is_valid_internal_name(name))) {
            let reason = format!("`{name}` is not 1 to 128 letters, digits, `_` or `-`");
            return Err(Error::config("name", reason));
        }
        if !(1..=SHARDS_MAX).contains(&self.shards) {
            return Err(Error::config(
                "shards",
                format!("{} is not 1 to {SHARDS_MAX}", self.shards),
            ));
        }
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            let reason =
                format!("{} is not {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}", self.segment_bytes);
            return Err(Error::config("segment_bytes", reason));
        }
        Ok(())
    }
}
