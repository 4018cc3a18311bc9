//! Items in order, however many: sorted runs on the disk, merged as a stream, as often as they are wanted.
//!
//! A run is a sequence of blocks, each with its length and a checksum; in memory are one buffer of items while they come in,
//! and one block a run while they go out. Where there are many runs they are merged to fewer first, so neither the memory
//! nor the number of open files grows with the items.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;

use xxhash_rust::xxh3::xxh3_64;

use super::scratch::{Scratch, ScratchFile, damaged};
use super::sort::{BUCKETS, Leading, bucket, sort_buckets, sort_parts};
use crate::error::{Error, Result};

/// A key and a row.
pub(in crate::stage) type Pair = (u64, u32);
/// A key of two numbers and a row.
pub(in crate::stage) type Wide = (u64, u64, u32);

/// Items of a block.
const BLOCK: usize = 2048;
/// Bytes before a block: its checksum, which covers the length behind it, too.
const HEAD: usize = 12;
/// Runs that are merged at a time: about a megabyte of blocks.
const FAN: usize = 32;

/// What can be sorted: a fixed number of bytes on the disk.
pub(in crate::stage) trait Item: Leading + Sync {
    /// Bytes on the disk.
    const BYTES: usize;
    /// Appends them.
    fn put(self, out: &mut Vec<u8>);
    /// Reads them; none if there are too few.
    fn get(bytes: &[u8]) -> Option<Self>;
}

impl Leading for Pair {
    fn first(self) -> u64 {
        self.0
    }
}

impl Leading for Wide {
    fn first(self) -> u64 {
        self.0
    }
}

impl Item for Pair {
    const BYTES: usize = 12;

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
        out.extend_from_slice(&self.1.to_le_bytes());
    }

    fn get(bytes: &[u8]) -> Option<Self> {
        let (key, rest) = bytes.split_first_chunk()?;
        Some((u64::from_le_bytes(*key), u32::from_le_bytes(*rest.first_chunk()?)))
    }
}

impl Item for Wide {
    const BYTES: usize = 20;

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
        (self.1, self.2).put(out);
    }

    fn get(bytes: &[u8]) -> Option<Self> {
        let (key, rest) = bytes.split_first_chunk()?;
        let (second, row) = Pair::get(rest)?;
        Some((u64::from_le_bytes(*key), second, row))
    }
}

/// A file of items.
pub(super) struct Run {
    path: PathBuf,
    items: u64,
}

/// A run being written, in the order in which its items come.
pub(super) struct RunWriter {
    file: ScratchFile,
    block: Vec<u8>,
    items: u64,
}

impl RunWriter {
    pub(super) fn create(scratch: &Scratch, name: &str) -> Result<Self> {
        Ok(RunWriter { file: scratch.create(name)?, block: Vec::new(), items: 0 })
    }

    pub(super) fn push<T: Item>(&mut self, item: T) -> Result<()> {
        if self.block.is_empty() {
            self.block.resize(HEAD, 0);
        }
        item.put(&mut self.block);
        self.items += 1;
        if self.items.is_multiple_of(BLOCK as u64) { self.write::<T>() } else { Ok(()) }
    }

    fn write<T: Item>(&mut self) -> Result<()> {
        let items = (self.block.len() - HEAD) / T::BYTES;
        self.block[8..HEAD].copy_from_slice(&(items as u32).to_le_bytes());
        let sum = xxh3_64(&self.block[8..]);
        self.block[..8].copy_from_slice(&sum.to_le_bytes());
        self.file.write(&self.block)?;
        self.block.clear();
        Ok(())
    }

    pub(super) fn finish<T: Item>(mut self) -> Result<Run> {
        if !self.block.is_empty() {
            self.write::<T>()?;
        }
        let (path, _) = self.file.finish()?;
        Ok(Run { path, items: self.items })
    }
}

/// What the first numbers of items are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::stage) enum Keys {
    /// As good as random.
    Random,
    /// Anything.
    Any,
}

/// Collects items.
pub(in crate::stage) struct Sorter<'a, T> {
    scratch: &'a Scratch,
    name: &'static str,
    /// Items in memory at most.
    capacity: usize,
    workers: usize,
    /// By bucket, or all in one.
    buffers: Vec<Vec<T>>,
    held: usize,
    /// Runs by how often their items have been merged; fewer than [`FAN`] of each kind.
    levels: Vec<Vec<Run>>,
    /// Runs so far.
    named: usize,
}

impl<'a, T: Item> Sorter<'a, T> {
    /// Items, `most` at most, that take at most `bytes` in memory; runs have this name and a number.
    pub(in crate::stage) fn new(
        scratch: &'a Scratch,
        (name, keys): (&'static str, Keys),
        most: usize,
        bytes: usize,
        workers: usize,
    ) -> Self {
        let capacity = (bytes / size_of::<T>()).max(BLOCK).min(most.max(1));
        let buffers = vec![Vec::new(); if keys == Keys::Random { BUCKETS } else { 1 }];
        Sorter { scratch, name, capacity, workers, buffers, held: 0, levels: Vec::new(), named: 0 }
    }

    pub(in crate::stage) fn push(&mut self, item: T) -> Result<()> {
        let number = if self.buffers.len() == 1 { 0 } else { bucket(item) };
        if self.held == self.capacity || self.buffers[number].len() == self.room() {
            self.spill()?;
        }
        let (room, buffer) = (self.room(), &mut self.buffers[number]);
        if buffer.capacity() == 0 {
            // At once: growing would hold the items twice. The system gives memory only where it is written.
            buffer.reserve_exact(room);
        }
        buffer.push(item);
        self.held += 1;
        Ok(())
    }

    /// Items of a buffer: of several a bit more than its share, as chance has it.
    fn room(&self) -> usize {
        let share = self.capacity / self.buffers.len();
        if self.buffers.len() == 1 { share } else { share + share / 8 + BLOCK }
    }

    /// Sorts what is in memory: the buffers, or parts of the only one, whose length it gives.
    fn sort(&mut self) -> usize {
        match &mut self.buffers[..] {
            [only] => sort_parts(only, self.workers),
            buffers => {
                sort_buckets(buffers, self.workers);
                usize::MAX
            }
        }
    }

    fn spill(&mut self) -> Result<()> {
        let part = self.sort();
        let mut buffers = std::mem::take(&mut self.buffers);
        match &buffers[..] {
            [only] => only.chunks(part).try_for_each(|part| self.write(part))?,
            buffers => self.write(buffers.iter().flatten())?,
        }
        buffers.iter_mut().for_each(Vec::clear);
        (self.buffers, self.held) = (buffers, 0);
        Ok(())
    }

    fn write<'t>(&mut self, items: impl IntoIterator<Item = &'t T>) -> Result<()>
    where
        T: 't,
    {
        let mut run = self.run()?;
        items.into_iter().try_for_each(|&item| run.push(item))?;
        self.add(0, run.finish::<T>()?)
    }

    fn run(&mut self) -> Result<RunWriter> {
        self.named += 1;
        RunWriter::create(self.scratch, &format!("{}-{:05}", self.name, self.named - 1))
    }

    fn add(&mut self, level: usize, run: Run) -> Result<()> {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        self.levels[level].push(run);
        if self.levels[level].len() < FAN {
            return Ok(());
        }
        let runs = std::mem::take(&mut self.levels[level]);
        let merged = self.merged(&runs)?;
        self.add(level + 1, merged)
    }

    fn merged(&mut self, runs: &[Run]) -> Result<Run> {
        let mut run = self.run()?;
        let mut items = Merge::new(runs.iter().map(Source::<T>::file).collect::<Result<_>>()?)?;
        while let Some(item) = items.next()? {
            run.push(item)?;
        }
        drop(items);
        // The folder goes with all that is in it; this only gives the space back sooner.
        for run in runs {
            let _ = std::fs::remove_file(&run.path);
        }
        run.finish::<T>()
    }

    /// Ends the collecting. What has not been spilled stays in memory only if nothing has.
    pub(in crate::stage) fn finish(mut self) -> Result<Sorted<T>> {
        if self.levels.is_empty() {
            let part = self.sort();
            return Ok(Sorted { runs: Vec::new(), memory: std::mem::take(&mut self.buffers), part });
        }
        self.spill()?;
        self.buffers = Vec::new();
        let mut runs: Vec<Run> = std::mem::take(&mut self.levels).into_iter().flatten().collect();
        while runs.len() > FAN {
            // The first are the smallest.
            let few: Vec<Run> = runs.drain(..FAN.min(runs.len() - FAN + 1)).collect();
            runs.push(self.merged(&few)?);
        }
        Ok(Sorted { runs, memory: Vec::new(), part: 1 })
    }
}

/// All items that were collected.
pub(in crate::stage) struct Sorted<T> {
    runs: Vec<Run>,
    /// Buckets in order, or a single one.
    memory: Vec<Vec<T>>,
    /// Items of a sorted part of the single one.
    part: usize,
}

impl<T: Item> Sorted<T> {
    /// The items in order, from the first on.
    pub(in crate::stage) fn items(&self) -> Result<Merge<'_, T>> {
        let mut sources: Vec<Source<'_, T>> = self.runs.iter().map(Source::file).collect::<Result<_>>()?;
        match &self.memory[..] {
            [only] => sources.extend(only.chunks(self.part).map(|part| Source::Memory(part.iter(), [].iter()))),
            [] => {}
            buckets => sources.push(Source::Memory([].iter(), buckets.iter())),
        }
        Merge::new(sources)
    }
}

/// The items of one run as they were written.
pub(super) fn items_of<T: Item>(run: &Run) -> Result<Merge<'_, T>> {
    Merge::new(vec![Source::file(run)?])
}

/// Items in order.
pub(in crate::stage) struct Merge<'a, T> {
    sources: Vec<Source<'a, T>>,
    /// The next item of each source, if there are several.
    heads: BinaryHeap<Reverse<(T, usize)>>,
}

impl<'a, T: Item> Merge<'a, T> {
    fn new(mut sources: Vec<Source<'a, T>>) -> Result<Self> {
        let mut heads = BinaryHeap::new();
        if sources.len() > 1 {
            for (number, source) in sources.iter_mut().enumerate() {
                heads.extend(source.next()?.map(|item| Reverse((item, number))));
            }
        }
        Ok(Merge { sources, heads })
    }

    /// The next item.
    pub(in crate::stage) fn next(&mut self) -> Result<Option<T>> {
        if let [only] = &mut self.sources[..] {
            return only.next();
        }
        let Some(mut head) = self.heads.peek_mut() else { return Ok(None) };
        let Reverse((item, number)) = *head;
        match self.sources[number].next()? {
            Some(next) => *head = Reverse((next, number)),
            None => drop(std::collections::binary_heap::PeekMut::pop(head)),
        }
        Ok(Some(item))
    }
}

enum Source<'a, T> {
    /// Items, and the buckets behind them.
    Memory(std::slice::Iter<'a, T>, std::slice::Iter<'a, Vec<T>>),
    File {
        run: &'a Run,
        file: BufReader<File>,
        left: u64,
        block: Vec<u8>,
        at: usize,
    },
}

impl<'a, T: Item> Source<'a, T> {
    fn file(run: &'a Run) -> Result<Self> {
        let file = File::open(&run.path).map_err(Error::io("read", &run.path))?;
        Ok(Source::File { run, file: BufReader::new(file), left: run.items, block: Vec::new(), at: 0 })
    }

    fn next(&mut self) -> Result<Option<T>> {
        match self {
            Source::Memory(items, buckets) => loop {
                if let Some(&item) = items.next() {
                    return Ok(Some(item));
                }
                match buckets.next() {
                    Some(bucket) => *items = bucket.iter(),
                    None => return Ok(None),
                }
            },
            Source::File { run, file, left, block, at } => {
                if *left == 0 {
                    return Ok(None);
                }
                if *at == block.len() {
                    let mut head = [0; HEAD];
                    let wanted = (*left).min(BLOCK as u64) as usize;
                    block.resize(4 + wanted * T::BYTES, 0);
                    let read = file.read_exact(&mut head).and_then(|()| file.read_exact(&mut block[4..]));
                    match read {
                        Err(source) if source.kind() == std::io::ErrorKind::UnexpectedEof => {
                            return Err(damaged(&run.path));
                        }
                        other => other.map_err(Error::io("read", &run.path))?,
                    }
                    block[..4].copy_from_slice(&head[8..]);
                    if xxh3_64(block).to_le_bytes() != head[..8] {
                        return Err(damaged(&run.path));
                    }
                    *at = 4;
                }
                let item = T::get(&block[*at..*at + T::BYTES]);
                *at += T::BYTES;
                *left -= 1;
                Ok(item)
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

    fn all<T: Item>(sorted: &Sorted<T>) -> Result<Vec<T>> {
        let (mut all, mut items) = (Vec::new(), sorted.items()?);
        while let Some(item) = items.next()? {
            all.push(item);
        }
        Ok(all)
    }

    #[test]
    fn items_come_back_in_order_whatever_the_memory_and_as_often_as_wanted() {
        let mut expected = pairs(50_000);
        expected.sort_unstable();
        let settings = [(0, 1), (0, 3), (160_000, 2), (1 << 24, 1), (1 << 24, 3)];
        let both = settings.map(|(bytes, workers)| [Keys::Any, Keys::Random].map(|keys| (bytes, workers, keys)));
        for (bytes, workers, keys) in both.concat() {
            in_scratch(|scratch| {
                let mut sorter = Sorter::new(scratch, ("run", keys), 1 << 20, bytes, workers);
                for pair in pairs(50_000) {
                    sorter.push(pair)?;
                }
                assert_eq!(sorter.named > 0, bytes < 1 << 24);
                let sorted = sorter.finish()?;
                assert_eq!(all(&sorted)?, expected);
                assert_eq!(all(&sorted)?, expected);
                Ok(())
            })
            .unwrap();
        }
        let nothing = in_scratch(|scratch| all(&Sorter::<Pair>::new(scratch, ("run", Keys::Any), 0, 0, 2).finish()?));
        assert!(nothing.unwrap().is_empty());
    }

    #[test]
    fn many_runs_are_merged_to_few() {
        in_scratch(|scratch| {
            let count = 3 * FAN * BLOCK + 7;
            let mut sorter = Sorter::new(scratch, ("wide", Keys::Any), usize::MAX, 0, 1);
            for row in (0..count as u32).rev() {
                sorter.push((u64::from(row) / 1000, u64::from(row) / 10, row))?;
            }
            let sorted = sorter.finish()?;
            assert!(sorted.runs.len() <= 4, "{}", sorted.runs.len());
            assert_eq!(scratch.files(), sorted.runs.len());
            let mut items = sorted.items()?;
            for row in 0..count as u32 {
                assert_eq!(items.next()?, Some((u64::from(row) / 1000, u64::from(row) / 10, row)));
            }
            assert_eq!(items.next()?, None);
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn a_flipped_bit_and_a_cut_file_are_found_and_the_file_is_named() {
        for at in [0u64, 7, 8, 11, 12, 5_000, 24_588, 24_600] {
            let damage = |file: File| {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).unwrap();
                file.write_all_at(&[byte[0] ^ 16], at).unwrap();
            };
            assert_damaged(damage, &format!("bit of byte {at}"));
        }
        assert_damaged(|file| file.set_len(24_600).unwrap(), "cut");
    }

    fn assert_damaged(damage: impl FnOnce(File), what: &str) {
        let failed = in_scratch(|scratch| {
            let mut sorter = Sorter::new(scratch, ("bands", Keys::Any), 1 << 20, 2 * BLOCK * size_of::<Pair>(), 1);
            for pair in pairs(5 * BLOCK as u32) {
                sorter.push(pair)?;
            }
            let sorted = sorter.finish()?;
            damage(File::options().read(true).write(true).open(&sorted.runs[1].path).unwrap());
            all(&sorted)
        });
        let Err(error) = failed else { panic!("{what} was not noticed") };
        let message = error.to_string();
        assert!(message.starts_with("cannot use `") && message.contains("bands-00001`: its checksum"), "{message}");
    }
}
