//! The table of a body: which sections it has, and where they lie.

use std::ops::Range;

use crate::format::{align8, Bytes, Damage};

pub(super) const VALUE_OFFSETS: u16 = 1;
pub(super) const VALUES: u16 = 2;
pub(super) const KEY_OFFSETS: u16 = 3;
pub(super) const KEYS: u16 = 4;
pub(super) const HEADER_OFFSETS: u16 = 5;
pub(super) const HEADERS: u16 = 6;
pub(super) const TS_DELTAS: u16 = 7;
pub(super) const KEY_VALIDITY: u16 = 9;
pub(super) const FLAG_MUST_UNDERSTAND: u16 = 1;

/// For a section that a newer version wrote, and that no reader may skip.
pub const UNKNOWN_SECTION: Damage =
    Damage("a section of a kind that must be understood is unknown");

const TABLE_HEAD_BYTES: usize = 8;
const SECTION_BYTES: usize = 12;
const SECTIONS_MAX: usize = 32;
static PADDING: [u8; 8] = [0; 8];

pub(super) fn is_of_offsets(kind: u16) -> bool {
    matches!(kind, VALUE_OFFSETS | KEY_OFFSETS | HEADER_OFFSETS)
}

/// Hands a body of these sections to `write`.
pub(super) fn with_body_of<T>(sections: &[(u16, &[u8])], write: impl FnOnce(&[&[u8]]) -> T) -> T {
    let mut table = Vec::with_capacity(TABLE_HEAD_BYTES + sections.len() * SECTION_BYTES + 8);
    table.extend(u16::try_from(sections.len()).expect("<= 8").to_le_bytes());
    table.extend([0; 6]);
    let mut offset = align8(TABLE_HEAD_BYTES + sections.len() * SECTION_BYTES);
    let data_at = offset;
    for (kind, bytes) in sections {
        table.extend(kind.to_le_bytes());
        table.extend([0; 2]);
        table.extend(u32::try_from(offset).expect("< 2 GiB").to_le_bytes());
        table.extend(u32::try_from(bytes.len()).expect("< 2 GiB").to_le_bytes());
        offset += align8(bytes.len());
    }
    table.resize(data_at, 0);
    let mut parts: Vec<&[u8]> = Vec::with_capacity(1 + 2 * sections.len());
    parts.push(&table);
    for (_, bytes) in sections {
        parts.push(bytes);
        parts.extend(PADDING.get(..align8(bytes.len()) - bytes.len()));
    }
    write(&parts)
}

/// An entry of the section table.
pub(super) struct Section {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) place: Range<usize>,
}

/// The table of a body, read as it is asked for.
pub(super) fn sections_of(
    body: &[u8],
) -> Result<impl Iterator<Item = Result<Section, Damage>> + use<'_>, Damage> {
    let short = Damage("the section table is cut off");
    let mut from = Bytes(body);
    let count = from.u16().ok_or(short)? as usize;
    from.take(6).ok_or(short)?;
    if count > SECTIONS_MAX {
        return Err(Damage("the section table is longer than any writer makes it"));
    }
    Ok((0..count).map(move |_| {
        let (kind, flags) = (from.u16().ok_or(short)?, from.u16().ok_or(short)?);
        let (offset, length) =
            (from.u32().ok_or(short)? as usize, from.u32().ok_or(short)? as usize);
        let place = offset..offset + length;
        body.get(place.clone()).ok_or(Damage("a section lies outside the body"))?;
        Ok(Section { kind, flags, place })
    }))
}

/// Where the sections of offsets lie in a body.
pub(in crate::format) fn offsets_of(body: &[u8]) -> Result<Vec<Range<usize>>, Damage> {
    let is_wanted = |section: &Result<Section, Damage>| {
        section.as_ref().map_or(true, |section| is_of_offsets(section.kind))
    };
    sections_of(body)?.filter(is_wanted).map(|section| Ok(section?.place)).collect()
}
