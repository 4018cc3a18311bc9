//! What [`super::program`] puts before or in place of the steps that could cost more than the engine charges for them.
//!
//! Three rules hold together. Whoever goes through a whole value pays for all that it holds, counting what occurs twice twice.
//! A container is gone through when it is made, so none nests deeper than [`DEEPEST`], and comparing, hashing or letting go of
//! one needs little stack. And no list is a promise: what `+`, `*` and slices make is made at once, so that an element costs
//! what it seems to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{DynObject, Kwargs, Object, ObjectRepr, Rest, Tuple, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::python::{charge, text_of, unproven};
use super::strict::listed;

/// Pays for all that a value holds and gives it back.
pub(super) const WALK: &str = "zephyr:walk";
/// Pays for beginning to go through a value, and gives it back.
pub(super) const TOUCH: &str = "zephyr:touch";
/// Makes a list of what is only promised.
pub(super) const PLAIN: &str = "zephyr:plain";
/// `a ~ b`.
pub(super) const CONCAT: &str = "zephyr:concat";
/// `value[start:stop:step]`.
pub(super) const SLICE: &str = "zephyr:slice";
/// `{% set namespace.name = value %}`.
pub(super) const SET: &str = "zephyr:set";
/// Refuses what a loop must not keep.
pub(super) const STILL: &str = "zephyr:still";

/// Pays for a subscript, and refuses one that is a number with a fraction.
pub(super) const KEY: &str = "zephyr:key";
/// Pays for beginning to go through a value whose end a loop may ask for.
pub(super) const COUNTED: &str = "zephyr:counted";
/// Refuses what is no value of its own in Python.
pub(super) const SOLID: &str = "zephyr:solid";

/// How deep lists and dictionaries may nest; `tojson` goes as deep.
pub(super) const DEEPEST: usize = 50;
/// What is charged for each value gone through, in bytes made: as much as for an instruction.
const NODE: usize = 64;
/// Charged at once, so that a walk ends soon after the fuel does.
const PORTION: usize = 64 * NODE;

/// Adds the filters of this module, and those functions that make containers.
pub(super) fn install(env: &mut Environment<'static>) {
    env.add_filter(WALK, |state: &State, value: &Value| walk(state, value).map(|_| value.clone()));
    // A text is charged for as every filter's input is.
    env.add_filter(TOUCH, |state: &State, value: &Value| touch(state, value).map(|()| value.clone()));
    env.add_filter(KEY, |state: &State, value: &Value| {
        whole(value)?;
        walk(state, value).map(|_| value.clone())
    });
    env.add_filter(COUNTED, counted);
    env.add_filter(SOLID, |value: &Value| match value.kind() {
        ValueKind::Iterable => Err(unproven("what a filter or a dictionary gives to go through, used otherwise,")),
        _ => Ok(value.clone()),
    });
    env.add_filter(PLAIN, plain);
    env.add_filter(CONCAT, concat);
    env.add_filter(SLICE, slice);
    env.add_filter(SET, set);
    env.add_filter(STILL, still);
    env.add_function("namespace", namespace);
    env.add_function("dict", |state: &State, values: Rest<Value>, more: Kwargs| -> Result<Value, Error> {
        // `none` is no missing argument.
        if values.len() > 1 || values.iter().any(|value| value.kind() != ValueKind::Map) {
            return Err(unproven("`dict` of what is no dictionary"));
        }
        let made = minijinja::functions::dict(values.first().cloned(), more)?;
        walk(state, &made)?;
        Ok(made)
    });
}

/// Charges for all that `value` holds; the bytes charged.
pub(super) fn walk(state: &State, value: &Value) -> Result<usize, Error> {
    let mut walk = Walk { state, open: 0, paid: 0 };
    walk.value(value, 0)?;
    state.consume_fuel(walk.open as u64 / 64)?;
    Ok(walk.paid + walk.open)
}

struct Walk<'a> {
    state: &'a State<'a, 'a>,
    open: usize,
    paid: usize,
}

impl Walk<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.open += NODE + value.as_str().map_or(0, str::len);
        if self.open >= PORTION {
            self.state.consume_fuel(self.open as u64 / 64)?;
            self.paid += self.open;
            self.open = 0;
        }
        let Some(object) = value.as_object() else { return Ok(()) };
        if depth == DEEPEST {
            let reason = format!("values that nest more than {DEEPEST} deep");
            return Err(Error::new(ErrorKind::InvalidOperation, reason));
        }
        if let Some(items) = value.downcast_object_ref::<Vec<Value>>() {
            return items.iter().try_for_each(|item| self.value(item, depth + 1));
        }
        if let Some(items) = value.downcast_object_ref::<Tuple>() {
            return items.iter().try_for_each(|item| self.value(item, depth + 1));
        }
        match object.repr() {
            ObjectRepr::Map => {
                for (key, item) in object.try_iter_pairs().into_iter().flatten() {
                    self.value(&key, depth + 1)?;
                    self.value(&item, depth + 1)?;
                }
                Ok(())
            }
            ObjectRepr::Seq | ObjectRepr::Iterable => {
                object.try_iter().into_iter().flatten().try_for_each(|item| self.value(&item, depth + 1))
            }
            // One that holds itself has no end, and what it holds may change after this.
            _ if value.downcast_object_ref::<Namespace>().is_some() => {
                Err(Error::new(ErrorKind::InvalidOperation, "a namespace inside of a value or compared with one"))
            }
            _ => Ok(()),
        }
    }
}

/// Charges for the keys that are listed when a dictionary is gone through.
pub(super) fn touch(state: &State, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Map => charge(state, value.len().unwrap_or(0).saturating_mul(NODE / 2)),
        ValueKind::None => listed(value),
        _ => Ok(()),
    }
}

/// The elements of `value`, paid for one by one.
pub(super) fn collect(state: &State, value: &Value) -> Result<Vec<Value>, Error> {
    let mut items = Vec::new();
    for item in value.try_iter()? {
        if items.len() % 64 == 0 {
            state.consume_fuel(64)?;
        }
        items.push(item);
    }
    Ok(items)
}

/// Something to go through that is no list to templates, over elements that are there.
pub(super) fn iterable(items: Vec<Value>) -> Value {
    Value::make_object_iterable(items, |items| Box::new(items.iter().cloned()))
}

/// The engine does not know how many characters a text has, which jinja2 says in `loop.length` and `loop.last`.
fn counted(state: &State, value: &Value) -> Result<Value, Error> {
    touch(state, value)?;
    let Some(text) = value.as_str() else { return Ok(value.clone()) };
    charge(state, text.len().saturating_mul(NODE / 2))?;
    Ok(text.chars().map(Value::from).collect())
}

/// Refuses numbers with a fraction, which are no places in Python: not even `1.0`.
fn whole(value: &Value) -> Result<(), Error> {
    if value.is_number() && !value.is_integer() { Err(unproven("a place that is no whole number")) } else { Ok(()) }
}

fn plain(state: &State, value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Iterable => Ok(Value::from(collect(state, value)?)),
        _ => Ok(value.clone()),
    }
}

fn concat(left: &Value, right: &Value) -> Result<Value, Error> {
    let mut out = String::with_capacity([left, right].iter().map(|v| v.as_str().map_or(8, str::len)).sum());
    for value in [left, right] {
        match value.as_str() {
            Some(text) => out.push_str(text),
            None => out.push_str(&text_of(value)?),
        }
    }
    Ok(Value::from(out))
}

/// A slice as Python takes it, of texts by characters.
fn slice(state: &State, value: &Value, start: &Value, stop: &Value, step: &Value) -> Result<Value, Error> {
    let part = |part: &Value| -> Result<Option<i64>, Error> {
        whole(part)?;
        if part.is_none() { Ok(None) } else { i64::try_from(part.clone()).map(Some) }
    };
    let (start, stop, step) = (part(start)?, part(stop)?, part(step)?.unwrap_or(1));
    if step == 0 {
        return Err(Error::new(ErrorKind::InvalidOperation, "cannot slice by step size of 0"));
    }
    if let Some(text) = value.as_str() {
        if text.is_ascii() && step == 1 {
            let (first, count) = indices(text.len(), start, stop, step);
            return Ok(Value::from(&text[first..first + count]));
        }
        let chars: Vec<char> = text.chars().collect();
        let (first, count) = indices(chars.len(), start, stop, step);
        return Ok(Value::from(picked(&chars, first, count, step).collect::<String>()));
    }
    let tuple = value.downcast_object_ref::<Tuple>();
    let owned;
    let items: &[Value] = match (value.kind(), tuple, value.downcast_object_ref::<Vec<Value>>()) {
        (_, Some(tuple), _) => tuple,
        (_, _, Some(list)) => list,
        (ValueKind::Seq | ValueKind::Iterable, ..) => {
            owned = collect(state, value)?;
            &owned
        }
        (kind, ..) => {
            let reason = format!("value of type {kind} cannot be sliced");
            return Err(Error::new(ErrorKind::InvalidOperation, reason));
        }
    };
    let (first, count) = indices(items.len(), start, stop, step);
    charge(state, count.saturating_mul(NODE / 2))?;
    let picked: Vec<Value> = picked(items, first, count, step).collect();
    Ok(if tuple.is_some() { Value::from(Tuple::from(picked)) } else { Value::from(picked) })
}

/// The first index of a slice and how many there are, as Python's `slice.indices` has them.
fn indices(length: usize, start: Option<i64>, stop: Option<i64>, step: i64) -> (usize, usize) {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let (low, high) = if step < 0 { (-1, length - 1) } else { (0, length) };
    let place = |at: i64| if at < 0 { at.saturating_add(length).max(low) } else { at.min(high) };
    let start = start.map_or(if step < 0 { high } else { low }, place);
    let stop = stop.map_or(if step < 0 { low } else { high }, place);
    let span = if step < 0 { start - stop } else { stop - start };
    if span <= 0 {
        return (0, 0);
    }
    let count = (span.unsigned_abs() - 1) / step.unsigned_abs() + 1;
    (usize::try_from(start).unwrap_or(0), usize::try_from(count).unwrap_or(0))
}

/// `count` elements from `first` on.
fn picked<T: Clone>(items: &[T], first: usize, count: usize, step: i64) -> impl Iterator<Item = T> {
    let step = isize::try_from(step).unwrap_or(isize::MAX);
    let mut next = first;
    (0..count).map(move |_| {
        let item = items[next].clone();
        next = next.wrapping_add_signed(step);
        item
    })
}

/// Refuses what would keep a chat alive after its render if a loop remembered it: loops hold what they go through.
fn still(value: &Value) -> Result<Value, Error> {
    let is_scalar = |value: &Value| value.as_object().is_none();
    let known = value.downcast_object_ref::<Vec<Value>>().map(Vec::as_slice);
    let known = known.or_else(|| value.downcast_object_ref::<Tuple>().map(|tuple| &**tuple));
    if is_scalar(value) || known.is_some_and(|items| items.iter().all(is_scalar)) {
        return Ok(value.clone());
    }
    Err(unproven("`loop.changed` of what is no text or number"))
}

/// The object of `namespace()`: its attributes can be set.
#[derive(Debug, Default)]
struct Namespace(Mutex<BTreeMap<String, Value>>);

impl Object for Namespace {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key.as_str()?).cloned()
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<namespace>")
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the engine hands arguments over by value")]
fn namespace(state: &State, values: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let mut made = BTreeMap::new();
    if values.len() > 1 {
        return Err(Error::from(ErrorKind::TooManyArguments));
    }
    let named = Value::from(named);
    for values in values.iter().chain([&named]) {
        walk(state, values)?;
        let pairs = values.as_object().filter(|object| object.repr() == ObjectRepr::Map);
        let Some(pairs) = pairs.and_then(DynObject::try_iter_pairs) else {
            let reason = format!("expected object or keyword arguments, got {}", values.kind());
            return Err(Error::new(ErrorKind::InvalidOperation, reason));
        };
        for (key, value) in pairs {
            let Some(key) = key.as_str() else { continue };
            // transformers forbids what could be an attribute of Python's own.
            if key.starts_with('_') {
                let reason = "a name in a namespace begins with an underscore";
                return Err(Error::new(ErrorKind::InvalidOperation, reason));
            }
            made.insert(key.to_string(), value);
        }
    }
    Ok(Value::from_object(Namespace(Mutex::new(made))))
}

fn set(state: &State, namespace: &Value, name: &str, value: Value) -> Result<Value, Error> {
    let Some(values) = namespace.downcast_object_ref::<Namespace>() else {
        let reason = format!("can only assign to namespaces, not {}", namespace.kind());
        return Err(Error::new(ErrorKind::InvalidOperation, reason));
    };
    if value.as_object().is_some() {
        walk(state, &value)?;
    }
    values.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_string(), value);
    Ok(Value::from(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All slices of short lists, counted off by hand.
    #[test]
    fn slices_are_pythons() {
        let bounds: Vec<Option<i64>> = (-6..=6).map(Some).chain([None, Some(i64::MIN), Some(i64::MAX)]).collect();
        for length in 0..5_usize {
            let items: Vec<usize> = (0..length).collect();
            for (&start, &stop) in bounds.iter().flat_map(|start| bounds.iter().map(move |stop| (start, stop))) {
                for step in [-7, -2, -1, 1, 2, 7, i64::MAX, i64::MIN] {
                    let (first, count) = indices(length, start, stop, step);
                    let got: Vec<usize> = picked(&items, first, count, step).collect();
                    let place = |at: i64| if at < 0 { i128::from(at) + length as i128 } else { i128::from(at) };
                    let mut at = start.map_or(if step < 0 { length as i128 - 1 } else { 0 }, |start| {
                        place(start).clamp(-i128::from(step < 0), length as i128 - i128::from(step < 0))
                    });
                    let mut wanted = Vec::new();
                    while (0..length as i128).contains(&at)
                        && stop.is_none_or(|stop| if step < 0 { at > place(stop) } else { at < place(stop) })
                    {
                        wanted.push(usize::try_from(at).unwrap());
                        at += i128::from(step);
                    }
                    assert_eq!(got, wanted, "range({length})[{start:?}:{stop:?}:{step}]");
                }
            }
        }
    }
}
