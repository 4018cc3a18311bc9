//! Characters whose bytes BPE joins before anything else happens to them, so that it may begin with what they become.
//!
//! A character of three bytes costs two merges of bytes before anything of interest can happen, and most merges of Chinese are
//! of this kind. Nearly always their outcome is known beforehand. Let BPE of the bytes of a character alone end in one token
//! `t`, by merges of the ranks r₁, r₂, …, and call a merge *early* if
//!
//! 1. just before the merge of rank rᵢ it could join the first of the character's tokens with what stands before, or the last
//!    with what stands behind, and its own rank is not above rᵢ; or
//! 2. it could join the first of `t` with what stands before, or the last with what stands behind, and its rank is not above
//!    all rᵢ.
//!
//! In a text where what stands on both sides of the character excludes all early merges, BPE gives the same tokens as BPE that
//! begins with `t` in the place of the bytes. For by (1) the best merge within the character comes before any that would
//! touch it from outside, so its merges are those of the character alone. Until they are through, one of them is always to be
//! had, so whatever is merged elsewhere has a rank of at most the largest rᵢ; by (2) no neighbour would have been merged
//! with `t` in that time, and two tokens of `t` are no merge, or BPE of the character would not have ended. So both runs take the
//! same merges elsewhere, one by one, and have the same tokens when those of the character are through. What holds for one
//! character holds for all, one after the other.
//!
//! What a merge joins from outside ends in the byte before the character, or begins with the byte behind it. Those bytes are
//! what is asked for.

use std::collections::HashMap;

use super::super::split::decode;
use super::merge::Merges;

/// The tokens of such characters.
#[derive(Debug, Default)]
pub(super) struct Characters {
    /// By code point the number of the character, from 1 on, up to the last that is one.
    numbers: Vec<u16>,
    list: Vec<Character>,
}

/// The tokens of a character, and what must not stand beside it.
#[derive(Clone, Copy, Debug, Default)]
struct Character {
    first: u32,
    second: Option<u32>,
    before: Bytes,
    behind: Bytes,
}

/// Bytes that end what stands before a character, or begin what stands behind it.
#[derive(Clone, Copy, Debug, Default)]
struct Bytes {
    /// By the low six bits of those beyond ASCII: within characters, and at their beginning, these tell them apart.
    wide: u64,
    /// Any of ASCII.
    ascii: bool,
}

impl Bytes {
    fn insert(&mut self, byte: u8) {
        if byte.is_ascii() {
            self.ascii = true;
        } else {
            self.wide |= 1 << (byte & 63);
        }
    }

    #[inline]
    fn contains(self, byte: u8) -> bool {
        if byte.is_ascii() { self.ascii } else { self.wide >> (byte & 63) & 1 == 1 }
    }
}

/// The merges of each token with what stands on one side of it: the rank, and the byte next to the token.
struct Beside {
    starts: Vec<u32>,
    merges: Vec<(u32, u8)>,
}

impl Beside {
    /// Takes the token, the rank and the byte of each.
    fn new(size: usize, mut all: Vec<(u32, u32, u8)>) -> Beside {
        all.sort_unstable();
        let starts = (0..=size as u32).map(|token| all.partition_point(|one| one.0 < token) as u32).collect();
        Beside { starts, merges: all.into_iter().map(|(_, rank, byte)| (rank, byte)).collect() }
    }

    /// Those of a token with a rank up to this.
    fn up_to(&self, token: u32, rank: u32) -> impl Iterator<Item = u8> {
        let range = match self.starts.get(token as usize..token as usize + 2) {
            Some(range) => range[0] as usize..range[1] as usize,
            None => 0..0,
        };
        self.merges[range].iter().take_while(move |one| one.0 <= rank).map(|one| one.1)
    }
}

impl Characters {
    /// Finds them. `tokens` are the bytes of tokens and their ids, `bytes` the tokens of single bytes; `list` has left, right
    /// and merged token of each merge by rank, and `merges` is made of it.
    pub(super) fn new(
        tokens: &HashMap<Vec<u8>, u32>,
        bytes: &[u32; 256],
        list: &[(u32, u32, u32)],
        merges: &Merges,
    ) -> Characters {
        let size = list.iter().map(|(left, right, _)| left.max(right) + 1).max().unwrap_or(0);
        let mut tokens: Vec<(&[u8], u32)> = tokens.iter().map(|(token, id)| (token.as_slice(), *id)).collect();
        tokens.sort_unstable_by_key(|(_, id)| *id);
        let mut ends = vec![None; size as usize];
        for (token, id) in &tokens {
            if let (Some(ends), Some(first), Some(last)) = (ends.get_mut(*id as usize), token.first(), token.last()) {
                *ends = Some((*first, *last));
            }
        }
        // Tokens whose bytes are not known are never met.
        let known = || {
            (0..).zip(list).filter_map(|(rank, (l, r, _))| Some((rank, *l, *r, ends[*l as usize]?, ends[*r as usize]?)))
        };
        let before =
            Beside::new(size as usize, known().map(|(rank, _, right, left, _)| (right, rank, left.1)).collect());
        let behind =
            Beside::new(size as usize, known().map(|(rank, left, _, _, right)| (left, rank, right.0)).collect());

        let find = |text: &[u8]| {
            let mut character = Character::default();
            let mut avoid = |parts: &[u32], rank: u32| {
                before.up_to(parts[0], rank).for_each(|byte| character.before.insert(byte));
                let begins = |byte: &u8| byte & 0xC0 != 0x80;
                behind
                    .up_to(parts[parts.len() - 1], rank)
                    .filter(begins)
                    .for_each(|byte| character.behind.insert(byte));
            };
            let mut parts: Vec<u32> = text.iter().map(|byte| bytes[usize::from(*byte)]).collect();
            let mut worst = 0;
            while parts.len() > 1 {
                let merge =
                    |at: usize| merges.rank_and_token(parts[at], parts[at + 1]).map(|(rank, id)| (rank, at, id));
                let Some((rank, at, id)) = (0..parts.len() - 1).filter_map(merge).min() else { break };
                avoid(&parts, rank);
                parts.splice(at..at + 2, [id]);
                worst = worst.max(rank);
            }
            avoid(&parts, worst);
            (character.first, character.second) = (parts[0], parts.get(1).copied());
            (parts.len() <= 2).then_some(character)
        };
        let mut found = Characters::default();
        let mut insert = |character: char, bytes: &[u8]| {
            let place = character as usize;
            if found.numbers.get(place).is_none_or(|number| *number == 0)
                && let Some(one) = find(bytes)
                && let Ok(number) = u16::try_from(found.list.len() + 1)
            {
                found.list.push(one);
                found.numbers.resize(found.numbers.len().max(place + 1), 0);
                found.numbers[place] = number;
            }
        };
        for (token, _) in tokens {
            let mut chars = std::str::from_utf8(token).unwrap_or_default().chars();
            // In one byte there is nothing to join.
            if let (Some(character), None) = (chars.next(), chars.next())
                && !character.is_ascii()
            {
                insert(character, token);
            }
        }
        // Those of three bytes that are no token mostly have a token of two.
        let joins =
            |two: &[u8]| merges.rank_and_token(bytes[usize::from(two[0])], bytes[usize::from(two[1])]).is_some();
        for character in '\u{800}'..='\u{ffff}' {
            let mut buffer = [0; 4];
            let text = character.encode_utf8(&mut buffer).as_bytes();
            if joins(text) || joins(&text[1..]) {
                insert(character, text);
            }
        }
        found
    }

    /// Appends what BPE of a text, which is UTF-8, may begin with: such characters, and bytes.
    pub(super) fn symbols(&self, text: &[u8], bytes: &[u32; 256], out: &mut Vec<u32>) {
        let mut start = 0;
        while start < text.len() {
            let (point, length) = decode(&text[start..]);
            let end = start + length;
            let number = self.numbers.get(point).copied().unwrap_or(0);
            let one = usize::from(number).checked_sub(1).map(|number| &self.list[number]).filter(|one| {
                let is_free = |side: Bytes, at: usize| text.get(at).is_none_or(|byte| !side.contains(*byte));
                is_free(one.before, start.wrapping_sub(1)) && is_free(one.behind, end)
            });
            match one {
                Some(one) => {
                    out.push(one.first);
                    out.extend(one.second);
                }
                None => out.extend(text[start..end].iter().map(|byte| bytes[usize::from(*byte)])),
            }
            start = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::merge::{Work, by_definition};
    use super::*;

    /// Characters of two and three bytes that share many of them.
    const TEXT: [char; 6] = ['a', 'é', 'è', 'ш', '文', '旗'];

    type Merge = (u32, u32, u32);

    /// Tokens and merges: each merge joins two of the bytes or of what came before it.
    fn learn(seeds: &[(usize, usize)]) -> (HashMap<Vec<u8>, u32>, Vec<Merge>) {
        let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        let mut used: Vec<u32> = TEXT.iter().collect::<String>().bytes().map(u32::from).collect();
        used.sort_unstable();
        used.dedup();
        let mut merges: Vec<Merge> = Vec::new();
        for (left, right) in seeds {
            let (left, right) = (used[left % used.len()], used[right % used.len()]);
            let both = [tokens[left as usize].as_slice(), &tokens[right as usize]].concat();
            let is_new = !tokens.contains(&both);
            if is_new && both.len() < 8 {
                let id = tokens.len() as u32;
                tokens.push(both);
                used.push(id);
                merges.push((left, right, id));
            }
        }
        ((0..).zip(tokens).map(|(id, token)| (token, id)).collect(), merges)
    }

    fn all_bytes() -> [u32; 256] {
        let mut bytes = [0; 256];
        (0..).zip(&mut bytes).for_each(|(id, byte)| *byte = id);
        bytes
    }

    fn symbols(characters: &Characters, text: &str) -> Vec<u32> {
        let mut out = Vec::new();
        characters.symbols(text.as_bytes(), &all_bytes(), &mut out);
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn bpe_that_begins_with_them_gives_the_same(
            seeds in proptest::collection::vec((0usize..60, 0usize..60), 0..80),
            text in proptest::collection::vec(0..TEXT.len(), 0..16),
            swaps in proptest::collection::vec((0usize..80, 0usize..80), 0..80),
        ) {
            let (tokens, mut list) = learn(&seeds);
            // Merges of a token may come before those that make it.
            for (one, other) in swaps {
                let count = list.len().max(1);
                if list.is_empty() { break }
                list.swap(one % count, other % count);
            }
            let text: String = text.into_iter().map(|at| TEXT[at]).collect();
            let merges = Merges::new(&all_bytes(), &list).unwrap();
            let characters = Characters::new(&tokens, &all_bytes(), &list, &merges);
            let mut out = Vec::new();
            merges.merge(&symbols(&characters, &text), &mut Work::default(), &mut out);
            prop_assert_eq!(out, by_definition(text.as_bytes(), &list));
        }
    }

    /// A merge that comes before those of the character, but can only be taken when a neighbour has become longer: by then the
    /// character must not be what it becomes.
    #[test]
    fn neighbours_may_grow_before_a_character_is_through() {
        let tokens: [&[u8]; 5] =
            [&[0xE6, 0x96], &[0xC3, 0xA9], &[0xA9, 0xE6, 0x96], &[0x96, 0x87], &[0x96, 0x87, 0xC3]];
        let ids: HashMap<Vec<u8>, u32> =
            (0..=255).map(|byte| vec![byte]).chain(tokens.map(<[u8]>::to_vec)).zip(0..).collect();
        let list = |merges: [(&[u8], &[u8]); 3]| {
            merges.map(|(left, right)| (ids[left], ids[right], ids[&[left, right].concat()]))
        };
        for (text, list) in [
            ("é文", list([(&[0xA9], &[0xE6, 0x96]), (&[0xC3], &[0xA9]), (&[0xE6], &[0x96])])),
            ("文é", list([(&[0x96, 0x87], &[0xC3]), (&[0xC3], &[0xA9]), (&[0x96], &[0x87])])),
        ] {
            let merges = Merges::new(&all_bytes(), &list).unwrap();
            let characters = Characters::new(&ids, &all_bytes(), &list, &merges);
            let mut out = Vec::new();
            merges.merge(&symbols(&characters, text), &mut Work::default(), &mut out);
            assert_eq!(out, by_definition(text.as_bytes(), &list), "{text}");
        }
    }

    #[test]
    fn what_stands_beside_a_character_decides() {
        // 文 is E6 96 87, é is C3 A9.
        let ids = |list: &[(&[u8], &[u8])]| {
            let mut tokens: HashMap<Vec<u8>, u32> = (0..=255).map(|byte| (vec![byte], u32::from(byte))).collect();
            let mut merges = Vec::new();
            for (left, right) in list {
                let id = tokens.len() as u32;
                merges.push((tokens[*left], tokens[*right], id));
                tokens.insert([*left, *right].concat(), id);
            }
            Characters::new(&tokens, &all_bytes(), &merges, &Merges::new(&all_bytes(), &merges).unwrap())
        };
        let character: [(&[u8], &[u8]); 2] = [(&[0x96], &[0x87]), (&[0xE6], &[0x96, 0x87])];
        assert_eq!(symbols(&ids(&character), "文é"), [257, 0xC3, 0xA9]);
        // A merge over its border that comes first, and one that comes after.
        let [first, second] = character;
        let early = ids(&[(&[0xA9], &[0xE6]), first, second]);
        assert_eq!(symbols(&early, "é文"), [0xC3, 0xA9, 0xE6, 0x96, 0x87]);
        assert_eq!(symbols(&early, "文a文é"), [258, u32::from(b'a'), 258, 0xC3, 0xA9]);
        assert_eq!(symbols(&ids(&[first, second, (&[0xA9], &[0xE6])]), "é文")[2..], [257]);
        // Two bytes that are joined, and the third that never is.
        assert_eq!(symbols(&ids(&[first]), "é文"), [0xC3, 0xA9, 0xE6, 256]);
        assert_eq!(
            symbols(&ids(&[(&[0xA9], &[0xE6]), first]), "é文a文"),
            [0xC3, 0xA9, 0xE6, 0x96, 0x87, u32::from(b'a'), 0xE6, 257]
        );
        // Behind it; before ASCII and before others is not the same.
        let early = ids(&[first, (&[0x96, 0x87], b"a"), second]);
        assert_eq!((symbols(&early, "文a").len(), symbols(&early, "文é").len()), (4, 3));
    }
}
