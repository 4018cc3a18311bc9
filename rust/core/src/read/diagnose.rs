//! Where and why a JSON value is no row: the slow second look at what the fast parser refused.

use serde_json::{Map, Value};

use super::shape::{Fault, KNOWN, Shape, Slot};

/// Where and why a line of JSON is no row; `None` if nothing is found.
pub(super) fn diagnose(text: &[u8], shape: Shape) -> Option<Fault> {
    let object = match parse_object(text, KNOWN) {
        Ok(object) => object,
        Err(fault) => return Some(fault),
    };
    for group in shape.needed() {
        // Null stands for an absent column in one of two names, as tables write it.
        let there = |name: &&&str| object.get(**name).is_some_and(|value| group.len() == 1 || !value.is_null());
        if !group.iter().any(|name| there(&name)) {
            return Some(missing(group[0], shape, &object));
        }
    }
    shape.columns().iter().find_map(|(name, slot)| {
        let value = object.get(*name)?;
        diagnose_column(value, name, *slot, shape)
    })
}

/// A line of JSON as an object; `hint` says what else a row must be.
pub(super) fn parse_object(text: &[u8], hint: &str) -> Result<Map<String, Value>, Fault> {
    if let Err(error) = std::str::from_utf8(text) {
        let message = format!("the line is not UTF-8 from byte {} on", error.valid_up_to() + 1);
        return Err(Fault::new("", message, "convert the file to UTF-8"));
    }
    match serde_json::from_slice(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(Fault::new("", format!("expected a JSON object, found {}", type_name(&other)), hint)),
        Err(error) => {
            let words = error.to_string();
            let words = words.split(" at line ").next().unwrap_or_default();
            let message = format!("not valid JSON: {words}, column {}", error.column());
            Err(Fault::new("", message, "each line must be one JSON object"))
        }
    }
}

fn diagnose_column(value: &Value, name: &str, slot: Slot, shape: Shape) -> Option<Fault> {
    let needed = shape.needed().iter().any(|group| *group == [name]);
    if value.is_null() && !needed {
        return None;
    }
    match slot {
        Slot::Id => None,
        Slot::System | Slot::Input => (!value.is_string()).then(|| {
            Fault::new(name, format!("expected a string, found {}", type_name(value)), "write text, or leave it out")
        }),
        Slot::ScoreChosen | Slot::ScoreRejected => (!value.is_number()).then(|| {
            let message = format!("expected a number, found {}", type_name(value));
            Fault::new(name, message, "write scores as numbers, or leave the column out")
        }),
        Slot::Turns if shape == Shape::Transcript => (!value.is_string())
            .then(|| Fault::new(name, format!("expected a string, found {}", type_name(value)), KNOWN)),
        Slot::Turns => diagnose_said(value, name, shape, false),
        Slot::Prompt | Slot::Answer | Slot::Chosen | Slot::Rejected => diagnose_said(value, name, shape, true),
    }
}

fn missing(name: &str, shape: Shape, object: &Map<String, Value>) -> Fault {
    let found: Vec<String> = object.keys().take(12).map(|key| format!("`{key}`")).collect();
    let found = if found.is_empty() { "no field at all".to_string() } else { found.join(", ") };
    let kind = shape.kind();
    let hint = match json_shape(object, None) {
        Some(other) if other.kind() != kind => format!(
            "the row has {found}: it is a {}, the run is for rows of the kind `{}`; prepare each kind on its own",
            other.kind().as_str(),
            kind.as_str()
        ),
        Some(other) if other != shape => format!(
            "the row has {found}: its shape is `{}`, that of the file `{}`; put rows of each shape into files of their own",
            other.as_str(),
            shape.as_str()
        ),
        _ => format!("the row has {found}; {KNOWN}"),
    };
    Fault::new("", format!("no field `{name}`"), hint)
}

/// The shape that an object's columns make.
pub(super) fn json_shape(object: &Map<String, Value>, kind: Option<crate::record::Kind>) -> Option<Shape> {
    let has = |name: &str| object.get(name).is_some_and(|value| !value.is_null());
    Shape::of(kind, has, |name| object.get(name).and_then(Value::as_str).map(Into::into))
}

fn diagnose_said(value: &Value, name: &str, shape: Shape, text_allowed: bool) -> Option<Fault> {
    if text_allowed && value.is_string() {
        return None;
    }
    let Some(turns) = value.as_array() else {
        let expected = if text_allowed { "a string or a list of messages" } else { "a list of messages" };
        return Some(Fault::new(name, format!("expected {expected}, found {}", type_name(value)), KNOWN));
    };
    turns.iter().enumerate().find_map(|(index, turn)| diagnose_turn(turn, &format!("{name}[{index}]"), shape))
}

fn diagnose_turn(turn: &Value, place: &str, shape: Shape) -> Option<Fault> {
    let fields = shape.turn_fields();
    let hint = format!("a message is an object with the strings `{}` and `{}`", fields[0].0, fields[0].1);
    let Some(turn) = turn.as_object() else {
        return Some(Fault::new(place, format!("expected a message, found {}", type_name(turn)), hint));
    };
    let named = |own: &'static str, other: &'static str| if turn.contains_key(own) { own } else { other };
    let role = named(fields[0].0, fields[1].0);
    match turn.get(role) {
        None => return Some(Fault::new(place, format!("no field `{}`", fields[0].0), hint)),
        Some(Value::String(name)) if shape.role(name).is_none() => {
            let message = format!("unknown role `{name}`");
            return Some(Fault::new(format!("{place}.{role}"), message, shape.roles_hint()));
        }
        Some(Value::String(_)) => {}
        Some(other) => {
            let message = format!("expected a string, found {}", type_name(other));
            return Some(Fault::new(format!("{place}.{role}"), message, hint));
        }
    }
    let content = named(fields[0].1, fields[1].1);
    match turn.get(content) {
        None => Some(Fault::new(place, format!("no field `{}`", fields[0].1), hint)),
        Some(Value::String(_)) => None,
        Some(Value::Array(parts)) => parts
            .iter()
            .enumerate()
            .find_map(|(index, part)| diagnose_part(part, &format!("{place}.{content}[{index}]"))),
        Some(other) => {
            let message = format!("expected a string, found {}", type_name(other));
            Some(Fault::new(format!("{place}.{content}"), message, hint))
        }
    }
}

fn diagnose_part(part: &Value, place: &str) -> Option<Fault> {
    let hint = "a part is an object like `{\"type\": \"text\", \"text\": \"…\"}`; images and other parts are not read";
    let Some(part) = part.as_object() else {
        return Some(Fault::new(place, format!("expected a part, found {}", type_name(part)), hint));
    };
    match (part.get("type").and_then(Value::as_str), part.get("text")) {
        (Some("text"), Some(Value::String(_))) => None,
        (Some("text"), _) => Some(Fault::new(place, "no string `text`", hint)),
        (Some(other), _) => Some(Fault::new(format!("{place}.type"), format!("unknown part `{other}`"), hint)),
        (None, _) => Some(Fault::new(place, "no string `type`", hint)),
    }
}

pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
