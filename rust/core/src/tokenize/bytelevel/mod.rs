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

use super::NOWHERE;
use super::added::{Added, Part};
use super::compose::compose;
use super::split::{Classes, Pattern};
use alphabet::Alphabet;
use characters::Characters;
pub(super) use memo::Memo;
pub(super) use merge::{MOST_IDS, Merges, Work};
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
    /// With `ignore_merges`: tokens that BPE of their bytes does not give. Pieces that look like a token become it without BPE;
    /// for all the others BPE says the same.
    whole: Option<HashMap<Vec<u8>, u32>>,
    merges: Merges,
    units: Units,
    characters: Characters,
    /// By token, how many bytes it has.
    lengths: Vec<u16>,
}

/// Places of a stretch whose tokens are asked for, starts and ends of spans in turn.
#[derive(Clone, Copy)]
pub(super) struct Marks<'a> {
    /// In bytes, ascending.
    pub(super) places: &'a [usize],
    /// The first is an end.
    pub(super) end_first: bool,
    /// Offsets leave out the spaces at both ends of a token.
    pub(super) trims: bool,
}

impl Marks<'_> {
    const NONE: Marks<'static> = Marks { places: &[], end_first: false, trims: false };
}

/// Longer pieces are cut into units before BPE, where the time that it takes begins to grow with their square.
const LONG: usize = 24;

/// What one thread needs to encode. What it remembers grows up to a bound; the buffers stay as large as the longest text.
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
        // Tables are as long as the largest id, and merges take no larger ones.
        let last = ids.last().copied().flatten()?;
        if last >= MOST_IDS {
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
        let table = Merges::new(&bytes, &merges)?;
        let mut lengths = vec![0; last as usize + 1];
        for token in vocab.keys() {
            let length = alphabet.decode(token).map_or(Some(0), |token| u16::try_from(token.len()).ok())?;
            lengths[id(token)? as usize] = length;
        }
        let characters = Characters::new(&whole, &bytes, &merges, &table);
        let (mut work, mut tokens) = (Work::default(), Vec::new());
        let whole = (model["ignore_merges"] == true).then(|| {
            whole.retain(|token, id| {
                tokens.clear();
                table.encode(token, &mut work, &mut tokens);
                tokens != [*id]
            });
            whole
        });
        Some(ByteLevel {
            characters,
            pattern,
            classes: Classes::new(),
            nfc,
            prefix_space,
            whole: whole.filter(|tokens| !tokens.is_empty()),
            merges: table,
            lengths,
            units,
        })
    }

    /// Appends the tokens of a stretch of text between added tokens; `added` are those that are looked for in NFC.
    ///
    /// For each of `marks` what [`super::Tokenizer::encode_marked`] says is appended to `at`. False if that is not known: NFC
    /// changes the text, which it may do across any place.
    pub(super) fn encode(
        &self,
        stretch: &str,
        added: &Added,
        marks: Marks<'_>,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
        at: &mut Vec<u32>,
    ) -> bool {
        let Scratch { composed, pieces } = scratch;
        let text = if self.nfc { compose(&self.classes, stretch, composed) } else { stretch };
        let same = std::ptr::eq(text, stretch);
        if marks.places.is_empty() {
            added.parts(text, |part| match part {
                Part::Token(id, _) => out.push(id),
                Part::Stretch(text) => _ = self.encode_composed(text, Marks::NONE, pieces, out, at),
            });
            return same;
        }
        same && !added.is_in(text) && self.encode_composed(text, marks, pieces, out, at)
    }

    fn encode_composed<'a>(
        &self,
        mut text: &'a str,
        marks: Marks<'_>,
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
        let places = marks.places.iter().map(|mark| mark + usize::from(prefixed));
        memo.look_up_marked(text.as_bytes(), ends, places, out, at, encode, |number, piece, ids, inside| {
            Some(self.tell(piece, ids, inside, (number % 2 == 1) != marks.end_first, marks.trims))
        })
    }

    /// How many of the tokens of a piece are before the one that holds the byte at `inside`, or up to the one that holds the byte
    /// before. Tokens of this kind are their bytes, so their lengths tell it.
    fn tell(&self, piece: &[u8], ids: &[u32], inside: usize, is_end: bool, trims: bool) -> u32 {
        let (mut count, mut begin, mut end) = (0, 0, inside);
        for id in ids {
            end = begin + usize::from(self.lengths[*id as usize]);
            if end > inside {
                break;
            }
            (count, begin) = (count + 1, end);
        }
        if is_end {
            return count + u32::from(begin < inside);
        }
        let all_spaces = |from: usize, to: usize| piece[from..to].iter().all(|byte| *byte == b' ');
        let space = trims && piece.get(inside) == Some(&b' ');
        // One that begins its token is left out, whatever else is in it.
        if space && (all_spaces(begin, inside) || all_spaces(inside, end)) { NOWHERE } else { count }
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
