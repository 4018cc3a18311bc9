//! Stretches of a message that are not prose and keep every letter: code, formulas, tags, tables, data.
//!
//! Only what can hold a space needs a stretch. Links, addresses, paths, `@handles` and `file.names` are one token each and
//! are recognised where the token is judged (`sentence`).

use memchr::memmem;

/// Byte ranges in ascending order that do not overlap.
#[derive(Debug, Default)]
pub(super) struct Protected {
    spans: Vec<(usize, usize)>,
}

impl Protected {
    /// Whether the byte at `at` belongs to a protected stretch.
    pub(super) fn covers(&self, at: usize) -> bool {
        let next = self.spans.partition_point(|&(_, end)| end <= at);
        self.spans.get(next).is_some_and(|&(start, _)| start <= at)
    }

    /// The stretches, in their order.
    pub(super) fn spans(&self) -> &[(usize, usize)] {
        &self.spans
    }

    fn push(&mut self, start: usize, end: usize) {
        match self.spans.last_mut() {
            Some(last) if last.1 >= start => last.1 = last.1.max(end),
            _ => self.spans.push((start, end)),
        }
    }
}

/// Openers whose closer may stand on another line; an opener without a closer protects nothing.
const PAIRS: [(&str, &str); 10] = [
    ("$$", "$$"),
    ("\\(", "\\)"),
    ("\\[", "\\]"),
    ("\\begin{", "\\end{"),
    ("<code", "</code>"),
    ("<pre", "</pre>"),
    ("<script", "</script>"),
    ("<style", "</style>"),
    ("<svg", "</svg>"),
    ("<!--", "-->"),
];

/// How far an inline stretch may reach: longer ones are accidents, and a limit keeps the pass linear.
const INLINE: usize = 1000;

/// Finds all protected stretches in one pass.
pub(super) fn protected(text: &str) -> Protected {
    let bytes = text.as_bytes();
    let mut found = Protected::default();
    let mut unclosed = [false; PAIRS.len()]; // keeps the pass linear: each missing closer is looked for once
    let mut at = 0;
    let mut line_start = true;
    while at < bytes.len() {
        if line_start {
            let line = text[at..].split('\n').next().unwrap_or_default();
            if let Some(fence) = fence(line) {
                let end = closing_fence(text, at + line.len(), fence);
                found.push(at, end);
                at = end;
                continue;
            }
            if is_data_line(line) {
                found.push(at, at + line.len());
                at += line.len() + 1;
                continue;
            }
        }
        line_start = bytes[at] == b'\n';
        let end = match bytes[at] {
            b'`' => Some(inline_code(bytes, at)),
            b'$' | b'\\' | b'<' => pair(text, at, &mut unclosed).or_else(|| match bytes[at] {
                b'$' => dollars(bytes, at),
                b'<' => tag(bytes, at),
                _ => None,
            }),
            _ => None,
        };
        if let Some(end) = end {
            found.push(at, end);
            at = end;
        } else {
            at += 1;
        }
    }
    found
}

/// The fence that a line opens: its character and length.
fn fence(line: &str) -> Option<(u8, usize)> {
    let line = line.trim_start().as_bytes();
    let mark = *line.first().filter(|mark| matches!(mark, b'`' | b'~'))?;
    let length = line.iter().take_while(|&&byte| byte == mark).count();
    (length >= 3 && (mark == b'~' || !line[length..].contains(&b'`'))).then_some((mark, length))
}

/// Where the fenced block ends: behind its closing line, at the end of the text if there is none.
fn closing_fence(text: &str, from: usize, (mark, length): (u8, usize)) -> usize {
    let mut at = from;
    while at < text.len() {
        at += 1; // the line break
        let line = text[at..].split('\n').next().unwrap_or_default();
        let trimmed = line.trim();
        if trimmed.len() >= length && trimmed.bytes().all(|byte| byte == mark) {
            return at + line.len();
        }
        at += line.len();
    }
    text.len()
}

/// `code` between equal runs of backticks on one line; only the run itself if it has no partner.
fn inline_code(bytes: &[u8], at: usize) -> usize {
    let run = |from: usize| bytes[from..].iter().take_while(|&&byte| byte == b'`').count();
    let width = run(at);
    let mut next = at + width;
    while next < bytes.len().min(at + width + INLINE) && bytes[next] != b'\n' {
        match run(next) {
            0 => next += 1,
            other if other == width => return next + width,
            other => next += other,
        }
    }
    at + width
}

/// `$x + y$` on one line. As in pandoc no white space stands inside next to the dollars and no digit behind the second,
/// so that prices do not pair up.
fn dollars(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at + 1).is_none_or(u8::is_ascii_whitespace) {
        return None;
    }
    (at + 2..bytes.len().min(at + INLINE))
        .take_while(|&close| bytes[close] != b'\n')
        .find(|&close| {
            bytes[close] == b'$'
                && !matches!(bytes[close - 1], b'\\' | b' ' | b'\t')
                && !bytes.get(close + 1).is_some_and(u8::is_ascii_digit)
        })
        .map(|close| close + 1)
}

/// A tag, a link in angle brackets or a special token such as `<|user|>`, on one line.
fn tag(bytes: &[u8], at: usize) -> Option<usize> {
    if !bytes.get(at + 1).is_some_and(|&byte| byte.is_ascii_alphabetic() || matches!(byte, b'/' | b'!' | b'|' | b'?')) {
        return None;
    }
    let close = bytes[at..].iter().take(INLINE).position(|&byte| matches!(byte, b'>' | b'\n'))?;
    (bytes[at + close] == b'>').then_some(at + close + 1)
}

/// One of [`PAIRS`].
fn pair(text: &str, at: usize, unclosed: &mut [bool; PAIRS.len()]) -> Option<usize> {
    let rest = &text.as_bytes()[at..];
    let which = PAIRS.iter().position(|(open, _)| rest.starts_with(open.as_bytes()))?;
    let (open, close) = PAIRS[which];
    if unclosed[which] {
        return None;
    }
    let end = memmem::find(&rest[open.len()..], close.as_bytes()).map(|found| at + open.len() + found + close.len());
    unclosed[which] = end.is_none();
    end
}

/// Whether a whole line is code, a table row, a heading, JSON or YAML.
fn is_data_line(line: &str) -> bool {
    let trimmed = line.trim();
    let bytes = trimmed.as_bytes();
    let Some(&first) = bytes.first() else { return false };
    let indent = line.len() - line.trim_start().len();
    if (indent >= 4 || line.starts_with('\t')) && !is_list_item(bytes) {
        return true;
    }
    matches!(first, b'|' | b'{' | b'}' | b'#' | b'@' | b'%')
        || ["//", "/*", "--", ">>>", "$ "].iter().any(|start| trimmed.starts_with(start))
        || matches!(bytes[bytes.len() - 1], b';' | b'{' | b'}' | b'\\' | b'|')
        || trimmed.matches(" | ").take(2).count() == 2
        || is_key(trimmed)
        || (is_short(trimmed)
            && [" = ", "==", ":=", "!=", "=>", "->", "<-", "+=", "&&", "()", "\": ", "::"]
                .iter()
                .any(|sign| trimmed.contains(sign)))
}

/// Fewer than twelve words: a longer line with a `=` somewhere is a paragraph that quotes a formula.
fn is_short(line: &str) -> bool {
    line.split(' ')
        .filter(|word| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_alphabetic()))
        .take(12)
        .count()
        < 12
}

/// A bullet or a numbered item: deep indentation does not make these code.
fn is_list_item(trimmed: &[u8]) -> bool {
    let digits = trimmed.iter().take_while(|byte| byte.is_ascii_digit()).count();
    matches!(trimmed, [b'-' | b'*' | b'+', b' ', ..])
        || (digits > 0 && matches!(trimmed.get(digits..digits + 2), Some([b'.' | b')', b' '])))
}

/// `key: value`, the key one lowercase word: YAML, a header line or a role marker such as `user:`.
fn is_key(trimmed: &str) -> bool {
    let key = trimmed.strip_prefix("- ").unwrap_or(trimmed);
    let length = key.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')).count();
    length > 0 && key.as_bytes()[0].is_ascii_lowercase() && key[length..].starts_with(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text with every protected byte replaced by a dot.
    fn masked(text: &str) -> String {
        let spans = protected(text);
        text.char_indices().map(|(at, letter)| if letter != '\n' && spans.covers(at) { '.' } else { letter }).collect()
    }

    #[test]
    fn guard_1_code() {
        assert_eq!(masked("a `b. c` d"), "a ...... d");
        assert_eq!(masked("a ``b ` c`` d `e"), "a ......... d .e", "a lone backtick");
        assert_eq!(masked("a\n```py\nb. c\n```\nd"), "a\n.....\n....\n...\nd");
        assert_eq!(masked("a\n~~~~\nb\n~~~\nc"), "a\n....\n.\n...\n.", "an unclosed fence reaches to the end");
        assert_eq!(masked("a\n    b. c\n- d\n    - e"), "a\n........\n- d\n    - e");
        assert_eq!(masked("x = 3. y\nint f;\na"), "........\n......\na");
    }

    #[test]
    fn guard_1_latex() {
        assert_eq!(masked("a $x. y$ b"), "a ...... b");
        assert_eq!(masked("a $5 and $6. b"), "a $5 and $6. b");
        assert_eq!(masked("a $$x\ny$$ b \\(c\\) d \\[e\\] f \\(g"), "a ...\n... b ..... d ..... f \\(g");
    }

    #[test]
    fn guard_1_tags_tables_data_and_markers() {
        assert_eq!(masked("a <b c. d> e < f"), "a ........ e < f");
        assert_eq!(masked("<|user|> a <code>b. c</code> d"), "........ a ................. d");
        assert_eq!(masked("| a. b |\na | b | c\nd | e"), "........\n.........\nd | e");
        assert_eq!(
            masked("{\n  \"a\": \"b. c\"\n}\nkey: d. e\n- name: f\nuser: g"),
            ".\n.............\n.\n.........\n.........\n......."
        );
        assert_eq!(masked("Note: a. b\nAs said: c"), "Note: a. b\nAs said: c");
    }

    #[test]
    fn stays_linear_without_closers() {
        let text = "\\( <code $$ <b $a `` ` ".repeat(20_000);
        assert!(!protected(&text).covers(0));
    }
}
