//! Compiled patterns: shared constraints, and an index from values to the constraints they satisfy.

use std::collections::HashMap;

use super::fields::{FieldId, Fields, EVENT};
use super::operator::{bits, Value};
use super::pattern::{self, Alternatives, Combination, Path, Rejected};
use super::{ARRIVAL, DATA, PARTITION_KEY, RECORD_FIELDS, SCHEMA_VERSION, SEQUENCE_NUMBER};

/// A constraint as it is matched: what a field has to be.
#[derive(Debug)]
pub(super) struct Constraint {
    pub(super) field: FieldId,
    pub(super) alternatives: Alternatives,
    /// The combinations that wait for it.
    pub(super) triggers: Vec<u32>,
}

/// Constraints that hold together.
#[derive(Debug)]
pub(super) struct Compiled {
    /// In the order of their fields.
    pub(super) constraints: Box<[u32]>,
    pub(super) needs_data: bool,
}

/// Which constraints a value of one field may satisfy.
#[derive(Debug, Default)]
pub(super) struct Index {
    texts: HashMap<Box<str>, Vec<u32>>,
    numbers: HashMap<u64, Vec<u32>>,
    nulls: Vec<u32>,
    trues: Vec<u32>,
    falses: Vec<u32>,
    /// To be tried with every value.
    pub(super) others: Vec<u32>,
}

impl Index {
    pub(super) fn find(&self, value: Value<'_>) -> &[u32] {
        match value {
            Value::Null => &self.nulls,
            Value::Bool(true) => &self.trues,
            Value::Bool(false) => &self.falses,
            Value::Number(number) => self.numbers.get(&bits(number)).map_or(&[], Vec::as_slice),
            Value::Text(text) => self.texts.get(text).map_or(&[], Vec::as_slice),
        }
    }

    fn add(&mut self, number: u32, alternatives: &Alternatives) {
        let values = &alternatives.values;
        if !alternatives.tests.is_empty() {
            self.others.push(number);
            return;
        }
        for text in &values.texts {
            self.texts.entry(text.clone()).or_default().push(number);
        }
        for bits in &values.numbers {
            self.numbers.entry(*bits).or_default().push(number);
        }
        for (has, list) in [
            (values.has_null, &mut self.nulls),
            (values.has_true, &mut self.trues),
            (values.has_false, &mut self.falses),
        ] {
            list.extend(has.then_some(number));
        }
    }
}

/// Some patterns, any of which may match, compiled.
#[derive(Debug)]
pub struct Filter {
    pub(super) fields: Fields,
    pub(super) constraints: Vec<Constraint>,
    pub(super) combinations: Vec<Compiled>,
    /// For each field.
    pub(super) index: Vec<Index>,
    /// Combinations of constraints that all hold for a missing field, too.
    pub(super) always: Vec<u32>,
    pub(super) metadata: Vec<(FieldId, Metadata)>,
    pub(super) data: Option<FieldId>,
    /// As they were parsed, for explanations.
    pub(super) patterns: Vec<Vec<Combination>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Metadata {
    PartitionKey,
    SequenceNumber,
    Arrival,
    SchemaVersion,
}

/// A pattern that cannot be used, with its place among those given.
pub type Refusal = (usize, Rejected);

impl Filter {
    /// Compiles patterns for events of any shape.
    ///
    /// # Errors
    /// The first pattern that cannot be used, and why.
    pub fn new<T: AsRef<str>>(patterns: &[T]) -> Result<Self, Refusal> {
        let parse = |(number, text): (usize, &T)| {
            pattern::parse(text.as_ref()).map_err(|rejected| (number, rejected))
        };
        patterns.iter().enumerate().map(parse).collect::<Result<_, _>>().map(Self::compile)
    }

    /// Compiles patterns for records, whose outermost fields are [`RECORD_FIELDS`].
    ///
    /// # Errors
    /// As [`Filter::new`]; also a pattern that names a field no record has.
    pub fn for_records<T: AsRef<str>>(patterns: &[T]) -> Result<Self, Refusal> {
        let filter = Self::new(patterns)?;
        for (number, pattern) in filter.patterns.iter().enumerate() {
            let mut names = pattern.iter().flat_map(|combination| combination.keys());
            let unknown = |path: &&Path| !path.first().is_some_and(|name| is_of_records(name));
            if let Some(path) = names.find(unknown) {
                let place = path.join(".");
                let reason = format!(
                    "a record has no such field, only {}; fields of its payload are in `{DATA}`: \
                     {{\"{DATA}\": {{\"{}\": …}}}}",
                    RECORD_FIELDS.map(|name| format!("`{name}`")).join(", "),
                    path.first().map_or("", String::as_str),
                );
                return Err((number, Rejected { place, reason }));
            }
        }
        Ok(filter)
    }

    fn compile(patterns: Vec<Vec<Combination>>) -> Self {
        let all = || patterns.iter().flatten();
        let fields = Fields::new(all().flat_map(|each| each.keys()).map(Vec::as_slice));
        let top = |name: &str| fields.inner(EVENT, name);
        let metadata = [
            (PARTITION_KEY, Metadata::PartitionKey),
            (SEQUENCE_NUMBER, Metadata::SequenceNumber),
            (ARRIVAL, Metadata::Arrival),
            (SCHEMA_VERSION, Metadata::SchemaVersion),
        ];
        let mut filter = Self {
            constraints: Vec::new(),
            combinations: Vec::new(),
            index: (0..fields.len()).map(|_| Index::default()).collect(),
            always: Vec::new(),
            metadata: metadata.into_iter().filter_map(|(n, kind)| Some((top(n)?, kind))).collect(),
            data: top(DATA),
            fields,
            patterns: Vec::new(),
        };
        let mut known = HashMap::new();
        for combination in all() {
            filter.add(combination, &mut known);
        }
        filter.patterns = patterns;
        filter
    }

    /// Adds one combination; constraints that others have as well are shared.
    fn add(&mut self, combination: &Combination, known: &mut HashMap<(FieldId, String), u32>) {
        let number = place(self.combinations.len());
        let mut constraints: Vec<u32> = Vec::with_capacity(combination.len());
        for (path, alternatives) in combination {
            let field = self.fields.find(path).expect("the tree has every path");
            let next = place(self.constraints.len());
            let id = *known.entry((field, alternatives.text.clone())).or_insert(next);
            if id == next {
                let alternatives = alternatives.clone();
                self.constraints.push(Constraint { field, alternatives, triggers: Vec::new() });
            }
            constraints.push(id);
        }
        constraints.sort_by_key(|id| self.constraint(*id).field);
        let needs_data = constraints.iter().any(|id| self.is_of_data(self.constraint(*id).field));
        match self.trigger(&constraints) {
            None => self.always.push(number),
            Some(id) => {
                let Self { constraints, index, .. } = self;
                let Some(constraint) = constraints.get_mut(id as usize) else { return };
                constraint.triggers.push(number);
                let is_new = constraint.triggers.len() == 1;
                if let Some(index) = index.get_mut(constraint.field as usize).filter(|_| is_new) {
                    index.add(id, &constraint.alternatives);
                }
            }
        }
        self.combinations.push(Compiled { constraints: constraints.into(), needs_data });
    }

    /// The constraint that rules its combination out most quickly: few values before many, values
    /// before tests.
    fn trigger(&self, constraints: &[u32]) -> Option<u32> {
        let needs_a_value = |id: &&u32| !self.constraint(**id).alternatives.may_be_absent;
        let cost = |id: &&u32| {
            let alternatives = &self.constraint(**id).alternatives;
            (!alternatives.tests.is_empty(), alternatives.values.len())
        };
        constraints.iter().filter(needs_a_value).min_by_key(cost).copied()
    }

    pub(super) fn constraint(&self, id: u32) -> &Constraint {
        self.constraints.get(id as usize).expect("ids are places in the list")
    }

    fn is_of_data(&self, field: FieldId) -> bool {
        self.data.is_some_and(|data| self.fields.within(data).contains(&field))
    }
}

fn is_of_records(name: &str) -> bool {
    RECORD_FIELDS.contains(&name)
}

fn place(length: usize) -> u32 {
    u32::try_from(length).expect("filters have fewer than 2^32 parts")
}
