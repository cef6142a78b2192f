//! zstd bodies back to what was compressed.

use std::cell::RefCell;

use super::record_batch::RAW_BYTES_MAX;
use super::Damage;

/// Decompresses a stored body that has to become `raw_len` bytes.
///
/// # Errors
/// [`Damage`] if it is not one zstd frame of that length, or longer than any writer makes it.
pub fn decompress(stored: &[u8], raw_len: u32) -> Result<Vec<u8>, Damage> {
    thread_local! {
        // WHY: making a context costs more than decompressing a small batch.
        static CONTEXT: RefCell<zstd::bulk::Decompressor<'static>> =
            RefCell::new(zstd::bulk::Decompressor::new().expect("only fails without memory"));
    }
    let damage = Damage("the body does not decompress to its length");
    // WHY: most frames say how long they become; memory is only taken where that agrees.
    let said = zstd::zstd_safe::get_frame_content_size(stored).map_err(|_| damage)?;
    if raw_len > RAW_BYTES_MAX || said.is_some_and(|said| said != u64::from(raw_len)) {
        return Err(damage);
    }
    match CONTEXT.with_borrow_mut(|context| context.decompress(stored, raw_len as usize)) {
        Ok(raw) if raw.len() == raw_len as usize => Ok(raw),
        _ => Err(damage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_another_length_is_damage() {
        let stored = zstd::bulk::compress(&[7; 1000], 1).unwrap();

        assert_eq!(Ok(vec![7; 1000]), decompress(&stored, 1000));
        for length in [0, 999, 1001, u32::MAX] {
            assert!(decompress(&stored, length).is_err(), "{length}");
        }
    }
}
