//! Lengths that an Arrow file claims, held against what is there before memory is taken for them.
//!
//! Arrow's readers allocate what a length says and read afterwards: four damaged bytes can ask for more memory than there
//! is, which ends the process without a message.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use arrow::ipc::reader::read_footer_length;
use arrow::ipc::{root_as_footer, root_as_message};

/// What the file format ends in: the footer's length and the magic bytes.
const TRAILER: u64 = 10;
/// Stands before the length of a message; older streams lack it.
const CONTINUATION: [u8; 4] = [0xFF; 4];

/// Whether the footer and all blocks that it names lie within the file. Other damage is for Arrow's reader to name.
pub(super) fn check_file(source: &mut (impl Read + Seek)) -> Result<(), String> {
    let length = source.seek(SeekFrom::End(0)).map_err(|error| error.to_string())?;
    let mut trailer = [0; TRAILER as usize];
    let Some(end) = length.checked_sub(TRAILER) else { return Ok(()) };
    source.seek(SeekFrom::Start(end)).and_then(|_| source.read_exact(&mut trailer)).map_err(|e| e.to_string())?;
    let Ok(footer) = read_footer_length(trailer) else { return Ok(()) };
    let Some(start) = end.checked_sub(footer as u64) else {
        return Err(format!("the footer of {footer} bytes is longer than the file"));
    };
    let mut bytes = vec![0; footer];
    source.seek(SeekFrom::Start(start)).and_then(|_| source.read_exact(&mut bytes)).map_err(|e| e.to_string())?;
    let Ok(footer) = root_as_footer(&bytes) else { return Ok(()) };
    let blocks = [footer.dictionaries(), footer.recordBatches()];
    for (number, block) in blocks.iter().flatten().flatten().enumerate() {
        let parts = [block.offset(), i64::from(block.metaDataLength()), block.bodyLength()];
        let end = parts.iter().try_fold(0_u64, |sum, part| sum.checked_add(u64::try_from(*part).ok()?));
        if end.is_none_or(|end| end > length) {
            return Err(format!("block {number} lies outside the file"));
        }
    }
    Ok(())
}

/// A stream whose messages have been found to fit into what is left of it, each before its first byte is given.
pub(super) struct Fitting<R> {
    source: R,
    /// Bytes of the source that have not been read.
    left: u64,
    /// Length and description of a message.
    head: Cursor<Vec<u8>>,
    /// Bytes of its body that are still to be given.
    body: u64,
}

impl<R: Read> Fitting<R> {
    /// The stream of so many bytes.
    pub(super) fn new(source: R, length: u64) -> Self {
        Fitting { source, left: length, head: Cursor::default(), body: 0 }
    }

    fn fits(&self, length: u64) -> io::Result<()> {
        if length <= self.left {
            return Ok(());
        }
        let message = format!("a message claims {length} bytes, {} are left", self.left);
        // Not `UnexpectedEof`: Arrow's reader takes that for the end of a stream without a mark there.
        Err(io::Error::new(io::ErrorKind::InvalidData, message))
    }

    fn read_head(&mut self, length: u64) -> io::Result<bool> {
        let read = (&mut self.source).take(length).read_to_end(self.head.get_mut())? as u64;
        self.left = self.left.saturating_sub(read);
        Ok(read == length)
    }

    /// Reads the head of the next message. What is none is passed on, for Arrow's reader to name.
    fn next(&mut self) -> io::Result<()> {
        self.head.get_mut().clear();
        self.head.set_position(0);
        if !self.read_head(4)? || (self.head.get_ref()[..] == CONTINUATION && !self.read_head(4)?) {
            return Ok(());
        }
        let start = self.head.get_ref().len();
        let length = self.head.get_ref()[start - 4..].iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        let Ok(length) = u64::try_from(length.cast_signed()) else { return Ok(()) };
        self.fits(length)?;
        self.read_head(length)?;
        let body = root_as_message(&self.head.get_ref()[start..]).map_or(0, |message| message.bodyLength());
        self.body = body.cast_unsigned();
        self.fits(self.body)
    }
}

impl<R: Read> Read for Fitting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let is_given = |head: &Cursor<Vec<u8>>| head.position() == head.get_ref().len() as u64;
        if is_given(&self.head) && self.body == 0 {
            self.next()?;
        }
        if !is_given(&self.head) {
            return self.head.read(buffer);
        }
        let read = (&mut self.source).take(self.body).read(buffer)?;
        self.body -= read as u64;
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    use arrow::ipc::reader::StreamReader;
    use arrow::ipc::writer::{FileWriter, StreamWriter};
    use std::sync::Arc;

    fn batch() -> RecordBatch {
        RecordBatch::try_from_iter([("a", Arc::new(StringArray::from(vec!["one", "two"])) as ArrayRef)]).unwrap()
    }

    fn stream() -> Vec<u8> {
        let mut writer = StreamWriter::try_new(Vec::new(), &batch().schema()).unwrap();
        writer.write(&batch()).unwrap();
        writer.write(&batch()).unwrap();
        writer.into_inner().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<RecordBatch>, String> {
        let source = Fitting::new(bytes, bytes.len() as u64);
        let reader = StreamReader::try_new(source, None).map_err(|error| error.to_string())?;
        reader.map(|batch| batch.map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn whole_streams_pass_as_they_are() {
        let bytes = stream();
        let mut passed = Vec::new();
        Fitting::new(bytes.as_slice(), bytes.len() as u64).read_to_end(&mut passed).unwrap();
        assert_eq!(passed, bytes);
        assert_eq!(read(&bytes).unwrap(), [batch(), batch()]);
        let behind = [bytes.as_slice(), b"what stands behind the end"].concat();
        assert_eq!(read(&behind).unwrap(), [batch(), batch()]);
        assert_eq!(read(&bytes[..bytes.len() - 8]).unwrap(), [batch(), batch()]); // without a mark at the end
    }

    #[test]
    fn a_stream_that_claims_more_than_it_has_is_refused() {
        // Text under the name of an Arrow file: its first four letters are a length of 1.9 GB.
        let error = read(b"post,text\n1,hello\n").unwrap_err();
        assert!(error.contains("a message claims 1953722224 bytes, 14 are left"), "{error}");
        let bytes = stream();
        let error = read(&bytes[..bytes.len() - 40]).unwrap_err();
        assert!(error.contains("a message claims"), "{error}");
        let end = bytes.len() as u64;
        assert!(Fitting::new(&bytes[..4], end).read_to_end(&mut Vec::new()).is_ok()); // Arrow's reader names it
    }

    #[test]
    fn a_file_whose_blocks_lie_outside_it_is_refused() {
        let mut writer = FileWriter::try_new(Vec::new(), &batch().schema()).unwrap();
        writer.write(&batch()).unwrap();
        let bytes = writer.into_inner().unwrap();
        let check = |bytes: &[u8]| check_file(&mut Cursor::new(bytes.to_vec()));
        assert_eq!(check(&bytes), Ok(()));
        assert_eq!(check(&bytes[bytes.len() - 9..]), Ok(()));
        let footer = bytes.len() - 10;
        let length = u32::from_le_bytes(bytes[footer..footer + 4].try_into().unwrap()) as usize;
        let error = check(&bytes[footer - length..]).unwrap_err(); // nothing but the footer
        assert_eq!(error, "block 0 lies outside the file");
        let error = check(&bytes[footer - length + 1..]).unwrap_err();
        assert_eq!(error, format!("the footer of {length} bytes is longer than the file"));
    }
}
