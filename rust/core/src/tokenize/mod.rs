//! Text to token ids, equal to what transformers gives.
//!
//! ```
//! use zephyr_data_core::tokenize::{Encoded, Tokenizer};
//!
//! let json = r#"{"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "Whitespace"},
//!     "post_processor": null, "decoder": null, "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}}"#;
//! let tokenizer = Tokenizer::from_json(json).unwrap();
//! let mut out = Encoded::default();
//! tokenizer.encode("b a", &mut out).unwrap();
//! assert_eq!((out.ids, out.offsets), (vec![1, 0], vec![(0, 1), (2, 3)]));
//! ```

mod added;
mod bytelevel;
mod compose;
mod fallback;
#[cfg(test)]
mod masks_tests;
mod probes;
mod sentencepiece;
mod split;
#[cfg(test)]
mod tests;
mod vector;

use std::ops::Range;

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use crate::error::{Error, Result};
use added::Part;
use bytelevel::{ByteLevel, Marks};
use fallback::Fallback;
use sentencepiece::{Place, SentencePiece};

/// A tokenizer, ready to be used from any thread.
///
/// It is built from the JSON of the *live* backend, `tokenizer.backend_tokenizer.to_str()`: what lies in a file may be
/// rebuilt by transformers while it loads, and then gives other ids.
#[derive(Debug)]
pub struct Tokenizer {
    fallback: Fallback,
    engine: Option<Engine>,
    trims: Trims,
    /// Hash of the definition.
    name: u128,
}

/// So many bytes are encoded first for each token that is asked for: English text has four, code and other scripts fewer.
const BYTES_OF_A_TOKEN: usize = 6;

/// The largest id that can be written: ids are signed 32-bit numbers in rows and arrays.
const LAST_ID: u32 = i32::MAX.cast_unsigned();

/// In the place of a number of tokens: the character is in no token's offsets.
pub const NOWHERE: u32 = u32::MAX;

/// How byte-level tokens write a space; what trims offsets takes the character itself for one, too.
const WRITTEN_SPACE: char = 'Ġ';

/// What a post-processor leaves out of offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trims {
    Nothing,
    /// What byte-level tokenizers call white space, once: the spaces at both ends of a token.
    Spaces,
    /// White space of any kind, perhaps.
    White,
}

/// What gives ids faster than the `tokenizers` crate, for the shapes of tokenizers where it can be shown to be equal.
#[derive(Debug)]
enum Engine {
    /// Byte-level BPE behind a splitting regex.
    ByteLevel(Box<ByteLevel>),
    /// SentencePiece-style BPE with byte fallback.
    SentencePiece(Box<SentencePiece>),
}

/// What one thread needs for [`Tokenizer::encode_ids`], and remembers from text to text. What it remembers grows up to a bound,
/// whatever the texts are; beside that it keeps buffers as large as the longest text needs.
#[derive(Debug, Default)]
pub struct Scratch {
    byte_level: bytelevel::Scratch,
    sentence_piece: sentencepiece::Scratch,
    /// The tokenizer whose tokens it remembers.
    owner: u128,
}

/// The tokens of one text; its buffers are made to be used again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The ids.
    pub ids: Vec<u32>,
    /// Where each token stands in the text, in bytes, as the post-processor leaves it. Tokens that share a character
    /// have the whole character's offsets; a token may leave white space out.
    pub offsets: Vec<(u32, u32)>,
}

impl Engine {
    /// Whether within a stretch of text no token holds these two, one behind the other, and what stands before them has the
    /// same tokens by itself.
    fn is_border(&self, left: char, right: char) -> bool {
        match self {
            Engine::ByteLevel(engine) => engine.border_is_exact(left, right),
            Engine::SentencePiece(engine) => engine.is_cut(left, right),
        }
    }

    /// Whether [`Engine::is_border`] says no to all borders.
    fn has_no_border(&self) -> bool {
        matches!(self, Engine::ByteLevel(engine) if engine.has_prefix())
    }

    /// Whether stretches of text may get a space before them, so that their first token is not their own.
    fn adds_spaces(&self) -> bool {
        match self {
            Engine::ByteLevel(engine) => engine.has_prefix(),
            Engine::SentencePiece(engine) => engine.has_prefix(),
        }
    }
}

/// Whether one of the ascending `ends` lies behind the first character of a stretch that begins at `start`: a space that is
/// put before shares the offsets of that character, which then has two tokens.
fn ends_behind_first(stretch: &str, start: usize, ends: impl Iterator<Item = usize>) -> bool {
    let place = start + stretch.chars().next().map_or(0, char::len_utf8);
    ends.take_while(|end| *end <= place).any(|end| end == place)
}

/// What a post-processor leaves out of offsets; of one that is not known the most is assumed.
fn trims(post_processor: &Value) -> Trims {
    match post_processor["type"].as_str() {
        None if post_processor.is_null() => Trims::Nothing,
        Some("TemplateProcessing" | "BertProcessing") => Trims::Nothing,
        Some("ByteLevel" | "RobertaProcessing") if post_processor["trim_offsets"] == false => Trims::Nothing,
        Some("ByteLevel" | "RobertaProcessing") => Trims::Spaces,
        Some("Sequence") => {
            let all = post_processor["processors"].as_array().map(Vec::as_slice);
            let all = all.unwrap_or(std::slice::from_ref(&Value::Bool(true))).iter().map(trims);
            // Two of them would take as much again.
            all.fold(Trims::Nothing, |both, one| match (both, one) {
                (Trims::Nothing, one) => one,
                (both, Trims::Nothing) => both,
                _ => Trims::White,
            })
        }
        _ => Trims::White,
    }
}

/// Whether a text by itself is left as it is, if no special tokens are added: every template has it once, and no other.
fn has_text_once(post_processor: &Value) -> bool {
    match post_processor["type"].as_str() {
        Some("TemplateProcessing") => post_processor["single"].as_array().is_some_and(|pieces| {
            let mut texts = pieces.iter().filter_map(|piece| piece.get("Sequence"));
            texts.next().is_some_and(|text| text["id"] == "A") && texts.next().is_none()
        }),
        Some("Sequence") => post_processor["processors"].as_array().is_some_and(|all| all.iter().all(has_text_once)),
        _ => true,
    }
}

/// An error for a text of so many bytes that their places are no `u32`; the engines use the greatest ones as signs.
fn bounded(bytes: usize) -> Result<()> {
    if bytes >= u32::MAX as usize - 1 { Err(fallback::too_long()) } else { Ok(()) }
}

impl Encoded {
    /// Empties both buffers.
    pub fn clear(&mut self) {
        self.ids.clear();
        self.offsets.clear();
    }
}

impl Tokenizer {
    /// Builds the tokenizer that `backend_json` describes; its truncation and padding are switched off.
    ///
    /// # Errors
    /// It cannot be read, a token has an id that does not fit into 31 bits, or the fast engine differs from the crate.
    pub fn from_json(backend_json: &str) -> Result<Tokenizer> {
        let fallback = Fallback::from_json(backend_json)?;
        if let Some(id) = fallback.largest_id().filter(|id| *id > LAST_ID) {
            return Err(Error::Tokenizer {
                message: format!("a token's id is too large: {id}"),
                hint: format!("ids are kept as signed 32-bit numbers; the largest is {LAST_ID}"),
            });
        }
        let definition: Value = serde_json::from_str(backend_json).unwrap_or_default();
        let added = fallback.added().filter(|_| has_text_once(&definition["post_processor"]));
        let engine = added.and_then(|(_, normalized)| {
            let byte_level = ByteLevel::recognise(&definition).map(Box::new).map(Engine::ByteLevel);
            byte_level.or_else(|| {
                // These would be looked for among the `▁` of a whole stretch.
                let engine = normalized.is_empty().then(|| SentencePiece::recognise(&definition)).flatten()?;
                Some(Engine::SentencePiece(Box::new(engine)))
            })
        });
        let trims = trims(&definition["post_processor"]);
        let tokenizer = Tokenizer { fallback, engine, trims, name: xxh3_128(backend_json.as_bytes()) };
        probes::check(&tokenizer)?;
        Ok(tokenizer)
    }

    /// Encodes a rendered chat, as transformers does with `add_special_tokens=False`: the texts of special tokens
    /// become special tokens wherever they stand.
    pub fn encode(&self, text: &str, out: &mut Encoded) -> Result<()> {
        self.fallback.encode(text, out)
    }

    /// Appends the ids that [`Tokenizer::encode`] gives, by the fast engine if there is one.
    pub fn encode_ids(&self, text: &str, scratch: &mut Scratch, out: &mut Vec<u32>) -> Result<()> {
        bounded(text.len())?;
        if self.engine.is_none() {
            return self.fallback.encode_ids(text, out);
        }
        self.encode_marked(text, &[], scratch, out, &mut Vec::new()).map(|_| ())
    }

    /// As [`Tokenizer::encode_ids`]; and for each of `marks`, starts and ends of spans of the text in turn, in ascending
    /// order, is appended to `at`: for a start, how many tokens are before the one that holds the first character of the
    /// span; for an end, how many there are up to the one that holds the last. [`NOWHERE`], if offsets leave that first character
    /// out.
    ///
    /// False if that is not known: there is no fast engine, or a mark lies where the engine does not know it. `out` and `at`
    /// hold nothing of use then. Whether offsets tell the same place, [`Tokenizer::offsets_tell`] says.
    pub fn encode_marked(
        &self,
        text: &str,
        marks: &[usize],
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
        at: &mut Vec<u32>,
    ) -> Result<bool> {
        bounded(text.len())?;
        let (Some(engine), Some((raw, normalized))) = (&self.engine, self.fallback.added()) else { return Ok(false) };
        self.own(scratch);
        let (adds_spaces, trims) = (engine.adds_spaces(), self.trims_spaces());
        let (mut next, mut known) = (0, true);
        let mut inside = Vec::new();
        raw.parts(text, |part| {
            let range = match &part {
                Part::Token(_, range) => range.clone(),
                Part::Stretch(stretch) => {
                    let start = stretch.as_ptr() as usize - text.as_ptr() as usize;
                    start..start + stretch.len()
                }
            };
            while marks.get(next).is_some_and(|mark| *mark <= range.start) {
                // A mark before would have been met in the part that holds it; one here is the end of what stands before.
                let is_start = next % 2 == 0;
                let blank = is_start && trims && text[range.start..].starts_with(char::is_whitespace);
                known &= marks[next] == range.start
                    && match &part {
                        // Added tokens may take white space before them as their own, and then leave it out.
                        Part::Token(..) => !blank,
                        Part::Stretch(stretch) => !(is_start && adds_spaces || blank && normalized.is_in(stretch)),
                    };
                let nowhere = blank && text.as_bytes()[range.start] == b' ';
                at.push(if nowhere { NOWHERE } else { out.len() as u32 });
                next += 1;
            }
            let before = next;
            inside.clear();
            while let Some(mark) = marks.get(next).filter(|mark| **mark < range.end) {
                inside.push(mark - range.start);
                next += 1;
            }
            match part {
                Part::Token(id, _) => {
                    known &= inside.is_empty();
                    out.push(id);
                }
                Part::Stretch(stretch) => {
                    let ends = (before..).zip(&marks[before..]).filter(|(number, _)| number % 2 == 1);
                    known &= !adds_spaces || !ends_behind_first(stretch, range.start, ends.map(|(_, end)| *end));
                    let told = match engine {
                        Engine::ByteLevel(engine) => {
                            let marks = Marks { places: &inside, end_first: before % 2 == 1, trims };
                            engine.encode(stretch, normalized, marks, &mut scratch.byte_level, out, at)
                        }
                        Engine::SentencePiece(engine) => {
                            let scratch = &mut scratch.sentence_piece;
                            let place = if range.start == 0 { Place::First } else { Place::Behind };
                            engine.encode(stretch, place, &inside, scratch, out, at)
                        }
                    };
                    known &= told || marks.is_empty();
                }
            }
        });
        for mark in &marks[next..] {
            known &= *mark == text.len();
            at.push(out.len() as u32);
        }
        Ok(known)
    }

    /// Whether offsets tell of a span of a text what [`Tokenizer::encode_marked`] does.
    ///
    /// White space may lie outside of all offsets, and so may a `Ġ` that begins a token: an added token, or one of
    /// `SentencePiece`'s vocabularies. Several tokens may share a character that is not ASCII, of which the first counts.
    pub fn offsets_tell(&self, text: &str, span: &Range<usize>) -> bool {
        let inner = &text[span.clone()];
        let (Some(first), Some(last)) = (inner.chars().next(), inner.chars().next_back()) else { return false };
        last.is_ascii()
            && match self.trims {
                Trims::Nothing => true,
                Trims::Spaces if first == WRITTEN_SPACE => false,
                Trims::Spaces if self.trims_spaces() => !last.is_whitespace(),
                Trims::Spaces => !first.is_whitespace() && !last.is_whitespace(),
                // The second of two post-processors takes letters, too.
                Trims::White => false,
            }
    }

    /// Whether the spaces at both ends of a token, and no more, are left out of its offsets. Of tokens with a space of their own
    /// before them another one may be left out.
    fn trims_spaces(&self) -> bool {
        let plain = matches!(&self.engine, Some(Engine::ByteLevel(engine)) if !engine.has_prefix());
        plain && self.trims == Trims::Spaces
    }

    /// As [`Tokenizer::encode`], but the text of a special token is only text where it touches one of the spans
    /// `literal` (ascending, not overlapping), which hold what people wrote. There this is transformers with
    /// `split_special_tokens=True`.
    pub fn encode_literal(&self, text: &str, literal: &[Range<usize>], out: &mut Encoded) -> Result<()> {
        self.fallback.encode_literal(text, literal, out)
    }

    /// Appends the ids of `text[from..]`, if those of the whole text are the ids of `text[..from]` by itself followed by
    /// these; so one beginning need not be encoded anew for each of its continuations. `from` is the start of a character.
    ///
    /// False, with nothing of use in `out`, where that is not known: there is no fast engine, or what stands on both sides
    /// of the border may share a token or an added token.
    pub fn encode_behind(&self, text: &str, from: usize, scratch: &mut Scratch, out: &mut Vec<u32>) -> Result<bool> {
        let (before, behind) = text.split_at(from);
        let (Some(left), Some(right)) = (before.chars().next_back(), behind.chars().next()) else {
            self.encode_ids(behind, scratch, out)?;
            return Ok(true);
        };
        let (Some(engine), Some((raw, normalized))) = (&self.engine, self.fallback.added()) else { return Ok(false) };
        if raw.may_cross(left, right) || normalized.may_cross_normalized(left, right) {
            return Ok(false);
        }
        match engine {
            Engine::ByteLevel(_) => {
                let exact = engine.is_border(left, right);
                if exact {
                    self.encode_ids(behind, scratch, out)?;
                }
                Ok(exact)
            }
            Engine::SentencePiece(sentence_piece) => {
                // A space may be put before a stretch, but not where one goes on over the border.
                let whole = raw.ends_with_one(before);
                if !whole && !engine.is_border(left, right) {
                    return Ok(false);
                }
                self.own(scratch);
                let scratch = &mut scratch.sentence_piece;
                let mut goes_on = !whole;
                raw.parts(behind, |part| {
                    match part {
                        Part::Token(id, _) => out.push(id),
                        Part::Stretch(stretch) => {
                            let place = if goes_on { Place::Inside } else { Place::Behind };
                            sentence_piece.encode(stretch, place, &[], scratch, out, &mut Vec::new());
                        }
                    }
                    goes_on = false;
                });
                Ok(true)
            }
        }
    }

    /// Appends the first `limit` ids that [`Tokenizer::encode_ids`] gives, and encodes little more of the text than these take.
    pub fn encode_first(&self, text: &str, limit: usize, scratch: &mut Scratch, out: &mut Vec<u32>) -> Result<()> {
        let start = out.len();
        let (mut from, mut window) = (0, limit.max(1).saturating_mul(BYTES_OF_A_TOKEN));
        while from < text.len() && out.len() - start < limit {
            let to = self.border_from(text, from.saturating_add(window));
            // Where a border is proven the rest is known, too.
            if !self.encode_behind(&text[..to], from, scratch, out)? {
                out.truncate(start);
                self.encode_ids(text, scratch, out)?;
                break;
            }
            (from, window) = (to, window.saturating_mul(2));
        }
        out.truncate(start.saturating_add(limit));
        Ok(())
    }

    /// The first place from `at` on where a text can be cut without another id; its end if there is none.
    fn border_from(&self, text: &str, at: usize) -> usize {
        let (Some(engine), Some((raw, normalized))) = (&self.engine, self.fallback.added()) else { return text.len() };
        if engine.has_no_border() || raw.may_cross_all() || normalized.may_cross_all_normalized() {
            return text.len();
        }
        let begin = (at.min(text.len())..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        let Some(mut left) = text[..begin].chars().next_back() else { return text.len() };
        for (place, right) in text[begin..].char_indices() {
            if engine.is_border(left, right)
                && !raw.may_cross(left, right)
                && !normalized.may_cross_normalized(left, right)
            {
                return begin + place;
            }
            left = right;
        }
        text.len()
    }

    /// Makes `scratch` forget another tokenizer's tokens.
    fn own(&self, scratch: &mut Scratch) {
        if scratch.owner != self.name {
            *scratch = Scratch { owner: self.name, ..Scratch::default() };
        }
    }

    /// Whether `text` holds the text of a special token.
    pub fn holds_special(&self, text: &str) -> bool {
        self.fallback.holds_special(text)
    }

    /// The engine's name, for the manifest.
    pub fn engine_name(&self) -> &'static str {
        if self.engine.is_some() { "exact-fast" } else { "tokenizers" }
    }

    /// Whether [`Tokenizer::encode_ids`] has a fast engine.
    pub fn is_fast(&self) -> bool {
        self.engine.is_some()
    }

    /// The special tokens and their ids, by id.
    pub fn added_special_tokens(&self) -> Vec<(String, u32)> {
        self.fallback.special_tokens()
    }

    /// How many tokens there are, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.fallback.vocab_size()
    }
}
