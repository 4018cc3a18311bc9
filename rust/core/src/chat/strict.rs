//! Steps that Python refuses for some kinds of values where the engine goes on: `1 < 'a'`, `[] in 'a'`, `messages is even`.
//!
//! [`super::program`] puts them in place of the engine's, so that no chat gets a text that transformers does not give.

use std::cmp::Ordering;

use minijinja::value::{Kwargs, Tuple, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, tests};

use super::bounds::walk;
use super::python::unproven;

/// `a < b`, and so on: the operator's filter takes the right side.
pub(super) const LESS: &str = "zephyr:<";
pub(super) const LESS_OR_EQUAL: &str = "zephyr:<=";
pub(super) const MORE: &str = "zephyr:>";
pub(super) const MORE_OR_EQUAL: &str = "zephyr:>=";
/// `a in b`.
pub(super) const IN: &str = "zephyr:in";
/// Refuses what is no number.
pub(super) const NUMBER: &str = "zephyr:number";
/// Refuses numbers with a fraction, by which nothing but a number can be multiplied.
pub(super) const FACTOR: &str = "zephyr:factor";
/// Refuses what cannot be a key.
pub(super) const HASHED: &str = "zephyr:hashed";
/// Refuses what is no text, which is all that a block can print.
pub(super) const TEXT: &str = "zephyr:text";
/// Refuses what is undefined: the engine would take the default of a parameter in its place.
pub(super) const GIVEN: &str = "zephyr:given";

/// Integers up to this are the same as numbers with a fraction.
const EXACT: u128 = 1 << 53;

/// Adds them, and the tests of the same kind.
pub(super) fn install(env: &mut Environment<'static>) {
    orders(env, &[LESS], &["lt", "lessthan", "<"], Ordering::is_lt);
    orders(env, &[LESS_OR_EQUAL], &["le", "<="], Ordering::is_le);
    orders(env, &[MORE], &["gt", "greaterthan", ">"], Ordering::is_gt);
    orders(env, &[MORE_OR_EQUAL], &["ge", ">="], Ordering::is_ge);
    env.add_filter(IN, contains);
    env.add_test("in", |state: &State, value: &Value, container: &Value| {
        walk(state, value)?;
        walk(state, container)?;
        contains(state, value, container)
    });
    env.add_test("odd", |value: &Value| whole(value).map(|number| number % 2 != 0));
    env.add_test("even", |value: &Value| whole(value).map(|number| number % 2 == 0));
    env.add_test("divisibleby", |value: &Value, by: &Value| match whole(by)? {
        0 => Err(fails("a division by zero")),
        by => whole(value).map(|number| number % by == 0),
    });
    passes(env, NUMBER, "no number in a chain of comparisons or a product", Value::is_number);
    passes(env, FACTOR, "a number with a fraction in a product", |v| !v.is_number() || v.is_integer());
    passes(env, TEXT, "a filter block that gives no text", |v| v.kind() == ValueKind::String);
    passes(env, GIVEN, "an undefined value for a parameter that may have a default", |v| !v.is_undefined());
    env.add_filter(HASHED, |value: &Value| hashed(value).map(|()| value.clone()));
}

/// A filter that gives its input back if it is such.
fn passes(env: &mut Environment<'static>, name: &'static str, other: &'static str, holds: fn(&Value) -> bool) {
    env.add_filter(name, move |value: &Value| if holds(value) { Ok(value.clone()) } else { Err(unproven(other)) });
}

/// The operator and its tests.
fn orders(
    env: &mut Environment<'static>,
    filters: &[&'static str],
    tests: &[&'static str],
    holds: fn(Ordering) -> bool,
) {
    for &name in filters {
        env.add_filter(name, move |left: &Value, right: &Value| order(left, right).map(holds));
    }
    for &name in tests {
        env.add_test(name, move |state: &State, left: &Value, right: &Value| {
            walk(state, right)?;
            order(left, right).map(holds)
        });
    }
}

/// What Python fails at, too.
fn fails(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.to_string())
}

/// Which of two values comes first, if they have an order in Python.
fn order(left: &Value, right: &Value) -> Result<Ordering, Error> {
    let is_number = |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
    let is_tuple = |value: &Value| value.downcast_object_ref::<Tuple>().is_some();
    match (left.kind(), right.kind()) {
        (ValueKind::String, ValueKind::String) => Ok(left.as_str().cmp(&right.as_str())),
        (ValueKind::Seq, ValueKind::Seq) if is_tuple(left) == is_tuple(right) => {
            for (a, b) in left.try_iter()?.zip(right.try_iter()?) {
                if a != b {
                    return order(&a, &b);
                }
            }
            Ok(left.len().cmp(&right.len()))
        }
        _ if is_number(left) && is_number(right) => numbers(left, right),
        (a, b) => Err(fails(&format!("a {a} and a {b} have no order"))),
    }
}

fn numbers(left: &Value, right: &Value) -> Result<Ordering, Error> {
    if let (Some(a), Some(b)) = (integer(left), integer(right)) {
        return Ok(a.cmp(&b));
    }
    let float = |value: &Value| match integer(value) {
        #[expect(clippy::cast_precision_loss, reason = "small enough")]
        Some(number) if number.unsigned_abs() <= EXACT => Ok(number as f64),
        Some(_) => Err(unproven("a large number compared with a fraction")),
        None => f64::try_from(value.clone()),
    };
    float(left)?.partial_cmp(&float(right)?).ok_or_else(|| unproven("a comparison with what is no number"))
}

fn integer(value: &Value) -> Option<i128> {
    match value.kind() {
        ValueKind::Bool => Some(i128::from(value.is_true())),
        _ if value.is_integer() => i128::try_from(value.clone()).ok(),
        _ => None,
    }
}

fn whole(value: &Value) -> Result<i128, Error> {
    integer(value).ok_or_else(|| unproven("a remainder of what is no whole number"))
}

fn contains(state: &State, value: &Value, container: &Value) -> Result<bool, Error> {
    match container.kind() {
        ValueKind::String if value.kind() != ValueKind::String => Err(fails("what is no text, looked for in a text")),
        ValueKind::Map => hashed(value).and_then(|()| tests::is_in(state, value, container)),
        ValueKind::String | ValueKind::Seq | ValueKind::Iterable | ValueKind::Undefined => {
            tests::is_in(state, value, container)
        }
        _ => Err(Error::new(ErrorKind::InvalidOperation, "cannot perform a containment check on this value")),
    }
}

/// Refuses lists and dictionaries, also inside of tuples.
pub(super) fn hashed(value: &Value) -> Result<(), Error> {
    match (value.kind(), value.downcast_object_ref::<Tuple>()) {
        (_, Some(items)) => items.iter().try_for_each(hashed),
        (ValueKind::Seq | ValueKind::Map | ValueKind::Iterable, _) => Err(fails("a list or dictionary as a key")),
        _ => Ok(()),
    }
}

/// Refuses what is gone through like a list here, and not in Python.
pub(super) fn listed(value: &Value) -> Result<(), Error> {
    if value.is_none() { Err(fails("`none` is not iterable")) } else { Ok(()) }
}

/// Refuses what has no order, or no place among keys, in a filter that sorts; a single value needs none.
pub(super) fn sortable(state: &mut State, name: &str, args: &[Value]) -> Result<(), Error> {
    let Some((input, rest)) = args.split_first() else { return Ok(()) };
    listed(input)?;
    let named = |key: &str| rest.iter().find(|arg| arg.is_kwargs()).and_then(|arg| arg.get_attr(key).ok());
    let given = |key: &str, at: usize| {
        named(key)
            .filter(|value| !value.is_undefined())
            .or_else(|| rest.get(at).filter(|arg| !arg.is_kwargs()).cloned())
    };
    let keys: Vec<Value> = if name == "dictsort" {
        let by_value = given("by", 1).is_some_and(|by| by.as_str() == Some("value"));
        let items = input.try_iter()?.map(|key| if by_value { input.get_item(&key) } else { Ok(key) });
        items.collect::<Result<_, _>>()?
    } else {
        let attribute = given("attribute", if name == "sort" { 2 } else { 1 }).filter(|value| !value.is_none());
        let mapped = attribute.map(|attribute| {
            let attribute = Value::from(Kwargs::from_iter([("attribute", attribute)]));
            state.apply_filter("map", &[input.clone(), attribute])
        });
        mapped.transpose()?.as_ref().unwrap_or(input).try_iter()?.collect()
    };
    // The one letter of which the engine makes another small one.
    if keys.iter().any(|key| key.as_str().is_some_and(|text| text.contains('İ'))) {
        return Err(unproven(&format!("`{name}` of a text with `İ`")));
    }
    if name == "unique" {
        return keys.iter().try_for_each(hashed);
    }
    let all = |kinds: &[ValueKind]| keys.iter().all(|key| kinds.contains(&key.kind()));
    if keys.len() < 2 || all(&[ValueKind::String]) || all(&[ValueKind::Number, ValueKind::Bool]) {
        return Ok(());
    }
    Err(unproven(&format!("`{name}` of what is neither all text nor all numbers")))
}
