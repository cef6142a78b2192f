//! The fields that patterns name, as a tree: the parts of an event that are looked at.

use std::collections::BTreeMap;
use std::ops::Range;

/// Number of a field: the outermost object is 0, and what lies in a field has the numbers behind it.
pub(super) type FieldId = u32;

/// The outermost object.
pub(super) const EVENT: FieldId = 0;

#[derive(Debug)]
struct Field {
    /// By length, then by name: most comparisons end with the length.
    inner: Vec<(Box<str>, FieldId)>,
    /// Behind the last field that lies in it.
    end: FieldId,
    is_constrained: bool,
    /// Whether a name with a dot can lead into it.
    is_deep: bool,
}

/// The tree of all named fields.
#[derive(Debug)]
pub(super) struct Fields {
    all: Vec<Field>,
}

#[derive(Default)]
struct Draft {
    inner: BTreeMap<(usize, String), Draft>,
    is_constrained: bool,
}

impl Fields {
    /// The tree of some paths.
    pub(super) fn new<'a>(paths: impl Iterator<Item = &'a [String]>) -> Self {
        let mut root = Draft::default();
        for path in paths {
            let mut draft = &mut root;
            for name in path {
                draft = draft.inner.entry((name.len(), name.clone())).or_default();
            }
            draft.is_constrained = true;
        }
        let mut fields = Self { all: Vec::new() };
        fields.add(&root);
        fields
    }

    fn add(&mut self, draft: &Draft) -> FieldId {
        let id = self.all.len();
        self.all.push(Field {
            inner: Vec::new(),
            end: 0,
            is_constrained: draft.is_constrained,
            is_deep: draft.inner.values().any(|inner| !inner.inner.is_empty()),
        });
        let mut inner = Vec::with_capacity(draft.inner.len());
        for ((_, name), below) in &draft.inner {
            inner.push((name.as_str().into(), self.add(below)));
        }
        let end = number(self.all.len());
        if let Some(field) = self.all.get_mut(id) {
            field.inner = inner;
            field.end = end;
        }
        number(id)
    }

    /// How many there are, the event among them.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    fn get(&self, id: FieldId) -> &Field {
        self.all.get(id as usize).expect("ids are places in the list")
    }

    /// Whether a pattern says something about its value.
    pub(super) fn is_constrained(&self, id: FieldId) -> bool {
        self.get(id).is_constrained
    }

    /// Whether patterns name fields in it.
    pub(super) fn has_inner(&self, id: FieldId) -> bool {
        !self.get(id).inner.is_empty()
    }

    /// The field and all that lie in it.
    pub(super) fn within(&self, id: FieldId) -> Range<FieldId> {
        id..self.get(id).end
    }

    /// The field of an object's member; a dot in the name leads further in.
    pub(super) fn inner(&self, id: FieldId, name: &str) -> Option<FieldId> {
        let field = self.get(id);
        let by = |(other, _): &(Box<str>, FieldId)| {
            other.len().cmp(&name.len()).then_with(|| (**other).cmp(name))
        };
        if let Ok(at) = field.inner.binary_search_by(by) {
            return field.inner.get(at).map(|(_, id)| *id);
        }
        if !field.is_deep || !name.contains('.') {
            return None;
        }
        name.split('.').try_fold(id, |id, part| self.inner(id, part))
    }

    /// The field at the end of a path.
    pub(super) fn find(&self, path: &[String]) -> Option<FieldId> {
        path.iter().try_fold(EVENT, |id, name| self.inner(id, name))
    }
}

fn number(index: usize) -> FieldId {
    FieldId::try_from(index).expect("patterns name fewer than 2^32 fields")
}
