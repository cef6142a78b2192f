//! `manifest.json`: settings and shards of a stream. One JSON object, then a line with its CRC-32C.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, IoContext, Result};
use crate::format::checksum::crc32c;
use crate::fs::{self, Fs};
use crate::log::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::types::{Compression, Durability, Micros, ShardId, SHARDS_MAX};

use super::config::{Retention, StreamConfig};

const FORMAT: u32 = 1;
/// Length of the checksum line.
const LINE: usize = "crc32c:00000000\n".len();

/// A shard as its stream knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardMeta {
    /// Its number.
    pub id: ShardId,
    /// Its page in the control file.
    pub page: u32,
    /// First and last hash key it owns.
    pub hash_range: (u128, u128),
    /// The shards it came from.
    pub parents: Vec<ShardId>,
    /// Whether it takes new records.
    pub is_open: bool,
    /// Whether it is the child of a split or merge that has not happened yet, and may never.
    pub is_pending: bool,
}

/// The settings and shards of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its settings.
    pub config: StreamConfig,
    /// When it was made, µs UTC.
    pub created: Micros,
    /// All its shards, by number.
    pub shards: Vec<ShardMeta>,
}

#[derive(Serialize, Deserialize)]
struct ManifestJson {
    format: u32,
    created_us: u64,
    durability: String,
    compression: String,
    segment_bytes: u64,
    retention: RetentionJson,
    is_internal: bool,
    shards: Vec<ShardJson>,
}

#[derive(Serialize, Deserialize)]
struct RetentionJson {
    age_us: Option<u64>,
    bytes: Option<u64>,
    consumed: bool,
}

/// Hash keys are strings: JSON numbers do not reach 128 bits.
#[derive(Serialize, Deserialize)]
struct ShardJson {
    id: u32,
    page: u32,
    hash_key_first: String,
    hash_key_last: String,
    parents: Vec<u32>,
    is_open: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_pending: bool,
}

impl Manifest {
    /// Replaces the manifest at `path`.
    ///
    /// # Errors
    /// Any error of the file system; the old manifest is then still there.
    ///
    /// # Durability
    /// Durable when it returns.
    pub fn store(&self, fs: &Arc<dyn Fs>, path: &Path) -> Result<()> {
        fs::replace(&**fs, path, &self.encode()).at(path)
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// [`Error::Corruption`] if the checksum does not match, [`Error::UnsupportedFormat`].
    pub fn load(fs: &Arc<dyn Fs>, path: &Path) -> Result<Self> {
        let bytes = fs::read(&**fs, path).at(path)?;
        Self::decode(&bytes, path)
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let retention = &self.config.retention;
        let json = ManifestJson {
            format: FORMAT,
            created_us: self.created,
            durability: self.config.durability.as_str().into(),
            compression: self.config.compression.as_str().into(),
            segment_bytes: self.config.segment_bytes,
            retention: RetentionJson {
                age_us: retention.age_us,
                bytes: retention.bytes,
                consumed: retention.is_consumed,
            },
            is_internal: self.config.is_internal,
            shards: self.shards.iter().map(ShardMeta::to_json).collect(),
        };
        let mut bytes = serde_json::to_vec_pretty(&json).expect("plain values");
        bytes.push(b'\n');
        let line = format!("crc32c:{:08x}\n", crc32c(&bytes));
        bytes.extend(line.bytes());
        bytes
    }

    /// Reads what [`Manifest::store`] wrote.
    ///
    /// # Errors
    /// As [`Manifest::load`].
    pub fn decode(bytes: &[u8], path: &Path) -> Result<Self> {
        let damaged = |reason: &str| Error::Corruption {
            path: path.to_owned(),
            position: 0,
            first: 0,
            last: 0,
            reason: reason.into(),
        };
        let (json, line) = bytes
            .split_at_checked(bytes.len().wrapping_sub(LINE))
            .ok_or_else(|| damaged("the manifest is cut off"))?;
        if line != format!("crc32c:{:08x}\n", crc32c(json)).as_bytes() {
            return Err(damaged("the manifest's checksum does not match"));
        }
        let json: ManifestJson =
            serde_json::from_slice(json).map_err(|e| damaged(&e.to_string()))?;
        if json.format != FORMAT {
            return Err(Error::UnsupportedFormat {
                path: path.to_owned(),
                found: format!("manifest format {}", json.format),
                supported: FORMAT.to_string(),
            });
        }
        Self::from_json(&json).ok_or_else(|| damaged("the manifest has an unknown value"))
    }

    fn from_json(json: &ManifestJson) -> Option<Self> {
        let shards: Option<Vec<_>> = json.shards.iter().map(ShardMeta::from_json).collect();
        let shards = shards?;
        let is_segment_size = (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&json.segment_bytes);
        if shards.len() > SHARDS_MAX as usize || !is_segment_size {
            return None;
        }
        Some(Self {
            config: StreamConfig {
                shards: u32::try_from(shards.len()).ok()?,
                durability: Durability::parse(&json.durability)?,
                compression: Compression::parse(&json.compression)?,
                segment_bytes: json.segment_bytes,
                retention: Retention {
                    age_us: json.retention.age_us,
                    bytes: json.retention.bytes,
                    is_consumed: json.retention.consumed,
                },
                is_internal: json.is_internal,
            },
            created: json.created_us,
            shards,
        })
    }
}

impl ShardMeta {
    fn to_json(&self) -> ShardJson {
        ShardJson {
            id: self.id.0,
            page: self.page,
            hash_key_first: self.hash_range.0.to_string(),
            hash_key_last: self.hash_range.1.to_string(),
            parents: self.parents.iter().map(|parent| parent.0).collect(),
            is_open: self.is_open,
            is_pending: self.is_pending,
        }
    }

    fn from_json(json: &ShardJson) -> Option<Self> {
        let hash_range = (json.hash_key_first.parse().ok()?, json.hash_key_last.parse().ok()?);
        if !(1..=SHARDS_MAX).contains(&json.page) || hash_range.0 > hash_range.1 {
            return None;
        }
        Some(Self {
            id: ShardId(json.id),
            page: json.page,
            hash_range,
            parents: json.parents.iter().copied().map(ShardId).collect(),
            is_open: json.is_open,
            is_pending: json.is_pending,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let shards = super::super::routing::even_ranges(2)
            .into_iter()
            .enumerate()
            .map(|(id, hash_range)| ShardMeta {
                id: ShardId(u32::try_from(id).unwrap()),
                page: 7,
                hash_range,
                parents: vec![],
                is_open: true,
                is_pending: id == 1,
            })
            .collect();
        let config = StreamConfig { shards: 2, ..StreamConfig::default() };
        Manifest { config, created: 5, shards }
    }

    #[test]
    fn a_manifest_comes_back_as_it_was() {
        let bytes = manifest().encode();

        assert_eq!(manifest(), Manifest::decode(&bytes, Path::new("m")).unwrap());
    }

    #[test]
    fn a_shard_without_a_page_or_a_range_is_damage() {
        type Change = fn(&mut Manifest);
        let changes: [Change; 5] = [
            |manifest| manifest.shards[0].page = 0,
            |manifest| manifest.shards[1].page = SHARDS_MAX + 1,
            |manifest| manifest.shards[1].hash_range = (5, 4),
            |manifest| manifest.config.segment_bytes = SEGMENT_BYTES_MIN - 1,
            |manifest| manifest.config.segment_bytes = SEGMENT_BYTES_MAX + 1,
        ];
        for change in changes {
            let mut manifest = manifest();
            change(&mut manifest);

            assert!(Manifest::decode(&manifest.encode(), Path::new("m")).is_err(), "{manifest:?}");
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = manifest().encode();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);

            assert!(Manifest::decode(&damaged, Path::new("m")).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..length], Path::new("m")).is_err(), "{length}");
        }
    }
}
