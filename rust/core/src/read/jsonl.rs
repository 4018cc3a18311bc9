//! JSON lines: one row a line, in chunks of about a megabyte.

use std::io::Read;
use std::sync::Arc;

use memchr::{memchr, memchr_iter, memrchr};

use super::carry::Layout;
use super::json_row;
use super::shape::Shape;
use super::{BadRow, InputFile, Position, Rows, Stretches, codec};
use crate::error::{Error, Result};
use crate::record::{Kind, Row};

/// Large enough that threads rarely meet, small enough that a run stops within a fraction of a second.
const CHUNK: usize = 1 << 20;
/// A longer line is no chat; a file without line ends must not fill the memory.
pub(super) const LONGEST_LINE: usize = 1 << 28;

/// Whole lines of a file.
pub(super) struct Lines {
    file: Arc<str>,
    first_line: u64,
    bytes: Vec<u8>,
}

/// The chunks of a JSON lines file.
pub(super) fn open(file: &InputFile, position: &Position) -> Result<Stretches> {
    Ok(Box::new(split(file, codec::open(file, position)?).map(|lines| lines.map(Rows::Lines))))
}

/// A stream of lines in chunks.
pub(super) fn split(
    file: &InputFile,
    stream: Box<dyn Read + Send>,
) -> impl Iterator<Item = Result<Lines>> + Send + use<> {
    let mut splitter = Splitter { stream, file: file.clone(), next_line: 1, rest: Vec::new(), ended: false };
    std::iter::from_fn(move || splitter.next().transpose())
}

struct Splitter {
    stream: Box<dyn Read + Send>,
    file: InputFile,
    next_line: u64,
    rest: Vec<u8>,
    ended: bool,
}

impl Splitter {
    fn next(&mut self) -> Result<Option<Lines>> {
        if self.ended {
            return Ok(None);
        }
        let mut bytes = std::mem::take(&mut self.rest);
        let mut wanted = CHUNK;
        loop {
            let missing = wanted.saturating_sub(bytes.len()) as u64;
            let read = (&mut self.stream)
                .take(missing)
                .read_to_end(&mut bytes)
                .map_err(|source| codec::read_error(&self.file, source))?;
            if (read as u64) < missing {
                self.ended = true;
                break;
            }
            if let Some(end) = memrchr(b'\n', &bytes) {
                self.rest = bytes.split_off(end + 1);
                break;
            }
            if bytes.len() >= LONGEST_LINE {
                return Err(Error::Row {
                    path: self.file.name.to_string(),
                    line: self.next_line,
                    field: String::new(),
                    message: format!("the line is longer than {} MiB", LONGEST_LINE >> 20),
                    hint: "write one JSON object a line, with a line end behind each".into(),
                });
            }
            wanted = bytes.len() * 2;
        }
        let first_line = self.next_line;
        self.next_line += memchr_iter(b'\n', &bytes).count() as u64;
        if bytes.is_empty() {
            return Ok(None);
        }
        Ok(Some(Lines { file: self.file.name.clone(), first_line, bytes }))
    }
}

impl Lines {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Line numbers and lines; blank ones are left out, and the byte order mark that some editors put first.
    pub(super) fn lines(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut rest = self.bytes.as_slice();
        let mut number = self.first_line;
        if number == 1 {
            rest = rest.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(rest);
        }
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let end = memchr(b'\n', rest).unwrap_or(rest.len());
            let line = (number, rest[..end].trim_ascii());
            rest = rest.get(end + 1..).unwrap_or_default();
            number += 1;
            Some(line)
        })
        .filter(|(_, line)| !line.is_empty())
    }

    pub(super) fn for_each_row(
        &self,
        layout: &Layout,
        each: &mut dyn FnMut(std::result::Result<Row, BadRow>) -> Result<()>,
    ) -> Result<()> {
        for (line, text) in self.lines() {
            each(json_row::parse(text, layout, &self.file, line).map_err(|fault| {
                let raw = String::from_utf8_lossy(text).into_owned();
                fault.at(&self.file, line, raw)
            }))?;
        }
        Ok(())
    }

    pub(super) fn first_shape(&self, kind: Option<Kind>) -> Option<Shape> {
        self.lines().find_map(|(_, text)| json_row::shape_of(text, kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    fn lines(bytes: &[u8]) -> Vec<(u64, String)> {
        let lines = Lines { file: "f".into(), first_line: 1, bytes: bytes.to_vec() };
        lines.lines().map(|(number, text)| (number, String::from_utf8_lossy(text).into_owned())).collect()
    }

    #[test]
    fn blank_lines_count_but_are_no_rows() {
        let found = lines(b"\xEF\xBB\xBF{}\r\n\n  \n{ }");
        assert_eq!(found, [(1, "{}".to_string()), (4, "{ }".to_string())]);
    }

    #[test]
    fn chunks_keep_line_numbers_and_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let long = "x".repeat(3000);
        let line = |i: u32| format!("{{\"messages\":[{{\"role\":\"user\",\"content\":\"{i} {long}\"}}]}}\n");
        let text = (1..=2000).map(line).collect::<Vec<_>>().concat();
        std::fs::write(&path, &text).unwrap();
        let file = InputFile::new(&path).unwrap();
        let mut seen = 0;
        for chunk in open(&file, &Position::default()).unwrap() {
            let Rows::Lines(lines) = chunk.unwrap() else { panic!("lines") };
            lines
                .for_each_row(&Shape::Messages.into(), &mut |row| {
                    let row = row.unwrap();
                    seen += 1;
                    assert_eq!(row.line, seen);
                    let Record::Chat(chat) = &row.record else { panic!("a chat") };
                    assert!(chat.messages[0].content.starts_with(&format!("{seen} ")));
                    Ok(())
                })
                .unwrap();
        }
        assert_eq!(seen, 2000);
    }
}
