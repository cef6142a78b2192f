//! Which shard a record belongs to: MD5 of the partition key, exactly as Kinesis does it.

use md5::{Digest, Md5};

/// The hash key of a partition key: MD5 of its UTF-8, as an unsigned 128-bit number.
#[allow(clippy::big_endian_bytes, reason = "Kinesis reads the digest most significant byte first")]
pub fn hash_key(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

/// The hash-key ranges of `shards` equal shards: together they are the whole space.
pub fn even_ranges(shards: u32) -> Vec<(u128, u128)> {
    let size = u128::MAX / u128::from(shards);
    (0..shards)
        .map(|index| {
            let first = size * u128::from(index);
            let last = if index + 1 == shards { u128::MAX } else { first + size - 1 };
            (first, last)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_lie_side_by_side_and_cover_everything() {
        for shards in [1, 2, 3, 7, 8, 4096] {
            let ranges = even_ranges(shards);

            assert_eq!(shards as usize, ranges.len());
            assert_eq!(0, ranges[0].0);
            assert_eq!(u128::MAX, ranges.last().unwrap().1);
            assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0));
        }
    }

    #[test]
    fn the_hash_key_is_the_digest_read_as_a_number() {
        // SOURCE: RFC 1321, appendix A.5: MD5("abc").
        assert_eq!(0x9001_5098_3cd2_4fb0_d696_3f7d_28e1_7f72, hash_key("abc"));
    }
}
