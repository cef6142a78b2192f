//! The codec numbers in a batch header, which say how the body is stored; see `compression`.

/// The body as it is.
pub const NONE: u8 = 0;
/// One zstd frame. Earlier versions wrote it.
pub const ZSTD: u8 = 1;
/// zstd frames of the body with packed offsets.
pub const ZSTD_PACKED: u8 = 2;
