//! BPE of a piece against its definition, and what it may take of memory and time.

use proptest::prelude::*;

use super::*;

/// Runs of one pair each, which fill another list than the runs before: together they had kept 32 times the bound.
#[test]
fn the_lists_of_many_ranks_have_a_bound() {
    let mut bytes = [0; 256];
    (0..).zip(&mut bytes).for_each(|(id, byte)| *byte = id);
    let merges: Vec<(u32, u32, u32)> = (0..64).map(|pair| (2 * pair, 2 * pair + 1, 256 + pair)).collect();
    let (table, mut work, mut out) = (Merges::new(&bytes, &merges).unwrap(), Work::default(), Vec::new());
    let mut given_back = 0;
    for pair in 0..64 {
        let piece = [2 * pair as u8, 2 * pair as u8 + 1].repeat(MOST_PLACES / 2);
        out.clear();
        table.encode(&piece, &mut work, &mut out);
        assert!(out.len() == piece.len() / 2 && out.iter().all(|token| *token == 256 + pair));
        let room: usize = work.lists.iter().map(Vec::capacity).sum();
        assert_eq!(room, work.room);
        assert!(room <= MOST_PLACES);
        given_back += usize::from(room == 0);
    }
    // Short runs keep theirs.
    table.encode(&[2, 3].repeat(SCAN), &mut work, &mut out);
    assert!(given_back > 0 && work.room >= SCAN);
}

#[test]
fn the_last_of_several_merges_of_a_pair_counts() {
    let mut bytes = [0; 256];
    (0..).zip(&mut bytes).for_each(|(id, byte)| *byte = id);
    let [a, b, c] = [b'a', b'b', b'c'].map(u32::from);
    let table = Merges::new(&bytes, &[(a, b, 256), (b, c, 257), (a, b, 258)]).unwrap();
    let mut out = Vec::new();
    table.encode(b"abc ab", &mut Work::default(), &mut out);
    assert_eq!(out, [a, 257, u32::from(b' '), 258]);
}

/// Where each merge makes a better pair, the places of its rank are not gone through again for each.
#[test]
fn pieces_of_merges_that_put_others_off_are_not_quadratic() {
    let mut bytes = [0; 256];
    (0..).zip(&mut bytes).for_each(|(id, byte)| *byte = id);
    let [a, b, c] = [b'a', b'b', b'c'].map(u32::from);
    let table = Merges::new(&bytes, &[(256, c, 257), (a, b, 256)]).unwrap();
    let (piece, mut work, mut out) = (b"abc".repeat(20_000), Work::default(), Vec::new());
    table.encode(&piece, &mut work, &mut out);
    assert_eq!(out, [257].repeat(20_000));
    assert!(work.taken_up < (PUT_OFF + 3) * piece.len(), "{}", work.taken_up);
    // The lists are left as they were, and serve the next piece.
    out.clear();
    table.encode(&b"ab".repeat(100), &mut work, &mut out);
    assert_eq!(out, [256].repeat(100));
    assert!(work.heap.is_none());
}

proptest! {
    #[test]
    fn both_ways_follow_the_definition(
        seeds in proptest::collection::vec((0usize..200, 0usize..200, any::<u32>()), 0..60),
        shuffle in any::<bool>(),
        piece in proptest::collection::vec(b'a'..b'e', 0..150),
    ) {
        // Each merge joins two of the bytes in use or of the merges before it.
        let mut tokens: Vec<(u32, String)> = (b'a'..b'e').map(|byte| (u32::from(byte), char::from(byte).to_string())).collect();
        let mut merges = Vec::new();
        for &(left, right, _) in &seeds {
            let (left, right) = (tokens[left % tokens.len()].clone(), tokens[right % tokens.len()].clone());
            let text = left.1 + &right.1;
            let known = tokens.iter().find(|token| token.1 == text).map(|token| token.0);
            let id = known.unwrap_or(256 + merges.len() as u32);
            if !merges.iter().any(|merge: &(u32, u32, u32)| (merge.0, merge.1) == (left.0, right.0)) {
                merges.push((left.0, right.0, id));
                if known.is_none() {
                    tokens.push((id, text));
                }
            }
        }
        // Not so in the order of the ranks: then a merge makes better pairs.
        if shuffle {
            let mut keyed: Vec<_> = seeds.iter().map(|seed| seed.2).zip(merges).collect();
            keyed.sort_unstable();
            merges = keyed.into_iter().map(|(_, merge)| merge).collect();
        }
        let mut bytes = [0; 256];
        (0..).zip(&mut bytes).for_each(|(id, byte)| *byte = id);
        let table = Merges::new(&bytes, &merges).unwrap();
        let expected = by_definition(&piece, &merges);
        let (mut out, mut work) = (Vec::new(), Work::default());
        // By lists, by the heap from the first better pair on, and as it is.
        let (token, first) = (|at: usize| u32::from(piece[at]), |at: usize| table.rank_of_bytes(&piece, at));
        for put_off in [usize::MAX, 0, PUT_OFF] {
            out.clear();
            table.merge_long(piece.len(), token, first, put_off, &mut work, &mut out);
            prop_assert_eq!(&out, &expected);
        }
        if piece.len() <= SCAN {
            out.clear();
            table.encode_short(&piece, &mut out);
            prop_assert_eq!(&out, &expected);
        }
    }
}
