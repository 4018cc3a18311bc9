//! Characters that are always units of their own, as most Chinese ones are: no merge has one at the border of its halves, so
//! there is a border on both of its sides ([`super::cuts`]), whatever stands there. Their tokens need neither a search nor a memo.

/// Characters beyond ASCII of which it is known.
#[derive(Debug)]
pub(super) struct Alone {
    /// A bit by code point: it stands at the border of a merge's halves.
    joined: Vec<u64>,
}

impl Alone {
    /// No merges.
    pub(super) fn new() -> Alone {
        Alone { joined: vec![0; (char::MAX as usize + 1) / 64] }
    }

    /// A merge has the one at the end of its left half and the other at the beginning of its right half.
    pub(super) fn join(&mut self, left: char, right: char) {
        for point in [left as usize, right as usize] {
            self.joined[point / 64] |= 1 << (point % 64);
        }
    }

    /// Whether this character is one.
    #[inline]
    pub(super) fn contains(&self, character: char) -> bool {
        let point = character as usize;
        !character.is_ascii() && self.joined[point / 64] >> (point % 64) & 1 == 0
    }

    /// Length of what stands before the first such character of `text`.
    pub(super) fn run(&self, text: &str) -> usize {
        let mut end = 0;
        // Eight bytes of ASCII at a time.
        loop {
            end += text.as_bytes()[end..].chunks_exact(8).take_while(|chunk| chunk.is_ascii()).count() * 8;
            let mut chars = text[end..].chars();
            let Some(character) = chars.find(|character| !character.is_ascii()) else { return text.len() };
            end = text.len() - chars.as_str().len();
            if self.contains(character) {
                return end - character.len_utf8();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_before_such_characters() {
        let mut alone = Alone::new();
        alone.join('é', 'b');
        alone.join('a', '中');
        let text = "abc é 文字😀中文ab, and more of ASCII é中";
        let (mut at, mut runs) = (0, Vec::new());
        while at < text.len() {
            let end = at + alone.run(&text[at..]);
            runs.push(&text[at..end]);
            at = end + text[end..].chars().next().map_or(0, char::len_utf8);
        }
        assert_eq!(runs, ["abc é ", "", "", "中", "ab, and more of ASCII é中"]);
        assert!(alone.contains('文') && alone.contains('😀'));
        assert!(!alone.contains('中') && !alone.contains('é') && !alone.contains('x'));
    }
}
