//! Where Python's strings and JSON differ from Rust's: the parts of them that chat templates use.
//!
//! transformers renders templates with Python's jinja2, so white space, JSON and string methods must be Python's here.
//! Where this file does not know what Python does, it refuses instead of guessing.

use std::fmt::Write;

use minijinja::value::{DynObject, Kwargs, Rest, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use super::bounds::{iterable, touch, walk};
use super::filters::pairs;
use super::strict::hashed;

/// `str.isspace` of one character: Unicode white space and the four ASCII separators that Rust does not count.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `str.strip()`.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// An error for what cannot be proven to be equal to Python.
pub(super) fn unproven(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{what} is not supported here with Python's exact behaviour"))
}

/// Methods of strings, lists and dictionaries, as Python has them.
pub(super) fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    // What is looked for is hashed, compared or prepared for a search.
    for arg in args {
        walk(state, arg)?;
    }
    let Some(text) = value.as_str() else {
        return match (name, value.kind()) {
            ("items", ValueKind::Map) => from_args(args).and_then(|()| pairs(state, value)),
            ("keys" | "values", ValueKind::Map) => {
                let () = from_args(args)?;
                touch(state, value)?;
                let pairs = value.as_object().and_then(DynObject::try_iter_pairs).into_iter().flatten();
                Ok(iterable(pairs.map(|(key, value)| if name == "keys" { key } else { value }).collect()))
            }
            _ => {
                if let ("get", Some(key)) = (name, args.first()) {
                    hashed(key)?;
                }
                if matches!(name, "count" | "index") {
                    walk(state, value)?;
                }
                pycompat::unknown_method_callback(state, value, name, args)
            }
        };
    };
    match name {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            charge_strip(state, text, chars)?;
            let in_set = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
            let text = if name == "rstrip" { text } else { text.trim_start_matches(in_set) };
            Ok(Value::from(if name == "lstrip" { text } else { text.trim_end_matches(in_set) }))
        }
        "removeprefix" | "removesuffix" => {
            let (part,): (&str,) = from_args(args)?;
            let cut = if name == "removeprefix" { text.strip_prefix(part) } else { text.strip_suffix(part) };
            Ok(Value::from(cut.unwrap_or(text)))
        }
        "split" | "rsplit" | "splitlines" if text.len() > 4096 => {
            // A value for each part: dearer than the bytes.
            charge(state, text.len().saturating_mul(16))?;
            if name == "splitlines" { lines(text, args) } else { split(text, args, name == "rsplit") }
        }
        "split" | "rsplit" => split(text, args, name == "rsplit"),
        "splitlines" => lines(text, args),
        // These two can make far more than they are given, which the engine would notice too late.
        "replace" => {
            let (old, new, count): (&str, &str, Option<i64>) = from_args(args)?;
            replaced(state, text, old, new, count)
        }
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            let mut out = String::new();
            for (index, item) in items.try_iter()?.enumerate() {
                let item = item.as_str().ok_or_else(|| unproven("`str.join` of what is not text"))?.to_string();
                charge(state, text.len() + item.len() + 64)?;
                out.push_str(if index > 0 { text } else { "" });
                out.push_str(&item);
            }
            Ok(Value::from(out))
        }
        "isspace" => {
            let () = from_args(args)?;
            Ok(Value::from(!text.is_empty() && text.chars().all(is_space)))
        }
        // Equal for ASCII; beyond it Python goes by other tables.
        "title" | "capitalize" | "isdigit" | "isnumeric" | "isalnum" | "isalpha" | "isupper" | "islower"
            if !text.is_ascii() =>
        {
            Err(unproven(&format!("`str.{name}` of a text that is not ASCII")))
        }
        // Python's title case goes by letters, the engine's by words.
        "title" | "format" => Err(unproven(&format!("`str.{name}`"))),
        _ => pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// `str.replace`, charged for before it is made.
pub(super) fn replaced(state: &State, text: &str, old: &str, new: &str, count: Option<i64>) -> Result<Value, Error> {
    let limit = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    let found = text.matches(old).count().min(limit);
    charge(state, found.saturating_mul(new.len()).saturating_add(text.len()).saturating_add(old.len()))?;
    Ok(Value::from(text.replacen(old, new, found)))
}

/// `str.split` and `str.rsplit` with positional arguments.
fn split(text: &str, args: &[Value], from_right: bool) -> Result<Value, Error> {
    let (separator, limit): (Option<&str>, Option<i64>) = from_args(args)?;
    let limit = limit.filter(|&limit| limit >= 0).map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut parts: Vec<&str> = match (separator, limit) {
        (Some(""), _) => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        (None, Some(_)) => return Err(unproven("`str.split` at white space with a limit")),
        (None, None) => text.split(is_space).filter(|part| !part.is_empty()).collect(),
        (Some(separator), None) => text.split(separator).collect(),
        (Some(separator), Some(limit)) if from_right => text.rsplitn(limit.saturating_add(1), separator).collect(),
        (Some(separator), Some(limit)) => text.splitn(limit.saturating_add(1), separator).collect(),
    };
    if from_right {
        match (separator, limit) {
            (Some(_), Some(_)) => parts.reverse(),
            // Without a limit the two differ only where separators overlap.
            (Some(separator), None) => {
                parts = text.rsplit(separator).collect();
                parts.reverse();
            }
            _ => {}
        }
    }
    Ok(parts.into_iter().map(Value::from).collect())
}

/// Charges for making that many bytes, before they are made.
pub(super) fn charge(state: &State, bytes: usize) -> Result<(), Error> {
    state.consume_fuel(bytes as u64 / 64 + 1)
}

/// Charges for stripping characters of a set, each of which is looked for in the whole set.
fn charge_strip(state: &State, text: &str, chars: Option<&str>) -> Result<(), Error> {
    charge(state, chars.map_or(0, |chars| text.len().saturating_mul(chars.len()) / 16))
}

/// `str.splitlines()`.
fn lines(text: &str, args: &[Value]) -> Result<Value, Error> {
    let () = from_args(args)?;
    Ok(split_lines(text).into_iter().map(Value::from).collect())
}

fn split_lines(text: &str) -> Vec<&str> {
    let breaks = |c: char| {
        matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(breaks) {
        lines.push(&rest[..at]);
        let width =
            if rest[at..].starts_with("\r\n") { 2 } else { rest[at..].chars().next().map_or(1, char::len_utf8) };
        rest = &rest[at + width..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

/// The filter `trim`, which is `str.strip`.
pub(super) fn trim(state: &State, value: &Value, chars: Option<&str>) -> Result<Value, Error> {
    let text = text_of(value)?;
    charge_strip(state, &text, chars)?;
    Ok(Value::from(match chars {
        None => strip(&text),
        Some(chars) => text.trim_matches(|c| chars.contains(c)),
    }))
}

/// The filters `title` and `capitalize`, for ASCII.
pub(super) fn title(value: &Value) -> Result<String, Error> {
    let text = ascii(value, "the filter `title`")?;
    let mut out = String::with_capacity(text.len());
    let mut start = true;
    for c in text.chars() {
        out.push(if start { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() });
        start = matches!(c, '-' | '(' | '{' | '[' | '<') || is_space(c);
    }
    Ok(out)
}

/// See [`title`].
pub(super) fn capitalize(value: &Value) -> Result<String, Error> {
    let mut text = ascii(value, "the filter `capitalize`")?.to_ascii_lowercase();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    Ok(text)
}

fn ascii(value: &Value, what: &str) -> Result<String, Error> {
    let text = text_of(value)?;
    if text.is_ascii() { Ok(text) } else { Err(unproven(&format!("{what} on a text that is not ASCII"))) }
}

/// `str(value)` for what prints alike in both languages.
pub(super) fn text_of(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::String | ValueKind::Undefined | ValueKind::Bool | ValueKind::None => Ok(value.to_string()),
        ValueKind::Number if value.is_integer() => Ok(value.to_string()),
        kind => Err(unproven(&format!("a {kind} printed as text"))),
    }
}

/// Refuses to print what Python writes differently: numbers with a fraction and containers.
pub(super) fn print(out: &mut minijinja::Output, _: &mut State, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => out.write_str(text)?,
        None => out.write_str(&text_of(value)?)?,
    }
    Ok(())
}

/// The filter `tojson`, which is `json.dumps` with transformers' defaults.
#[expect(clippy::needless_pass_by_value, reason = "the engine hands arguments over by value")]
pub(super) fn to_json(state: &State, value: &Value, args: Rest<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let mut args = args.0.into_iter();
    let mut option = |name: &str| match args.next() {
        Some(value) => Ok(Some(value)),
        // What is undefined has been given, too.
        None if kwargs.has(name) => kwargs.get::<Value>(name).map(Some),
        None => Ok(None),
    };
    let ensure_ascii = option("ensure_ascii")?.is_some_and(|value| value.is_true());
    let indent = option("indent")?.filter(|value| !value.is_none());
    let separators = option("separators")?.filter(|value| !value.is_none());
    let sort_keys = option("sort_keys")?.is_some_and(|value| value.is_true());
    kwargs.assert_all_used()?;
    let indent = match indent {
        None => None,
        Some(indent) => Some(match (indent.as_str(), indent.as_usize()) {
            (Some(text), _) => text.to_string(),
            (None, Some(width)) if width <= 64 && indent.is_integer() => " ".repeat(width),
            _ => return Err(unproven("this `indent` of `tojson`")),
        }),
    };
    let (item, key) = match separators {
        Some(pair) => {
            let part = |index| pair.get_item_by_index(index).map(|value| value.to_string());
            (part(0)?, part(1)?)
        }
        None if indent.is_some() => (",".to_string(), ": ".to_string()),
        None => (", ".to_string(), ": ".to_string()),
    };
    let mut json = Json { state, out: String::new(), ensure_ascii, indent, item, key, sort_keys };
    json.value(value, 0)?;
    Ok(Value::from(json.out))
}

struct Json<'a> {
    state: &'a State<'a, 'a>,
    out: String,
    ensure_ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sort_keys: bool,
}

impl Json<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.state.consume_fuel(1)?;
        if depth > 50 {
            return Err(unproven("`tojson` of a value this deep"));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => {
                let _ = write!(self.out, "{value}");
            }
            ValueKind::String => self.string(value.as_str().unwrap_or_default())?,
            ValueKind::Seq => {
                let items = value.try_iter()?.map(|item| (None, item)).collect();
                self.container(('[', ']'), items, depth)?;
            }
            ValueKind::Map => {
                let mut items = Vec::new();
                for key in value.try_iter()? {
                    let item = value.get_item(&key)?;
                    let Some(key) = key.as_str() else {
                        return Err(unproven("`tojson` of a key that is not a string"));
                    };
                    items.push((Some(key.to_string()), item));
                }
                if self.sort_keys {
                    items.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.container(('{', '}'), items, depth)?;
            }
            kind => return Err(unproven(&format!("`tojson` of a {kind}"))),
        }
        Ok(())
    }

    fn container(
        &mut self,
        marks: (char, char),
        items: Vec<(Option<String>, Value)>,
        depth: usize,
    ) -> Result<(), Error> {
        self.out.push(marks.0);
        let empty = items.is_empty();
        for (index, (key, item)) in items.into_iter().enumerate() {
            if index > 0 {
                self.out.push_str(&self.item);
            }
            self.new_line(depth + 1)?;
            if let Some(key) = key {
                self.string(&key)?;
                self.out.push_str(&self.key);
            }
            self.value(&item, depth + 1)?;
        }
        if !empty {
            self.new_line(depth)?;
        }
        self.out.push(marks.1);
        Ok(())
    }

    fn new_line(&mut self, depth: usize) -> Result<(), Error> {
        if let Some(indent) = &self.indent {
            charge(self.state, indent.len().saturating_mul(depth))?;
            self.out.push('\n');
            self.out.push_str(&indent.repeat(depth));
        }
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<(), Error> {
        self.state.consume_fuel(text.len() as u64 / 16)?;
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                _ if c < ' ' || self.ensure_ascii && !(' '..='~').contains(&c) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                _ => self.out.push(c),
            }
        }
        self.out.push('"');
        Ok(())
    }
}
