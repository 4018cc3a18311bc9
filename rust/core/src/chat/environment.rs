//! The engine, set up to behave as transformers' jinja2 environment does, and its errors.
//!
//! Filters, tests and functions are those that jinja2 has and that print the same; whatever else a template calls is an
//! error, never a guess. Nor is a template trusted: the work and the output of one render are bounded, so that an
//! endless loop ends in an error.

use std::fmt::{self, Write};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, ValueKind};
use minijinja::{AutoEscape, Environment, ErrorKind, Value};

use super::marks::Marks;
use super::template::refused;
use super::{bounds, filters, python, strict, tags};
use crate::error::{Error, Result};

/// minijinja's filters that jinja2 does not have, or that print otherwise than in Python.
const REMOVED_FILTERS: [&str; 18] = [
    "attr", "batch", "bool", "chain", "e", "escape", "float", "format", "groupby", "indent", "int", "lines", "pprint",
    "round", "safe", "slice", "split", "zip",
];
/// Likewise its tests.
const REMOVED_TESTS: [&str; 7] = ["endingwith", "escaped", "filter", "int", "safe", "startingwith", "test"];
/// jinja2's functions that are not here. They are there in jinja2 without being called, so they are here, too.
const ABSENT_FUNCTIONS: [&str; 3] = ["cycler", "joiner", "lipsum"];
/// What an error says of what a template says, in characters.
const LONGEST_REASON: usize = 300;

/// The fuel of one render of a short chat: one for each instruction, for every 64 bytes that the template makes, and for each value
/// or 64 bytes that a step goes through ([`super::bounds`]): 3 MB at most. The templates that trl ships take 190 (the median) to
/// 540 for two short turns, 27,000 to 890,000 for 400.
pub(super) const FUEL: u64 = 50_000;
/// What a render gets at least for each message.
pub(super) const FUEL_PER_MESSAGE: u64 = 10_000;
/// And for each byte: enough to go through a content character by character, or to copy it hundreds of times.
pub(super) const FUEL_PER_BYTE: u64 = 8;
/// What a render gets at most, however long the chat: it makes 320 MB at most (and holds twice that for a moment, while a text
/// grows), and is over within a second: the slowest of `tests/test_hostile_templates.py` took 0.52 s of CPU time. trl's templates
/// take 3.6 million at most for a content of 20 MB.
pub(super) const FUEL_MOST: u64 = 5_000_000;

/// How deep macros and loops may nest; the engine's default of 500 needs more stack than a worker thread has.
const RECURSION: usize = 100;

/// The environment that transformers compiles templates in.
pub(super) fn environment() -> Result<Environment<'static>> {
    let mut env = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        // `tags::rewrite` has dropped the one that jinja2 drops.
        .keep_trailing_newline(true)
        .build()
        .map_err(|error| Error::Template { message: describe(&error), hint: String::new() })?;
    env.set_syntax(syntax);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_debug(false);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(RECURSION);
    for name in REMOVED_FILTERS {
        env.remove_filter(name);
    }
    for name in REMOVED_TESTS {
        env.remove_test(name);
    }
    env.remove_global("debug");
    env.set_unknown_method_callback(python::method);
    env.set_formatter(python::print);
    env.add_filter("string", python::text_of);
    env.add_filter("trim", python::trim);
    env.add_filter("title", python::title);
    env.add_filter("capitalize", python::capitalize);
    env.add_filter("tojson", python::to_json);
    let has_length = |value: &Value| {
        matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Undefined)
    };
    env.add_test("sequence", has_length);
    env.add_test("iterable", move |value: &Value| has_length(value) || value.kind() == ValueKind::Iterable);
    env.add_function("raise_exception", |message: &Value| -> Result<Value, minijinja::Error> {
        let reason = python::text_of(message).unwrap_or_else(|_| format!("a {}", message.kind()));
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, "raised").with_source(Raised(reason)))
    });
    for name in ABSENT_FUNCTIONS {
        env.add_function(name, move |_: Rest<Value>| -> Result<Value, minijinja::Error> {
            Err(python::unproven(&format!("`{name}`")))
        });
    }
    env.add_function("strftime_now", |_: &Value| -> Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, "date").with_source(Today))
    });
    bounds::install(&mut env);
    filters::install(&mut env);
    strict::install(&mut env);
    Ok(env)
}

/// Makes `env` mark generations by `marks`.
pub(super) fn set_marks(env: &mut Environment<'static>, marks: Marks) {
    env.add_filter(tags::FILTER, move |body: &str| marks.wrap_generation(body));
}

/// A template's `raise_exception`.
#[derive(Debug)]
struct Raised(String);

/// A template's `strftime_now`.
#[derive(Debug)]
struct Today;

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A template may put a whole message into its reason.
        self.0.chars().take(LONGEST_REASON).try_for_each(|c| f.write_char(c))
    }
}

impl fmt::Display for Today {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("today's date")
    }
}

impl std::error::Error for Raised {}
impl std::error::Error for Today {}

/// The error for a render that failed.
pub(super) fn render_error(error: &minijinja::Error) -> Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(raised) = cause.downcast_ref::<Raised>() {
            return refused(&raised.to_string());
        }
        if cause.is::<Today>() {
            return Error::Template {
                message: "it prints today's date, so that the same chats would give other tokens tomorrow".to_string(),
                hint: "give a template with a fixed date in place of `strftime_now(...)`".to_string(),
            };
        }
        source = cause.source();
    }
    if out_of_fuel(error) {
        return Error::Template {
            message: "it does not come to an end: it was stopped after many times the work that a chat takes"
                .to_string(),
            hint: "look for a loop without an end, or a text that is repeated without limit".to_string(),
        };
    }
    Error::Template {
        message: format!("it failed: {}", describe(error)),
        hint: "drop such chats, or give a template that renders them without this".to_string(),
    }
}

/// Whether a render was stopped because it took too much.
pub(super) fn out_of_fuel(error: &minijinja::Error) -> bool {
    error.kind() == ErrorKind::OutOfFuel
}

/// What minijinja says, and where.
pub(super) fn describe(error: &minijinja::Error) -> String {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_string);
    // A template may have a megabyte between two quotes.
    let detail: String = detail.chars().take(LONGEST_REASON).collect();
    match error.line() {
        Some(line) => format!("{detail}, in line {line}"),
        None => detail,
    }
}
