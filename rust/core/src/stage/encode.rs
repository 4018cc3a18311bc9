//! Records into token ids and loss masks: where the chat template and the tokenizer meet.
//!
//! The contract is transformers': ids equal `apply_chat_template(messages, tokenize=True)`, masks those of a template whose
//! assistant turns (content and end-of-turn token) are tagged with `{% generation %}`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::chat::{ChatTemplate, Rendered, Want, assistant_mask};
use crate::error::Result;
use crate::manifest::TokenizerEntry;
use crate::record::{Message, Preference};
use crate::tokenize::{self, Encoded, NOWHERE, Tokenizer};

/// Which tokens carry the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LossOn {
    /// What the assistant says, with the token that ends each turn.
    #[default]
    Assistant,
    /// Everything.
    All,
}

/// How records are encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EncodeOptions {
    /// Which tokens carry the loss.
    pub loss_on: LossOn,
    /// Whether a special token's text inside a message becomes that token. If not, it is text like any other.
    pub allow_special_in_content: bool,
}

/// A tokenizer as transformers has loaded it.
#[derive(Clone, Debug, Default)]
pub struct TokenizerSpec {
    /// Folder or name, as the user gave it.
    pub name: String,
    /// Identity: the hash of `backend` and `chat_template`.
    pub hash: String,
    /// `tokenizer.backend_tokenizer.to_str()`: the live tokenizer, not the file it came from.
    pub backend: String,
    /// The Jinja source of the chat template.
    pub chat_template: String,
    /// `tokenizer.special_tokens_map`, which templates may name.
    pub special_tokens: BTreeMap<String, String>,
}

/// Buffers that are used again from row to row, one per thread.
#[derive(Default)]
pub struct Scratch {
    rendered: Rendered,
    encoded: Encoded,
    fast: tokenize::Scratch,
    marks: Vec<usize>,
    at: Vec<u32>,
    mask: Vec<u8>,
    messages: Vec<Message>,
}

/// A chat's tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// Token ids.
    pub ids: Vec<u32>,
    /// 1 where a token carries the loss, else 0; as long as `ids`.
    pub mask: Vec<u8>,
    /// Answers that carry no loss, since the tokenizer does not tell where they begin (transformers gives them none either).
    pub lost: usize,
}

/// A preference's tokens. `prompt` followed by either answer is the whole conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// The prompt with the generation prompt.
    pub prompt: Vec<u32>,
    /// The preferred answer.
    pub chosen: Vec<u32>,
    /// The other one.
    pub rejected: Vec<u32>,
}

/// Encodes chats and preferences for one tokenizer.
pub struct ChatEncoder {
    template: ChatTemplate,
    tokenizer: Tokenizer,
    options: EncodeOptions,
}

impl ChatEncoder {
    /// Loads template and tokenizer.
    pub fn new(spec: &TokenizerSpec, options: EncodeOptions) -> Result<Self> {
        let tokenizer = Tokenizer::from_json(&spec.backend)?;
        let ends: Vec<String> = tokenizer.added_special_tokens().into_iter().map(|(text, _)| text).collect();
        let template = ChatTemplate::new(&spec.chat_template, &spec.special_tokens, &ends)?;
        Ok(ChatEncoder { template, tokenizer, options })
    }

    /// How manifests name what is used.
    pub fn entry(&self, spec: &TokenizerSpec) -> TokenizerEntry {
        TokenizerEntry {
            name: spec.name.clone(),
            hash: spec.hash.clone(),
            special_tokens: spec.special_tokens.clone(),
            template: self.template.name().to_string(),
            encoder: self.tokenizer.engine_name().to_string(),
        }
    }

    /// Ids and mask of a chat.
    pub fn chat(&self, messages: &[Message], scratch: &mut Scratch) -> Result<Document> {
        let masked = self.options.loss_on == LossOn::Assistant;
        let literal = self.render(messages, false, masked, scratch)?;
        if !literal && let Some(lost) = self.encode_fast(masked, scratch)? {
            return Ok(Document { ids: scratch.encoded.ids.clone(), mask: scratch.mask.clone(), lost });
        }
        self.encode(literal, scratch)?;
        let mut lost = 0;
        if masked {
            let rendered = &scratch.rendered;
            lost = assistant_mask(&rendered.text, &rendered.assistant, &scratch.encoded.offsets, &mut scratch.mask);
        } else {
            scratch.mask.clear();
            scratch.mask.resize(scratch.encoded.ids.len(), 1);
        }
        Ok(Document { ids: scratch.encoded.ids.clone(), mask: scratch.mask.clone(), lost })
    }

    /// Ids and mask of the rendered chat by the fast engine, with the mask's borders as marks of the text.
    ///
    /// Gives how many answers are lost. None where it is not known to be what [`assistant_mask`] makes of offsets: a border lies
    /// within what the engine encodes as one, or is one of the places where transformers' rule has its oddities.
    fn encode_fast(&self, masked: bool, scratch: &mut Scratch) -> Result<Option<usize>> {
        let Scratch { rendered, encoded, fast, marks, at, mask, .. } = scratch;
        if !self.tokenizer.is_fast() {
            return Ok(None);
        }
        let text = rendered.text.as_str();
        marks.clear();
        if masked {
            for span in &rendered.assistant {
                if span.start == 0 || span.start >= span.end || !self.tokenizer.offsets_tell(text, span) {
                    return Ok(None);
                }
                marks.extend([span.start, span.end]);
            }
            if !marks.is_sorted() {
                return Ok(None);
            }
        }
        encoded.clear();
        at.clear();
        if !self.tokenizer.encode_marked(text, marks, fast, &mut encoded.ids, at)? {
            return Ok(None);
        }
        mask.clear();
        mask.resize(encoded.ids.len(), u8::from(!masked));
        for (done, border) in at.chunks_exact(2).enumerate() {
            if border[0] == NOWHERE {
                return Ok(Some(at.len() / 2 - done));
            }
            // From the second token on: a span whose last token is the very first one runs to the end for transformers.
            if border[1] < 2 || border[0] >= border[1] {
                return Ok(None);
            }
            mask[border[0] as usize..border[1] as usize].fill(1);
        }
        Ok(Some(0))
    }

    /// The text of a chat, as `apply_chat_template(messages, tokenize=False)` gives it.
    pub fn rendered<'a>(
        &self,
        messages: &[Message],
        generation_prompt: bool,
        scratch: &'a mut Scratch,
    ) -> Result<&'a str> {
        self.template.render(messages, generation_prompt, Want::TEXT, &mut scratch.rendered)?;
        Ok(&scratch.rendered.text)
    }

    /// Appends the ids of one text by itself, without a template, as transformers gives them with
    /// `add_special_tokens=False`: the texts of special tokens become special tokens. With `most`, only so many of them.
    pub fn text(&self, text: &str, most: Option<usize>, scratch: &mut Scratch, out: &mut Vec<u32>) -> Result<()> {
        match most {
            Some(most) => self.tokenizer.encode_first(text, most, &mut scratch.fast, out),
            None => self.tokenizer.encode_ids(text, &mut scratch.fast, out),
        }
    }

    /// Ids of a preference, cut where trl cuts them: the answers begin where the prompt's ids end or, should the prompt be
    /// encoded differently when an answer follows, at the first difference.
    pub fn pair(&self, pair: &Preference, scratch: &mut Scratch) -> Result<Pair> {
        if let Some(pair) = self.pair_fast(pair, scratch)? {
            return Ok(pair);
        }
        let mut prompt = self.ids(&pair.prompt, true, scratch)?.to_vec();
        let mut chosen = self.continued(&pair.prompt, &pair.chosen, scratch)?;
        let mut rejected = self.continued(&pair.prompt, &pair.rejected, scratch)?;
        let shared = |ids: &[u32]| prompt.iter().zip(ids).take_while(|(a, b)| a == b).count();
        let border = shared(&chosen).min(shared(&rejected));
        prompt.truncate(border);
        chosen.drain(..border);
        rejected.drain(..border);
        Ok(Pair { prompt, chosen, rejected })
    }

    /// The same with the prompt encoded once: none where the answers' texts do not go on from the prompt's over a border
    /// that the engine can prove.
    fn pair_fast(&self, pair: &Preference, scratch: &mut Scratch) -> Result<Option<Pair>> {
        if !self.tokenizer.is_fast() || self.render(&pair.prompt, true, false, scratch)? {
            return Ok(None);
        }
        let mut prompt = Vec::new();
        let begin = std::mem::take(&mut scratch.rendered.text);
        self.tokenizer.encode_ids(&begin, &mut scratch.fast, &mut prompt)?;
        let mut answers = [Vec::new(), Vec::new()];
        for (ids, answer) in answers.iter_mut().zip([&pair.chosen, &pair.rejected]) {
            if self.render_continued(&pair.prompt, answer, scratch)? {
                return Ok(None);
            }
            let text = &scratch.rendered.text;
            if !text.starts_with(&begin) || !self.tokenizer.encode_behind(text, begin.len(), &mut scratch.fast, ids)? {
                return Ok(None);
            }
        }
        let [chosen, rejected] = answers;
        Ok(Some(Pair { prompt, chosen, rejected }))
    }

    fn render_continued(&self, prompt: &[Message], answer: &[Message], scratch: &mut Scratch) -> Result<bool> {
        let mut messages = std::mem::take(&mut scratch.messages);
        messages.clear();
        messages.extend(prompt.iter().chain(answer).cloned());
        let literal = self.render(&messages, false, false, scratch);
        scratch.messages = messages;
        literal
    }

    fn continued(&self, prompt: &[Message], answer: &[Message], scratch: &mut Scratch) -> Result<Vec<u32>> {
        let literal = self.render_continued(prompt, answer, scratch)?;
        Ok(self.rendered_ids(literal, scratch)?.to_vec())
    }

    fn ids<'a>(&self, messages: &[Message], generation_prompt: bool, scratch: &'a mut Scratch) -> Result<&'a [u32]> {
        let literal = self.render(messages, generation_prompt, false, scratch)?;
        self.rendered_ids(literal, scratch)
    }

    fn rendered_ids<'a>(&self, literal: bool, scratch: &'a mut Scratch) -> Result<&'a [u32]> {
        if literal || self.encode_fast(false, scratch)?.is_none() {
            self.encode(literal, scratch)?;
        }
        Ok(&scratch.encoded.ids)
    }

    /// Renders a chat; gives whether a content holds the text of a special token that must stay text.
    fn render(
        &self,
        messages: &[Message],
        generation_prompt: bool,
        masked: bool,
        scratch: &mut Scratch,
    ) -> Result<bool> {
        // Only where a content holds a special token's text does it matter which bytes are content.
        let literal = !self.options.allow_special_in_content
            && messages.iter().any(|message| self.tokenizer.holds_special(&message.content));
        let want = Want { content: literal, assistant: masked };
        self.template.render(messages, generation_prompt, want, &mut scratch.rendered)?;
        Ok(literal)
    }

    /// Ids and offsets of the rendered chat by the `tokenizers` crate.
    fn encode(&self, literal: bool, scratch: &mut Scratch) -> Result<()> {
        let Scratch { rendered, encoded, .. } = scratch;
        if literal {
            self.tokenizer.encode_literal(&rendered.text, &rendered.content, encoded)
        } else {
            self.tokenizer.encode(&rendered.text, encoded)
        }
    }
}
