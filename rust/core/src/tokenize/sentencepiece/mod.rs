//! SentencePiece-style BPE with byte fallback: Llama-2, Mistral-7B v0.1, Zephyr, `TinyLlama`.
//!
//! Such a tokenizer has no regex: BPE runs over the whole text, spaces written as `▁`. But two characters become one token
//! only by a merge of a token that ends in the first with one that begins with the second. Where no merge does that, the
//! border between them is never crossed, whatever stands around it, and cutting there changes nothing ([`cuts`]). The units
//! between such borders are short and come again, so a memo keeps their tokens; new ones are encoded by BPE itself.

mod alone;
mod cuts;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::bytelevel::{MOST_IDS, Memo, Merges, Work};
use alone::Alone;
use cuts::Cuts;

/// What `SentencePiece` writes for a space.
const SPACE: char = '▁';

/// In the place of a character's token: there is none.
const NO_TOKEN: u32 = u32::MAX;

/// When a stretch of text between added tokens gets a space before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefix {
    /// A normalizer prepends one to every stretch.
    Always,
    /// `Metaspace` prepends one to every stretch that does not begin with one.
    Missing,
    /// As [`Prefix::Missing`], but to the first stretch of a text only, where nothing stands before it.
    First,
    /// Never.
    Never,
}

/// Where a stretch of text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing is before it.
    First,
    /// An added token is before it.
    Behind,
    /// It is the rest of a stretch that was cut where [`SentencePiece::is_cut`] says so.
    Inside,
}

/// A tokenizer of this kind, without its added tokens.
#[derive(Debug)]
pub(super) struct SentencePiece {
    prefix: Prefix,
    cuts: Cuts,
    alone: Alone,
    /// Tokens of single characters, by code point, or [`NO_TOKEN`].
    characters: Vec<u32>,
    /// Tokens of the bytes of other characters.
    bytes: [u32; 256],
    merges: Merges,
}

/// What one thread needs to encode. What it remembers grows up to a bound; the buffers stay as large as the longest text.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    memo: Memo,
    text: String,
    ends: Vec<u32>,
    symbols: Vec<u32>,
    work: Work,
}

impl Scratch {
    /// How many units have been looked up.
    #[cfg(test)]
    fn pieces_seen(&self) -> u64 {
        self.memo.seen[0]
    }
}

impl SentencePiece {
    /// Reads the definition of a backend, if it is of this kind in every respect.
    pub(super) fn recognise(definition: &Value) -> Option<SentencePiece> {
        let prefix = recognise_spaces(&definition["normalizer"], &definition["pre_tokenizer"])?;
        let model = &definition["model"];
        let none = |value: &Value| value.is_null() || value == "";
        if model["type"] != "BPE"
            || model["byte_fallback"] != true
            || model["ignore_merges"] == true
            || !model["dropout"].is_null()
            || !none(&model["continuing_subword_prefix"])
            || !none(&model["end_of_word_suffix"])
        {
            return None;
        }
        let vocab = model["vocab"].as_object()?;
        let id = |token: &str| u32::try_from(vocab.get(token)?.as_u64()?).ok();
        let mut ids: Vec<Option<u32>> = vocab.keys().map(|token| id(token)).collect();
        ids.sort_unstable();
        if ids.contains(&None)
            || ids.windows(2).any(|two| two[0] == two[1])
            || ids.last().copied().flatten()? >= MOST_IDS
        {
            return None;
        }
        // With all bytes there is never an unknown token.
        let bytes: Vec<u32> = (0..256).map(|byte| id(&format!("<0x{byte:02X}>"))).collect::<Option<_>>()?;
        let bytes: [u32; 256] = bytes.try_into().ok()?;
        let mut characters = Vec::new();
        for token in vocab.keys() {
            let mut chars = token.chars();
            if let (Some(only), None) = (chars.next(), chars.next()) {
                let place = only as usize;
                characters.resize(characters.len().max(place + 1), NO_TOKEN);
                characters[place] = id(token)?;
            }
        }
        let (mut merges, mut cuts, mut alone) = (Vec::new(), Cuts::none(), Alone::new());
        for merge in model["merges"].as_array()? {
            let (left, right) = match merge {
                Value::String(text) => text.split_once(' ')?,
                pair => (pair[0].as_str()?, pair[1].as_str()?),
            };
            let ids = (id(left)?, id(right)?, id(&format!("{left}{right}"))?);
            // A byte's token stands for part of a character, so its text says nothing of borders.
            if bytes.contains(&ids.0) || bytes.contains(&ids.1) {
                return None;
            }
            let (last, first) = (left.chars().next_back()?, right.chars().next()?);
            cuts.join(last, first);
            alone.join(last, first);
            merges.push(ids);
        }
        Some(SentencePiece { prefix, cuts, alone, characters, bytes, merges: Merges::new(&[0; 256], &merges)? })
    }

    /// Appends the tokens of a stretch of text between added tokens.
    ///
    /// `marks` are places within the stretch, ascending; for each the number of tokens before it is appended to `at`. False,
    /// with nothing of use in `out`, if a mark is no border of units.
    pub(super) fn encode(
        &self,
        stretch: &str,
        place: Place,
        marks: &[usize],
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
        at: &mut Vec<u32>,
    ) -> bool {
        let Scratch { memo, text, ends, symbols, work } = scratch;
        let has_one = stretch.starts_with([' ', SPACE]);
        let prefixed = match (self.prefix, place) {
            (Prefix::Never, _) | (_, Place::Inside) => false,
            (Prefix::Always, _) => true,
            (Prefix::Missing, _) => !has_one,
            (Prefix::First, place) => place == Place::First && !has_one,
        };
        let spaced = if prefixed {
            text.clear();
            text.push(' ');
            text.push_str(stretch);
            text.as_str()
        } else {
            stretch
        };
        let mut marks = marks.iter().map(|mark| mark + usize::from(prefixed)).peekable();
        let is_ascii = spaced.is_ascii();
        let mut start = 0;
        while start < spaced.len() {
            let text = &spaced[start..];
            let run = if is_ascii { text.len() } else { self.alone.run(text) };
            if marks.peek().is_some_and(|mark| *mark < start) {
                return false; // It lies within a character.
            }
            // A run of one character has nothing to join: spaces between words of such characters.
            let first = text.chars().next().map_or(0, char::len_utf8);
            if run <= first {
                let mut end = start;
                for character in text.chars() {
                    if end > start && !self.alone.contains(character) {
                        break;
                    }
                    while marks.next_if_eq(&end).is_some() {
                        at.push(out.len() as u32);
                    }
                    self.extend_by(if character == ' ' { SPACE } else { character }, out);
                    end += character.len_utf8();
                }
                start = end;
                continue;
            }
            let (text, end) = (&text[..run], start + run);
            let ends = self.cuts.split(text, ends);
            let places = std::iter::from_fn(|| marks.next_if(|mark| *mark < end)).map(|mark| mark - start);
            let encode = |unit: &[u8], out: &mut Vec<u32>| self.encode_unit(unit, symbols, work, out);
            let known = memo.look_up_marked(text.as_bytes(), ends, places, out, at, encode, |_, _, _, inside| {
                (inside == 0).then_some(0)
            });
            if !known {
                return false;
            }
            start = end;
        }
        marks.all(|mark| {
            at.push(out.len() as u32);
            mark == start
        })
    }

    /// Appends the token of a character, or those of its bytes.
    fn extend_by(&self, character: char, symbols: &mut Vec<u32>) {
        match self.characters.get(character as usize) {
            Some(&id) if id != NO_TOKEN => symbols.push(id),
            _ => {
                let mut buffer = [0; 4];
                let bytes = character.encode_utf8(&mut buffer).as_bytes();
                // All four are written at once, and those of the bytes stay.
                let length = symbols.len() + bytes.len();
                symbols.extend_from_slice(&buffer.map(|byte| self.bytes[usize::from(byte)]));
                symbols.truncate(length);
            }
        }
    }

    /// BPE over the characters of a unit.
    fn encode_unit(&self, unit: &[u8], symbols: &mut Vec<u32>, work: &mut Work, out: &mut Vec<u32>) {
        symbols.clear();
        // Units are cut between characters, so they are UTF-8.
        let unit = std::str::from_utf8(unit).unwrap_or_default();
        for character in unit.chars() {
            self.extend_by(if character == ' ' { SPACE } else { character }, symbols);
        }
        self.merges.merge(symbols, work, out);
    }

    /// Whether no token holds these two, one behind the other.
    pub(super) fn is_cut(&self, left: char, right: char) -> bool {
        self.cuts.between(left, right)
    }

    /// Whether a stretch may get a space before it, so that its first token is not its own.
    pub(super) fn has_prefix(&self) -> bool {
        self.prefix != Prefix::Never
    }
}

/// How spaces are written, if it is one of the two ways of these tokenizers.
fn recognise_spaces(normalizer: &Value, pre_tokenizer: &Value) -> Option<Prefix> {
    if normalizer.is_null() {
        let replaces = pre_tokenizer["type"] == "Metaspace"
            && pre_tokenizer["replacement"] == SPACE.to_string()
            && pre_tokenizer["split"] == false;
        return match pre_tokenizer["prepend_scheme"].as_str()? {
            "always" if replaces => Some(Prefix::Missing),
            "first" if replaces => Some(Prefix::First),
            "never" if replaces => Some(Prefix::Never),
            _ => None,
        };
    }
    if !pre_tokenizer.is_null() {
        return None;
    }
    let replaces = |step: &Value| {
        step["type"] == "Replace" && step["pattern"]["String"] == " " && step["content"] == SPACE.to_string()
    };
    match (normalizer["type"].as_str()?, normalizer["normalizers"].as_array().map(Vec::as_slice)) {
        ("Sequence", Some([prepend, replace])) => {
            (prepend["type"] == "Prepend" && prepend["prepend"] == SPACE.to_string() && replaces(replace))
                .then_some(Prefix::Always)
        }
        ("Sequence", Some([replace])) if replaces(replace) => Some(Prefix::Never),
        ("Replace", _) if replaces(normalizer) => Some(Prefix::Never),
        _ => None,
    }
}
