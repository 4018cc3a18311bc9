//! `.json`: one array of objects over any number of lines, or JSON lines under that name.
//!
//! The array is cut into its elements while it streams by, so that its size does not matter. Where an element ends is
//! found by counting brackets outside strings; whether it is valid is the row parser's business. Elements are numbered
//! from 1, as the rows of a table are: a file that is all one line has no better place to name.

use std::io::{Chain, Cursor, Read};
use std::ops::Range;
use std::sync::Arc;

use memchr::memchr2;

use super::carry::Layout;
use super::json_row;
use super::jsonl;
use super::shape::{Fault, Shape};
use super::{BadRow, InputFile, Position, Rows, Stretches, codec};
use crate::error::{Error, Result};
use crate::record::{Kind, Row};

/// Large enough that threads rarely meet, small enough that a run stops within a fraction of a second.
const CHUNK: usize = 1 << 20;

type Stream = Chain<Cursor<Vec<u8>>, Box<dyn Read + Send>>;

/// Whole elements of a file's array.
pub(super) struct Items {
    file: Arc<str>,
    first_row: u64,
    bytes: Vec<u8>,
    places: Vec<Range<usize>>,
}

/// The chunks of a JSON file.
pub(super) fn open(file: &InputFile, position: &Position) -> Result<Stretches> {
    let mut stream = codec::open(file, position)?;
    // White space and the byte order mark may stand in front of what decides.
    let mut start = Vec::new();
    let first = loop {
        let mut byte = [0];
        let read = stream.read(&mut byte).map_err(|source| codec::read_error(file, source))?;
        if read == 0 {
            return Ok(Box::new(std::iter::empty()));
        }
        start.push(byte[0]);
        if !byte[0].is_ascii_whitespace() && !b"\xEF\xBB\xBF".contains(&byte[0]) {
            break byte[0];
        }
    };
    if first != b'[' {
        let stream: Stream = Cursor::new(start).chain(stream);
        return Ok(Box::new(jsonl::split(file, Box::new(stream)).map(|lines| lines.map(Rows::Lines))));
    }
    let mut cutter = Cutter { stream, file: file.clone(), next_row: 1, rest: Vec::new(), ended: false };
    Ok(Box::new(std::iter::from_fn(move || cutter.next().transpose()).map(|items| items.map(Rows::Items))))
}

struct Cutter {
    stream: Box<dyn Read + Send>,
    file: InputFile,
    next_row: u64,
    /// What has been read behind the last whole element.
    rest: Vec<u8>,
    ended: bool,
}

/// What a look at the bytes found.
enum Found {
    /// The array ends at this byte.
    End(usize),
    /// The bytes end within an element or between two; the last whole one ends at this byte.
    More(usize),
}

impl Cutter {
    fn next(&mut self) -> Result<Option<Items>> {
        if self.ended {
            return Ok(None);
        }
        let mut bytes = std::mem::take(&mut self.rest);
        let mut wanted = CHUNK;
        loop {
            let missing = wanted.saturating_sub(bytes.len()) as u64;
            let read = (&mut self.stream).take(missing).read_to_end(&mut bytes);
            let read = read.map_err(|source| codec::read_error(&self.file, source))?;
            let mut items = Vec::new();
            match self.cut(&bytes, &mut items)? {
                Found::End(end) => {
                    self.ended = true;
                    self.check_end(&bytes[end..])?;
                }
                Found::More(_) if (read as u64) < missing => {
                    let row = self.next_row + items.len() as u64;
                    return Err(self.fault(
                        row,
                        "the array is not closed",
                        "the file seems to be cut off; fetch or write it again",
                    ));
                }
                Found::More(_) if items.is_empty() => {
                    if bytes.len() >= jsonl::LONGEST_LINE {
                        let message = format!("the element is longer than {} MiB", jsonl::LONGEST_LINE >> 20);
                        return Err(self.fault(self.next_row, &message, "write one chat an element"));
                    }
                    wanted = bytes.len() * 2;
                    continue;
                }
                Found::More(end) => self.rest = bytes.split_off(end),
            }
            let first_row = self.next_row;
            self.next_row += items.len() as u64;
            return Ok(Some(Items { file: self.file.name.clone(), first_row, bytes, places: items }));
        }
    }

    /// Finds the whole elements.
    fn cut(&self, bytes: &[u8], items: &mut Vec<Range<usize>>) -> Result<Found> {
        let blank = |from: usize| from + bytes[from..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let mut end = 0;
        loop {
            let row = self.next_row + items.len() as u64;
            let mut start = blank(end);
            match (bytes.get(start), row > 1) {
                (None, _) => return Ok(Found::More(end)),
                (Some(b']'), _) => return Ok(Found::End(start + 1)),
                (Some(b','), true) => {
                    start = blank(start + 1);
                    match bytes.get(start) {
                        None => return Ok(Found::More(end)),
                        Some(b',' | b']') => {
                            return Err(self.fault(row, "not valid JSON: a comma without an element behind it", HINT));
                        }
                        Some(_) => {}
                    }
                }
                (Some(b','), false) => {
                    return Err(self.fault(row, "not valid JSON: a comma without an element before it", HINT));
                }
                (Some(_), true) => return Err(self.fault(row, "not valid JSON: no comma between two elements", HINT)),
                (Some(_), false) => {}
            }
            let Some(length) = element(&bytes[start..]) else { return Ok(Found::More(end)) };
            end = start + length;
            items.push(start..end);
        }
    }

    fn check_end(&mut self, rest: &[u8]) -> Result<()> {
        let mut tail = [0; 4096];
        let mut clean = rest.iter().all(u8::is_ascii_whitespace);
        loop {
            let read = self.stream.read(&mut tail).map_err(|source| codec::read_error(&self.file, source))?;
            if read == 0 || !clean {
                break;
            }
            clean = tail[..read].iter().all(u8::is_ascii_whitespace);
        }
        if clean {
            return Ok(());
        }
        Err(Error::Format {
            path: self.file.name.to_string(),
            message: "something stands behind the array".into(),
            hint: "a `.json` file holds one array; name it `.jsonl` if it has one object a line".into(),
        })
    }

    fn fault(&self, line: u64, message: &str, hint: &str) -> Error {
        Fault::new("", message, hint).at(&self.file.name, line, String::new()).error
    }
}

const HINT: &str = "the file must be one array of objects: `[{…}, {…}]`";

/// How long the element is that the bytes begin with, if they hold all of it; at least one byte.
fn element(bytes: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, 0);
    match bytes[0] {
        b'"' => return string(bytes),
        b'{' | b'[' => {}
        _ => {
            let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}') || byte.is_ascii_whitespace();
            return bytes.iter().position(ends).map(|length| length.max(1));
        }
    }
    loop {
        match bytes.get(at)? {
            b'"' => at += string(&bytes[at..])? - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 1 => return Some(at + 1),
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
}

/// How long the string is that the bytes begin with, quotes included.
fn string(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

impl Items {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Row numbers and elements.
    pub(super) fn items(&self) -> impl Iterator<Item = (u64, &[u8])> {
        (self.first_row..).zip(self.places.iter().map(|place| self.bytes[place.clone()].trim_ascii_end()))
    }

    pub(super) fn for_each_row(
        &self,
        layout: &Layout,
        each: &mut dyn FnMut(std::result::Result<Row, BadRow>) -> Result<()>,
    ) -> Result<()> {
        for (row, text) in self.items() {
            each(json_row::parse(text, layout, &self.file, row).map_err(|fault| {
                let raw = String::from_utf8_lossy(text).into_owned();
                fault.at(&self.file, row, raw)
            }))?;
        }
        Ok(())
    }

    pub(super) fn first_shape(&self, kind: Option<Kind>) -> Option<Shape> {
        self.places.iter().find_map(|item| json_row::shape_of(&self.bytes[item.clone()], kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers and texts of the elements, or the message of what is wrong.
    fn items(text: &str) -> std::result::Result<Vec<(u64, String)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, text).unwrap();
        let file = InputFile::new(&path).unwrap();
        let mut found = Vec::new();
        let chunks = open(&file, &Position::default()).map_err(|error| error.to_string())?;
        for chunk in chunks {
            match chunk.map_err(|error| error.to_string().replace(&*file.name, "F"))? {
                Rows::Items(items) => {
                    let texts = items
                        .places
                        .iter()
                        .map(|item| String::from_utf8_lossy(&items.bytes[item.clone()]).into_owned());
                    found.extend((items.first_row..).zip(texts));
                }
                Rows::Lines(lines) => found.push((0, format!("{} bytes of lines", lines.bytes()))),
                Rows::Batch(_) => panic!("no Arrow"),
            }
        }
        Ok(found)
    }

    fn texts(text: &str) -> Vec<String> {
        items(text).unwrap().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn elements_are_cut_at_the_right_commas() {
        assert_eq!(
            texts("\u{feff} [ {\"a\": \"],[\\\"\"} ,\n[[1],{}], \"x,\\\\\", 12 ]\n"),
            ["{\"a\": \"],[\\\"\"}", "[[1],{}]", "\"x,\\\\\"", "12",]
        );
        assert!(texts("[]").is_empty() && texts(" \n").is_empty() && texts("").is_empty());
        assert_eq!(texts("{}\n{}"), ["5 bytes of lines"]);
    }

    #[test]
    fn chunks_keep_numbers_and_lose_nothing() {
        let long = "x".repeat(5000);
        let text = (1..=1000).map(|i| format!("{{\"a\": \"{i} {long}\"}}")).collect::<Vec<_>>().join(" ,\n ");
        let found = items(&format!("[{text}]")).unwrap();
        assert_eq!(found.len(), 1000);
        assert!(found.iter().all(|(row, text)| text.starts_with(&format!("{{\"a\": \"{row} x"))));
        let huge = "y".repeat(3 << 20);
        assert_eq!(texts(&format!("[1, {{\"a\": \"{huge}\"}}]"))[1].len(), huge.len() + 9);
    }

    #[test]
    fn what_is_no_array_is_named() {
        let message = |text: &str| items(text).unwrap_err().lines().next().unwrap().to_string();
        assert_eq!(message("[{}, {\"a\": 1"), "the array is not closed at F:2");
        assert_eq!(message("[{}"), "the array is not closed at F:2");
        assert_eq!(message("[{} {}]"), "not valid JSON: no comma between two elements at F:2");
        assert_eq!(message("[{},]"), "not valid JSON: a comma without an element behind it at F:2");
        assert_eq!(message("[,{}]"), "not valid JSON: a comma without an element before it at F:1");
        assert_eq!(message("[{}] {}"), "cannot read `F`: something stands behind the array");
        assert_eq!(texts("[}, {}]"), ["}", "{}"]); // the row parser says what is wrong with the first
        assert_eq!(
            items(&format!("[{}", "[".repeat(300_000))).unwrap_err().lines().next(),
            Some("the array is not closed at F:1")
        );
    }
}
