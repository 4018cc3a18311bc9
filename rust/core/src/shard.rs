//! Arrow files of a stage: written in parts with a checksum each, read back batch by batch.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::{FileWriter, StreamWriter};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Result};
use crate::manifest::{FileEntry, hex};

/// A part is closed when it has grown beyond this; parts keep single files handy and let later stages share the work.
const PART_BYTES: u64 = 1 << 28;

/// A file that knows its size and hash.
struct HashedFile {
    path: PathBuf,
    file: BufWriter<File>,
    hash: Xxh3,
    bytes: u64,
}

impl HashedFile {
    fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(Error::io("create", path))?;
        Ok(HashedFile {
            path: path.to_path_buf(),
            file: BufWriter::with_capacity(1 << 18, file),
            hash: Xxh3::new(),
            bytes: 0,
        })
    }

    fn finish(mut self, rows: Option<u64>) -> Result<FileEntry> {
        self.file.flush().map_err(Error::io("write", &self.path))?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(FileEntry { name, rows, bytes: self.bytes, xxh3_128: hex(self.hash.digest128()), note: None })
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// An error of the Arrow writer: nearly always the file system's.
fn arrow_error(action: &'static str, path: &Path, error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, source) => Error::io(action, path)(source),
        other => Error::Manifest {
            path: path.to_path_buf(),
            message: format!("not an Arrow file that can be used: {other}"),
            hint: "remove the folder and run the command again".into(),
        },
    }
}

/// How the batches of a file are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Arrow IPC file format, `part-00000.arrow`, …: batches can be found without reading the file.
    File,
    /// Arrow IPC stream format, `data-00000.arrow`, …: what `datasets` memory-maps.
    Stream,
}

enum Open {
    File(Box<FileWriter<HashedFile>>),
    Stream(Box<StreamWriter<HashedFile>>),
}

impl Open {
    fn write(&mut self, batch: &RecordBatch) -> std::result::Result<(), ArrowError> {
        match self {
            Open::File(writer) => writer.write(batch),
            Open::Stream(writer) => writer.write(batch),
        }
    }
}

/// Writes batches into numbered parts.
pub struct PartWriter {
    folder: PathBuf,
    schema: SchemaRef,
    framing: Framing,
    open: Option<(PathBuf, Open)>,
    rows: u64,
    grown: u64,
    done: Vec<FileEntry>,
}

impl PartWriter {
    /// Parts of `schema` in `folder`, which is made.
    pub fn create(folder: &Path, schema: SchemaRef, framing: Framing) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let folder = folder.to_path_buf();
        Ok(PartWriter { folder, schema, framing, open: None, rows: 0, grown: 0, done: Vec::new() })
    }

    /// Appends a batch; empty ones leave no trace.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let (path, writer) = self.writer()?;
        writer.write(batch).map_err(|error| arrow_error("write", path, error))?;
        self.rows += batch.num_rows() as u64;
        self.grown += batch.get_array_memory_size() as u64;
        if self.grown >= PART_BYTES {
            self.close()?;
        }
        Ok(())
    }

    fn writer(&mut self) -> Result<(&Path, &mut Open)> {
        if self.open.is_none() {
            let stem = if self.framing == Framing::File { "part" } else { "data" };
            let path = self.folder.join(format!("{stem}-{:05}.arrow", self.done.len()));
            let file = HashedFile::create(&path)?;
            let open = match self.framing {
                Framing::File => FileWriter::try_new(file, &self.schema).map(|writer| Open::File(Box::new(writer))),
                Framing::Stream => {
                    StreamWriter::try_new(file, &self.schema).map(|writer| Open::Stream(Box::new(writer)))
                }
            };
            self.open = Some((path.clone(), open.map_err(|error| arrow_error("write", &path, error))?));
        }
        match &mut self.open {
            Some((path, writer)) => Ok((path, writer)),
            None => unreachable!("opened above"),
        }
    }

    fn close(&mut self) -> Result<()> {
        let Some((path, writer)) = self.open.take() else { return Ok(()) };
        let file = match writer {
            Open::File(mut writer) => writer.finish().and_then(|()| writer.into_inner()),
            Open::Stream(mut writer) => writer.finish().and_then(|()| writer.into_inner()),
        };
        let file = file.map_err(|error| arrow_error("write", &path, error))?;
        self.done.push(file.finish(Some(self.rows))?);
        (self.rows, self.grown) = (0, 0);
        Ok(())
    }

    /// Closes the last part. With no rows at all one empty part is left, so that readers find the columns.
    pub fn finish(mut self) -> Result<Vec<FileEntry>> {
        if self.done.is_empty() && self.open.is_none() {
            let empty = RecordBatch::new_empty(self.schema.clone());
            let (path, writer) = self.writer()?;
            writer.write(&empty).map_err(|error| arrow_error("write", path, error))?;
        }
        self.close()?;
        Ok(self.done)
    }
}

/// Writes a Parquet file for people and other tools to read.
pub struct ParquetWriter {
    path: PathBuf,
    writer: ArrowWriter<HashedFile>,
    rows: u64,
}

impl ParquetWriter {
    /// A file of `schema`, compressed with zstd.
    pub fn create(path: &Path, schema: SchemaRef) -> Result<Self> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            // What is not written yet is held in memory.
            .set_max_row_group_row_count(Some(1 << 16))
            .build();
        let file = HashedFile::create(path)?;
        let writer = ArrowWriter::try_new(file, schema, Some(properties));
        let writer = writer.map_err(|error| parquet_error(path, error))?;
        Ok(ParquetWriter { path: path.to_path_buf(), writer, rows: 0 })
    }

    /// Appends a batch.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        self.writer.write(batch).map_err(|error| parquet_error(&self.path, error))
    }

    /// Writes the rest and closes the file.
    pub fn finish(self) -> Result<FileEntry> {
        let ParquetWriter { path, writer, rows } = self;
        writer.into_inner().map_err(|error| parquet_error(&path, error))?.finish(Some(rows))
    }
}

/// An error of the Parquet writer: nearly always the file system's.
fn parquet_error(path: &Path, error: ParquetError) -> Error {
    let source = match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => *source,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    };
    Error::io("write", path)(source)
}

/// Reads the batches of parts, one part after the other.
pub struct PartReader {
    paths: std::vec::IntoIter<PathBuf>,
    open: Option<(PathBuf, FileReader<BufReader<File>>)>,
}

impl PartReader {
    /// Batches of these files.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        PartReader { paths: paths.into_iter(), open: None }
    }
}

impl Iterator for PartReader {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Result<RecordBatch>> {
        loop {
            if let Some((path, reader)) = &mut self.open {
                match reader.next() {
                    Some(batch) => return Some(batch.map_err(|error| arrow_error("read", path, error))),
                    None => self.open = None,
                }
            }
            let path = self.paths.next()?;
            let reader = File::open(&path)
                .map_err(Error::io("read", &path))
                .and_then(|file| FileReader::try_new_buffered(file, None).map_err(|e| arrow_error("read", &path, e)));
            match reader {
                Ok(reader) => self.open = Some((path, reader)),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
