//! Explains why a filter does not take an event: field by field, for people.

use serde_json::{Map, Value as Json};

use super::compiled::Filter;
use super::matching::{Memo, Round};
use super::pattern::Combination;
use super::{is_object, Event, EVENT};

/// Characters of a value that are shown.
const SHOWN_MAX: usize = 100;
/// Values of a field that are shown.
const VALUES_SHOWN: usize = 3;

/// One field that is not as its pattern wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Names that lead to it, with dots between.
    pub field: String,
    /// The alternatives of the pattern, as JSON.
    pub wanted: String,
    /// What the event has there, in words.
    pub found: String,
}

/// The result of each pattern of a filter for one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// For each pattern, the fields that failed: of the `$or` branches those that came closest.
    /// None: it matches.
    pub patterns: Vec<Option<Vec<Failure>>>,
}

impl Filter {
    /// Tries every pattern on an event; `None` if that is not a JSON object.
    pub fn explain(&self, event: &[u8]) -> Option<Explanation> {
        let text = std::str::from_utf8(event).ok().filter(|text| is_object(text))?;
        // Deeper than it reads, an event is matched all the same, and only not described.
        let json: Map<String, Json> = serde_json::from_str(text).unwrap_or_default();
        let (mut seen, mut memo) = (Event::default(), Memo::new(self));
        seen.clear(&self.fields);
        seen.read(&self.fields, EVENT, text).ok()?;
        seen.finish();
        memo.clear();
        let mut round = Round { filter: self, event: &seen, text, is_json: true, memo: &mut memo };
        let mut number = 0;
        let mut patterns = Vec::with_capacity(self.patterns.len());
        for combinations in &self.patterns {
            let mut closest: Option<Vec<Failure>> = None;
            let mut is_match = false;
            for combination in combinations {
                is_match = is_match || round.holds(number);
                let failures = failures(&mut round, number, combination, &json);
                if closest.as_ref().is_none_or(|others| failures.len() < others.len()) {
                    closest = Some(failures);
                }
                number += 1;
            }
            patterns.push(if is_match { None } else { closest });
        }
        Some(Explanation { patterns })
    }
}

fn failures(
    round: &mut Round<'_>,
    number: u32,
    combination: &Combination,
    event: &Map<String, Json>,
) -> Vec<Failure> {
    let filter = round.filter;
    let ids = filter.combinations.get(number as usize).map_or(&[][..], |found| &found.constraints);
    let mut failures = Vec::new();
    for (path, alternatives) in combination {
        let field = filter.fields.find(path);
        let id = ids.iter().find(|id| Some(filter.constraint(**id).field) == field);
        if id.is_some_and(|id| !round.is_held(*id)) {
            let found = describe(event, path);
            failures.push(Failure {
                field: path.join("."),
                wanted: alternatives.text.clone(),
                found,
            });
        }
    }
    if failures.is_empty() {
        // Each holds somewhere, so it is the elements of an array that do not agree.
        let fields: Vec<_> = combination.keys().map(|path| path.join(".")).collect();
        let found = "each holds, but not all in the same element of an array".to_owned();
        failures.push(Failure { field: fields.join(", "), wanted: "all together".into(), found });
    }
    failures
}

/// What an event has at the end of a path.
fn describe(event: &Map<String, Json>, path: &[String]) -> String {
    let mut found = Vec::new();
    collect(event, path, &mut found);
    let shown: Vec<String> = found.iter().take(VALUES_SHOWN).map(|json| show(json)).collect();
    match found.len().saturating_sub(VALUES_SHOWN) {
        0 if shown.is_empty() => "nothing: the field is missing".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn show(json: &Json) -> String {
    match json {
        Json::Object(_) => "an object, which is no value".to_owned(),
        Json::Array(_) => "an empty array, which is no value".to_owned(),
        value => {
            let text = value.to_string();
            match text.char_indices().nth(SHOWN_MAX) {
                Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
                None => text,
            }
        }
    }
}

/// Goes along a path through objects and arrays; names with dots count as several.
fn collect<'a>(object: &'a Map<String, Json>, path: &[String], found: &mut Vec<&'a Json>) {
    for (name, value) in object {
        let parts: Vec<&str> = name.split('.').collect();
        let Some((head, rest)) = path.split_at_checked(parts.len()) else { continue };
        if head.iter().map(String::as_str).eq(parts) {
            collect_in(value, rest, found);
        }
    }
}

fn collect_in<'a>(value: &'a Json, path: &[String], found: &mut Vec<&'a Json>) {
    match value {
        Json::Array(items) if items.is_empty() && path.is_empty() => found.push(value),
        Json::Array(items) => items.iter().for_each(|item| collect_in(item, path, found)),
        Json::Object(inner) if !path.is_empty() => collect(inner, path, found),
        value if path.is_empty() => found.push(value),
        _ => {}
    }
}
