//! Pairs of a key and a row in the order of the keys, however many: sorted runs on the disk, merged as a stream.
//!
//! A run is a sequence of blocks, each with its length and a checksum; in memory are one buffer of pairs while they come in,
//! and one block a run while they go out.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::PathBuf;

use xxhash_rust::xxh3::xxh3_64;

use super::scratch::{Scratch, damaged};
use crate::error::{Error, Result};

/// A key and a row.
pub(super) type Pair = (u64, u32);

/// Pairs of a block.
const BLOCK: usize = 8192;
/// Bytes of a pair on the disk.
const PAIR: usize = 12;
/// Bytes before a block: its checksum, which covers the length behind it, too.
const HEAD: usize = 12;

/// Collects pairs.
pub(super) struct Sorter<'a> {
    scratch: &'a Scratch,
    name: &'static str,
    /// Pairs in memory at most.
    capacity: usize,
    workers: usize,
    buffer: Vec<Pair>,
    runs: Vec<Run>,
}

struct Run {
    path: PathBuf,
    file: File,
    pairs: u64,
}

impl<'a> Sorter<'a> {
    /// Pairs, `most` at most, that take at most `bytes` in memory; runs have this name and a number.
    pub(super) fn new(scratch: &'a Scratch, name: &'static str, most: usize, bytes: usize, workers: usize) -> Self {
        let capacity = (bytes / size_of::<Pair>()).max(BLOCK).min(most.max(1));
        Sorter { scratch, name, capacity, workers, buffer: Vec::new(), runs: Vec::new() }
    }

    pub(super) fn push(&mut self, pair: Pair) -> Result<()> {
        if self.buffer.len() == self.capacity {
            self.spill()?;
        } else if self.buffer.capacity() == 0 {
            // At once: growing would hold the pairs twice. The system gives memory only where it is written.
            self.buffer.reserve_exact(self.capacity);
        }
        self.buffer.push(pair);
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        for part in sort_parts(&mut self.buffer, self.workers) {
            let mut file = self.scratch.create(&format!("{}-{:05}", self.name, self.runs.len()))?;
            let mut bytes = Vec::with_capacity(HEAD + BLOCK * PAIR);
            for block in part.chunks(BLOCK) {
                bytes.clear();
                bytes.extend_from_slice(&[0; 8]);
                bytes.extend_from_slice(&(block.len() as u32).to_le_bytes());
                for (key, row) in block {
                    bytes.extend_from_slice(&key.to_le_bytes());
                    bytes.extend_from_slice(&row.to_le_bytes());
                }
                let sum = xxh3_64(&bytes[8..]);
                bytes[..8].copy_from_slice(&sum.to_le_bytes());
                file.write(&bytes)?;
            }
            let (path, file) = file.finish()?;
            self.runs.push(Run { path, file, pairs: part.len() as u64 });
        }
        self.buffer.clear();
        Ok(())
    }

    /// Number of runs on the disk.
    #[cfg(test)]
    pub(super) fn spilled(&self) -> usize {
        self.runs.len()
    }

    /// Calls `each` with all pairs in order.
    pub(super) fn merge(mut self, mut each: impl FnMut(Pair) -> Result<()>) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut sources: Vec<Source<'_>> = self.runs.into_iter().map(Source::file).collect::<Result<_>>()?;
        sources.extend(sort_parts(&mut buffer, self.workers).map(|part| Source::Memory(part.iter())));
        if let [only] = &mut sources[..] {
            while let Some(pair) = only.next()? {
                each(pair)?;
            }
            return Ok(());
        }
        let mut heads = BinaryHeap::new();
        for (number, source) in sources.iter_mut().enumerate() {
            if let Some(pair) = source.next()? {
                heads.push(Reverse((pair, number)));
            }
        }
        while let Some(mut head) = heads.peek_mut() {
            let Reverse((pair, number)) = *head;
            match sources[number].next()? {
                Some(next) => {
                    *head = Reverse((next, number));
                    drop(head);
                }
                None => drop(std::collections::binary_heap::PeekMut::pop(head)),
            }
            each(pair)?;
        }
        Ok(())
    }
}

/// Sorts equal parts of the pairs, each on a thread of its own.
fn sort_parts(pairs: &mut [Pair], workers: usize) -> std::slice::Chunks<'_, Pair> {
    let size = pairs.len().div_ceil(workers).max(1);
    std::thread::scope(|scope| {
        for part in pairs.chunks_mut(size) {
            scope.spawn(|| part.sort_unstable());
        }
    });
    pairs.chunks(size)
}

enum Source<'a> {
    Memory(std::slice::Iter<'a, Pair>),
    File { path: PathBuf, file: BufReader<File>, left: u64, block: Vec<u8>, at: usize },
}

impl Source<'_> {
    fn file(run: Run) -> Result<Self> {
        let Run { path, mut file, pairs } = run;
        file.rewind().map_err(Error::io("read", &path))?;
        Ok(Source::File { path, file: BufReader::new(file), left: pairs, block: Vec::new(), at: 0 })
    }

    fn next(&mut self) -> Result<Option<Pair>> {
        match self {
            Source::Memory(pairs) => Ok(pairs.next().copied()),
            Source::File { path, file, left, block, at } => {
                if *left == 0 {
                    return Ok(None);
                }
                if *at == block.len() {
                    let mut head = [0; HEAD];
                    let wanted = (*left).min(BLOCK as u64) as usize;
                    block.resize(4 + wanted * PAIR, 0);
                    let read = file.read_exact(&mut head).and_then(|()| file.read_exact(&mut block[4..]));
                    match read {
                        Err(source) if source.kind() == std::io::ErrorKind::UnexpectedEof => return Err(damaged(path)),
                        other => other.map_err(Error::io("read", &path))?,
                    }
                    block[..4].copy_from_slice(&head[8..]);
                    if xxh3_64(block).to_le_bytes() != head[..8] {
                        return Err(damaged(path));
                    }
                    *at = 4;
                }
                let bytes = &block[*at..*at + PAIR];
                let (key, row) = (bytes.first_chunk::<8>(), bytes.last_chunk::<4>());
                *at += PAIR;
                *left -= 1;
                Ok(key.zip(row).map(|(key, row)| (u64::from_le_bytes(*key), u32::from_le_bytes(*row))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scratch::in_scratch;
    use super::*;
    use std::os::unix::fs::FileExt;

    fn pairs(count: u32) -> Vec<Pair> {
        (0..count).map(|row| (u64::from(row).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 7, row)).collect()
    }

    fn merged(sorter: Sorter<'_>) -> Result<Vec<Pair>> {
        let mut all = Vec::new();
        sorter.merge(|pair| {
            all.push(pair);
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn pairs_come_back_in_order_whatever_the_memory() {
        let mut expected = pairs(50_000);
        expected.sort_unstable();
        for (bytes, workers) in [(0, 1), (0, 3), (160_000, 2), (1 << 24, 1), (1 << 24, 3)] {
            in_scratch(|scratch| {
                let mut sorter = Sorter::new(scratch, "run", 1 << 20, bytes, workers);
                for pair in pairs(50_000) {
                    sorter.push(pair)?;
                }
                assert_eq!(sorter.spilled() > 0, bytes < 1 << 24);
                assert_eq!(merged(sorter)?, expected);
                Ok(())
            })
            .unwrap();
        }
        in_scratch(|scratch| merged(Sorter::new(scratch, "run", 0, 0, 2)).map(|all| assert!(all.is_empty()))).unwrap();
    }

    #[test]
    fn a_flipped_bit_and_a_cut_file_are_found_and_the_file_is_named() {
        for at in [0u64, 7, 8, 11, 12, 5_000, 98_000, 98_400] {
            let damage = |run: &Run| {
                let mut byte = [0];
                run.file.read_exact_at(&mut byte, at).unwrap();
                run.file.write_all_at(&[byte[0] ^ 16], at).unwrap();
            };
            assert_damaged(damage, &format!("bit of byte {at}"));
        }
        assert_damaged(|run| run.file.set_len(98_000).unwrap(), "cut");
    }

    fn assert_damaged(damage: impl FnOnce(&Run), what: &str) {
        let failed = in_scratch(|scratch| {
            let mut sorter = Sorter::new(scratch, "bands", 1 << 20, 2 * BLOCK * size_of::<Pair>(), 1);
            for pair in pairs(5 * BLOCK as u32) {
                sorter.push(pair)?;
            }
            damage(&sorter.runs[1]);
            merged(sorter)
        });
        let Err(error) = failed else { panic!("{what} was not noticed") };
        let message = error.to_string();
        assert!(message.starts_with("cannot use `") && message.contains("bands-00001`: its checksum"), "{message}");
    }
}
