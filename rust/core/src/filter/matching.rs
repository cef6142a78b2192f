//! Whether a compiled filter takes one event.
//!
//! Names lead through arrays: `{"a": {"b": [1]}}` takes `{"a": [{"b": 0}, {"b": 1}]}`. Two
//! constraints on fields of one array must hold in the same element. So where elements have fields
//! of their own, a combination is tried along the event's structure; elsewhere each constraint is
//! checked by itself.

use super::compiled::{Compiled, Constraint, Filter};
use super::event::{Event, Seen};
use super::operator::Value;
use super::outcome::{in_array, Outcome};
use super::routes::Routes;

/// What is known so far of one event, in memory that is used again for the next.
#[derive(Debug)]
pub(super) struct Memo {
    /// For each constraint, the turn it was looked at, and whether it held.
    held: Vec<(u32, bool)>,
    /// For each constraint, the turn in which a value of the event satisfied it.
    triggered: Vec<u32>,
    /// For each combination, the turn in which it was tried.
    tried: Vec<u32>,
    turn: u32,
}

impl Memo {
    pub(super) fn new(filter: &Filter) -> Self {
        let (held, tried) = (filter.constraints.len(), filter.combinations.len());
        let (triggered, tried) = (vec![0; held], vec![0; tried]);
        Self { held: vec![(0, false); held], triggered, tried, turn: 0 }
    }

    /// Forgets the event before.
    pub(super) fn clear(&mut self) {
        self.turn = self.turn.checked_add(1).unwrap_or_else(|| {
            self.held.fill((0, false));
            self.triggered.fill(0);
            self.tried.fill(0);
            1
        });
    }
}

/// One event and one filter.
pub(super) struct Round<'a> {
    pub(super) filter: &'a Filter,
    pub(super) event: &'a Event,
    /// What the event's values lie in.
    pub(super) text: &'a str,
    /// Combinations that need the data cannot hold without it.
    pub(super) is_json: bool,
    pub(super) memo: &'a mut Memo,
}

impl Round<'_> {
    /// Whether any combination holds.
    pub(super) fn decide(&mut self) -> bool {
        self.filter.always.iter().any(|number| self.holds(*number)) || self.any_triggered()
    }

    /// Whether a combination holds that waits for a value of this event.
    fn any_triggered(&mut self) -> bool {
        let (filter, event, text) = (self.filter, self.event, self.text);
        for node in 0..event.len() {
            let Some((field, Seen::Leaf(value), _)) = event.node(text, node) else { continue };
            let Some(index) = filter.index.get(field as usize) else { continue };
            if index.find(value).iter().any(|id| self.is_triggered(*id)) {
                return true;
            }
            for id in &index.others {
                if filter.constraint(*id).alternatives.take(value) && self.is_triggered(*id) {
                    return true;
                }
            }
        }
        false
    }

    /// Whether a combination holds that waits for this satisfied constraint. It is tried only once,
    /// because an array may have the value many times.
    fn is_triggered(&mut self, constraint: u32) -> bool {
        let turn = self.memo.turn;
        let Some(triggered) = self.memo.triggered.get_mut(constraint as usize) else {
            return false;
        };
        if std::mem::replace(triggered, turn) == turn {
            return false;
        }
        if let Some(held) = self.memo.held.get_mut(constraint as usize) {
            *held = (self.memo.turn, true);
        }
        let triggers = &self.filter.constraint(constraint).triggers;
        triggers.iter().any(|number| self.holds(*number))
    }

    /// Whether a combination holds, and was not found to fail before.
    pub(super) fn holds(&mut self, number: u32) -> bool {
        let Some(tried) = self.memo.tried.get_mut(number as usize) else { return false };
        if std::mem::replace(tried, self.memo.turn) == self.memo.turn {
            return false;
        }
        let Some(combination) = self.filter.combinations.get(number as usize) else { return false };
        if combination.needs_data && !self.is_json {
            return false;
        }
        if !self.event.has_objects_in_arrays() || combination.constraints.len() < 2 {
            return combination.constraints.iter().all(|id| self.is_held(*id));
        }
        if !self.may_hold(combination) {
            return false;
        }
        if self.event.has_names_with_dots() {
            return Routes::new(self.filter, self.event, self.text).hold(&combination.constraints);
        }
        self.part(0, &combination.constraints) != Outcome::No
    }

    /// Whether a constraint holds by itself.
    pub(super) fn is_held(&mut self, id: u32) -> bool {
        if let Some((turn, is_held)) = self.memo.held.get(id as usize) {
            if *turn == self.memo.turn {
                return *is_held;
            }
        }
        let Constraint { field, alternatives, .. } = self.filter.constraint(id);
        let mut values = self.event.values(self.text, *field).peekable();
        let is_held = match values.peek() {
            None => alternatives.may_be_absent,
            Some(_) => values.any(|value| alternatives.take(value)),
        };
        if let Some(held) = self.memo.held.get_mut(id as usize) {
            *held = (self.memo.turn, is_held);
        }
        is_held
    }

    /// What the structure cannot change: each constraint that needs a value has one.
    fn may_hold(&mut self, combination: &Compiled) -> bool {
        let filter = self.filter;
        let is_optional = |id: u32| filter.constraint(id).alternatives.may_be_absent;
        combination.constraints.iter().all(|id| is_optional(*id) || self.is_held(*id))
    }

    /// Whether constraints, in the order of their fields, hold in the part of the event at a node.
    fn part(&self, node: usize, constraints: &[u32]) -> Outcome {
        let Some((field, seen, end)) = self.event.node(self.text, node) else { return Outcome::No };
        match seen {
            Seen::Leaf(value) => self.leaf(field, value, constraints),
            Seen::Object => self.object(node, end, constraints),
            Seen::Array => self.array(node, end, constraints),
        }
    }

    fn leaf(&self, field: u32, value: Value<'_>, constraints: &[u32]) -> Outcome {
        let outcome = |id: &u32| {
            let constraint = self.filter.constraint(*id);
            if constraint.field != field {
                return self.nothing(&[*id]);
            }
            if constraint.alternatives.take(value) {
                Outcome::ByValue
            } else {
                Outcome::No
            }
        };
        constraints.iter().map(outcome).fold(Outcome::ByAbsence, Outcome::and)
    }

    /// Checks each field of an object by itself.
    fn object(&self, node: usize, end: usize, constraints: &[u32]) -> Outcome {
        let mut outcome = Outcome::ByAbsence;
        let mut left = constraints;
        while let Some(first) = left.first() {
            let (found, count) = self.member(node, end, *first, left);
            let (these, others) = left.split_at(count);
            outcome = outcome.and(found.unwrap_or_else(|| self.nothing(these)));
            left = others;
        }
        outcome
    }

    /// How the constraints on what lies in the member that has the first one's field come out, and how
    /// many these are.
    fn member(
        &self,
        node: usize,
        end: usize,
        first: u32,
        constraints: &[u32],
    ) -> (Option<Outcome>, usize) {
        let (mut found, mut count, mut member) = (None, 1, node + 1);
        let field = self.filter.constraint(first).field;
        while member < end {
            let Some((own, _, next)) = self.event.node(self.text, member) else { break };
            let within = self.filter.fields.within(own);
            if within.contains(&field) {
                let is_within = |id: &u32| within.contains(&self.filter.constraint(*id).field);
                count = constraints.partition_point(is_within).max(1);
                let these = constraints.get(..count).unwrap_or_default();
                // It is the only one: what is spelled twice, with a dot, is for `routes`.
                found = Some(self.part(member, these));
                break;
            }
            member = next;
        }
        (found, count)
    }

    fn array(&self, node: usize, end: usize, constraints: &[u32]) -> Outcome {
        let part = |element| self.part(element, constraints);
        in_array(self.event, self.text, node + 1..end, self.nothing(constraints), part)
    }

    /// How constraints come out where none of their fields is.
    fn nothing(&self, constraints: &[u32]) -> Outcome {
        let may_be_absent = |id: &u32| self.filter.constraint(*id).alternatives.may_be_absent;
        if constraints.iter().all(may_be_absent) {
            Outcome::ByAbsence
        } else {
            Outcome::No
        }
    }
}
