//! Parses the JSON of an event pattern into combinations of constraints, one of which has to hold.
//!
//! ```text
//! {"a": ["x"], "$or": [{"b": [1]}, {"c": {"d": [2, 3]}}]}
//!      = a is x and b is 1,  or  a is x and c.d is 2 or 3
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use serde_json::{Map, Value as Json};

use super::operator::{folded, Cidr, Test, Value, Values, Wildcard};

/// Combinations that the `$or`s of one pattern may make.
pub const COMBINATIONS_MAX: usize = 1_000;

/// A pattern that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Where in the pattern, such as `data.amount[0].numeric`; empty: the pattern as a whole.
    pub place: String,
    /// What is wrong and what to do.
    pub reason: String,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.as_str() {
            "" => write!(f, "{}", self.reason),
            place => write!(f, "{place}: {}", self.reason),
        }
    }
}

impl std::error::Error for Rejected {}

/// What a field may be: any of these.
#[derive(Clone, Debug, Default)]
pub(super) struct Alternatives {
    pub(super) values: Values,
    pub(super) tests: Vec<Test>,
    /// Whether the field may be missing.
    pub(super) may_be_absent: bool,
    /// As written in the pattern.
    pub(super) text: String,
}

impl Alternatives {
    pub(super) fn take(&self, value: Value<'_>) -> bool {
        self.values.contain(value) || self.tests.iter().any(|test| test.takes(value))
    }
}

/// Names from the outermost object to a field.
pub(super) type Path = Vec<String>;

/// Constraints that hold together, each on a field of its own.
pub(super) type Combination = BTreeMap<Path, Alternatives>;

type Parsed<T> = Result<T, Rejected>;

/// Takes a pattern apart.
pub(super) fn parse(text: &str) -> Parsed<Vec<Combination>> {
    let place = PatternPlace::default();
    let json: Json = serde_json::from_str(text)
        .map_err(|error| place.reject(format!("the pattern is not JSON: {error}")))?;
    let Json::Object(pattern) = json else {
        return Err(
            place.reject("a pattern is a JSON object, such as {\"data\": {\"kind\": [\"a\"]}}")
        );
    };
    read_object(&pattern, &place, &[], vec![Combination::new()])
}

/// Where in the pattern the reading is, as a person would write it.
#[derive(Clone, Debug, Default)]
struct PatternPlace(String);

impl PatternPlace {
    fn field(&self, name: &str) -> Self {
        let dot = if self.0.is_empty() { "" } else { "." };
        Self(format!("{}{dot}{name}", self.0))
    }

    fn item(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    fn reject(&self, reason: impl Into<String>) -> Rejected {
        Rejected { place: self.0.clone(), reason: reason.into() }
    }
}

fn read_object(
    object: &Map<String, Json>,
    place: &PatternPlace,
    path: &[String],
    mut combinations: Vec<Combination>,
) -> Parsed<Vec<Combination>> {
    if object.is_empty() {
        return Err(place.reject("empty objects are not allowed, name a field"));
    }
    for (name, value) in object {
        let place = place.field(name);
        if let Some(branches) = or_branches(name, value) {
            combinations = read_or(&branches, &place, path, &combinations)?;
            continue;
        }
        let path: Path = path.iter().cloned().chain(name.split('.').map(str::to_owned)).collect();
        match value {
            Json::Object(inner) => combinations = read_object(inner, &place, &path, combinations)?,
            Json::Array(items) => {
                let alternatives = read_alternatives(items, &place)?;
                for combination in &mut combinations {
                    if combination.insert(path.clone(), alternatives.clone()).is_some() {
                        let reason =
                            "the field is named twice, put all its alternatives in one array";
                        return Err(place.reject(reason));
                    }
                }
            }
            other => {
                let reason = format!(
                    "`{name}` must be an object or an array, write [{other}] for a value to be equal to"
                );
                return Err(place.reject(reason));
            }
        }
    }
    Ok(combinations)
}

/// The branches of an `$or`; `None` if it is a field that happens to have that name.
fn or_branches<'a>(name: &str, value: &'a Json) -> Option<Vec<&'a Map<String, Json>>> {
    let items = value.as_array().filter(|items| name == "$or" && items.len() >= 2)?;
    let branches: Vec<_> = items.iter().map(Json::as_object).collect::<Option<_>>()?;
    let has_operator = branches.iter().any(|branch| branch.keys().any(|key| is_operator(key)));
    (!has_operator).then_some(branches)
}

fn is_operator(name: &str) -> bool {
    OPERATORS.contains(&name) || ["=", "<", "<=", ">", ">="].contains(&name)
}

const OPERATORS: [&str; 9] = [
    "prefix",
    "suffix",
    "equals-ignore-case",
    "wildcard",
    "anything-but",
    "numeric",
    "exists",
    "cidr",
    "exactly",
];

fn read_or(
    branches: &[&Map<String, Json>],
    place: &PatternPlace,
    path: &[String],
    combinations: &[Combination],
) -> Parsed<Vec<Combination>> {
    let mut all = Vec::new();
    for (index, branch) in branches.iter().enumerate() {
        all.extend(read_object(branch, &place.item(index), path, combinations.to_vec())?);
        if all.len() > COMBINATIONS_MAX {
            let reason = format!(
                "its `$or`s make more than {COMBINATIONS_MAX} combinations, split it into several patterns"
            );
            return Err(place.reject(reason));
        }
    }
    Ok(all)
}

fn read_alternatives(items: &[Json], place: &PatternPlace) -> Parsed<Alternatives> {
    if items.is_empty() {
        let reason = "empty arrays are not allowed, leave the field out to allow any value";
        return Err(place.reject(reason));
    }
    let text = serde_json::to_string(items).unwrap_or_default();
    let mut all = Alternatives { text, ..Alternatives::default() };
    for (index, item) in items.iter().enumerate() {
        let place = place.item(index);
        match item {
            Json::Object(expression) => read_expression(expression, &place, &mut all)?,
            Json::Array(_) => {
                let reason =
                    "match value must be a string, a number, true, false, null or an operator";
                return Err(place.reject(reason));
            }
            value => all.values.add(scalar(value).ok_or_else(|| place.reject(NOT_A_VALUE))?),
        }
    }
    Ok(all)
}

const NOT_A_VALUE: &str = "match value must be a string, a number, true, false or null";

fn scalar(json: &Json) -> Option<Value<'_>> {
    match json {
        Json::Null => Some(Value::Null),
        Json::Bool(value) => Some(Value::Bool(*value)),
        Json::Number(number) => number.as_f64().map(Value::Number),
        Json::String(text) => Some(Value::Text(text)),
        Json::Array(_) | Json::Object(_) => None,
    }
}

fn read_expression(
    expression: &Map<String, Json>,
    place: &PatternPlace,
    into: &mut Alternatives,
) -> Parsed<()> {
    let (name, operand) = only_entry(expression, place)?;
    let place = place.field(name);
    let test = match name {
        "exactly" => {
            into.values.add(Value::Text(text(operand, name, &place)?));
            return Ok(());
        }
        "exists" => match operand {
            Json::Bool(true) => Test::Exists,
            Json::Bool(false) => {
                into.may_be_absent = true;
                return Ok(());
            }
            _ => return Err(place.reject("exists match pattern must be either true or false")),
        },
        "prefix" => match operand {
            Json::Object(inner) => Test::PrefixFolded(ignoring_case(inner, &place)?),
            _ => Test::Prefix(text(operand, "prefix", &place)?.into()),
        },
        "suffix" => match operand {
            Json::Object(inner) => Test::SuffixFolded(ignoring_case(inner, &place)?),
            _ => Test::Suffix(text(operand, "suffix", &place)?.into()),
        },
        "equals-ignore-case" | "wildcard" => text_test(name, operand, &place)?,
        "cidr" => {
            let block = text(operand, "cidr", &place)?;
            Test::Cidr(Cidr::new(block).map_err(|reason| place.reject(reason))?)
        }
        "numeric" => numeric(operand, &place)?,
        "anything-but" => anything_but(operand, &place)?,
        other => return Err(unrecognized(other, &place)),
    };
    into.tests.push(test);
    Ok(())
}

fn only_entry<'a>(
    expression: &'a Map<String, Json>,
    place: &PatternPlace,
) -> Parsed<(&'a str, &'a Json)> {
    let mut entries = expression.iter();
    match (entries.next(), entries.next()) {
        (Some((name, operand)), None) => Ok((name, operand)),
        (None, _) => Err(place.reject("match expression name not found, name an operator")),
        _ => {
            Err(place.reject("only one key allowed in match expression, write each in its own {}"))
        }
    }
}

fn unrecognized(name: &str, place: &PatternPlace) -> Rejected {
    let known = OPERATORS.map(|operator| format!("`{operator}`")).join(", ");
    place.reject(format!("unrecognized match type `{name}`, use one of {known}"))
}

fn text<'a>(operand: &'a Json, operator: &str, place: &PatternPlace) -> Parsed<&'a str> {
    operand
        .as_str()
        .ok_or_else(|| place.reject(format!("{operator} match pattern must be a string")))
}

fn ignoring_case(inner: &Map<String, Json>, place: &PatternPlace) -> Parsed<Box<str>> {
    let (name, operand) = only_entry(inner, place)?;
    if name != "equals-ignore-case" {
        let reason = format!("unsupported pattern `{name}`, only `equals-ignore-case` goes here");
        return Err(place.reject(reason));
    }
    Ok(folded(text(operand, name, &place.field(name))?))
}

/// One of the operators that take a text, also inside `anything-but`.
fn text_test(operator: &str, operand: &Json, place: &PatternPlace) -> Parsed<Test> {
    let text = text(operand, operator, place)?;
    Ok(match operator {
        "prefix" => Test::Prefix(text.into()),
        "suffix" => Test::Suffix(text.into()),
        "equals-ignore-case" => Test::EqualFolded(folded(text)),
        _ => Test::Wildcard(Wildcard::new(text).map_err(|reason| place.reject(reason))?),
    })
}

fn anything_but(operand: &Json, place: &PatternPlace) -> Parsed<Test> {
    match operand {
        Json::Object(inner) => {
            let (name, operand) = only_entry(inner, place)?;
            if !["prefix", "suffix", "equals-ignore-case", "wildcard"].contains(&name) {
                return Err(place.reject(format!("unsupported anything-but pattern: `{name}`")));
            }
            let place = place.field(name);
            let items =
                if let Json::Array(items) = operand { items } else { &vec![operand.clone()] };
            let test = |item: &Json| {
                if ["prefix", "suffix"].contains(&name) && item.as_str() == Some("") {
                    return Err(place.reject("null prefix/suffix not allowed: nothing would match"));
                }
                text_test(name, item, &place)
            };
            let tests: Vec<_> = items.iter().map(test).collect::<Parsed<_>>()?;
            if tests.is_empty() {
                return Err(place.reject("empty arrays are not allowed"));
            }
            Ok(Test::AnythingBut(Values::default(), tests))
        }
        Json::Array(items) => values_but(items, place),
        one => values_but(std::slice::from_ref(one), place),
    }
}

fn values_but(items: &[Json], place: &PatternPlace) -> Parsed<Test> {
    let mut values = Values::default();
    for item in items {
        match scalar(item) {
            Some(value @ (Value::Text(_) | Value::Number(_))) => values.add(value),
            _ => return Err(place.reject("anything-but takes strings or numbers")),
        }
    }
    if values.texts.is_empty() == values.numbers.is_empty() {
        let reason = "inside anything-but either all values are numbers or all are strings";
        return Err(place.reject(reason));
    }
    Ok(Test::AnythingBut(values, Vec::new()))
}

fn numeric(operand: &Json, place: &PatternPlace) -> Parsed<Test> {
    let Json::Array(terms) = operand else {
        return Err(
            place.reject("value of numeric must be an array, such as [\">\", 0, \"<=\", 5]")
        );
    };
    let operator = |term: &Json| match term.as_str() {
        Some(operator) => Ok(operator.to_owned()),
        None => Err(place.reject(format!("invalid member in numeric match: `{term}`"))),
    };
    let value = |operator: &str, term: Option<&Json>| {
        let number = term.and_then(Json::as_f64);
        number.ok_or_else(|| place.reject(format!("value of `{operator}` must be numeric")))
    };
    let Some(first) = terms.first() else {
        return Err(place.reject("value of numeric must not be empty"));
    };
    let first = operator(first)?;
    let (low, high) = match first.as_str() {
        "=" | "<" | "<=" | ">" | ">=" => {
            let number = value(&first, terms.get(1))?;
            match first.as_str() {
                "=" => (Bound::Included(number), Bound::Included(number)),
                "<" => (Bound::Unbounded, Bound::Excluded(number)),
                "<=" => (Bound::Unbounded, Bound::Included(number)),
                ">" => (Bound::Excluded(number), Bound::Unbounded),
                _ => (Bound::Included(number), Bound::Unbounded),
            }
        }
        other => return Err(place.reject(format!("unrecognized numeric range operator: {other}"))),
    };
    let Some(second) = terms.get(2) else { return Ok(Test::Numeric(low, high)) };
    let (Bound::Included(bottom) | Bound::Excluded(bottom), true) = (low, first.starts_with('>'))
    else {
        return Err(place.reject("too many elements in numeric expression"));
    };
    let second = operator(second)?;
    if !["<", "<="].contains(&second.as_str()) {
        return Err(place.reject(format!("bad numeric range operator: {second}")));
    }
    let top = value(&second, terms.get(3))?;
    if terms.len() > 4 {
        return Err(place.reject("too many terms in numeric range expression"));
    }
    if bottom >= top {
        return Err(
            place.reject(format!("bottom must be less than top, and {bottom} is not below {top}"))
        );
    }
    let high = if second == "<" { Bound::Excluded(top) } else { Bound::Included(top) };
    Ok(Test::Numeric(low, high))
}
