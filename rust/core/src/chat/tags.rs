//! What has to be done to a template's source before minijinja reads it as jinja2 would.
//!
//! - jinja2 reads every line break as `\n` and drops one at the end.
//! - transformers adds the tags `{% generation %}` … `{% endgeneration %}`. They become a filter block inside of a scope,
//!   which has the same white space and the same scope, and whose filter sees what stands between them.

use std::borrow::Cow;
use std::collections::BTreeSet;

/// The filter that stands for the tags.
pub(super) const FILTER: &str = "generation_of_zephyr_data";

/// The source for minijinja, and whether it marks generations.
pub(super) fn rewrite(source: &str) -> (String, bool) {
    let mut source = Cow::Borrowed(source);
    if source.contains('\r') {
        source = Cow::Owned(source.replace("\r\n", "\n").replace('\r', "\n"));
    }
    let source = source.strip_suffix('\n').unwrap_or(&source);
    let mut out = String::with_capacity(source.len() + 256);
    let mut tagged = false;
    let mut rest = source;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = construct(rest);
        match tag(&rest[..length]) {
            Some(("generation", left, right)) => {
                tagged = true;
                out.push_str(&["{%", left, " with %}{% filter ", FILTER, " ", right, "%}"].concat());
            }
            Some(("endgeneration", left, right)) => {
                out.push_str(&["{%", left, " endfilter %}{% endwith ", right, "%}"].concat());
            }
            Some(("raw", ..)) => {
                // Everything up to the matching tag is text.
                let end = raw_end(&rest[length..]);
                out.push_str(&rest[..length + end]);
                rest = &rest[length + end..];
                continue;
            }
            _ => out.push_str(&rest[..length]),
        }
        rest = &rest[length..];
    }
    out.push_str(rest);
    (out, tagged)
}

/// The expressions and statements of a template, without its comments and raw blocks.
pub(super) fn constructs(source: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find('{') {
        rest = &rest[at..];
        let (text, after) = rest.split_at(construct(rest));
        rest = after;
        if tag(text).is_some_and(|(name, ..)| name == "raw") {
            rest = &rest[raw_end(rest)..];
        }
        if text.starts_with("{{") || text.starts_with("{%") {
            found.push(text);
        }
    }
    found
}

/// The names of the macros of a template, and of those that have a default; `caller` is one if a `call` block has any.
pub(super) fn macros(source: &str) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let (mut all, mut defaults) = (BTreeSet::new(), BTreeSet::new());
    for text in constructs(source) {
        let Some(inner) = text.strip_prefix("{%") else { continue };
        let inner = inner.trim_start_matches(['-', '+']).trim_start();
        let name = inner
            .strip_prefix("macro")
            .map(|rest| rest.trim_start().split(['(', ' ', '\n', '\t']).next().unwrap_or(""));
        all.extend(name);
        if name.is_some() || inner.starts_with("call") {
            defaults.extend(inner.contains('=').then_some(name.unwrap_or("caller")));
        }
    }
    (all, defaults)
}

/// The length of the comment, expression or statement that `text` begins with; 1 if it is only a brace.
fn construct(text: &str) -> usize {
    let (open, close) = match text.as_bytes().get(1) {
        Some(b'#') => return text.find("#}").map_or(text.len(), |end| end + 2),
        Some(b'{') => (2, "}}"),
        Some(b'%') => (2, "%}"),
        _ => return 1,
    };
    // Quoted literals may hold the closing mark, and braces of dictionaries may look like it.
    let mut quote = None;
    let mut escaped = false;
    let mut braces = 0_usize;
    for (at, c) in text.char_indices().skip(open) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(mark) if c == mark => quote = None,
            Some(_) => {}
            None if braces == 0 && text[at..].starts_with(close) => return at + 2,
            None => match c {
                '\'' | '"' => quote = Some(c),
                '{' => braces += 1,
                '}' => braces = braces.saturating_sub(1),
                _ => {}
            },
        }
    }
    text.len()
}

/// The name of a statement that consists of its name alone, and the signs at its ends.
fn tag(text: &str) -> Option<(&str, &str, &str)> {
    let inner = text.strip_prefix("{%")?.strip_suffix("%}")?;
    let (left, inner) = inner.split_at(usize::from(inner.starts_with(['-', '+'])));
    let (inner, right) = inner.split_at(inner.len() - usize::from(inner.ends_with(['-', '+'])));
    Some((inner.trim(), left, right))
}

/// Where the statement that ends a raw block begins.
fn raw_end(text: &str) -> usize {
    let mut from = 0;
    while let Some(at) = text[from..].find("{%").map(|at| from + at) {
        let end = text[at..].find("%}").map_or(text.len(), |end| at + end + 2);
        if tag(&text[at..end]).is_some_and(|(name, ..)| name == "endraw") {
            return at;
        }
        from = at + 2;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_a_filter_block() {
        let (out, tagged) = rewrite("a\r\n{%- generation -%}\rb{%endgeneration+%}\n\n");
        let wanted = format!("a\n{{%- with %}}{{% filter {FILTER} -%}}\nb{{% endfilter %}}{{% endwith +%}}\n");
        assert_eq!((out, tagged), (wanted, true));
    }

    #[test]
    fn what_only_looks_like_a_tag_stays() {
        for source in [
            "{# {% generation %} #}",
            "{{ '{% generation %}' }}",
            "{{ '\\'{% generation %}' }}",
            "{% raw %}{% generation %}{% endraw %}",
            "{%- raw -%}{% generation %}{%- endraw -%} {",
            "{% set x = {'a': {}} %}",
            "{{ {'a': {'b': 1}} }}",
            "{%",
            "{{ \"",
            "{#",
        ] {
            assert_eq!(rewrite(source), (source.to_string(), false));
        }
        assert!(rewrite("{% raw %}{% endraw %}{{ {'a': {'b': 1}}.a }}{% generation %}").1);
    }
}
