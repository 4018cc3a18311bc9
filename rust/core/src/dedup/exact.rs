//! Exact duplicates and constant answers, from a few dozen bytes a row: here in memory, in the stage on the disk.
//!
//! Two rows are exact duplicates if their canonical texts (see [`crate::text::key`]) are equal, roles included; the first in
//! input order stays. A constant answer is one text given to many different prompts: it answers none of them, so all its
//! rows go.
//!
//! ```
//! use zephyr_data_core::dedup::exact::{Fate, Keys, Options};
//!
//! let mut keys = Keys::default();
//! for row in [7, 9, 7] {
//!     keys.push(row, 1, [None, None]);
//! }
//! assert_eq!(keys.decide(&Options::default()), [Fate::Keep, Fate::Keep, Fate::Duplicate { of: 0 }]);
//! ```

use serde::Serialize;

use crate::record::{Kind, Role};
use crate::text::key;

/// When a repeated answer is constant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConstantAnswer {
    /// Whether to look for them.
    pub enabled: bool,
    /// To how many different prompts the same answer must be given.
    pub min_prompts: u32,
    /// Shorter answers ("Yes.", "Paris") are rightly given to many prompts.
    pub min_chars: u32,
}

impl Default for ConstantAnswer {
    fn default() -> Self {
        ConstantAnswer { enabled: true, min_prompts: 10, min_chars: 40 }
    }
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Options {
    /// Whether exact duplicates go.
    pub exact: bool,
    /// Constant answers.
    pub constant_answer: ConstantAnswer,
}

impl Default for Options {
    fn default() -> Self {
        Options { exact: true, constant_answer: ConstantAnswer::default() }
    }
}

/// What happens to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Keep,
    /// It says the same as an earlier row.
    Duplicate {
        /// Number of the row that stays.
        of: u32,
    },
    /// Its answer is given to many prompts.
    Constant {
        /// To how many.
        prompts: u32,
    },
}

/// The keys of all rows, in input order.
#[derive(Default)]
pub struct Keys {
    row: Vec<u128>,
    prompt: Vec<u64>,
    answers: [Vec<Option<std::num::NonZeroU64>>; 2],
    /// Rows that go for a reason of their own, in order.
    aside: Vec<u32>,
}

/// Key of an answer; `None` for one that is too short to be constant.
pub type AnswerKey = Option<std::num::NonZeroU64>;

/// The keys of one row: of the whole row, of its prompt, of its answer or answers.
///
/// `lists` are the row's message lists, `[messages]` or `[prompt, chosen, rejected]`, as (role, content).
pub fn keys_of(kind: Kind, lists: &[Vec<(&str, &str)>], min_chars: u32) -> (u128, u64, [AnswerKey; 2]) {
    let row = key::key128(lists.iter().enumerate().flat_map(|(number, list)| {
        // The list's number keeps a prompt's last turn apart from an answer's first one.
        std::iter::once((["0", "1", "2"][number], "")).chain(list.iter().copied())
    }));
    let user = Role::User.as_str();
    let prompt = lists.iter().flatten().find(|(role, _)| *role == user).map_or("", |(_, content)| content);
    let answer = |list: &[(&str, &str)]| {
        let assistant = || list.iter().filter(|(role, _)| *role == Role::Assistant.as_str());
        let chars: usize = assistant().map(|(_, content)| content.chars().count()).sum();
        if chars < min_chars as usize {
            return None;
        }
        let hash = key::key128(assistant().copied());
        std::num::NonZeroU64::new((hash >> 64) as u64 ^ hash as u64)
    };
    let answers = match kind {
        Kind::Chat => [lists.first().and_then(|list| answer(list)), None],
        Kind::Preference => [1, 2].map(|at| lists.get(at).and_then(|list| answer(list))),
    };
    (row, key::key64(prompt, 0), answers)
}

impl Keys {
    /// Adds the next row's keys.
    pub fn push(&mut self, row: u128, prompt: u64, answers: [AnswerKey; 2]) {
        self.row.push(row);
        self.prompt.push(prompt);
        for (column, answer) in self.answers.iter_mut().zip(answers) {
            column.push(answer);
        }
    }

    /// Leaves the row that was pushed last out of all comparisons: it goes for a reason of its own and stands for nobody.
    pub fn set_last_aside(&mut self) {
        self.aside.push(self.len() as u32 - 1);
    }

    fn is_aside(&self, row: u32) -> bool {
        self.aside.binary_search(&row).is_ok()
    }

    /// The keys of the prompts alone.
    pub fn into_prompts(self) -> Vec<u64> {
        self.prompt
    }

    /// Number of rows so far.
    pub fn len(&self) -> usize {
        self.row.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.row.is_empty()
    }

    /// What happens to each row.
    pub fn decide(&self, options: &Options) -> Vec<Fate> {
        let mut fates = vec![Fate::Keep; self.len()];
        let mut order: Vec<u32> = (0..self.len() as u32).filter(|&row| !self.is_aside(row)).collect();
        if options.exact {
            order.sort_unstable_by_key(|&row| (self.row[row as usize], row));
            for same in order.chunk_by(|&a, &b| self.row[a as usize] == self.row[b as usize]) {
                for &row in &same[1..] {
                    fates[row as usize] = Fate::Duplicate { of: same[0] };
                }
            }
        }
        if options.constant_answer.enabled {
            for answers in &self.answers {
                self.mark_constant(answers, &mut order, options.constant_answer.min_prompts, &mut fates);
            }
            // A duplicate of a row that goes has nobody to stand for it: it goes for the same reason.
            for row in 0..fates.len() {
                if let Fate::Duplicate { of } = fates[row]
                    && fates[of as usize] != Fate::Keep
                {
                    fates[row] = fates[of as usize];
                }
            }
        }
        fates
    }

    fn mark_constant(&self, answers: &[AnswerKey], order: &mut Vec<u32>, min_prompts: u32, fates: &mut [Fate]) {
        order.clear();
        order.extend((0..self.len() as u32).filter(|&row| {
            let copy = matches!(fates[row as usize], Fate::Duplicate { .. });
            answers[row as usize].is_some() && !copy && !self.is_aside(row)
        }));
        order.sort_unstable_by_key(|&row| (answers[row as usize], self.prompt[row as usize], row));
        for same in order.chunk_by(|&a, &b| answers[a as usize] == answers[b as usize]) {
            let prompts = same.chunk_by(|&a, &b| self.prompt[a as usize] == self.prompt[b as usize]).count() as u32;
            if prompts >= min_prompts {
                for &row in same {
                    fates[row as usize] = Fate::Constant { prompts };
                }
            }
        }
    }
}

/// Whether a row with that first user turn belongs to the test set: a share `test_fraction` of all prompts, chosen by hash,
/// so that one prompt is never on both sides and adding rows moves none.
pub fn is_test(prompt: &str, seed: u64, test_fraction: f64) -> bool {
    // The upper 53 bits as a number in [0, 1). The seed is offset: seed 0 would be the hash of `Keys::prompt`.
    let share = (key::key64(prompt, seed.wrapping_add(1)) >> 11) as f64 / (1u64 << 53) as f64;
    share < test_fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat<'a>(turns: &[(&'a str, &'a str)]) -> Vec<Vec<(&'a str, &'a str)>> {
        vec![turns.to_vec()]
    }

    #[test]
    fn a_row_that_is_set_aside_stands_for_nobody() {
        let mut keys = Keys::default();
        for number in 0..4 {
            keys.push(7, number, [std::num::NonZeroU64::new(5), None]);
            if number == 0 {
                keys.set_last_aside();
            }
        }
        assert_eq!(
            keys.decide(&Options::default()),
            [Fate::Keep, Fate::Keep, Fate::Duplicate { of: 1 }, Fate::Duplicate { of: 1 }]
        );
        let constant = ConstantAnswer { min_prompts: 3, ..ConstantAnswer::default() };
        let fates = keys.decide(&Options { exact: false, constant_answer: constant });
        assert_eq!(fates[0], Fate::Keep);
        assert_eq!(fates[1..], [Fate::Constant { prompts: 3 }; 3]);
    }

    #[test]
    fn the_key_folds_case_and_space_but_not_roles_or_lists() {
        let key = |lists: &[Vec<(&str, &str)>]| keys_of(Kind::Preference, lists, 0).0;
        let one = key(&chat(&[("user", "Hi  there"), ("assistant", "Yes")]));
        assert_eq!(one, key(&chat(&[("user", "hi there\n"), ("assistant", "YES")])));
        assert_ne!(one, key(&chat(&[("assistant", "Hi  there"), ("user", "Yes")])));
        let split = vec![vec![("user", "a")], vec![("assistant", "b")], vec![("assistant", "c")]];
        let joined = vec![vec![("user", "a"), ("assistant", "b")], vec![], vec![("assistant", "c")]];
        assert_ne!(key(&split), key(&joined));
    }

    #[test]
    fn constant_answers_need_many_prompts_and_some_length() {
        let long = "Thank you for this question, it is an excellent one indeed.";
        let mut keys = Keys::default();
        let prompts: Vec<String> = (0..10).map(|i| format!("question {i}")).collect();
        for prompt in &prompts {
            for answer in [long, "Yes."] {
                let (row, prompt, answers) = keys_of(Kind::Chat, &chat(&[("user", prompt), ("assistant", answer)]), 40);
                keys.push(row, prompt, answers);
            }
        }
        let fates = keys.decide(&Options::default());
        assert!(fates.iter().step_by(2).all(|fate| *fate == Fate::Constant { prompts: 10 }));
        assert!(fates.iter().skip(1).step_by(2).all(|fate| *fate == Fate::Keep));
        let more = ConstantAnswer { min_prompts: 11, ..ConstantAnswer::default() };
        let fates = keys.decide(&Options { constant_answer: more, ..Options::default() });
        assert!(fates.iter().all(|fate| *fate == Fate::Keep));
    }

    #[test]
    fn the_split_follows_the_prompt_and_the_fraction() {
        let prompts: Vec<String> = (0..20_000).map(|i| format!("prompt {i}")).collect();
        let share = |seed, fraction| prompts.iter().filter(|prompt| is_test(prompt, seed, fraction)).count();
        assert_eq!((share(0, 0.0), share(0, 1.0)), (0, 20_000));
        let tenth = share(3, 0.1);
        assert!((1_800..2_200).contains(&tenth), "{tenth}");
        assert_eq!(is_test("Hello", 3, 0.5), is_test("hello ", 3, 0.5));
    }
}
