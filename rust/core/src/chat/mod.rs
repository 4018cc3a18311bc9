//! Chats as text: the tokenizer's own template, which bytes of its output came from the messages, and which carry the
//! loss.
//!
//! [`ChatTemplate`] renders as transformers' `apply_chat_template` does, byte for byte: the templates nearly everyone
//! uses are recognised by their exact text and formatted natively, all others go through minijinja. [`assistant_mask`]
//! carries the spans of a rendered chat over to its tokens. This layer knows nothing of tokenizers; `pack` joins the
//! two.

mod bounds;
mod cheap;
mod environment;
mod filters;
mod jinja;
mod marks;
mod mask;
mod native;
mod program;
mod python;
mod steps;
mod strict;
mod tags;
mod template;
mod tricks;

pub use mask::assistant_mask;
pub use template::{ChatTemplate, Rendered, Want};
