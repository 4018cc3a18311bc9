//! The self-test of a fast engine: hard strings through it and through the `tokenizers` crate, before anything is encoded.

use super::{Encoded, Scratch, Tokenizer};
use crate::error::{Error, Result};

/// What tokenizers are known to disagree on; more strings are made of these.
const PARTS: [&str; 52] = [
    "",
    " ",
    "  ",
    "    ",
    "\n",
    "\n\n",
    "\t",
    "\r\n",
    " \n ",
    "a",
    "Hello",
    " Hello",
    "don't",
    "I'LL",
    "'s ſ 'ſ",
    "▁",
    "▁▁a",
    " ▁ ",
    "_",
    "1",
    "1234567890",
    "3.14159",
    "1,000,000",
    "²³½",
    "é",
    "e\u{301}",
    "n\u{303}ﬁ",
    "Ångström",
    "你好,世界!",
    "東京タワー",
    "안녕하세요",
    "שלום",
    "مرحبا ١٢٣",
    "हिन्दी",
    "ไทย",
    "👍🏽",
    "👩‍👩‍👧‍👦",
    "🇯🇵🎉",
    "\u{0}\u{7}\u{1b}",
    "\u{200b}\u{feff}\u{a0}\u{2028}\u{85}",
    "\u{10ffff}\u{fffd}",
    "<|user|>",
    "<s>",
    "</s>",
    "<unk><0x0A>",
    "[INST] [/INST]",
    "```python\ndef f(x):\n\treturn  x  **  2\n```",
    "https://a.b/c?d=e&f=%20#g",
    "!?!?...---===***",
    "Donaudampfschifffahrtsgesellschaft",
    "aAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaA",
    "{{ x }} {% y %} \\n \"q\" 'r'",
];

/// Runs of one character, which long lists of merges are made for.
const RUNS: [&str; 6] = [" ", "a", "-", "\n", "=", "é"];

/// All strings of the self-test: the parts, each behind three others, and runs.
pub(super) fn strings() -> Vec<String> {
    let mut all: Vec<String> = PARTS.iter().map(ToString::to_string).collect();
    for (at, part) in PARTS.iter().enumerate() {
        for step in [7, 17, 29] {
            all.push(format!("{}{part}", PARTS[(at + step) % PARTS.len()]));
        }
    }
    for run in RUNS {
        for length in [3, 33, 129, 700] {
            all.push(run.repeat(length));
        }
    }
    all
}

/// Compares the fast engine with the crate.
///
/// # Errors
/// An id differs; the message names the string.
pub(super) fn check(tokenizer: &Tokenizer) -> Result<()> {
    if !tokenizer.is_fast() {
        return Ok(());
    }
    let (mut scratch, mut expected, mut ids) = (Scratch::default(), Encoded::default(), Vec::new());
    // Twice: at first everything is new, then everything is remembered.
    for text in strings().iter().chain(&strings()) {
        ids.clear();
        tokenizer.encode_ids(text, &mut scratch, &mut ids)?;
        tokenizer.encode(text, &mut expected)?;
        if ids != expected.ids {
            return Err(Error::Tokenizer {
                message: format!(
                    "the fast encoder differs from the `tokenizers` library for the text `{}`",
                    text.escape_debug()
                ),
                hint: "nothing was packed; please report this with the tokenizer's name and the version of zephyr-data"
                    .to_string(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_enough_of_them() {
        let mut all = strings();
        all.sort();
        all.dedup();
        assert!(all.len() >= 200, "{}", all.len());
    }

    /// A byte-level tokenizer of single bytes, which are numbered from `first` on.
    fn single_bytes(first: u32) -> Tokenizer {
        let printable = ('!'..='~').chain('¡'..='¬').chain('®'..='ÿ').collect::<Vec<_>>();
        let others = ('\u{100}'..).take(256 - printable.len());
        let vocab: serde_json::Map<String, serde_json::Value> =
            printable.iter().copied().chain(others).zip(first..).map(|(c, id)| (c.to_string(), id.into())).collect();
        let json = serde_json::json!({
            "version": "1.0", "added_tokens": [], "normalizer": null, "decoder": null, "post_processor": null,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "vocab": vocab, "merges": []},
        });
        Tokenizer::from_json(&json.to_string()).unwrap()
    }

    #[test]
    fn an_engine_that_differs_is_refused_with_the_text() {
        let right = single_bytes(0);
        assert!(right.is_fast());
        let wrong = Tokenizer { engine: single_bytes(1).engine, ..right };
        let error = check(&wrong).unwrap_err();
        assert!(
            error.to_string().contains("differs from the `tokenizers` library for the text ` `"),
            "the empty text has no ids, so a space is the first that differs: {error}"
        );
    }
}
