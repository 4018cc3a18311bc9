//! How byte-level vocabularies write bytes: as printable characters, one for each, after GPT-2's `encoder.py`.
//!
//! Bytes that are printable in Latin-1 stand for themselves; the 68 others have the characters from U+0100 on, in order.

/// The characters of the alphabet, by byte.
#[derive(Debug)]
pub(super) struct Alphabet {
    bytes: [Option<u8>; 0x144],
}

impl Alphabet {
    /// Builds the inverse table.
    pub(super) fn new() -> Alphabet {
        let mut bytes = [None; 0x144];
        let mut next = 0x100;
        for byte in 0..=255u8 {
            let place = if matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..) {
                usize::from(byte)
            } else {
                next += 1;
                next - 1
            };
            bytes[place] = Some(byte);
        }
        Alphabet { bytes }
    }

    /// The bytes that `token` stands for; none if a character of it is not in the alphabet, so that no text gives it.
    pub(super) fn decode(&self, token: &str) -> Option<Vec<u8>> {
        token.chars().map(|character| *self.bytes.get(character as usize)?).collect()
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    use super::*;

    #[test]
    fn characters_stand_for_the_bytes_of_the_crate() {
        let alphabet = Alphabet::new();
        assert_eq!(ByteLevel::alphabet().len(), 256);
        // Together these texts hold every byte that UTF-8 has.
        for character in ('\0'..='\u{7ff}').chain(('\u{800}'..=char::MAX).step_by(0x777)) {
            let text = String::from(character);
            let mut parts = PreTokenizedString::from(text.as_str());
            ByteLevel::new(false, true, false).pre_tokenize(&mut parts).unwrap();
            let written = parts.get_splits(OffsetReferential::Original, OffsetType::Byte)[0].0.to_string();
            assert_eq!(alphabet.decode(&written).as_deref(), Some(text.as_bytes()));
        }
        let known = (0..0x144).filter_map(char::from_u32).filter(|c| alphabet.decode(&c.to_string()).is_some());
        assert!(known.eq(('\0'..='\u{143}').filter(|c| ByteLevel::alphabet().contains(c))));
        assert_eq!((alphabet.decode("a b"), alphabet.decode("文"), alphabet.decode("")), (None, None, Some(vec![])));
    }
}
