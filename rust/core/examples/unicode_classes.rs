//! Writes `src/tokenize/split/table.rs`: the classes of all characters, as the `tokenizers` crate's regex engine and
//! normalizer see them.
//!
//!     cargo run -p zephyr-data-core --example unicode_classes > rust/core/src/tokenize/split/table.rs
//!
//! The classes are asked of the engine, not of a Unicode database, because the two need not have the same version. Run it
//! again when the test `classes_are_those_of_the_regex_engine` fails after an update of that crate.

use std::fmt::Write as _;

use tokenizers::utils::SysRegex;
use unicode_normalization_alignments::char::canonical_combining_class;
use unicode_normalization_alignments::{IsNormalized, is_nfc_quick};

/// Letters of the table and the regex of each class; the first that matches a character is its class.
const CLASSES: [(char, &str); 7] = [
    ('r', r"[\r\n]"),
    ('w', r"\s"),
    ('l', r"\p{Ll}"),
    ('u', r"[\p{Lu}\p{Lt}]"),
    ('b', r"\p{L}"),
    ('m', r"\p{M}"),
    ('n', r"\p{N}"),
];
const WIDTH: usize = 112;

#[expect(clippy::print_stdout, reason = "its output is the file")]
fn main() {
    let all: String = ('\0'..=char::MAX).collect();
    let mut letters = vec![b'o'; all.len()];
    for (letter, regex) in CLASSES.iter().rev() {
        let regex = SysRegex::new(regex).expect("the engine knows these classes");
        for (start, _) in regex.find_iter(&all) {
            letters[start] = *letter as u8;
        }
    }
    // Runs of one class: the length, if it is not 1, and the letter, a capital where NFC may change the text.
    let mut runs: Vec<(u32, char, char)> = Vec::new();
    let mut next = 0;
    for (at, character) in all.char_indices() {
        let plain =
            canonical_combining_class(character) == 0 && is_nfc_quick(std::iter::once(character)) == IsNormalized::Yes;
        let letter = char::from(if plain { letters[at] } else { letters[at].to_ascii_uppercase() });
        // The surrogates are no characters; their places go to the run before them.
        let skipped = character as u32 - next;
        next = character as u32 + 1;
        match runs.last_mut() {
            Some(run) if run.1 == letter => run.0 += 1 + skipped,
            _ => {
                if let Some(run) = runs.last_mut() {
                    run.0 += skipped;
                }
                runs.push((1, letter, character));
            }
        }
    }
    let mut lines = vec![String::new()];
    for (length, letter, _) in &runs {
        let mut run = String::new();
        if *length != 1 {
            write!(run, "{length}").expect("a string takes it");
        }
        run.push(*letter);
        if lines.last().is_none_or(|line| line.len() + run.len() > WIDTH) {
            lines.push(String::new());
        }
        lines.last_mut().expect("there is one").push_str(&run);
    }
    println!(
        "//! The class of every character, written by `examples/unicode_classes.rs`; how to read it says `classes.rs`.\n"
    );
    println!("pub(super) const RUNS: &str = \"\\");
    for line in &lines {
        println!("    {line}\\");
    }
    println!("    \";");
}
