//! Compression: a plain byte stream out of a plain, gzip or zstd file.

use std::fs::File;
use std::io::{self, BufReader, Read};

use super::{InputFile, Position};
use crate::error::{Error, Result};

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    Plain,
    Gzip,
    Zstd,
}

/// The system call is the cost of a read, so read a quarter of a megabyte at a time.
const BUFFER: usize = 1 << 18;

impl Codec {
    /// The codec that a file name ends in, and the name without that ending.
    pub(super) fn of(file_name: &str) -> (&str, Codec) {
        for (ending, codec) in [(".gz", Codec::Gzip), (".zst", Codec::Zstd)] {
            if let Some(stem) = file_name.strip_suffix(ending) {
                return (stem, codec);
            }
        }
        (file_name, Codec::Plain)
    }

    fn name(self) -> &'static str {
        match self {
            Codec::Plain => "plain",
            Codec::Gzip => "gzip",
            Codec::Zstd => "zstd",
        }
    }
}

/// A file that says how far it has been read.
struct Counted {
    file: File,
    position: Position,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.position.add(read as u64);
        Ok(read)
    }
}

/// Opens a file as the stream of its decompressed bytes.
pub(super) fn open(file: &InputFile, position: &Position) -> Result<Box<dyn Read + Send>> {
    let opened = File::open(file.path()).map_err(Error::io("read", file.path()))?;
    let reader = BufReader::with_capacity(BUFFER, Counted { file: opened, position: position.clone() });
    Ok(match file.codec {
        Codec::Plain => Box::new(reader),
        // Both formats allow several streams one after the other in a file, as `cat a.gz b.gz` makes them.
        Codec::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        Codec::Zstd => Box::new(zstd::Decoder::with_buffer(reader).map_err(Error::io("read", file.path()))?),
    })
}

/// The most that is unpacked into memory.
const LARGEST: u64 = 1 << 31;

/// All of a compressed file, for formats that are read from their end.
pub(super) fn unpack(file: &InputFile, position: &Position) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = open(file, position)?.take(LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(|source| read_error(file, source))?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::Format {
            path: file.name.to_string(),
            message: format!("unpacked it is larger than {} GiB", LARGEST >> 30),
            hint: "unpack it first; these formats compress their columns themselves".into(),
        });
    }
    Ok(bytes)
}

/// An error in the middle of a stream: of the system, or of damaged data.
pub(super) fn read_error(file: &InputFile, source: io::Error) -> Error {
    if source.raw_os_error().is_some() || file.codec == Codec::Plain {
        return Error::io("read", file.path())(source);
    }
    let cut = source.kind() == io::ErrorKind::UnexpectedEof;
    Error::Format {
        path: file.name.to_string(),
        message: format!("the {} data {}", file.codec.name(), if cut { "ends too early" } else { "is damaged" }),
        hint: "fetch or write the file again; decompress it by hand to see how far it is good".into(),
    }
}
