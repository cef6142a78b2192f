//! A cursor over JSON text that checks everything it passes and stores nothing.
//!
//! JSON here is what `record.json()` reads (RFC 8259 as orjson takes it): UTF-8, no number beyond
//! binary64, no lone surrogate, at most [`DEPTH_MAX`] nested arrays and objects. Every method
//! returns `None` where the text is not JSON; after that the cursor must not be used.
//!
//! WHY our own: skipped text is checked like text that is read, and nothing is allocated; decision
//! 0014 in docs/decisions/ has the figures. `tests.rs` compares it with `serde_json`.

use std::ops::Range;

/// Most nested arrays and objects.
pub(super) const DEPTH_MAX: usize = 1024;
/// Digits and signs of a number below which it cannot leave binary64, unless it has an exponent.
const PLAIN_NUMBER_MAX: usize = 300;
/// The lowest and the highest bit of each byte of a word.
const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// A string as written in the text, between its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Quoted {
    pub(super) range: Range<usize>,
    pub(super) has_escapes: bool,
}

/// Where the cursor is.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// The part of the text in `range`.
    pub(super) fn part(&self, range: Range<usize>) -> &'a str {
        self.text.get(range).unwrap_or_default()
    }

    /// The byte that comes next, white space left out.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        let first = *self.rest().first()?;
        if first > b' ' {
            return Some(first);
        }
        let is_space = |byte: &&u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        self.at += self.rest().iter().take_while(is_space).count();
        self.byte()
    }

    /// Goes over the byte that [`Scanner::peek`] returned.
    pub(super) fn step(&mut self) {
        self.at += 1;
    }

    /// Goes over `[` or `{`; true if `close` follows at once, and went by too.
    pub(super) fn open(&mut self, close: u8) -> Option<bool> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return None;
        }
        self.step();
        let is_empty = self.peek()? == close;
        if is_empty {
            self.close();
        }
        Some(is_empty)
    }

    /// Goes over what follows a value inside an array or object: true for a comma, false for `close`.
    pub(super) fn more(&mut self, close: u8) -> Option<bool> {
        match self.peek()? {
            b',' => {
                self.step();
                Some(true)
            }
            byte if byte == close => {
                self.close();
                Some(false)
            }
            _ => None,
        }
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.step();
    }

    /// Whether nothing but white space is left.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// Goes over a name and its colon.
    pub(super) fn name(&mut self) -> Option<Quoted> {
        if self.peek()? != b'"' {
            return None;
        }
        let name = self.string()?;
        if self.peek()? != b':' {
            return None;
        }
        self.step();
        Some(name)
    }

    /// Goes over a string; the cursor is at its first quote.
    pub(super) fn string(&mut self) -> Option<Quoted> {
        self.step();
        let (start, mut has_escapes) = (self.at, false);
        loop {
            self.skip_plain();
            // What `skip_plain` stopped at, or the last bytes of the text.
            match self.byte()? {
                b'"' => break,
                b'\\' => {
                    has_escapes = true;
                    self.escape()?;
                }
                0..=0x1f => return None,
                _ => self.at += 1,
            }
        }
        let range = start..self.at;
        self.step();
        Some(Quoted { range, has_escapes })
    }

    /// Goes over a number.
    pub(super) fn number(&mut self) -> Option<Range<usize>> {
        let bytes = self.rest();
        let sign = usize::from(bytes.first() == Some(&b'-'));
        let whole = digits(bytes, sign)?;
        if whole > sign + 1 && bytes.get(sign) == Some(&b'0') {
            return None;
        }
        let mut end = whole;
        if bytes.get(end) == Some(&b'.') {
            end = digits(bytes, end + 1)?;
        }
        let has_exponent = matches!(bytes.get(end), Some(b'e' | b'E'));
        if has_exponent {
            let is_signed = matches!(bytes.get(end + 1), Some(b'+' | b'-'));
            end = digits(bytes, end + 1 + usize::from(is_signed))?;
        }
        let range = self.at..self.at + end;
        self.at = range.end;
        let may_be_beyond = has_exponent || range.len() > PLAIN_NUMBER_MAX;
        if may_be_beyond && !self.part(range.clone()).parse::<f64>().is_ok_and(f64::is_finite) {
            return None;
        }
        Some(range)
    }

    /// Goes over `true`, `false` or `null`.
    pub(super) fn word(&mut self, word: &str) -> Option<()> {
        let end = self.at + word.len();
        let found = self.text.as_bytes().get(self.at..end)?;
        self.at = end;
        (found == word.as_bytes()).then_some(())
    }

    /// Goes over one value of any kind.
    pub(super) fn skip(&mut self) -> Option<()> {
        match self.peek()? {
            b'{' | b'[' => self.skip_nested(),
            byte => self.skip_scalar(byte),
        }
    }

    fn skip_scalar(&mut self, first: u8) -> Option<()> {
        match first {
            b'"' => self.string().map(|_| ()),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            b'-' | b'0'..=b'9' => self.number().map(|_| ()),
            _ => None,
        }
    }

    /// Goes over an array or object without recursion.
    fn skip_nested(&mut self) -> Option<()> {
        let mut open = Nesting::default();
        loop {
            match self.peek()? {
                b'{' => {
                    if !self.open(b'}')? {
                        open.push(true);
                        self.name()?;
                        continue;
                    }
                }
                b'[' => {
                    if !self.open(b']')? {
                        open.push(false);
                        continue;
                    }
                }
                byte => self.skip_scalar(byte)?,
            }
            // A value has ended: so may what it lies in.
            loop {
                let Some(is_object) = open.top() else { return Some(()) };
                if !self.more(if is_object { b'}' } else { b']' })? {
                    open.pop();
                    continue;
                }
                if is_object {
                    self.name()?;
                }
                break;
            }
        }
    }

    /// Goes over bytes of a string that mean themselves, eight at a time.
    #[inline]
    fn skip_plain(&mut self) {
        let mut plain = 0;
        for word in self.rest().chunks_exact(8) {
            let Ok(word) = word.try_into() else { break };
            let special = special(u64::from_le_bytes(word));
            plain += special.trailing_zeros() as usize / 8;
            if special != 0 {
                break;
            }
        }
        self.at += plain;
    }

    fn escape(&mut self) -> Option<()> {
        self.at += 1;
        let byte = self.byte()?;
        self.at += 1;
        match byte {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => match self.unit()? {
                0xd800..=0xdbff => {
                    self.word("\\u")?;
                    matches!(self.unit()?, 0xdc00..=0xdfff).then_some(())
                }
                0xdc00..=0xdfff => None,
                _ => Some(()),
            },
            _ => None,
        }
    }

    /// Goes over the four digits of a UTF-16 unit.
    fn unit(&mut self) -> Option<u16> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4)?;
        self.at += 4;
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let unit = digits.iter().try_fold(0, |unit, byte| Some(unit * 16 + digit(byte)?))?;
        u16::try_from(unit).ok()
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }
}

/// Where the digits end that begin at `start`; there must be one.
#[inline]
fn digits(bytes: &[u8], start: usize) -> Option<usize> {
    let found = bytes.get(start..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (found > 0).then_some(start + found)
}

/// Marks, in its highest bit, each byte that ends a run of plain ones: `"`, `\` or a control
/// character. Bytes above the lowest one marked may be marked in error.
fn special(word: u64) -> u64 {
    let zero = |word: u64| word.wrapping_sub(LOW) & !word;
    let quote = zero(word ^ (LOW * u64::from(b'"')));
    let backslash = zero(word ^ (LOW * u64::from(b'\\')));
    let control = word.wrapping_sub(LOW * 0x20) & !word;
    (quote | backslash | control) & HIGH
}

/// Which of the arrays and objects around the cursor are objects, a bit for each.
#[derive(Default)]
struct Nesting {
    bits: [u64; DEPTH_MAX / 64],
    depth: usize,
}

impl Nesting {
    fn push(&mut self, is_object: bool) {
        if let Some(word) = self.bits.get_mut(self.depth / 64) {
            let bit = 1 << (self.depth % 64);
            *word = if is_object { *word | bit } else { *word & !bit };
        }
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.depth -= 1;
    }

    fn top(&self) -> Option<bool> {
        let last = self.depth.checked_sub(1)?;
        Some(self.bits.get(last / 64)? >> (last % 64) & 1 == 1)
    }
}

/// Appends what a quoted string that was scanned means.
pub(super) fn unescape(quoted: &str, into: &mut String) {
    let mut rest = quoted;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        into.push_str(plain);
        let mut letters = escaped.chars();
        let meant = match letters.next() {
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => utf16(&mut letters),
            Some(itself) => itself,
            None => return,
        };
        into.push(meant);
        rest = letters.as_str();
    }
    into.push_str(rest);
}

/// The character that one or two UTF-16 units mean, the cursor behind the first `\u`.
fn utf16(letters: &mut std::str::Chars<'_>) -> char {
    let unit = |text: &str| u16::from_str_radix(text.get(..4).unwrap_or_default(), 16).ok();
    let take = |letters: &mut std::str::Chars<'_>, count: usize| {
        *letters = letters.as_str().get(count..).unwrap_or_default().chars();
    };
    let first = unit(letters.as_str()).unwrap_or_default();
    take(letters, 4);
    if let Some(alone) = char::from_u32(u32::from(first)) {
        return alone;
    }
    let second = letters.as_str().strip_prefix("\\u").and_then(unit).unwrap_or_default();
    take(letters, 6);
    let mut decoded = char::decode_utf16([first, second]);
    decoded.next().and_then(Result::ok).unwrap_or(char::REPLACEMENT_CHARACTER)
}
