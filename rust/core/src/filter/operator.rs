//! What one value of an event is compared with.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{Bound, RangeBounds};

/// A value of an event that has no parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Number(f64),
    Text(&'a str),
}

/// Values to be equal to.
#[derive(Clone, Debug, Default)]
pub(super) struct Values {
    pub(super) texts: HashSet<Box<str>>,
    /// Bits of each, zero without its sign.
    pub(super) numbers: HashSet<u64>,
    pub(super) has_null: bool,
    pub(super) has_true: bool,
    pub(super) has_false: bool,
}

impl Values {
    pub(super) fn add(&mut self, value: Value<'_>) {
        match value {
            Value::Null => self.has_null = true,
            Value::Bool(true) => self.has_true = true,
            Value::Bool(false) => self.has_false = true,
            Value::Number(number) => drop(self.numbers.insert(bits(number))),
            Value::Text(text) => drop(self.texts.insert(text.into())),
        }
    }

    pub(super) fn contain(&self, value: Value<'_>) -> bool {
        match value {
            Value::Null => self.has_null,
            Value::Bool(true) => self.has_true,
            Value::Bool(false) => self.has_false,
            Value::Number(number) => self.numbers.contains(&bits(number)),
            Value::Text(text) => self.texts.contains(text),
        }
    }

    pub(super) fn len(&self) -> usize {
        let words = [self.has_null, self.has_true, self.has_false];
        self.texts.len() + self.numbers.len() + words.into_iter().filter(|has| *has).count()
    }
}

/// What equal numbers have in common: `300` is `300.0`, and `-0` is `0`.
pub(super) fn bits(number: f64) -> u64 {
    (number + 0.0).to_bits()
}

/// One comparison other than equality.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Prefix(Box<str>),
    Suffix(Box<str>),
    /// The three without regard to case; what they hold is [`folded`].
    PrefixFolded(Box<str>),
    SuffixFolded(Box<str>),
    EqualFolded(Box<str>),
    Wildcard(Wildcard),
    Numeric(Bound<f64>, Bound<f64>),
    Cidr(Cidr),
    /// Any value that none of these takes.
    AnythingBut(Values, Vec<Test>),
    Exists,
}

impl Test {
    pub(super) fn takes(&self, value: Value<'_>) -> bool {
        match self {
            Self::Exists => return true,
            Self::AnythingBut(values, tests) => {
                return !values.contain(value) && !tests.iter().any(|test| test.takes(value));
            }
            _ => {}
        }
        match (self, value) {
            (Self::Numeric(low, high), Value::Number(number)) => (*low, *high).contains(&number),
            (_, Value::Text(text)) => self.takes_text(text),
            _ => false,
        }
    }

    fn takes_text(&self, text: &str) -> bool {
        match self {
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Suffix(suffix) => text.ends_with(&**suffix),
            Self::PrefixFolded(prefix) => {
                let mut letters = fold(text.chars());
                prefix.chars().all(|letter| letters.next() == Some(letter))
            }
            Self::SuffixFolded(suffix) => {
                let mut letters = text.chars().rev().flat_map(|c| c.to_lowercase().rev());
                suffix.chars().rev().all(|letter| letters.next() == Some(letter))
            }
            Self::EqualFolded(other) => fold(text.chars()).eq(other.chars()),
            Self::Wildcard(wildcard) => wildcard.takes(text),
            Self::Cidr(network) => network.contains(text),
            Self::Numeric(..) | Self::AnythingBut(..) | Self::Exists => false,
        }
    }
}

fn fold(letters: impl Iterator<Item = char>) -> impl Iterator<Item = char> {
    letters.flat_map(char::to_lowercase)
}

/// A text as it is compared without regard to case.
pub(super) fn folded(text: &str) -> Box<str> {
    fold(text.chars()).collect::<String>().into()
}

/// A text with `*` for any run of characters.
#[derive(Clone, Debug)]
pub(super) struct Wildcard {
    /// The text before the first `*`; all of it if there is none.
    head: Box<str>,
    /// The texts between two `*`, then the text behind the last.
    rest: Option<(Vec<Box<str>>, Box<str>)>,
}

impl Wildcard {
    /// Takes apart a pattern; an error is a reason.
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        let (mut pieces, mut piece) = (Vec::new(), String::new());
        let mut letters = pattern.char_indices().peekable();
        while let Some((at, letter)) = letters.next() {
            let next = letters.peek().map(|(_, next)| *next);
            match (letter, next) {
                ('*', Some('*')) => {
                    return Err(format!("consecutive wildcard characters at pos {at}"))
                }
                ('*', _) => pieces.push(std::mem::take(&mut piece).into()),
                ('\\', Some(escaped @ ('*' | '\\'))) => {
                    piece.push(escaped);
                    letters.next();
                }
                ('\\', _) => return Err(format!("invalid escape character at pos {at}")),
                _ => piece.push(letter),
            }
        }
        if pieces.len() > WILDCARDS_MAX {
            return Err(format!(
                "rule is too complex, use at most {WILDCARDS_MAX} wildcard characters"
            ));
        }
        let last = piece.into();
        let mut pieces = pieces.into_iter();
        Ok(match pieces.next() {
            None => Self { head: last, rest: None },
            Some(head) => Self { head, rest: Some((pieces.collect(), last)) },
        })
    }

    fn takes(&self, text: &str) -> bool {
        let Some((between, tail)) = &self.rest else { return text == &*self.head };
        let Some(mut left) = text.strip_prefix(&*self.head) else { return false };
        for piece in between {
            // WHY: the first place will do; a later one leaves less for the pieces behind it.
            let Some((_, behind)) = left.split_once(&**piece) else { return false };
            left = behind;
        }
        left.ends_with(&**tail)
    }
}

/// `*` that one wildcard may have.
pub(super) const WILDCARDS_MAX: usize = 5;

/// A block of addresses.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cidr {
    V4 { network: u32, mask: u32 },
    V6 { network: u128, mask: u128 },
}

/// The longest way to write an address.
const ADDRESS_CHARS_MAX: usize = 45;

impl Cidr {
    /// Reads `address/bits`; an error is a reason.
    pub(super) fn new(block: &str) -> Result<Self, String> {
        let mut parts = block.split('/');
        let (Some(address), Some(bits), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err("malformed CIDR, one `/` required".into());
        };
        let address: IpAddr =
            address.parse().map_err(|_| format!("nonstandard IP address: `{address}`"))?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits: u32 = bits.parse().ok().filter(|bits| *bits <= width).ok_or_else(|| {
            format!("malformed CIDR, mask bits must be a whole number from 0 to {width}")
        })?;
        Ok(match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                Self::V4 { network: u32::from(address) & mask, mask }
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                Self::V6 { network: u128::from(address) & mask, mask }
            }
        })
    }

    fn contains(&self, address: &str) -> bool {
        if address.len() > ADDRESS_CHARS_MAX {
            return false;
        }
        match *self {
            Self::V4 { network, mask } => {
                address.parse::<Ipv4Addr>().is_ok_and(|found| u32::from(found) & mask == network)
            }
            Self::V6 { network, mask } => {
                address.parse::<Ipv6Addr>().is_ok_and(|found| u128::from(found) & mask == network)
            }
        }
    }
}
