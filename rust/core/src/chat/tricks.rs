//! Names that mean something else to Python's objects than to the engine's: a template with one is refused before it runs.
//!
//! jinja2 looks a name up among an object's attributes, so `''.upper` is a method, which is true and printed with its address,
//! and transformers forbids names with underscores in some places and hides them in others. Here such a name is only missing. Names
//! that are also usual keys (`items`, `index`, `title`, …) are not refused; what they change is found where ids are compared with
//! transformers'.

use super::tags;

/// Methods and attributes of Python's strings, lists, dictionaries and numbers that are no usual keys of messages.
const ATTRIBUTES: [&str; 43] = [
    "append",
    "as_integer_ratio",
    "bit_length",
    "capitalize",
    "casefold",
    "center",
    "encode",
    "endswith",
    "expandtabs",
    "extend",
    "find",
    "format_map",
    "fromkeys",
    "get",
    "imag",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "islower",
    "isnumeric",
    "isspace",
    "istitle",
    "isupper",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "popitem",
    "real",
    "removeprefix",
    "removesuffix",
    "rfind",
    "rsplit",
    "rstrip",
    "setdefault",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "upper",
    "zfill",
];

/// The first thing in a template that the engine does not do as jinja2 does, if there is one.
pub(super) fn find(source: &str) -> Option<String> {
    tags::constructs(source).into_iter().find_map(in_construct)
}

/// The same in one expression or statement.
fn in_construct(text: &str) -> Option<String> {
    let mut rest = text.get(2..)?;
    if text.starts_with("{%") {
        rest = rest.trim_start_matches(['-', '+']).trim_start();
        let name = &rest[..word(rest)];
        if matches!(name, "autoescape" | "include") {
            return Some(name.to_string());
        }
    }
    // The last signs that are no white space, and what stood before the last bracket.
    let (mut before, mut before_bracket) = (' ', ' ');
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        if matches!(c, '\'' | '"') {
            let literal = &rest[1..=literal(&rest[1..], c)];
            length = (literal.len() + 2).min(rest.len());
            let subscript = before == '[' && is_operand(before_bracket) && next(&rest[length..]) == ']';
            let hidden = literal.len() > 4 && literal.starts_with("__") && literal.ends_with("__");
            if hidden || literal.contains(".__") || subscript && ATTRIBUTES.contains(&literal) {
                return Some(literal.to_string());
            }
        } else if is_word(c) {
            length = word(rest);
            let name = &rest[..length];
            let attribute = name.starts_with('_') || ATTRIBUTES.contains(&name) && next(&rest[length..]) != '(';
            if before == '.' && attribute || before != '.' && name == "self" {
                return Some(name.to_string());
            }
        } else if c == '[' {
            before_bracket = before;
        }
        if matches!(&rest[..length], "and" | "else" | "if" | "in" | "is" | "not" | "or") {
            before = ' ';
        } else if !c.is_whitespace() {
            before = rest[..length].chars().next_back().unwrap_or(c);
        }
        rest = &rest[length..];
    }
    None
}

/// Whether a bracket after this sign takes an element out of something.
fn is_operand(c: char) -> bool {
    is_word(c) || matches!(c, ')' | ']' | '}' | '\'' | '"')
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of the word that `text` begins with.
fn word(text: &str) -> usize {
    text.find(|c| !is_word(c)).unwrap_or(text.len())
}

/// The first sign that is no white space.
fn next(text: &str) -> char {
    text.trim_start().chars().next().unwrap_or(' ')
}

/// The length of a literal without its quotes.
fn literal(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_python() {
        for (source, name) in [
            ("{{ ''.__class__ }}", "__class__"),
            ("{{ ''['__class__'] }}", "__class__"),
            ("{%- set n._x = 1 %}", "_x"),
            ("{{ messages | map(attribute='a.__class__') }}", "a.__class__"),
            ("a{{ x }}{% if m.content.startswith is defined %}", "startswith"),
            ("{{ m . upper }}", "upper"),
            ("{{ 'é\\'a' [ \"upper\" ] ('') }}", "upper"),
            ("{{ {'a': 1}['get'] }}", "get"),
            ("{% include 'x' ignore missing %}", "include"),
            ("{%- autoescape true %}", "autoescape"),
            ("{{ self }}", "self"),
            ("{{ 'unterminated", ""),
        ] {
            assert_eq!(find(source), Some(name.to_string()).filter(|name| !name.is_empty()), "{source}");
        }
    }

    #[test]
    fn names_of_templates() {
        for source in [
            "{{ m.content.strip() }}{{ m.content.upper ('x') }}{{ ''.join([]) }}",
            "{# ''.__class__ #}{% raw %}{{ ''.__class__ }}{% endraw %} self.__class__",
            "{% set _x = 1 %}{{ _x }}{{ '__' }}{{ 'a__b' }}",
            "{{ m.items }}{{ ns.index }}{{ loop.index0 }}{{ tool.self }}",
            "{% if m.role in ['get', 'upper'] or ['upper'] %}{% endif %}",
            "{{ 'é' | upper }}{{ x | map('upper') }}{{ upper }}{{ 1.5 }}",
        ] {
            assert_eq!(find(source), None, "{source}");
        }
    }
}
