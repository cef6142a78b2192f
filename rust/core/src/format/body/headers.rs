//! The headers of one record: names and values.

use crate::format::Bytes;

/// Encodes the headers of one record: count, then for each a name and a value, with their lengths.
///
/// Returns `None` if a name or a value is longer than its length field can say.
pub fn encode_headers<'a>(
    headers: impl ExactSizeIterator<Item = (&'a str, &'a [u8])>,
) -> Option<Vec<u8>> {
    if headers.len() == 0 {
        return Some(Vec::new());
    }
    let mut bytes = Vec::new();
    bytes.extend(u16::try_from(headers.len()).ok()?.to_le_bytes());
    for (name, value) in headers {
        bytes.extend(u16::try_from(name.len()).ok()?.to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(u32::try_from(value.len()).ok()?.to_le_bytes());
        bytes.extend(value);
    }
    Some(bytes)
}

/// The headers of one record, read as they are asked for.
#[derive(Debug, Clone)]
pub struct Headers<'a> {
    left: u16,
    rest: Bytes<'a>,
}

impl<'a> Headers<'a> {
    /// Reads what [`encode_headers`] wrote; no bytes mean no headers.
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut rest = Bytes(bytes);
        Self { left: rest.u16().unwrap_or(0), rest }
    }

    /// Whether all of them are there and nothing else.
    pub(super) fn is_whole(&self) -> bool {
        let mut all = self.clone();
        all.by_ref().for_each(drop);
        all.left == 0 && all.rest.0.is_empty()
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let left = self.left.checked_sub(1)?;
        let length = self.rest.u16()? as usize;
        let name = std::str::from_utf8(self.rest.take(length)?).ok()?;
        let length = self.rest.u32()? as usize;
        let value = self.rest.take(length)?;
        self.left = left;
        Some((name, value))
    }
}
