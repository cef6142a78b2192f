//! The body of a record batch: a struct of arrays in the layout of Arrow `Binary` columns.
//!
//! ```text
//! body    := n_sections u16 | 0 u16 | 0 u32 | n × section | padding and the sections themselves
//! section := kind u16 | flags u16 | offset u32 | length u32        offset from the body's start, 8-aligned
//! ```
//! Kinds: 1 value offsets `i32[n+1]`, 2 values, 3 key offsets, 4 keys, 5 header offsets, 6 headers,
//! 7 timestamp deltas `u32[n]` µs, 9 key validity bitmap. Flag 1: a reader must know the section.

mod builder;
mod column;
mod decoded;
mod headers;
mod sections;
mod shared_bytes;
#[cfg(test)]
mod tests;

pub use builder::RecordBuilder;
pub(super) use builder::KEPT_BYTES_MAX;
pub use decoded::{DecodedBatch, IN_MEMORY_BYTES_MAX};
pub use headers::{encode_headers, Headers};
pub(super) use sections::offsets_of;
pub use sections::UNKNOWN_SECTION;
pub use shared_bytes::SharedBytes;
