//! Byte-level BPE behind a splitting regex: GPT-2, Llama-3, Qwen, Mistral's tekken.
//!
//! A text is cut into pieces by the family's regex ([`super::split`]), and each piece is encoded by itself: BPE never
//! crosses a border of pieces, so that is no approximation but what the tokenizer is. A memo keeps the tokens of pieces.
//! Tokenizers are recognised by their whole definition; one that differs in any way that could matter is left to the crate.

mod alphabet;
mod characters;
mod long;
mod memo;
mod merge;
#[cfg(test)]
mod tests;
mod units;

use std::collections::HashMap;

use serde_json::Value;

use super::added::{Added, Part};
use super::compose::compose;
use super::split::{Classes, Pattern};
use alphabet::Alphabet;
use characters::Characters;
pub(super) use memo::Memo;
pub(super) use merge::{Merges, Work};
use units::Units;

/// A tokenizer of this kind, without its added tokens.
#[derive(Debug)]
pub(super) struct ByteLevel {
    pattern: Pattern,
    classes: Classes,
    /// A normalizer gives NFC first.
    nfc: bool,
    /// Each stretch of text begins with a space, given to it where it does not.
    prefix_space: bool,
    /// With `ignore_merges`: all tokens, which pieces that look like them become without BPE.
    whole: Option<HashMap<Vec<u8>, u32>>,
    merges: Merges,
    units: Units,
    characters: Characters,
}

/// Longer pieces are cut into units before BPE, where the time that it takes begins to grow with their square.
const LONG: usize = 24;

/// What one thread needs to encode; it grows up to a bound.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    composed: String,
    pieces: Pieces,
}

#[derive(Debug, Default)]
struct Pieces {
    memo: Memo,
    ends: Vec<u32>,
    spaced: String,
    symbols: Vec<u32>,
    work: Work,
}

impl ByteLevel {
    /// Reads the definition of a backend, if it is of this kind in every respect.
    pub(super) fn recognise(definition: &Value) -> Option<ByteLevel> {
        let nfc = recognise_normalizer(&definition["normalizer"])?;
        let (pattern, prefix_space) = recognise_pre_tokenizer(&definition["pre_tokenizer"])?;
        let model = &definition["model"];
        let none = |value: &Value| value.is_null() || value == "";
        if model["type"] != "BPE"
            || !model["dropout"].is_null()
            || !none(&model["continuing_subword_prefix"])
            || !none(&model["end_of_word_suffix"])
        {
            return None;
        }
        let alphabet = Alphabet::new();
        let vocab = model["vocab"].as_object()?;
        let id = |token: &str| u32::try_from(vocab.get(token)?.as_u64()?).ok();
        // One token, one id: two tokens of one id could not be told apart by it.
        let mut ids: Vec<Option<u32>> = vocab.keys().map(|token| id(token)).collect();
        ids.sort_unstable();
        if ids.contains(&None) || ids.windows(2).any(|two| two[0] == two[1]) {
            return None;
        }
        let mut bytes = [None; 256];
        let mut whole = HashMap::with_capacity(vocab.len());
        for token in vocab.keys() {
            // Tokens of other characters are never met.
            let Some(decoded) = alphabet.decode(token) else { continue };
            if let [byte] = decoded[..] {
                bytes[usize::from(byte)] = Some(id(token)?);
            }
            whole.insert(decoded, id(token)?);
        }
        // With all bytes known there is no unknown token, whatever `unk_token` and `byte_fallback` say.
        let bytes: [u32; 256] = bytes.into_iter().collect::<Option<Vec<u32>>>()?.try_into().ok()?;
        let (mut merges, mut units) = (Vec::new(), Units::new());
        for merge in model["merges"].as_array()? {
            let (left, right) = match merge {
                Value::String(text) => text.split_once(' ')?,
                pair => (pair[0].as_str()?, pair[1].as_str()?),
            };
            if let (Some(left), Some(right)) = (alphabet.decode(left), alphabet.decode(right)) {
                units.join(&left, &right);
            }
            merges.push((id(left)?, id(right)?, id(&format!("{left}{right}"))?));
        }
        let table = Merges::new(&bytes, &merges);
        Some(ByteLevel {
            characters: Characters::new(&whole, &bytes, &merges, &table),
            pattern,
            classes: Classes::new(),
            nfc,
            prefix_space,
            whole: (model["ignore_merges"] == true).then_some(whole),
            merges: table,
            units,
        })
    }

    /// Appends the tokens of a stretch of text between added tokens; `added` are those that are looked for in NFC.
    ///
    /// `marks` are places within the stretch, ascending; for each the number of tokens before it is appended to `at`. False
    /// if that is not known: a mark is no border of pieces, or NFC changes the text, which it may do across any place.
    pub(super) fn encode(
        &self,
        stretch: &str,
        added: &Added,
        marks: &[usize],
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
        at: &mut Vec<u32>,
    ) -> bool {
        let Scratch { composed, pieces } = scratch;
        let text = if self.nfc { compose(&self.classes, stretch, composed) } else { stretch };
        let same = std::ptr::eq(text, stretch);
        if marks.is_empty() {
            added.parts(text, |part| match part {
                Part::Token(id, _) => out.push(id),
                Part::Stretch(text) => _ = self.encode_composed(text, &[], pieces, out, at),
            });
            return same;
        }
        same && !added.is_in(text) && self.encode_composed(text, marks, pieces, out, at)
    }

    fn encode_composed<'a>(
        &self,
        mut text: &'a str,
        marks: &[usize],
        scratch: &'a mut Pieces,
        out: &mut Vec<u32>,
        at: &mut Vec<u32>,
    ) -> bool {
        let Pieces { memo, ends, spaced, symbols, work } = scratch;
        let prefixed = self.prefix_space && !text.starts_with(' ');
        if prefixed {
            spaced.clear();
            spaced.push(' ');
            spaced.push_str(text);
            text = spaced;
        }
        ends.clear();
        self.pattern.split(&self.classes, text, ends);
        let mut encode_unit = |unit: &[u8], out: &mut Vec<u32>| {
            if unit.is_ascii() {
                return self.merges.encode(unit, work, out);
            }
            symbols.clear();
            self.characters.symbols(unit, self.merges.bytes(), symbols);
            self.merges.merge(symbols, work, out);
        };
        let encode = |piece: &[u8], out: &mut Vec<u32>| match self.whole.as_ref().and_then(|tokens| tokens.get(piece)) {
            Some(id) => out.push(*id),
            None if piece.len() > LONG => self.units.visit(piece, |unit| encode_unit(unit, out)),
            None => encode_unit(piece, out),
        };
        let places = marks.iter().map(|mark| mark + usize::from(prefixed));
        memo.look_up_marked(text.as_bytes(), ends, places, out, at, encode)
    }

    /// Whether a stretch may get a space before it.
    pub(super) fn has_prefix(&self) -> bool {
        self.prefix_space
    }

    /// See [`Pattern::border_is_exact`].
    pub(super) fn border_is_exact(&self, left: char, right: char) -> bool {
        !self.prefix_space && self.pattern.border_is_exact(&self.classes, left, right)
    }
}

/// Whether it is NFC, or none.
fn recognise_normalizer(normalizer: &Value) -> Option<bool> {
    match normalizer["type"].as_str() {
        None if normalizer.is_null() => Some(false),
        Some("NFC") => Some(true),
        Some("Sequence") => match &normalizer["normalizers"].as_array()?[..] {
            [] => Some(false),
            [only] => recognise_normalizer(only),
            _ => None,
        },
        _ => None,
    }
}

/// The regex, and whether a space is put before.
fn recognise_pre_tokenizer(pre_tokenizer: &Value) -> Option<(Pattern, bool)> {
    let flag = |value: &Value, name: &str, default: bool| match &value[name] {
        Value::Null => Some(default),
        value => value.as_bool(),
    };
    match pre_tokenizer["type"].as_str()? {
        "ByteLevel" if flag(pre_tokenizer, "use_regex", true)? => {
            Some((Pattern::Gpt2, flag(pre_tokenizer, "add_prefix_space", true)?))
        }
        "Sequence" => match &pre_tokenizer["pretokenizers"].as_array()?[..] {
            [only] => recognise_pre_tokenizer(only),
            [split, last] => {
                // Each match is a piece; both ways of saying so, since nothing lies between the matches.
                let pieces = split["behavior"] == "Isolated" && split["invert"] == false
                    || split["behavior"] == "Removed" && split["invert"] == true;
                let plain = last["type"] == "ByteLevel"
                    && !flag(last, "use_regex", true)?
                    && !flag(last, "add_prefix_space", true)?;
                if split["type"] != "Split" || !pieces || !plain {
                    return None;
                }
                Some((Pattern::from_regex(split["pattern"]["Regex"].as_str()?)?, false))
            }
            _ => None,
        },
        _ => None,
    }
}
