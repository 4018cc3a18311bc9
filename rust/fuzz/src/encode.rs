//! Fuzz target: the ids of every fast engine against those of the `tokenizers` crate, on any text.
//!
//!     make fuzz FUZZ_SECONDS=600
//!
//! The first byte picks a tokenizer, the others are the text. The tokenizers are small and learnt at the start from a fixed
//! text, so that a short input reaches merges, misses, added tokens and every branch of the splitters. A failing input is
//! written to `rust/fuzz/artifacts/`; give its path to the program to see the texts and the ids.
#![no_main]

#[path = "../../core/src/error.rs"]
#[expect(dead_code, reason = "part of the core's errors")]
mod error;
#[path = "../../core/src/simd.rs"]
#[expect(dead_code, reason = "the fuzzer takes the widest instructions")]
mod simd;
#[path = "../../core/src/tokenize/mod.rs"]
#[expect(dead_code, reason = "part of the core's tokenizer")]
mod tokenize;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tokenizers::Tokenizer as Backend;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use tokenize::{Scratch, Tokenizer};

/// What the small vocabularies are learnt from: words, numbers, code, scripts, white space.
const TEXT: &str = "Hello there! I'm sure you'll like it, they've said so; don't we'd? IT'S HERE, CamelCaseWords and snake_case.\n\
    fn main() {\n    let x = 3.1415;\n\treturn x // 2\n}\n\n  <div class=\"a\">https://example.org/path?q=1&r=22</div>\r\n\
    Café déjà vu naïve Straße, Привет мир, привет всем, 你好世界,你好吗?こんにちは 日本語です。안녕하세요 세계 हिन्दी नमस्ते \
    مرحبا بالعالم ไทย 😀👩🏽‍💻🇩🇪 ½ ² Ⅷ 123 4567 89012 the the the then these those there their them and and an ana banana \
    aaaa aaaaaaaa ---- ---- ==== **bold** ... ... !!! ??? \u{a0}\u{2003}\u{3000}x    y        z\n\n\n\u{301}\u{301}e\u{301}";

/// Regexes of the families, as their `tokenizer.json` has them; none: the one built into `ByteLevel`.
const FAMILIES: [(Option<&str>, bool, bool); 6] = [
    (None, false, false),
    (
        Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        false,
        true,
    ),
    (
        Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        true,
        false,
    ),
    (
        Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        true,
        false,
    ),
    (
        Some(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        false,
        false,
    ),
    (
        Some(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        false,
        true,
    ),
];

struct Pair {
    fast: Tokenizer,
    truth: Backend,
}

impl Pair {
    fn new(definition: &Value) -> Pair {
        let json = definition.to_string();
        let fast = Tokenizer::from_json(&json).expect("the definition is valid");
        assert!(fast.is_fast(), "a tokenizer without a fast engine");
        Pair { fast, truth: Backend::from_bytes(&json).expect("the definition is valid") }
    }
}

/// A learnt BPE, as `tokenizer.json` has it; `spaces`: how it writes a space, none for byte-level.
fn learn(spaces: Option<&str>) -> Value {
    let mut backend = Backend::new(BPE::default());
    let mut trainer = BpeTrainer::builder().show_progress(false).min_frequency(1);
    let text = match spaces {
        None => {
            backend.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
            trainer = trainer.vocab_size(700).initial_alphabet(ByteLevel::alphabet().into_iter().collect());
            TEXT.to_string()
        }
        Some(space) => {
            trainer = trainer.vocab_size(400);
            TEXT.replace(' ', space)
        }
    };
    let mut trainer = TrainerWrapper::from(trainer.build());
    // One word a line where nothing else cuts, or the first merges would eat whole sentences.
    let parts: Vec<String> = match spaces {
        None => vec![text],
        Some(space) => {
            text.split_inclusive(['\n', ',', '.']).flat_map(|s| s.split(space)).map(|w| format!("{space}{w}")).collect()
        }
    };
    backend.train(&mut trainer, parts.into_iter()).expect("a fixed text can be learnt");
    serde_json::from_str::<Value>(&backend.to_string(false).expect("it can be written")).expect("it is JSON")["model"]
        .take()
}

/// Special tokens, and one that is looked for in the normalized text; SentencePiece-style engines take no such token.
fn added(from: usize, normalized: bool) -> Value {
    let token = |id: usize, content: &str, special: bool, normalized: bool| {
        json!({"id": id, "content": content, "special": special, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": normalized})
    };
    let mut tokens = vec![token(from, "<|im_start|>", true, false), token(from + 1, "</s>", true, false)];
    tokens.extend(normalized.then(|| token(from + 2, "<é>", false, true)));
    tokens.into()
}

fn byte_level(model: &Value, (regex, nfc, ignore_merges): (Option<&str>, bool, bool), prefix: bool) -> Value {
    let mut model = model.clone();
    model["ignore_merges"] = ignore_merges.into();
    let size = model["vocab"].as_object().expect("a BPE has a vocabulary").len();
    let pre_tokenizer = match regex {
        None => json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": true}),
        Some(regex) => json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]}),
    };
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added(size, true),
        "normalizer": if nfc { json!({"type": "NFC"}) } else { Value::Null }, "pre_tokenizer": pre_tokenizer,
        "post_processor": null, "decoder": null, "model": model})
}

fn sentence_piece(metaspace: bool) -> Value {
    let mut model = learn(Some("▁"));
    let mut vocab = serde_json::Map::new();
    vocab.insert("<unk>".to_string(), json!(0));
    for byte in 0..256 {
        vocab.insert(format!("<0x{byte:02X}>"), json!(byte + 1));
    }
    for (token, _) in model["vocab"].as_object().expect("a BPE has a vocabulary") {
        let next = vocab.len();
        vocab.entry(token.clone()).or_insert(json!(next));
    }
    let size = vocab.len();
    model["vocab"] = Value::Object(vocab);
    model["unk_token"] = json!("<unk>");
    model["fuse_unk"] = json!(true);
    model["byte_fallback"] = json!(true);
    let (normalizer, pre_tokenizer) = if metaspace {
        (Value::Null, json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false}))
    } else {
        (
            json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}),
            Value::Null,
        )
    };
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added(size, false), "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": null, "model": model})
}

static PAIRS: LazyLock<Vec<Pair>> = LazyLock::new(|| {
    let model = learn(None);
    let mut definitions: Vec<Value> = FAMILIES.iter().map(|family| byte_level(&model, *family, false)).collect();
    definitions.push(byte_level(&model, FAMILIES[0], true));
    definitions.push(sentence_piece(false));
    definitions.push(sentence_piece(true));
    definitions.iter().map(Pair::new).collect()
});

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let pair = &PAIRS[usize::from(*first) % PAIRS.len()];
    let text = String::from_utf8_lossy(rest);
    let (mut scratch, mut ids) = (Scratch::default(), Vec::new());
    let expected = pair.truth.encode_fast(text.as_ref(), false).expect("the crate takes every text");
    // From an empty memo, and from one that has seen the text.
    for _ in 0..2 {
        ids.clear();
        pair.fast.encode_ids(&text, &mut scratch, &mut ids).expect("the crate took it");
        assert_eq!(ids, expected.get_ids(), "tokenizer {}: {text:?}", usize::from(*first) % PAIRS.len());
    }
});
