//! Finding out which bytes of a rendered text came from where, by characters that are taken out again.
//!
//! ```text
//! rendered with marks:   <|user|>\n⟦Hi⟧</s>\n
//! text:                  <|user|>\nHi</s>\n        content: 9..11
//! ```
//!
//! Each content is wrapped in characters of a private-use plane that occur nowhere in the chat. If taking them out of
//! what the template prints gives, byte for byte, what it prints without them, the template passes contents through and
//! the marks show where. If not, nothing is claimed.

use std::ops::Range;

use super::python::is_space;
use crate::record::{Message, Role};

/// The first character of the private-use plane that the marks are taken from.
const FIRST: u32 = 0xF_0000;
/// How many characters a set of marks has.
const COUNT: u32 = 5;

/// A set of marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    base: u32,
}

/// Which mark a character is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// Before a content that is not the assistant's.
    Open,
    /// Before an assistant's content.
    OpenAssistant,
    /// After a content.
    Close,
    /// At `{% generation %}`.
    Begin,
    /// At `{% endgeneration %}`.
    End,
}

/// Where the mark stands that belongs to one side of a content: at its border, or inside of the white space at its
/// border, for templates that strip that side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// At the border.
    Outside,
    /// Inside of the white space.
    Inside,
}

/// What the marks of a text say.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The contents in the order of the text, and whether each is an assistant's.
    pub(super) content: Vec<(Range<usize>, bool)>,
    /// What stands between generation tags.
    pub(super) generation: Vec<Range<usize>>,
}

impl Marks {
    /// Marks of which no character occurs in `texts`.
    pub(super) fn absent_from(texts: &[&str]) -> Marks {
        let mut base = FIRST;
        // A text holds finitely many characters, so this ends; in practice at once.
        while texts.iter().any(|text| Marks { base }.occur_in(text)) {
            base += COUNT;
        }
        Marks { base }
    }

    /// Whether one of these marks occurs in `text`.
    pub(super) fn occur_in(self, text: &str) -> bool {
        // The plane's characters all begin with this byte, which is rare.
        memchr::memchr(0xF3, text.as_bytes()).is_some() && text.chars().any(|c| self.mark(c).is_some())
    }

    fn mark(self, c: char) -> Option<Mark> {
        match (c as u32).checked_sub(self.base)? {
            0 => Some(Mark::Open),
            1 => Some(Mark::OpenAssistant),
            2 => Some(Mark::Close),
            3 => Some(Mark::Begin),
            4 => Some(Mark::End),
            _ => None,
        }
    }

    fn char(self, mark: Mark) -> char {
        let offset = match mark {
            Mark::Open => 0,
            Mark::OpenAssistant => 1,
            Mark::Close => 2,
            Mark::Begin => 3,
            Mark::End => 4,
        };
        mark_char(self.base + offset)
    }

    /// A message's content between marks.
    pub(super) fn wrap(self, message: &Message, left: Side, right: Side) -> String {
        let content = message.content.as_str();
        let start = match left {
            Side::Outside => 0,
            Side::Inside => content.len() - content.trim_start_matches(is_space).len(),
        };
        let end = match right {
            Side::Outside => content.len(),
            Side::Inside => content.trim_end_matches(is_space).len().max(start),
        };
        let open = if message.role == Role::Assistant { Mark::OpenAssistant } else { Mark::Open };
        let mut out = String::with_capacity(content.len() + 8);
        out.push_str(&content[..start]);
        out.push(self.char(open));
        out.push_str(&content[start..end]);
        out.push(self.char(Mark::Close));
        out.push_str(&content[end..]);
        out
    }

    /// What stands between generation tags, between marks.
    pub(super) fn wrap_generation(self, body: &str) -> String {
        format!("{}{body}{}", self.char(Mark::Begin), self.char(Mark::End))
    }

    /// Takes the marks out of `marked` and appends the rest to `text`. `None` if they do not come in pairs: then the
    /// template has cut a content to pieces.
    pub(super) fn take_out(self, marked: &str, text: &mut String) -> Option<Found> {
        let mut found = Found::default();
        let mut content: Option<(usize, bool)> = None;
        let mut generation = Vec::new();
        let mut done = 0;
        for (at, _) in marked.bytes().enumerate().filter(|&(_, byte)| byte == 0xF3) {
            let Some(c) = marked.get(at..).and_then(|rest| rest.chars().next()) else { continue };
            let Some(mark) = self.mark(c) else { continue };
            text.push_str(&marked[done..at]);
            done = at + c.len_utf8();
            match mark {
                Mark::Open | Mark::OpenAssistant if content.is_none() => {
                    content = Some((text.len(), mark == Mark::OpenAssistant));
                }
                Mark::Close => {
                    let (start, assistant) = content.take()?;
                    found.content.push((start..text.len(), assistant));
                }
                Mark::Begin => generation.push(text.len()),
                Mark::End => found.generation.push(generation.pop()?..text.len()),
                Mark::Open | Mark::OpenAssistant => return None,
            }
        }
        text.push_str(&marked[done..]);
        (content.is_none() && generation.is_empty()).then_some(found)
    }
}

/// The character of that number.
fn mark_char(number: u32) -> char {
    char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one span is a list of spans")]
mod tests {
    use super::*;

    #[test]
    fn marks_come_out_as_they_went_in() {
        let marks = Marks::absent_from(&["Hi"]);
        let message = Message::new(Role::Assistant, "\u{1f} Hi\n");
        let mut text = String::new();
        let marked =
            format!("<a>{}", marks.wrap_generation(&(marks.wrap(&message, Side::Inside, Side::Outside) + "</s>")));
        let found = marks.take_out(&marked, &mut text).unwrap();
        assert_eq!(text, "<a>\u{1f} Hi\n</s>");
        assert_eq!((found.content, found.generation), (vec![(5..8, true)], vec![3..12]));
    }

    #[test]
    fn white_space_alone_keeps_its_marks_in_order() {
        let marks = Marks::absent_from(&[""]);
        let message = Message::new(Role::User, " \n");
        let mut text = String::new();
        let found = marks.take_out(&marks.wrap(&message, Side::Inside, Side::Inside), &mut text).unwrap();
        assert_eq!((text.as_str(), found.content), (" \n", vec![(2..2, false)]));
    }

    #[test]
    fn marks_that_occur_are_not_used() {
        let taken = "a\u{F0003}b";
        let marks = Marks::absent_from(&[taken]);
        assert!(!marks.occur_in(taken));
        assert!(Marks::absent_from(&[""]).occur_in(taken));
        let mut text = String::new();
        assert!(marks.take_out(taken, &mut text).is_some_and(|found| found.content.is_empty()));
        assert_eq!(text, taken);
    }

    #[test]
    fn halves_are_refused() {
        let marks = Marks::absent_from(&[""]);
        let wrapped = marks.wrap(&Message::new(Role::User, "Hi"), Side::Outside, Side::Outside);
        let half = wrapped.trim_end_matches(marks.char(Mark::Close));
        for broken in [half.to_string(), format!("{half}{wrapped}"), wrapped.replace("Hi", &wrapped)] {
            assert!(marks.take_out(&broken, &mut String::new()).is_none(), "{broken:?}");
        }
    }
}
