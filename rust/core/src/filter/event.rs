//! The part of an event that patterns can see: the values of named fields and the structure around
//! them, in memory that is reused for the next event.
//!
//! ```text
//! {"a": {"b": 1, "other": …}, "c": [2, {"d": 3}], …}       patterns name a.b, c and c.d
//!  0 object  1 object a  2 leaf a.b  3 array c  4 leaf c  5 object c  6 leaf c.d
//! ```

use super::fields::{FieldId, Fields, EVENT};
use super::json::{unescape, Quoted, Scanner};
use super::operator::Value;

/// A value without parts, as it is kept until the matching.
#[derive(Clone, Debug)]
enum Kept {
    Null,
    Bool(bool),
    Number(f64),
    /// Part of the text that was read.
    There(std::ops::Range<usize>),
    /// Part of the event's own text: it had escapes, or comes from elsewhere.
    Own(std::ops::Range<usize>),
}

#[derive(Clone, Debug)]
enum Kind {
    Object,
    Array,
    Leaf(Kept),
}

#[derive(Debug)]
struct Node {
    field: FieldId,
    kind: Kind,
    /// Behind the last node that lies in it.
    end: usize,
    /// The next leaf of the same field.
    next: Option<usize>,
}

/// What a node of an event is.
pub(super) enum Seen<'a> {
    Object,
    Array,
    Leaf(Value<'a>),
}

/// The part of one event that patterns can see.
#[derive(Debug, Default)]
pub(super) struct Event {
    nodes: Vec<Node>,
    own: String,
    name: String,
    /// For each field: the turn in which it was last seen, and its first leaf in that turn.
    first: Vec<(u32, usize)>,
    turn: u32,
    has_objects_in_arrays: bool,
    has_names_with_dots: bool,
}

/// The text of an event is not JSON.
#[derive(Debug)]
pub(super) struct NotJson;

impl Event {
    /// Forgets the event before.
    pub(super) fn clear(&mut self, fields: &Fields) {
        self.nodes.clear();
        self.own.clear();
        self.has_objects_in_arrays = false;
        self.has_names_with_dots = false;
        self.first.resize(fields.len(), (0, 0));
        self.turn = self.turn.checked_add(1).unwrap_or_else(|| {
            self.first.fill((0, 0));
            1
        });
    }

    /// Begins the outermost object, to be filled field by field.
    pub(super) fn begin(&mut self) {
        self.push(EVENT, Kind::Object);
    }

    /// Adds a text that is not part of any JSON.
    pub(super) fn add_text(&mut self, field: FieldId, write: impl FnOnce(&mut String)) {
        let start = self.own.len();
        write(&mut self.own);
        self.push(field, Kind::Leaf(Kept::Own(start..self.own.len())));
    }

    /// Adds a number that is not part of any JSON.
    pub(super) fn add_number(&mut self, field: FieldId, number: f64) {
        self.push(field, Kind::Leaf(Kept::Number(number)));
    }

    /// Reads a whole text as the value of a field. If the text turns out not to be JSON, what was
    /// noted of it is discarded.
    pub(super) fn read(
        &mut self,
        fields: &Fields,
        field: FieldId,
        text: &str,
    ) -> Result<(), NotJson> {
        let (nodes, has_objects) = (self.nodes.len(), self.has_objects_in_arrays);
        let mut scanner = Scanner::new(text);
        let is_read = self.value(fields, field, &mut scanner, false);
        if is_read.is_some() && scanner.is_at_end() {
            return Ok(());
        }
        self.nodes.truncate(nodes);
        self.has_objects_in_arrays = has_objects;
        Err(NotJson)
    }

    /// Ends the reading: from here on leaves are found by their field.
    pub(super) fn finish(&mut self) {
        let end = self.nodes.len();
        if let Some(Node { field: EVENT, end: behind, .. }) = self.nodes.first_mut() {
            *behind = end;
        }
        for index in (0..end).rev() {
            let Some(node) = self.nodes.get_mut(index) else { continue };
            let Some(first) = self.first.get_mut(node.field as usize) else { continue };
            if matches!(node.kind, Kind::Leaf(_)) {
                node.next = (first.0 == self.turn).then_some(first.1);
                *first = (self.turn, index);
            }
        }
    }

    /// Whether an element of an array has fields of its own, so that it matters which one.
    pub(super) fn has_objects_in_arrays(&self) -> bool {
        self.has_objects_in_arrays
    }

    /// Whether a name that leads to a field has a dot in it: then another name may lead there, too.
    pub(super) fn has_names_with_dots(&self) -> bool {
        self.has_names_with_dots
    }

    /// Number of nodes; 0 is the outermost object.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// A node's field, what it is, and the node behind it.
    pub(super) fn node<'a>(
        &'a self,
        text: &'a str,
        index: usize,
    ) -> Option<(FieldId, Seen<'a>, usize)> {
        let node = self.nodes.get(index)?;
        let seen = match &node.kind {
            Kind::Object => Seen::Object,
            Kind::Array => Seen::Array,
            Kind::Leaf(kept) => Seen::Leaf(self.value_of(text, kept)),
        };
        Some((node.field, seen, node.end))
    }

    /// The values of a field.
    pub(super) fn values<'a>(
        &'a self,
        text: &'a str,
        field: FieldId,
    ) -> impl Iterator<Item = Value<'a>> + 'a {
        let first = self.first.get(field as usize).filter(|first| first.0 == self.turn);
        let mut next = first.map(|first| first.1);
        std::iter::from_fn(move || {
            let node = self.nodes.get(next?)?;
            next = node.next;
            let Kind::Leaf(kept) = &node.kind else { return None };
            Some(self.value_of(text, kept))
        })
    }

    fn value_of<'a>(&'a self, text: &'a str, kept: &Kept) -> Value<'a> {
        match kept {
            Kept::Null => Value::Null,
            Kept::Bool(value) => Value::Bool(*value),
            Kept::Number(number) => Value::Number(*number),
            Kept::There(range) => Value::Text(text.get(range.clone()).unwrap_or_default()),
            Kept::Own(range) => Value::Text(self.own.get(range.clone()).unwrap_or_default()),
        }
    }

    fn push(&mut self, field: FieldId, kind: Kind) -> usize {
        let index = self.nodes.len();
        self.nodes.push(Node { field, kind, end: index + 1, next: None });
        index
    }

    fn end(&mut self, index: usize) {
        let end = self.nodes.len();
        if let Some(node) = self.nodes.get_mut(index) {
            node.end = end;
        }
    }

    /// Reads the value of a field; `None`: it is not JSON.
    fn value(
        &mut self,
        fields: &Fields,
        field: FieldId,
        scanner: &mut Scanner<'_>,
        is_in_array: bool,
    ) -> Option<()> {
        match scanner.peek()? {
            b'{' if fields.has_inner(field) => {
                self.has_objects_in_arrays |= is_in_array;
                self.object(fields, field, scanner, is_in_array)
            }
            b'[' => self.array(fields, field, scanner),
            first if first != b'{' && fields.is_constrained(field) => {
                let kept = self.scalar(first, scanner)?;
                self.push(field, Kind::Leaf(kept));
                Some(())
            }
            _ => scanner.skip(),
        }
    }

    fn object(
        &mut self,
        fields: &Fields,
        field: FieldId,
        scanner: &mut Scanner<'_>,
        is_in_array: bool,
    ) -> Option<()> {
        let object = self.push(field, Kind::Object);
        let mut has_more = !scanner.open(b'}')?;
        while has_more {
            let name = scanner.name()?;
            let name = if name.has_escapes {
                self.name.clear();
                unescape(scanner.part(name.range), &mut self.name);
                self.name.as_str()
            } else {
                scanner.part(name.range)
            };
            match fields.inner(field, name) {
                Some(inner) => {
                    self.has_names_with_dots |= name.contains('.');
                    self.forget(object, inner);
                    self.value(fields, inner, scanner, is_in_array)?;
                }
                None => scanner.skip()?,
            }
            has_more = scanner.more(b'}')?;
        }
        self.end(object);
        Some(())
    }

    fn array(&mut self, fields: &Fields, field: FieldId, scanner: &mut Scanner<'_>) -> Option<()> {
        let array = self.push(field, Kind::Array);
        let mut has_more = !scanner.open(b']')?;
        while has_more {
            self.value(fields, field, scanner, true)?;
            has_more = scanner.more(b']')?;
        }
        self.end(array);
        Some(())
    }

    fn scalar(&mut self, first: u8, scanner: &mut Scanner<'_>) -> Option<Kept> {
        match first {
            b'"' => {
                let Quoted { range, has_escapes } = scanner.string()?;
                if !has_escapes {
                    return Some(Kept::There(range));
                }
                let start = self.own.len();
                unescape(scanner.part(range), &mut self.own);
                Some(Kept::Own(start..self.own.len()))
            }
            b't' => scanner.word("true").map(|()| Kept::Bool(true)),
            b'f' => scanner.word("false").map(|()| Kept::Bool(false)),
            b'n' => scanner.word("null").map(|()| Kept::Null),
            b'-' | b'0'..=b'9' => {
                let range = scanner.number()?;
                scanner.part(range).parse().ok().map(Kept::Number)
            }
            _ => None,
        }
    }

    /// Discards an earlier member of an object with the same name: the last one counts, as it does
    /// for the function that reads the record.
    fn forget(&mut self, object: usize, field: FieldId) {
        let mut index = object + 1;
        while let Some(node) = self.nodes.get(index) {
            let end = node.end;
            if node.field == field {
                self.nodes.drain(index..end);
                for later in self.nodes.get_mut(index..).unwrap_or_default() {
                    later.end -= end - index;
                }
                return;
            }
            index = end;
        }
    }
}
