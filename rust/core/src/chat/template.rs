//! A chat as the model reads it: the tokenizer's own template, applied to messages.
//!
//! ```
//! use std::collections::BTreeMap;
//! use zephyr_data_core::chat::{ChatTemplate, Rendered, Want};
//! use zephyr_data_core::record::{Message, Role};
//!
//! let source = "{% for m in messages %}{{ '<' + m.role + '>' + m.content + eos_token }}{% endfor %}";
//! let special = BTreeMap::from([("eos_token".to_string(), "</s>".to_string())]);
//! let template = ChatTemplate::new(source, &special, &[]).unwrap();
//! let mut out = Rendered::default();
//! template.render(&[Message::new(Role::Assistant, "Hi")], false, Want::ALL, &mut out).unwrap();
//! assert_eq!(out.text, "<assistant>Hi</s>");
//! assert_eq!((out.content[0].clone(), out.assistant[0].clone()), (11..13, 11..17));
//! ```

use std::collections::BTreeMap;
use std::ops::Range;

use super::jinja::Jinja;
use super::native::Native;
use crate::error::{Error, Result};
use crate::record::Message;

/// A chat template, ready to be applied from any thread.
#[derive(Debug)]
pub struct ChatTemplate {
    engine: Engine,
}

#[derive(Debug)]
enum Engine {
    /// A template known by its exact text.
    Native(Box<Native>),
    /// Any other.
    Jinja(Box<Jinja>),
}

/// What a caller needs besides the text. What it does not need is not looked for, and cannot fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// The spans that came from message contents: needed where a content holds the text of a special token.
    pub content: bool,
    /// The spans that carry the loss: needed unless the loss is on everything.
    pub assistant: bool,
}

impl Want {
    /// The text alone.
    pub const TEXT: Want = Want { content: false, assistant: false };
    /// Everything.
    pub const ALL: Want = Want { content: true, assistant: true };
}

/// A rendered chat; its buffers are made to be used again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// What the tokenizer gets.
    pub text: String,
    /// The bytes of `text` that came from message contents, in the order of the text, empty ones included. A template
    /// that strips contents leaves the stripped content here. Filled if wanted.
    pub content: Vec<Range<usize>>,
    /// The bytes of `text` that carry the loss: what the assistant says and the token that ends its turn. Filled if
    /// wanted.
    pub assistant: Vec<Range<usize>>,
}

impl Rendered {
    /// Empties all buffers.
    pub fn clear(&mut self) {
        self.text.clear();
        self.content.clear();
        self.assistant.clear();
    }
}

impl ChatTemplate {
    /// Compiles `source`.
    ///
    /// `special` is transformers' `special_tokens_map` (`bos_token`, `eos_token`, …), which a template sees as
    /// variables. `ends` are the texts of the tokenizer's special tokens: one of them ends an assistant's turn, and the
    /// loss includes it.
    pub fn new(source: &str, special: &BTreeMap<String, String>, ends: &[String]) -> Result<ChatTemplate> {
        let engine = match Native::recognise(source, special) {
            Some(native) => Engine::Native(Box::new(native)),
            None => Engine::Jinja(Box::new(Jinja::new(source, special, ends)?)),
        };
        Ok(ChatTemplate { engine })
    }

    /// Whether [`ChatTemplate::new`] formats `source` natively, so that nothing of it is ever executed.
    pub fn is_native(source: &str, special: &BTreeMap<String, String>) -> bool {
        Native::recognise(source, special).is_some()
    }

    /// How the template is formatted, for the manifest: the family's name, or `jinja`.
    pub fn name(&self) -> &'static str {
        match &self.engine {
            Engine::Native(native) => native.name(),
            Engine::Jinja(_) => "jinja",
        }
    }

    /// Renders `messages` into `out`, byte for byte as transformers' `apply_chat_template(tokenize=False)` does.
    ///
    /// Fails where the template refuses the chat, and where the wanted spans cannot be told for certain.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        want: Want,
        out: &mut Rendered,
    ) -> Result<()> {
        out.clear();
        if messages.is_empty() {
            return Err(refused("a chat without messages"));
        }
        match &self.engine {
            Engine::Native(native) => native.render(messages, add_generation_prompt, out),
            Engine::Jinja(jinja) => jinja.render(messages, add_generation_prompt, want, out),
        }
    }
}

/// The error for a chat that the template does not take.
pub(super) fn refused(reason: &str) -> Error {
    Error::Template {
        message: format!("it refuses this chat: {reason}"),
        hint: "drop such chats, or give a template that takes them".to_string(),
    }
}
