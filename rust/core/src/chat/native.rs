//! The few templates nearly everyone uses, formatted without Jinja.
//!
//! A template is recognised by its exact text (`templates/*.jinja`), never by what it looks like: one more space in it
//! may be one more token in every chat. All of them are rows of one table, because all of them print, for each turn,
//! something that depends on the role alone, the content, and again something that depends on the role alone.

use std::collections::BTreeMap;
use std::ops::Range;

use super::python::strip;
use super::template::{Rendered, refused};
use crate::error::Result;
use crate::record::{Message, Role};

/// How a known template lays out a chat. In the texts `{bos}` and `{eos}` stand for the tokenizer's tokens.
struct Layout {
    /// The family's name, for the manifest.
    name: &'static str,
    /// The template's exact text.
    source: &'static str,
    /// Printed before everything.
    start: &'static str,
    /// Before and after a system turn's content.
    system: System,
    /// Before and after a user turn's content.
    user: (&'static str, &'static str),
    /// Before an assistant turn's content, the end-of-turn token, and what follows it.
    assistant: (&'static str, &'static str, &'static str),
    /// Printed at the end for `add_generation_prompt`.
    prompt: &'static str,
    /// Whether `prompt` is printed even where nobody asks for it.
    always_prompt: bool,
    /// What is printed in front of a chat that does not begin with a system turn.
    default_system: &'static str,
    /// Whether contents are stripped as Python's `str.strip` does.
    trim: bool,
    /// Whether the turns must alternate between user and assistant, the user first.
    alternate: Option<&'static str>,
}

/// What a template does with system turns.
#[derive(Clone, Copy)]
enum System {
    /// A turn like the others.
    Turn(&'static str, &'static str),
    /// Only as the first turn; its content goes into the first user turn, followed by this text. Elsewhere the template
    /// raises the second text.
    IntoFirstUser(&'static str, &'static str),
    /// The template raises this text.
    Refused(&'static str),
}

const ALTERNATE: &str = "Conversation roles must alternate user/assistant/user/assistant/...";
const ALTERNATE_AFTER_SYSTEM: &str =
    "After the optional system message, conversation roles must alternate user/assistant/user/assistant/...";
const ONLY_TWO_ROLES: &str = "Only user and assistant roles are supported!";
const ONE_SYSTEM: &str =
    "Only user and assistant roles are supported, with the exception of an initial optional system message!";

const CHATML: Layout = Layout {
    name: "chatml",
    source: include_str!("templates/chatml.jinja"),
    start: "",
    system: System::Turn("<|im_start|>system\n", "<|im_end|>\n"),
    user: ("<|im_start|>user\n", "<|im_end|>\n"),
    assistant: ("<|im_start|>assistant\n", "<|im_end|>", "\n"),
    prompt: "<|im_start|>assistant\n",
    always_prompt: false,
    default_system: "",
    trim: false,
    alternate: None,
};

const LLAMA_3: Layout = Layout {
    name: "llama-3",
    source: include_str!("templates/llama-3.jinja"),
    start: "{bos}",
    system: System::Turn("<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"),
    user: ("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"),
    assistant: ("<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>", ""),
    prompt: "<|start_header_id|>assistant<|end_header_id|>\n\n",
    always_prompt: false,
    default_system: "",
    trim: true,
    alternate: None,
};

const MISTRAL: Layout = Layout {
    name: "mistral-instruct",
    source: include_str!("templates/mistral-instruct-0.2.jinja"),
    start: "{bos}",
    system: System::Refused(ONLY_TWO_ROLES),
    user: ("[INST] ", " [/INST]"),
    assistant: ("", "{eos}", ""),
    prompt: "",
    always_prompt: false,
    default_system: "",
    trim: false,
    alternate: Some(ALTERNATE),
};

const LAYOUTS: [Layout; 11] = [
    Layout {
        name: "zephyr",
        source: include_str!("templates/zephyr.jinja"),
        start: "",
        system: System::Turn("<|system|>\n", "{eos}\n"),
        user: ("<|user|>\n", "{eos}\n"),
        assistant: ("<|assistant|>\n", "{eos}", "\n"),
        prompt: "<|assistant|>\n",
        always_prompt: false,
        default_system: "",
        trim: false,
        alternate: None,
    },
    CHATML,
    // The same, written by the authors who do not trust `add_generation_prompt` to be defined.
    Layout { source: include_str!("templates/chatml-guarded.jinja"), ..CHATML },
    // No generation prompt at all.
    Layout { source: include_str!("templates/chatml-plain.jinja"), prompt: "", ..CHATML },
    // With a system turn of its own where the chat has none.
    Layout {
        source: include_str!("templates/chatml-helpful.jinja"),
        default_system: "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n",
        ..CHATML
    },
    Layout {
        source: include_str!("templates/chatml-helpful-full-stop.jinja"),
        default_system: "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
        ..CHATML
    },
    LLAMA_3,
    MISTRAL,
    // 0.1 prints a space after each end of turn.
    Layout { source: include_str!("templates/mistral-instruct-0.1.jinja"), assistant: ("", "{eos}", " "), ..MISTRAL },
    // The revision that takes a system turn, as 0.1 and 0.2 have had it since late 2024.
    Layout {
        source: include_str!("templates/mistral-instruct-system.jinja"),
        system: System::IntoFirstUser("\n\n", ONE_SYSTEM),
        user: (" [INST] ", " [/INST]"),
        assistant: (" ", "{eos}", ""),
        alternate: Some(ALTERNATE_AFTER_SYSTEM),
        ..MISTRAL
    },
    // Llama 3's first release, which always ends with the generation prompt.
    Layout { source: include_str!("templates/llama-3-always-prompt.jinja"), always_prompt: true, ..LLAMA_3 },
];

/// A known template with a tokenizer's own tokens put in.
#[derive(Debug)]
pub(super) struct Native {
    name: &'static str,
    start: String,
    default_system: &'static str,
    /// Before and after the contents of [`Role::System`], [`Role::User`] and [`Role::Assistant`].
    turns: [(String, String); 3],
    /// How many bytes after an assistant's content end its turn.
    end: usize,
    prompt: &'static str,
    always_prompt: bool,
    trim: bool,
    /// Between a system turn and the user turn that takes it in.
    joint: Option<&'static str>,
    /// Why a system turn is refused, where it is.
    no_system: Option<&'static str>,
    /// Why turns that do not alternate are refused, where they are.
    alternate: Option<&'static str>,
}

impl Native {
    /// The formatter for `source`, if it is a known text and the tokenizer has the tokens that it prints.
    pub(super) fn recognise(source: &str, special: &BTreeMap<String, String>) -> Option<Native> {
        let layout = LAYOUTS.iter().find(|layout| same_template(source, layout.source))?;
        let token = |name: &str| special.get(name).map_or("", String::as_str);
        let (bos, eos) = (token("bos_token"), token("eos_token"));
        let needs = |variable: &str| layout.source.contains(variable);
        // Without the token, Jinja decides whether that is an error.
        if needs("bos_token") && !special.contains_key("bos_token")
            || needs("eos_token") && !special.contains_key("eos_token")
        {
            return None;
        }
        let fill = |text: &str| text.replace("{bos}", bos).replace("{eos}", eos);
        let (before, end, after) = layout.assistant;
        let end = fill(end);
        let (system, joint, no_system) = match layout.system {
            System::Turn(before, after) => ((fill(before), fill(after)), None, None),
            System::IntoFirstUser(joint, reason) => (Default::default(), Some(joint), Some(reason)),
            System::Refused(reason) => (Default::default(), None, Some(reason)),
        };
        let user = (fill(layout.user.0), fill(layout.user.1));
        Some(Native {
            name: layout.name,
            start: fill(layout.start),
            default_system: layout.default_system,
            end: end.len(),
            turns: [system, user, (fill(before), end + after)],
            prompt: layout.prompt,
            always_prompt: layout.always_prompt,
            trim: layout.trim,
            joint,
            no_system,
            alternate: layout.alternate,
        })
    }

    /// The family's name.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Renders a chat of at least one message.
    pub(super) fn render(&self, messages: &[Message], add_generation_prompt: bool, out: &mut Rendered) -> Result<()> {
        out.text.push_str(&self.start);
        if messages[0].role != Role::System {
            out.text.push_str(self.default_system);
        }
        let (system, turns) = match (self.joint, messages) {
            (Some(joint), [first, rest @ ..]) if first.role == Role::System => (Some((first, joint)), rest),
            _ => (None, messages),
        };
        for (index, message) in turns.iter().enumerate() {
            self.check(index, message.role)?;
            let (before, after) = &self.turns[message.role as usize];
            out.text.push_str(before);
            if let (0, Some((system, joint))) = (index, system) {
                self.content(&system.content, out);
                out.text.push_str(joint);
            }
            let content = self.content(&message.content, out);
            out.text.push_str(after);
            if message.role == Role::Assistant {
                out.assistant.push(content.start..content.end + self.end);
            }
        }
        if add_generation_prompt || self.always_prompt {
            out.text.push_str(self.prompt);
        }
        Ok(())
    }

    /// Refuses the turn if the template does.
    fn check(&self, index: usize, role: Role) -> Result<()> {
        match self.alternate {
            Some(reason) if (role == Role::User) != index.is_multiple_of(2) => return Err(refused(reason)),
            _ => {}
        }
        match self.no_system {
            Some(reason) if role == Role::System => Err(refused(reason)),
            _ => Ok(()),
        }
    }

    /// Prints a content and returns where it stands.
    fn content(&self, content: &str, out: &mut Rendered) -> Range<usize> {
        let start = out.text.len();
        out.text.push_str(if self.trim { strip(content) } else { content });
        let span = start..out.text.len();
        out.content.push(span.clone());
        span
    }
}

/// Whether two texts are the same template for certain: equal up to the one newline at the end that Jinja drops, or
/// equal once `\n` in string literals is written as a newline. The second is sound only for known texts that have no
/// newline outside of literals, which are those of a single statement line.
fn same_template(source: &str, known: &str) -> bool {
    let cut = |text: &str| text.strip_suffix('\n').unwrap_or(text).to_string();
    let known = cut(known);
    let source = cut(source);
    source == known || !newline_outside_literals(&known) && source.replace("\\n", "\n") == known
}

/// Whether a newline stands outside of all quoted literals. The known templates quote with `'` and escape no quotes.
fn newline_outside_literals(source: &str) -> bool {
    source.split('\'').step_by(2).any(|outside| outside.contains('\n'))
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one span is a list of spans")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chat::jinja::Jinja;
    use crate::chat::template::Want;

    fn special() -> BTreeMap<String, String> {
        [("bos_token", "<s>"), ("eos_token", "</s>")].map(|(name, token)| (name.to_string(), token.to_string())).into()
    }

    fn chat(turns: &[(Role, &str)]) -> Vec<Message> {
        turns.iter().map(|(role, content)| Message::new(*role, *content)).collect()
    }

    fn native(source: &str, messages: &[Message], prompt: bool) -> Result<Rendered> {
        let mut out = Rendered::default();
        Native::recognise(source, &special()).unwrap().render(messages, prompt, &mut out).map(|()| out)
    }

    #[test]
    fn zephyr() {
        let source = include_str!("templates/zephyr.jinja");
        let out =
            native(source, &chat(&[(Role::System, "Be"), (Role::User, ""), (Role::Assistant, " é ")]), true).unwrap();
        assert_eq!(out.text, "<|system|>\nBe</s>\n<|user|>\n</s>\n<|assistant|>\n é </s>\n<|assistant|>\n");
        let content: Vec<&str> = out.content.iter().map(|span| &out.text[span.clone()]).collect();
        assert_eq!(content, ["Be", "", " é "]);
        assert_eq!(&out.text[out.assistant[0].clone()], " é </s>");
    }

    #[test]
    fn the_other_families() {
        let messages = chat(&[(Role::User, " a\u{1f}"), (Role::Assistant, "b"), (Role::User, "c")]);
        for (source, wanted) in [
            (LLAMA_3.source, "<s><|start_header_id|>user<|end_header_id|>\n\na<|eot_id|>"),
            (CHATML.source, "<|im_start|>user\n a\u{1f}<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"),
            (MISTRAL.source, "<s>[INST]  a\u{1f} [/INST]b</s>[INST] c [/INST]"),
        ] {
            let text = native(source, &messages, false).unwrap().text;
            assert!(text.starts_with(wanted), "{text}");
        }
        let helpful = include_str!("templates/chatml-helpful.jinja");
        assert!(
            native(helpful, &messages, false)
                .unwrap()
                .text
                .starts_with("<|im_start|>system\nYou are a helpful assistant<")
        );
        let system = include_str!("templates/mistral-instruct-system.jinja");
        let out =
            native(system, &chat(&[(Role::System, "S"), (Role::User, "U"), (Role::Assistant, "A")]), false).unwrap();
        assert_eq!(out.text, "<s> [INST] S\n\nU [/INST] A</s>");
        assert_eq!((out.content, out.assistant), (vec![11..12, 14..15, 24..25], vec![24..29]));
    }

    #[test]
    fn a_template_is_known_by_its_exact_text() {
        let name = |source: &str| Native::recognise(source, &special()).map(|native| native.name());
        assert_eq!(name(CHATML.source), Some("chatml"));
        assert_eq!(name(&format!("{}\n", CHATML.source)), Some("chatml"));
        // How JSON files of tokenizers often write it: an escape in the literal instead of a line break.
        assert_eq!(name(&CHATML.source.replace('\n', "\\n")), Some("chatml"));
        assert_eq!(name(&CHATML.source.replace('\n', "\\\\n")), None);
        assert_eq!(name(&format!("{} ", CHATML.source)), None);
        assert_eq!(name(&format!("{}\n\n", CHATML.source)), None);
        let zephyr = include_str!("templates/zephyr.jinja");
        assert_eq!(name(zephyr.trim_end()), Some("zephyr"));
        assert_eq!(name(&zephyr.replace('\n', "\\n")), None);
        assert!(Native::recognise(zephyr, &BTreeMap::new()).is_none(), "no token to end a turn with");
    }

    #[test]
    fn what_the_template_refuses_is_refused() {
        let system = include_str!("templates/mistral-instruct-system.jinja");
        for (source, turns, reason) in [
            (MISTRAL.source, vec![(Role::Assistant, "a")], ALTERNATE),
            (MISTRAL.source, vec![(Role::System, "a")], ALTERNATE),
            (MISTRAL.source, vec![(Role::User, "a"), (Role::System, "a")], ONLY_TWO_ROLES),
            (system, vec![(Role::User, "a"), (Role::User, "a")], ALTERNATE_AFTER_SYSTEM),
            (system, vec![(Role::System, "a"), (Role::User, "a"), (Role::System, "a")], ONE_SYSTEM),
        ] {
            let message = native(source, &chat(&turns), false).unwrap_err().to_string();
            assert!(message.contains(&format!("it refuses this chat: {reason}\nhint: ")), "{message}");
        }
    }

    proptest! {
        /// The same source through minijinja gives the same text and the same spans, or the same refusal.
        #[test]
        fn native_equals_jinja(
            layout in 0..LAYOUTS.len(),
            turns in prop::collection::vec((0..3_usize, "[ \\n\\r\\t\\x1c\\x1f\u{85}\u{a0}\u{200b}\u{feff}a<|}>/s{%é]{0,12}"), 1..6),
            prompt: bool,
        ) {
            let messages: Vec<Message> = turns.iter().map(|(role, text)| Message::new(Role::ALL[*role], text.clone())).collect();
            let source = LAYOUTS[layout].source;
            let ends = ["<|im_end|>", "<|eot_id|>"].map(str::to_string);
            let jinja = Jinja::new(source, &special(), &ends).unwrap();
            let mut wanted = Rendered::default();
            let by_jinja = jinja.render(&messages, prompt, Want::ALL, &mut wanted).map(|()| wanted);
            match (native(source, &messages, prompt), by_jinja) {
                (Ok(native), Ok(jinja)) => prop_assert_eq!(native, jinja),
                (Err(native), Err(jinja)) => prop_assert_eq!(native.to_string(), jinja.to_string()),
                (native, jinja) => prop_assert!(false, "{:?} but {:?}", native, jinja),
            }
        }
    }
}
