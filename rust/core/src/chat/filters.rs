//! Filters and tests of the engine that go through whole values, made to pay for them first.
//!
//! What Python may print otherwise than the engine, a list or a number with a fraction, no filter here makes into text.

use minijinja::value::{DynObject, Kwargs, Rest, Tuple, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters, tests};

use super::bounds::{collect, iterable, touch, walk};
use super::python::{charge, replaced, text_of, unproven};
use super::strict::{listed, sortable};

/// Adds filters of the engine, each under a name that templates do not use, and what pays for it and then calls it under its own.
macro_rules! behind {
    ($env:ident, $paying:ident: $($filter:ident),*) => {$(
        $env.add_filter(concat!("zephyr:", stringify!($filter)), filters::$filter);
        $paying($env, stringify!($filter), concat!("zephyr:", stringify!($filter)));
    )*};
}

/// Adds them.
pub(super) fn install(env: &mut Environment<'static>) {
    env.add_filter("lower", |value: &Value| text_of(value).map(|text| text.to_lowercase()));
    env.add_filter("upper", |value: &Value| text_of(value).map(|text| text.to_uppercase()));
    env.add_filter("replace", replace);
    env.add_filter("join", join);
    env.add_filter("reverse", reverse);
    env.add_filter("items", items);
    env.add_filter("first", |state: &State, value: &Value| touch(state, value).and_then(|()| filters::first(value)));
    env.add_filter("last", last);
    env.add_filter("sum", sum);
    env.add_filter("zephyr:list", filters::list);
    env.add_filter("list", |state: &mut State, value: &Value| {
        listed(value)?;
        state.apply_filter("zephyr:list", std::slice::from_ref(value))
    });

    behind!(env, sorts: sort, min, max, unique, dictsort);
    behind!(env, maps: map, select, reject, selectattr, rejectattr);

    compares(env, &["eq", "equalto", "=="], |a, b| a == b);
    compares(env, &["ne", "!="], |a, b| a != b);
    compares(env, &["sameas"], tests::is_sameas);
    cases(env, "lower", tests::is_lower);
    cases(env, "upper", tests::is_upper);
}

/// A test that looks every character up: four times the work of comparing it.
fn cases(env: &mut Environment<'static>, name: &'static str, holds: fn(&Value) -> bool) {
    env.add_test(name, move |state: &State, value: &Value| {
        charge(state, value.as_str().map_or(0, str::len).saturating_mul(4))?;
        text_of(value).map(|text| holds(&Value::from(text)))
    });
}

/// A filter that compares the elements of its input with one another.
fn sorts(env: &mut Environment<'static>, name: &'static str, inner: &'static str) {
    env.add_filter(name, move |state: &mut State, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        let args = args.into_values();
        if let Some(input) = args.first() {
            charge_names(state, &args)?;
            let rounds = input.len().unwrap_or(0).max(1).ilog2() as usize + 1;
            let bytes = walk(state, input)?;
            charge(state, bytes.saturating_mul(rounds))?;
            sortable(state, name, &args)?;
        }
        let made = state.apply_filter(inner, &args)?;
        if name == "unique" { collect(state, &made).map(iterable) } else { Ok(made) }
    });
}

/// A filter that does something to each element of its input.
fn maps(env: &mut Environment<'static>, name: &'static str, inner: &'static str) {
    env.add_filter(name, move |state: &mut State, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        let args = args.into_values();
        charge_names(state, &args)?;
        let made = state.apply_filter(inner, &args)?;
        // `default` puts a value that is given into the list that is made.
        if name == "map" {
            walk(state, &made)?;
            // `map('items')`: what is to be gone through once would get into a variable.
            if made.try_iter()?.any(|item| item.kind() == ValueKind::Iterable) {
                return Err(unproven("`map` to what is no list"));
            }
        }
        // The engine makes a list, which could be asked for its length; jinja2 does not.
        collect(state, &made).map(iterable)
    });
}

/// Charges for long names of attributes, which are looked up in every element.
fn charge_names(state: &State, args: &[Value]) -> Result<(), Error> {
    let Some((input, rest)) = args.split_first() else { return Ok(()) };
    let mut bytes = 0_usize;
    for arg in rest {
        let given = arg.as_object().filter(|_| arg.is_kwargs()).and_then(DynObject::try_iter_pairs);
        let named: usize = given.into_iter().flatten().map(|(_, value)| value.as_str().map_or(0, str::len)).sum();
        bytes += arg.as_str().map_or(named, str::len);
    }
    // Usual names are as quick as none.
    if bytes > 256 { charge(state, input.len().unwrap_or(0).saturating_mul(bytes)) } else { Ok(()) }
}

/// A test that compares two values.
fn compares(env: &mut Environment<'static>, names: &[&'static str], holds: fn(&Value, &Value) -> bool) {
    for &name in names {
        env.add_test(name, move |state: &State, left: &Value, right: &Value| {
            walk(state, right).map(|_| holds(left, right))
        });
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the engine hands arguments over by value")]
fn replace(state: &State, value: &Value, args: Rest<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let (old, new, count): (Option<Value>, Option<Value>, Option<i64>) = from_args(&args)?;
    let given = |value: Option<Value>, name| value.map_or_else(|| kwargs.get::<Value>(name), Ok);
    let (old, new) = (&given(old, "old")?, &given(new, "new")?);
    let count = if count.is_some() { count } else { kwargs.get("count")? };
    kwargs.assert_all_used()?;
    replaced(state, &text_of(value)?, &text_of(old)?, &text_of(new)?, count)
}

#[expect(clippy::needless_pass_by_value, reason = "the engine hands arguments over by value")]
fn join(state: &mut State, value: &Value, args: Rest<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    // `none` is a joiner like any other.
    listed(value)?;
    let joiner = match args.first() {
        Some(joiner) => Some(joiner.clone()),
        None if kwargs.has("d") => Some(kwargs.get("d")?),
        None => None,
    };
    let (_, attribute): (Option<&Value>, Option<Value>) = from_args(&args)?;
    let attribute = if attribute.is_some() { attribute } else { kwargs.get("attribute")? };
    kwargs.assert_all_used()?;
    let joiner = joiner.map_or_else(|| Ok(String::new()), |joiner| text_of(&joiner))?;
    let mapped = match attribute {
        Some(attribute) => {
            let attribute = Value::from(Kwargs::from_iter([("attribute", attribute)]));
            &state.apply_filter("map", &[value.clone(), attribute])?
        }
        None => value,
    };
    touch(state, mapped)?;
    let mut out = String::new();
    for (index, item) in mapped.try_iter()?.enumerate() {
        let owned;
        let text = if let Some(text) = item.as_str() {
            text
        } else {
            owned = text_of(&item)?;
            &owned
        };
        charge(state, joiner.len() + text.len() + 64)?;
        out.push_str(if index > 0 { &joiner } else { "" });
        out.push_str(text);
    }
    Ok(Value::from(out))
}

fn reverse(state: &State, value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(iterable(Vec::new())),
        ValueKind::String => Ok(Value::from(value.as_str().unwrap_or_default().chars().rev().collect::<String>())),
        ValueKind::None => Err(Error::new(ErrorKind::InvalidOperation, "cannot reverse values of type none")),
        _ => {
            touch(state, value)?;
            let mut items = collect(state, value)?;
            items.reverse();
            Ok(iterable(items))
        }
    }
}

fn last(state: &State, value: Value) -> Result<Value, Error> {
    match value.kind() {
        // A `range`, say, which the engine would go through to its end for the price of one step.
        ValueKind::Iterable => Ok(collect(state, &value)?.pop().unwrap_or(Value::UNDEFINED)),
        _ => touch(state, &value).and_then(|()| filters::last(value)),
    }
}

fn items(state: &State, value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(iterable(Vec::new())),
        ValueKind::Map => pairs(state, value),
        _ => Err(Error::new(ErrorKind::InvalidOperation, "cannot convert value into pairs")),
    }
}

/// The keys and values of a dictionary.
pub(super) fn pairs(state: &State, value: &Value) -> Result<Value, Error> {
    charge(state, value.len().unwrap_or(0).saturating_mul(192))?;
    let pairs = value.as_object().and_then(DynObject::try_iter_pairs);
    let pairs = pairs.into_iter().flatten().map(|(key, value)| Value::from(Tuple::from([key, value])));
    Ok(iterable(pairs.collect()))
}

#[expect(clippy::needless_pass_by_value, reason = "the engine hands arguments over by value")]
fn sum(
    state: &mut State,
    value: Value,
    attribute: Option<&str>,
    start: Option<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let start = if start.is_some() { start } else { kwargs.get("start")? };
    // Adding up texts or lists copies all before it again and again.
    if start.as_ref().is_some_and(|start| !start.is_number()) {
        return Err(unproven("`sum` of what is no number"));
    }
    let attribute = if attribute.is_some() { attribute } else { kwargs.get("attribute")? };
    kwargs.assert_all_used()?;
    listed(&value)?;
    let values = match attribute {
        Some(attribute) => {
            let attribute = Value::from(Kwargs::from_iter([("attribute", Value::from(attribute))]));
            state.apply_filter("map", &[value, attribute])?
        }
        None => value,
    };
    let values = collect(state, &values)?;
    if !values.iter().all(|value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool)) {
        return Err(unproven("`sum` of what is no number"));
    }
    filters::sum(state, Value::from(values), None, start, std::iter::empty::<(String, Value)>().collect())
}
