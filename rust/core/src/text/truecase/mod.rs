//! Repairs lowercase sentence starts and the lone pronoun `i`, and nothing else.
//!
//! The defect is narrow ("Hello. how are you?"); restoring all casing would damage more than it mends, so a letter is
//! raised only where eight groups of guards agree (`docs/TRUECASE.md`). Every change is reported with its place.
//!
//! ```
//! use zephyr_data_core::text::truecase::{Rule, repair_text};
//!
//! let (mut text, mut changes) = (String::from("Hello. how are you?"), Vec::new());
//! repair_text(&mut text, &mut changes);
//! assert_eq!(text, "Hello. How are you?");
//! assert_eq!(changes, [(7, 'h', 'H', Rule::SentenceStart)]);
//! ```
//!
//! A byte scan finds the candidates (`scan`); a message without one, nearly every message, costs no more than that. Else
//! the stretches that are not prose are marked (`protect`), the message is judged as a whole (`gate`, `language`), then
//! each candidate by its neighbours (`sentence`, `pronoun`, `words`) and its letter (`letter`).

mod gate;
mod language;
mod letter;
mod pronoun;
mod protect;
mod scan;
mod sentence;
mod words;

use crate::record::{Message, Record, Role};
use gate::{Decision, Evidence};
use protect::{Protected, protected};
use scan::{Candidate, Kind, candidates};
use sentence::Learned;

/// Why a letter was raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// First letter of a message.
    TurnStart,
    /// First letter after a blank line.
    ParagraphStart,
    /// First letter after the end of a sentence.
    SentenceStart,
    /// The English pronoun.
    PronounI,
}

impl Rule {
    /// All rules.
    pub const ALL: [Rule; 4] = [Rule::TurnStart, Rule::ParagraphStart, Rule::SentenceStart, Rule::PronounI];

    /// The rule's name in `changes/` and in counts.
    pub fn as_str(self) -> &'static str {
        match self {
            Rule::TurnStart => "turn_start",
            Rule::ParagraphStart => "paragraph_start",
            Rule::SentenceStart => "sentence_start",
            Rule::PronounI => "pronoun_i",
        }
    }
}

/// One letter that was raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which turn, counted along [`Record::messages`] from 0.
    pub turn: u32,
    /// Where in the turn's content.
    pub byte_offset: u64,
    /// The letter that stood there.
    pub before: char,
    /// Its capital, of the same length in UTF-8.
    pub after: char,
    /// Why.
    pub rule: Rule,
}

/// What to repair.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TruecaseOptions {
    /// Off: nothing is touched.
    pub enabled: bool,
    /// Whose turns are repaired. Only the assistant's by default: nothing else is trained on, and people may write as they do.
    pub roles: Vec<Role>,
}

impl Default for TruecaseOptions {
    fn default() -> Self {
        TruecaseOptions { enabled: true, roles: vec![Role::Assistant] }
    }
}

/// A raised letter in one text: its byte offset, what stood there, what stands there now, and why.
pub type Edit = (usize, char, char, Rule);

/// Repairs one message and appends its changes in the order of their offsets. A second call finds nothing.
pub fn repair_text(text: &mut String, changes: &mut Vec<Edit>) {
    changes.append(&mut repair_together(&mut [text])[0]);
}

/// Repairs the turns of the chosen roles. The answers of a preference are judged together.
pub fn repair(record: &mut Record, options: &TruecaseOptions, changes: &mut Vec<Change>) {
    if !options.enabled {
        return;
    }
    let mut repair_turns = |first: usize, turns: &mut [&mut Message], together: bool| {
        let mut chosen: Vec<(usize, &mut String)> = (first..)
            .zip(turns.iter_mut())
            .filter(|(_, message)| options.roles.contains(&message.role))
            .map(|(turn, message)| (turn, &mut message.content))
            .collect();
        let size = if together { chosen.len().max(1) } else { 1 };
        for group in chosen.chunks_mut(size) {
            let mut texts: Vec<&mut String> = group.iter_mut().map(|(_, text)| &mut **text).collect();
            let edits = repair_together(&mut texts);
            for ((turn, _), edits) in group.iter().zip(edits) {
                changes.extend(edits.into_iter().map(|(at, before, after, rule)| Change {
                    turn: *turn as u32,
                    byte_offset: at as u64,
                    before,
                    after,
                    rule,
                }));
            }
        }
    };
    match record {
        Record::Chat(chat) => repair_turns(0, &mut chat.messages.iter_mut().collect::<Vec<_>>(), false),
        Record::Preference(pair) => {
            let first = pair.prompt.len();
            repair_turns(0, &mut pair.prompt.iter_mut().collect::<Vec<_>>(), false);
            repair_turns(first, &mut pair.chosen.iter_mut().chain(&mut pair.rejected).collect::<Vec<_>>(), true);
        }
    }
}

/// Repairs texts that must be judged by one rule. Repeats until a pass finds nothing, because a raised letter is evidence too: that
/// makes the repair idempotent by construction. Each pass raises a letter or is the last.
fn repair_together(texts: &mut [&mut String]) -> Vec<Vec<Edit>> {
    let mut all = vec![Vec::new(); texts.len()];
    loop {
        let found = edits(texts);
        if found.iter().all(Vec::is_empty) {
            return all;
        }
        for ((text, edits), all) in texts.iter_mut().zip(found).zip(&mut all) {
            for &(at, before, after, _) in &edits {
                text.replace_range(at..at + before.len_utf8(), after.encode_utf8(&mut [0; 4]));
            }
            all.extend(edits);
            all.sort_unstable_by_key(|edit| edit.0);
        }
    }
}

/// One pass: what to raise in each text.
fn edits(texts: &[&mut String]) -> Vec<Vec<Edit>> {
    let found: Vec<Vec<Candidate>> = texts.iter().map(|text| likely(text)).collect();
    if found.iter().all(Vec::is_empty) {
        return vec![Vec::new(); texts.len()];
    }
    let spans: Vec<Protected> = texts.iter().map(|text| protected(text)).collect();
    let mut evidence = Evidence::default();
    for (text, spans) in texts.iter().zip(&spans) {
        evidence.add(&Evidence::gather(text, spans));
    }
    let decision = evidence.decide();
    texts.iter().zip(&found).zip(&spans).map(|((text, found), spans)| judge(text, found, spans, decision)).collect()
}

/// The candidates that their neighbours and their letter do not rule out.
fn likely(text: &str) -> Vec<Candidate> {
    let mut found = candidates(text);
    found.retain(|&candidate| match candidate.kind {
        Kind::Pronoun => pronoun::is_pronoun(text, candidate.at),
        _ => {
            text[candidate.at..].chars().next().and_then(letter::capital).is_some() && sentence::starts(text, candidate)
        }
    });
    found
}

/// What the message as a whole lets be raised.
fn judge(text: &str, likely: &[Candidate], spans: &Protected, decision: Decision) -> Vec<Edit> {
    let mut edits: Vec<Edit> = Vec::new();
    let open: Vec<Candidate> = likely.iter().copied().filter(|candidate| !spans.covers(candidate.at)).collect();
    if open.is_empty() || !decision.starts {
        return edits;
    }
    let learned = Learned::from(text, &open, spans);
    for candidate in open {
        let right = match candidate.kind {
            Kind::Pronoun => decision.pronoun,
            _ => sentence::agrees(text, candidate, &learned, spans),
        };
        if let (true, Some(before)) = (right, text[candidate.at..].chars().next())
            && let Some(after) = letter::capital(before)
            && edits.last().is_none_or(|last| last.0 < candidate.at)
        {
            edits.push((candidate.at, before, after, rule(candidate.kind)));
        }
    }
    edits
}

fn rule(kind: Kind) -> Rule {
    match kind {
        Kind::Turn => Rule::TurnStart,
        Kind::Paragraph => Rule::ParagraphStart,
        Kind::Sentence { .. } => Rule::SentenceStart,
        Kind::Pronoun => Rule::PronounI,
    }
}

#[cfg(test)]
mod tests;
