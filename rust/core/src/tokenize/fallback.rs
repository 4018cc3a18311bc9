//! Encoding by the `tokenizers` crate, and by its parts where contents must not be read as special tokens.
//!
//! A rendered chat holds special tokens that the template wrote and perhaps the same texts inside of messages, which
//! are only texts. The crate knows one switch for a whole input. So [`Fallback::encode_literal`] does the crate's first
//! step itself, the search for added tokens, and leaves the rest to the crate: what stands between the template's
//! special tokens keeps its place in the text, which decides about prefix spaces.

use std::ops::Range;

use aho_corasick::AhoCorasick;
use tokenizers::{
    AddedToken, Encoding, Model, NormalizedString, Normalizer, OffsetType, PreTokenizedString, PreTokenizer,
    Tokenizer as Backend,
};

use super::added::{Added, Touch, automaton, touches};
use super::{Encoded, Trims, trims};
use crate::error::{Error, Result, quietly};

/// So many characters of a text are shown in an error.
const BEGIN: usize = 80;

/// The crate's tokenizer and its added tokens.
#[derive(Debug)]
pub(super) struct Fallback {
    backend: Backend,
    /// Added tokens that are looked for in the text as it is.
    raw: Added,
    /// Added tokens that are looked for in the normalized text.
    normalized: Added,
    /// The texts of the special tokens.
    special: AhoCorasick,
    /// Whether the post-processor may leave white space out of offsets.
    trims: bool,
}

impl Fallback {
    /// Builds the tokenizer that `json` describes.
    pub(super) fn from_json(json: &str) -> Result<Fallback> {
        let mut backend = Backend::from_bytes(json).map_err(|error| Error::Tokenizer {
            message: format!("its JSON cannot be read: {error}"),
            hint: "give the text of `tokenizer.backend_tokenizer.to_str()`; slow (Python) tokenizers have none"
                .to_string(),
        })?;
        backend.with_truncation(None).map_err(|error| failed(&error))?;
        backend.with_padding(None);
        backend.set_encode_special_tokens(false);
        check_post_processor(&backend)?;
        let mut tokens: Vec<(u32, AddedToken)> = backend.get_added_tokens_decoder().into_iter().collect();
        tokens.sort_unstable_by_key(|(id, _)| *id);
        let special: Vec<&str> =
            tokens.iter().filter(|(_, token)| token.special).map(|(_, token)| token.content.as_str()).collect();
        let special = automaton(&special)?;
        let (normalized, raw) = tokens.into_iter().partition::<Vec<_>, _>(|(_, token)| token.normalized);
        let raw = Added::new(raw, |content| Ok(content.to_string()))?;
        let normalized = Added::new(normalized, |content| {
            let mut text = NormalizedString::from(content);
            if let Some(normalizer) = backend.get_normalizer() {
                normalizer.normalize(&mut text).map_err(|error| failed(&error))?;
            }
            Ok(text.get().to_string())
        })?;
        let post_processor = serde_json::to_value(backend.get_post_processor()).unwrap_or_default();
        let trims = trims(&post_processor) != Trims::Nothing;
        Ok(Fallback { backend, raw, normalized, special, trims })
    }

    /// See [`super::Tokenizer::encode`].
    pub(super) fn encode(&self, text: &str, out: &mut Encoded) -> Result<()> {
        let characters = self.counts_characters(text);
        let encoding = caught(text, || {
            if characters { self.backend.encode_char_offsets(text, false) } else { self.backend.encode(text, false) }
        })?;
        fill(out, &encoding, characters.then_some(text))
    }

    /// See [`super::Tokenizer::encode_literal`].
    pub(super) fn encode_literal(&self, text: &str, literal: &[Range<usize>], out: &mut Encoded) -> Result<()> {
        if !self.any_touches(text, literal) {
            return self.encode(text, out);
        }
        if let Some(token) = self.raw.tokens.iter().chain(&self.normalized.tokens).find(|(_, token)| token.single_word)
        {
            return Err(Error::Tokenizer {
                message: format!(
                    "cannot read special tokens in a message as text beside a single-word token: `{}`",
                    token.1.content
                ),
                hint: "drop such chats, or set `allow_special_in_content: true`".to_string(),
            });
        }
        let encoding = caught(text, || self.encode_by_parts(text, literal))?;
        fill(out, &encoding, self.counts_characters(text).then_some(text))
    }

    /// Whether the crate is asked for offsets in characters, as transformers asks: what trims them counts in characters.
    fn counts_characters(&self, text: &str) -> bool {
        self.trims && !text.is_ascii()
    }

    /// The added tokens that are looked for in the text as it is, and those looked for in the normalized text. None where a
    /// token only counts as a whole word: [`Added::parts`] knows no words. None where a token is white space and takes such
    /// before it, too: a token before may have taken all of it, and then the crate gives no token, or panics.
    pub(super) fn added(&self) -> Option<(&Added, &Added)> {
        let odd = |token: &AddedToken| token.single_word || token.lstrip && token.content.trim().is_empty();
        let odd = self.raw.tokens.iter().chain(&self.normalized.tokens).any(|(_, token)| odd(token));
        (!odd).then_some((&self.raw, &self.normalized))
    }

    /// See [`super::Tokenizer::encode_ids`].
    pub(super) fn encode_ids(&self, text: &str, out: &mut Vec<u32>) -> Result<()> {
        out.extend_from_slice(caught(text, || self.backend.encode_fast(text, false))?.get_ids());
        Ok(())
    }

    /// Whether `text` holds the text of a special token.
    pub(super) fn holds_special(&self, text: &str) -> bool {
        self.special.is_match(text)
    }

    /// The special tokens and their ids.
    pub(super) fn special_tokens(&self) -> Vec<(String, u32)> {
        let tokens = self.raw.tokens.iter().chain(&self.normalized.tokens);
        let mut special: Vec<(String, u32)> =
            tokens.filter(|(_, token)| token.special).map(|(id, token)| (token.content.clone(), *id)).collect();
        special.sort_unstable_by_key(|(_, id)| *id);
        special
    }

    /// The largest id of all tokens.
    pub(super) fn largest_id(&self) -> Option<u32> {
        self.backend.get_vocab(true).into_values().max()
    }

    /// How many tokens there are.
    pub(super) fn vocab_size(&self) -> usize {
        self.backend.get_vocab_size(true)
    }

    /// Whether a special token may be found where it is only text; if not, the crate's own search gives the same.
    fn any_touches(&self, text: &str, literal: &[Range<usize>]) -> bool {
        // Normalization may bring forth a token's text from another one, so these are always looked for with care.
        let normalized = self.normalized.tokens.iter().any(|(_, token)| token.special);
        let found = |range: Range<usize>| touches(literal, &range) != Touch::No;
        literal.iter().any(|span| !span.is_empty())
            && (normalized
                || self
                    .raw
                    .finder
                    .find_iter(text)
                    .any(|hit| self.raw.tokens[hit.pattern().as_usize()].1.special && found(hit.start()..hit.end())))
    }

    /// What the crate's `encode` does, but with a search for added tokens that knows where they are only text.
    fn encode_by_parts(&self, text: &str, literal: &[Range<usize>]) -> tokenizers::Result<Encoding> {
        let mut parts = PreTokenizedString::from(text);
        parts.split(|_, part| self.raw.split(&part, literal))?;
        parts.split(|_, mut part| {
            if let Some(normalizer) = self.backend.get_normalizer() {
                normalizer.normalize(&mut part)?;
            }
            self.normalized.split(&part, literal)
        })?;
        if let Some(pre_tokenizer) = self.backend.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut parts)?;
        }
        parts.tokenize(|part| self.backend.get_model().tokenize(part.get()))?;
        let characters = self.counts_characters(text);
        let encoding = parts.into_encoding(None, 0, if characters { OffsetType::Char } else { OffsetType::Byte })?;
        self.backend.post_process(encoding, None, false)
    }
}

/// Takes ids and offsets. With `characters` the offsets count the characters of this text, and become bytes.
fn fill(out: &mut Encoded, encoding: &Encoding, characters: Option<&str>) -> Result<()> {
    out.clear();
    out.ids.extend_from_slice(encoding.get_ids());
    let bytes: Option<Vec<usize>> =
        characters.map(|text| text.char_indices().map(|(at, _)| at).chain([text.len()]).collect());
    let place = |at: usize| bytes.as_ref().map_or(at, |bytes| bytes[at]);
    for &(start, end) in encoding.get_offsets() {
        let (start, end) = (place(start), place(end));
        match (u32::try_from(start), u32::try_from(end)) {
            (Ok(start), Ok(end)) => out.offsets.push((start, end)),
            _ => return Err(too_long()),
        }
    }
    Ok(())
}

/// The error for a text whose places are no `u32`.
pub(super) fn too_long() -> Error {
    Error::Tokenizer {
        message: "a chat has more than 4 GiB of text".to_string(),
        hint: "drop it, or cut it into several".to_string(),
    }
}

/// What `work` makes of `text`. The crate panics where an added token of white space was taken by another one before it.
fn caught<T>(text: &str, work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match quietly(work) {
        Ok(done) => done.map_err(|error| failed(&error)),
        Err(panic) => {
            let begin: String = text.chars().take(BEGIN).collect();
            Err(failed(&format!("{panic}, for the text that begins `{}`", begin.escape_debug())))
        }
    }
}

/// An error where the post-processor fails on every text, which a template does that asks for a second one. Ids and texts are
/// nothing to a post-processor but for offsets that are trimmed, so that it fails on a text without tokens or on none.
fn check_post_processor(backend: &Backend) -> Result<()> {
    let error = match quietly(|| backend.post_process(Encoding::default(), None, false)) {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic,
    };
    Err(Error::Tokenizer {
        message: format!("its post-processor fails on every text: {error}"),
        hint: "`single` of a `TemplateProcessing` may hold `$A` but not `$B`, for which there is no second text; where several \
            post-processors follow each other it must hold `$A` once"
            .to_string(),
    })
}

/// The error for a text that the crate does not take.
pub(super) fn failed(error: &dyn std::fmt::Display) -> Error {
    Error::Tokenizer {
        message: format!("a text cannot be encoded: {error}"),
        hint: "the same text fails in transformers; drop it, or repair the tokenizer".to_string(),
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one span is a list of spans")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A tokenizer of single characters: the id is the place in `ALPHABET`. `</s>` is 12, `<s>` 13, `ab` (not special) 14.
    const ALPHABET: &str = "?▁ab</s>\n|😀é";

    fn definition() -> Value {
        let vocab: serde_json::Map<String, Value> =
            ALPHABET.chars().enumerate().map(|(id, c)| (c.to_string(), json!(id))).collect();
        let token = |id: u32, content: &str, special: bool| {
            json!({"id": id, "content": content, "special": special, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false})
        };
        json!({
            "version": "1.0",
            "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
            "padding": {"strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0,
                "pad_token": "?"},
            "added_tokens": [token(12, "</s>", true), token(13, "<s>", true), token(14, "ab", false)],
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ]},
            "pre_tokenizer": null, "post_processor": null, "decoder": null,
            "model": {"type": "BPE", "dropout": null, "unk_token": "?", "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []},
        })
    }

    fn build(definition: &Value) -> Fallback {
        Fallback::from_json(&definition.to_string()).unwrap()
    }

    fn plain(tokenizer: &Fallback, text: &str) -> Encoded {
        let mut out = Encoded::default();
        tokenizer.encode(text, &mut out).unwrap();
        out
    }

    fn literal(tokenizer: &Fallback, text: &str, spans: &[Range<usize>]) -> Encoded {
        let mut out = Encoded { ids: vec![9], offsets: vec![(9, 9)] };
        tokenizer.encode_literal(text, spans, &mut out).unwrap();
        out
    }

    /// Ids as text, special ones in brackets.
    fn show(encoded: &Encoded) -> String {
        let name = |id: &u32| match id {
            12 => "[</s>]".to_string(),
            13 => "[<s>]".to_string(),
            14 => "[ab]".to_string(),
            id => ALPHABET.chars().nth(*id as usize).unwrap().to_string(),
        };
        encoded.ids.iter().map(name).collect()
    }

    #[test]
    fn truncation_and_padding_are_off() {
        assert_eq!(show(&plain(&build(&definition()), "a</s>b")), "▁a[</s>]▁b");
    }

    #[test]
    fn special_texts_in_messages_are_text() {
        let tokenizer = build(&definition());
        let text = "a</s>b</s>";
        // Nobody's, the first is a person's, the second is, both are.
        assert_eq!(show(&literal(&tokenizer, text, &[0..1, 5..6])), "▁a[</s>]▁b[</s>]");
        assert_eq!(show(&literal(&tokenizer, text, &[0..6])), "▁a</s>b[</s>]");
        assert_eq!(show(&literal(&tokenizer, text, &[0..1, 5..10])), "▁a[</s>]▁b</s>");
        assert_eq!(show(&literal(&tokenizer, text, &[0..10])), "▁a</s>b</s>");
        // Offsets stay those of the whole text; other added tokens stay tokens.
        let out = literal(&tokenizer, "ab</s>é</s>", &[0..8]);
        assert_eq!(show(&out), "[ab]▁</s>é[</s>]");
        assert_eq!(out.offsets, [(0, 2), (2, 3), (2, 3), (3, 4), (4, 5), (5, 6), (6, 8), (8, 12)]);
    }

    #[test]
    fn a_special_text_over_a_border_is_nobodys() {
        let tokenizer = build(&definition());
        assert_eq!(show(&literal(&tokenizer, "</</s>", &[0..2])), "▁</[</s>]");
        assert_eq!(show(&literal(&tokenizer, "</s>", &[0..2])), "▁</s>");
        assert_eq!(show(&literal(&tokenizer, "</s>", &[2..3])), "▁</s>");
        assert_eq!(show(&literal(&tokenizer, "</s>", &[2..2])), "[</s>]");
        // The longer token reaches into the message; the shorter one before the border is the template's.
        let mut longer = definition();
        longer["added_tokens"][1]["content"] = json!("</s>a");
        let tokenizer = build(&longer);
        assert_eq!(show(&literal(&tokenizer, "</s>a", &[])), "[<s>]");
        assert_eq!(show(&literal(&tokenizer, "</s>ab</s>", &[4..6])), "[</s>][ab][</s>]");
    }

    #[test]
    fn only_the_first_stretch_is_first() {
        let mut definition = definition();
        definition["normalizer"] = Value::Null;
        definition["pre_tokenizer"] =
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false});
        let tokenizer = build(&definition);
        assert_eq!(show(&plain(&tokenizer, "a</s>b")), "▁a[</s>]b");
        assert_eq!(show(&literal(&tokenizer, "a</s>b</s>a", &[0..6])), "▁a</s>b[</s>]a");
        assert_eq!(show(&literal(&tokenizer, "<s>a</s>b", &[3..8])), "[<s>]a</s>b");
    }

    #[test]
    fn a_token_that_takes_spaces_and_one_of_normalized_text() {
        let mut definition = definition();
        definition["added_tokens"][0]["lstrip"] = json!(true);
        definition["added_tokens"][0]["rstrip"] = json!(true);
        let tokenizer = build(&definition);
        let out = literal(&tokenizer, "</s> \n</s> a", &[0..5]);
        assert_eq!((show(&out).as_str(), out.offsets.last()), ("▁</s>[</s>]▁a", Some(&(11, 12))));
        assert_eq!(out.offsets[5], (4, 11));
        // Found only after normalization: in the message it is text, after it a token.
        definition["normalizer"] = json!({"type": "Lowercase"});
        definition["added_tokens"][0]["normalized"] = json!(true);
        let tokenizer = build(&definition);
        assert_eq!(show(&literal(&tokenizer, "</S></S>", &[0..4])), "</s>[</s>]");
        assert_eq!(show(&literal(&tokenizer, "é</S></S>", &[0..2])), "é[</s>][</s>]");
    }

    #[test]
    fn single_word_tokens_are_left_alone() {
        let mut definition = definition();
        definition["added_tokens"][2]["single_word"] = json!(true);
        let tokenizer = build(&definition);
        assert_eq!(show(&literal(&tokenizer, "ab</s>", &[0..2])), "[ab][</s>]");
        let error = tokenizer.encode_literal("</s>", &[0..4], &mut Encoded::default()).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("single-word token: `ab`\nhint: drop such chats, or set `allow_special_in_content: true`")
        );
    }

    #[test]
    fn the_search_agrees_with_the_crate() {
        // With every span empty nothing is text, and the own search must find what the crate finds.
        let tokenizer = build(&definition());
        for text in ["", " ", "</s>", "<</s>", "</s></s>ab<s>", "a </s> b\n<s><s", "😀</s>é", "</", "</s>😀é ab"]
        {
            let by_parts = tokenizer.encode_by_parts(text, &[]).unwrap();
            let mut out = Encoded::default();
            fill(&mut out, &by_parts, None).unwrap();
            assert_eq!(out, plain(&tokenizer, text), "{text:?}");
        }
    }

    #[test]
    fn white_space_that_another_token_took_is_an_error_and_no_panic() {
        let mut definition = definition();
        definition["normalizer"] = Value::Null;
        definition["added_tokens"][0]["rstrip"] = json!(true);
        definition["added_tokens"][1]["content"] = json!("\n");
        definition["added_tokens"][1]["lstrip"] = json!(true);
        let tokenizer = build(&definition);
        assert_eq!(show(&plain(&tokenizer, "a</s>\nb")), "a[</s>]b");
        assert_eq!(show(&literal(&tokenizer, "a</s></s>\nb", &[0..2])), "a</s>[</s>]b");
        let text = "a</s></s>\n\nb";
        let expected = "AddedVocabulary bad split";
        let mut out = Encoded::default();
        for error in [
            tokenizer.encode(text, &mut out),
            tokenizer.encode_literal(text, &[0..2], &mut out),
            tokenizer.encode_ids(text, &mut Vec::new()),
        ] {
            let error = error.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_trims_offsets_counts_characters() {
        let mut definition = definition();
        definition["normalizer"] = Value::Null;
        definition["added_tokens"][0]["rstrip"] = json!(true);
        definition["added_tokens"][1]["lstrip"] = json!(true);
        definition["post_processor"] = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true});
        let tokenizer = build(&definition);
        // The ideographic space is one character of three bytes, and goes as a whole.
        let expected = [(0, 1), (1, 5), (8, 9)];
        assert_eq!(plain(&tokenizer, "a</s>\u{3000}b").offsets, expected);
        assert_eq!(literal(&tokenizer, "a</s>\u{3000}b</s>", &[0..1, 9..13]).offsets[..3], expected);
        assert_eq!(plain(&tokenizer, "a\u{3000}<s>b").offsets, [(0, 1), (4, 7), (7, 8)]);
        // A space that was put before a first character shares its offsets, and leaves them by one character.
        definition["model"]["vocab"]["Ġ"] = json!(20);
        definition["model"]["vocab"]["Ã"] = json!(21);
        definition["model"]["vocab"]["©"] = json!(22);
        definition["pre_tokenizer"] = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true});
        assert_eq!(plain(&build(&definition), "éa").offsets, [(0, 0), (0, 2), (0, 2), (2, 3)]);
    }

    #[test]
    fn special_tokens_and_broken_definitions() {
        let tokenizer = build(&definition());
        assert_eq!(tokenizer.special_tokens(), [("</s>".to_string(), 12), ("<s>".to_string(), 13)]);
        assert_eq!(tokenizer.vocab_size(), ALPHABET.chars().count() + 3);
        assert!(tokenizer.holds_special("a</s>") && !tokenizer.holds_special("</ s>ab"));
        let message = Fallback::from_json("{}").unwrap_err().to_string();
        assert!(message.starts_with("cannot use the tokenizer: its JSON cannot be read: "), "{message}");
    }
}
