//! CRC-32C (Castagnoli), in hardware where the machine has it.

/// The checksum of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// The checksum of several pieces as if they were one.
pub fn crc32c_of(parts: &[&[u8]]) -> u32 {
    parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_check_value_of_the_standard() {
        // SOURCE: RFC 3720, appendix B.4 ("123456789" is the check string of the CRC catalogue).
        assert_eq!(0xe306_9283, super::crc32c(b"123456789"));
        assert_eq!(0xe306_9283, super::crc32c_of(&[b"1234", b"", b"56789"]));
    }
}
