//! Events that spell a name in two ways, `{"a": [{"b": 1}], "a.b": 2}`, within arrays.
//!
//! Such a field has several routes. A constraint holds on one of them, or it requires that the
//! field is missing on all. Which constraints hold together, and on which routes, is found by
//! trying. Such events are rare, so this is apart from `matching`, which needs no memory of its
//! own.

use super::compiled::Filter;
use super::event::{Event, Seen};
use super::fields::FieldId;
use super::outcome::{in_array, Outcome};

/// Parts of an event that are looked at for one combination; beyond that it does not hold. Only an
/// event that has many names with dots beside many elements comes near.
const STEPS_MAX: u32 = 100_000;

/// How a constraint is to hold in a part of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Any,
    /// By a value: on another route the field is there, or the choice was made for this one.
    Value,
    /// The field is missing, here and on the other routes.
    Absence,
}

#[derive(Clone, Copy, Debug)]
struct Want {
    constraint: u32,
    field: FieldId,
    need: Need,
}

/// A member of an object that leads to fields that are wanted.
struct Member {
    node: usize,
    wants: Vec<Want>,
}

/// A constraint with several routes, as places in the list of members.
struct Open {
    want: Want,
    routes: Vec<usize>,
    /// Whether it holds already, on a route of its own.
    is_held: bool,
}

/// One event, and the patterns it is tried with.
pub(super) struct Routes<'a> {
    filter: &'a Filter,
    event: &'a Event,
    text: &'a str,
    steps: u32,
}

impl<'a> Routes<'a> {
    pub(super) fn new(filter: &'a Filter, event: &'a Event, text: &'a str) -> Self {
        Self { filter, event, text, steps: STEPS_MAX }
    }

    /// Whether constraints hold together.
    pub(super) fn hold(&mut self, constraints: &[u32]) -> bool {
        let want = |&constraint: &u32| {
            let field = self.filter.constraint(constraint).field;
            Want { constraint, field, need: Need::Any }
        };
        let wants: Vec<Want> = constraints.iter().map(want).collect();
        self.part(0, &wants) != Outcome::No
    }

    fn part(&mut self, node: usize, wants: &[Want]) -> Outcome {
        let Some(left) = self.steps.checked_sub(1) else { return Outcome::No };
        self.steps = left;
        let Some((field, seen, end)) = self.event.node(self.text, node) else { return Outcome::No };
        match seen {
            Seen::Leaf(value) => {
                let outcome = |want: &Want| {
                    let alternatives = &self.filter.constraint(want.constraint).alternatives;
                    match want.need {
                        _ if want.field != field => self.missing(*want),
                        Need::Any | Need::Value if alternatives.take(value) => Outcome::ByValue,
                        _ => Outcome::No,
                    }
                };
                wants.iter().map(outcome).fold(Outcome::ByAbsence, Outcome::and)
            }
            Seen::Object => self.object(node, end, wants),
            Seen::Array => self.array(node, end, wants),
        }
    }

    /// How a constraint comes out where its field is not.
    fn missing(&self, want: Want) -> Outcome {
        let may_be = self.filter.constraint(want.constraint).alternatives.may_be_absent;
        if may_be && want.need != Need::Value {
            Outcome::ByAbsence
        } else {
            Outcome::No
        }
    }

    fn is_optional(&self, want: Want) -> bool {
        want.need == Need::Any && self.missing(want) != Outcome::No
    }

    fn array(&mut self, node: usize, end: usize, wants: &[Want]) -> Outcome {
        let missing = wants.iter().map(|want| self.missing(*want));
        let nothing = missing.fold(Outcome::ByAbsence, Outcome::and);
        let (event, text) = (self.event, self.text);
        in_array(event, text, node + 1..end, nothing, |element| self.part(element, wants))
    }

    fn object(&mut self, node: usize, end: usize, wants: &[Want]) -> Outcome {
        let mut members = self.members(node, end, wants);
        let mut outcome = Outcome::ByAbsence;
        let mut open = Vec::new();
        for want in wants {
            let routes = self.routes(&members, *want);
            let decided = match (routes.as_slice(), want.need) {
                ([], _) => self.missing(*want),
                ([_], _) | (_, Need::Absence) => {
                    add(&mut members, &routes, *want);
                    continue;
                }
                _ => self.on_own_routes(&mut members, *want, routes, wants, &mut open),
            };
            outcome = outcome.and(decided);
        }
        if outcome == Outcome::No {
            return Outcome::No;
        }
        outcome.and(self.choose(&mut members, &open))
    }

    fn members(&self, node: usize, end: usize, wants: &[Want]) -> Vec<Member> {
        let (mut members, mut member) = (Vec::new(), node + 1);
        while member < end {
            let Some((field, _, next)) = self.event.node(self.text, member) else { break };
            let within = self.filter.fields.within(field);
            if wants.iter().any(|want| within.contains(&want.field)) {
                members.push(Member { node: member, wants: Vec::new() });
            }
            member = next;
        }
        members
    }

    fn leads_to(&self, member: &Member, field: FieldId) -> bool {
        let own = self.event.node(self.text, member.node).map(|(own, ..)| own);
        own.is_some_and(|own| self.filter.fields.within(own).contains(&field))
    }

    fn routes(&self, members: &[Member], want: Want) -> Vec<usize> {
        (0..).zip(members).filter(|(_, it)| self.leads_to(it, want.field)).map(|(i, _)| i).collect()
    }

    /// Decides a constraint with several routes, as far as its members belong to no other
    /// constraint: whether it holds there affects no other one.
    fn on_own_routes(
        &mut self,
        members: &mut [Member],
        want: Want,
        routes: Vec<usize>,
        wants: &[Want],
        open: &mut Vec<Open>,
    ) -> Outcome {
        let is_own = |route: &usize| {
            members.get(*route).is_some_and(|member| {
                wants.iter().filter(|other| self.leads_to(member, other.field)).count() == 1
            })
        };
        let (own, shared): (Vec<usize>, Vec<usize>) = routes.into_iter().partition(is_own);
        let (mut is_held, mut may_be_absent) = (false, self.is_optional(want));
        for route in own {
            let Some(node) = members.get(route).map(|member| member.node) else { continue };
            is_held |= self.part(node, &[Want { need: Need::Value, ..want }]) == Outcome::ByValue;
            may_be_absent = may_be_absent
                && self.part(node, &[Want { need: Need::Absence, ..want }]) != Outcome::No;
        }
        // WHY: to hold by a value in an element of an array, too, lets others be missing in it.
        let is_of_use = |other: &Want| {
            let mut members = shared.iter().filter_map(|route| members.get(*route));
            self.is_optional(*other) && members.any(|it| self.leads_to(it, other.field))
        };
        if is_held && !wants.iter().any(is_of_use) {
            return Outcome::ByValue;
        }
        let want = Want { need: if may_be_absent { Need::Any } else { Need::Value }, ..want };
        match shared.as_slice() {
            [] => return self.missing(want),
            [_] if !is_held => add(members, &shared, want),
            _ => open.push(Open { want, routes: shared, is_held }),
        }
        Outcome::ByAbsence
    }

    /// Tries the routes of the constraints that are open, and then what lies in the members.
    fn choose(&mut self, members: &mut Vec<Member>, open: &[Open]) -> Outcome {
        let Some((Open { want, routes, is_held }, others)) = open.split_first() else {
            let mut outcome = Outcome::ByAbsence;
            for Member { node, wants } in members.iter().filter(|member| !member.wants.is_empty()) {
                outcome = outcome.and(self.part(*node, wants));
                if outcome == Outcome::No {
                    break;
                }
            }
            return outcome;
        };
        let by_value = routes.iter().map(|route| (std::slice::from_ref(route), Need::Value));
        let by_absence = self.is_optional(*want).then_some((routes.as_slice(), Need::Absence));
        let mut best = Outcome::No;
        if *is_held {
            best = Outcome::ByValue.and(self.choose(members, others));
        }
        for (routes, need) in by_value.chain(by_absence) {
            if best == Outcome::ByValue || self.steps == 0 {
                break;
            }
            add(members, routes, Want { need, ..*want });
            best = best.or(self.choose(members, others));
            for route in routes {
                members.get_mut(*route).and_then(|member| member.wants.pop());
            }
        }
        best
    }
}

fn add(members: &mut [Member], routes: &[usize], want: Want) {
    for route in routes {
        if let Some(member) = members.get_mut(*route) {
            member.wants.push(want);
        }
    }
}
