//! Control batches: marks in the log that are not records.
//!
//! ```text
//! body := kind u16 | 0 u16 | count u32 | count × u32        kind 1 CLOSE: child shard numbers
//!                                                           kind 2 EPOCH: one reason
//! ```

use super::{Bytes, Damage};

const KIND_CLOSE: u16 = 1;
const KIND_EPOCH: u16 = 2;
const CHILDREN_MAX: usize = 16;

/// A mark in a shard's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// The shard ends here; these are its children. Takes one sequence number.
    Close {
        /// Numbers of the child shards.
        children: Vec<u32>,
    },
    /// Numbering jumped to here, and the shard's epoch rose, after an unclean stop. Takes one
    /// sequence number.
    Epoch {
        /// 1: the machine or all processes stopped without a clean close.
        reason: u32,
    },
    /// A kind this version does not know; readers step over it.
    Unknown {
        /// Its number.
        kind: u16,
    },
}

impl Control {
    /// The body of the control batch.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, numbers): (u16, &[u32]) = match self {
            Self::Close { children } => (KIND_CLOSE, children),
            Self::Epoch { reason } => (KIND_EPOCH, std::slice::from_ref(reason)),
            Self::Unknown { .. } => unreachable!("only decoding makes it"),
        };
        assert!(numbers.len() <= CHILDREN_MAX);
        let mut body = Vec::with_capacity(8 + numbers.len() * 4);
        body.extend(kind.to_le_bytes());
        body.extend([0; 2]);
        body.extend(u32::try_from(numbers.len()).expect("<= 16").to_le_bytes());
        for number in numbers {
            body.extend(number.to_le_bytes());
        }
        body
    }

    /// Reads the body of a control batch.
    ///
    /// # Errors
    /// [`Damage`] if a known kind does not have its shape.
    pub fn decode(body: &[u8]) -> Result<Self, Damage> {
        let short = Damage("the control batch is cut off");
        let mut from = Bytes(body);
        let kind = from.u16().ok_or(short)?;
        from.u16().ok_or(short)?;
        let count = from.u32().ok_or(short)? as usize;
        if !matches!(kind, KIND_CLOSE | KIND_EPOCH) {
            return Ok(Self::Unknown { kind });
        }
        if count > CHILDREN_MAX {
            return Err(Damage("the control batch names too many shards"));
        }
        let numbers: Option<Vec<u32>> = (0..count).map(|_| from.u32()).collect();
        let numbers = numbers.ok_or(short)?;
        match kind {
            KIND_CLOSE => Ok(Self::Close { children: numbers }),
            _ => Ok(Self::Epoch { reason: numbers.first().copied().ok_or(short)? }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_as_they_were() {
        for mark in [Control::Close { children: vec![4, 5] }, Control::Epoch { reason: 1 }] {
            assert_eq!(Ok(mark.clone()), Control::decode(&mark.encode()));
        }
    }

    #[test]
    fn a_cut_mark_is_damage_at_every_length() {
        let body = Control::Close { children: vec![4, 5] }.encode();
        for length in 0..body.len() {
            assert!(Control::decode(&body[..length]).is_err(), "{length}");
        }
    }
}
