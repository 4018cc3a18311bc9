//! What a stage wrote: read before anything is skipped or built on, written last, so that a folder without one does not exist.
//!
//! A manifest names no times and no thread counts: the same input and options give the same bytes. The next stage's input
//! is this file's own hash, so that a change anywhere re-runs all that follows.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Result};
use crate::record::Kind;
use crate::schema::FORMAT_VERSION;

/// Name of the file.
pub const MANIFEST: &str = "manifest.json";

/// A file that was read or written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Name: as the user gave it (inputs), or below the stage's folder, with `/` (outputs).
    pub name: String,
    /// Rows in it; `None` where that has no meaning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Size.
    pub bytes: u64,
    /// Hash of its bytes, 32 hexadecimal digits.
    pub xxh3_128: String,
    /// How its rows were made, if they are not what stands in the file of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Which tokenizer packed the rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizerEntry {
    /// Folder or name, as the user gave it.
    pub name: String,
    /// Hash of the live backend's JSON and of the chat template: the tokenizer's identity.
    pub hash: String,
    /// The special tokens that the template may name.
    pub special_tokens: BTreeMap<String, String>,
    /// Which formatter rendered the chats: `zephyr`, …, `jinja`.
    pub template: String,
    /// Which encoder made the ids.
    pub encoder: String,
}

/// A stage's `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// Version of the package that wrote it.
    pub zephyr_data: String,
    /// `clean`, `dedup` or `pack`.
    pub stage: String,
    /// `chat` or `preference`.
    pub kind: String,
    /// The columns that rows carry along.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub carry: Vec<String>,
    /// All options that touch the stage's bytes.
    pub options: Value,
    /// What was read.
    pub inputs: Vec<FileEntry>,
    /// The tokenizer, for packed rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<TokenizerEntry>,
    /// What was written.
    pub files: Vec<FileEntry>,
    /// Rows in and out, drops by reason, and what else the stage counts.
    pub counts: Value,
}

impl Manifest {
    /// A manifest of this version, with no files and counts yet.
    pub fn new(stage: &str, kind: Kind, options: Value, inputs: Vec<FileEntry>) -> Self {
        Manifest {
            format_version: FORMAT_VERSION,
            zephyr_data: env!("CARGO_PKG_VERSION").to_string(),
            stage: stage.to_string(),
            kind: kind.as_str().to_string(),
            carry: Vec::new(),
            options,
            inputs,
            tokenizer: None,
            files: Vec::new(),
            counts: Value::Null,
        }
    }

    /// The manifest of `folder`; `None` if there is none, or none that can be read: such a folder does not exist.
    pub fn read(folder: &Path) -> Option<Manifest> {
        serde_json::from_slice(&std::fs::read(folder.join(MANIFEST)).ok()?).ok()
    }

    /// As [`Manifest::read`], for a stage that cannot go on without it.
    pub fn require(folder: &Path) -> Result<Manifest> {
        Manifest::read(folder).ok_or_else(|| Error::Manifest {
            path: folder.to_path_buf(),
            message: format!("no `{MANIFEST}` that can be read"),
            hint: "the stage before has not finished; run `zephyr-data prepare` again".into(),
        })
    }

    /// The kind of the rows.
    pub fn kind(&self) -> Kind {
        if self.kind == Kind::Preference.as_str() { Kind::Preference } else { Kind::Chat }
    }

    /// Whether `folder` holds, complete, what this run would write: made from the same inputs with the same options by
    /// the same version.
    pub fn is_current(&self, wanted: &Manifest, folder: &Path) -> bool {
        let same = self.format_version == wanted.format_version
            && self.zephyr_data == wanted.zephyr_data
            && self.kind == wanted.kind
            && self.carry == wanted.carry
            && self.options == wanted.options
            && self.inputs == wanted.inputs
            && self.tokenizer == wanted.tokenizer;
        same && self
            .files
            .iter()
            .all(|file| std::fs::metadata(folder.join(&file.name)).is_ok_and(|metadata| metadata.len() == file.bytes))
    }

    /// The bytes of the file: keys sorted, so that they depend on the content alone.
    pub fn to_bytes(&self) -> Vec<u8> {
        let value = serde_json::to_value(self).unwrap_or_default();
        let mut bytes = serde_json::to_vec_pretty(&sorted(value)).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let ordered: BTreeMap<String, Value> =
                object.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(ordered.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// A 128-bit hash as manifests write it.
pub fn hex(hash: u128) -> String {
    format!("{hash:032x}")
}

/// Size and hash of a file, under the name that the user gave it. `tick` is called with the bytes read so far, every
/// megabyte; its error ends the reading.
pub fn fingerprint(path: &Path, name: &str, tick: &mut dyn FnMut(u64) -> Result<()>) -> Result<FileEntry> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let (mut hash, mut bytes, mut buffer) = (Xxh3::new(), 0, vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer).map_err(Error::io("read", path))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
        tick(bytes)?;
    }
    Ok(FileEntry { name: name.to_string(), rows: None, bytes, xxh3_128: hex(hash.digest128()), note: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_current_only_with_all_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part-00000.arrow");
        std::fs::write(&path, b"abc").unwrap();
        let mut written = Manifest::new("clean", Kind::Chat, Value::from(1), vec![]);
        let wanted = written.clone();
        written.files.push(fingerprint(&path, "part-00000.arrow", &mut |_| Ok(())).unwrap());
        std::fs::write(folder.path().join(MANIFEST), written.to_bytes()).unwrap();
        let read = Manifest::read(folder.path()).unwrap();
        assert_eq!(read, written);
        assert!(read.is_current(&wanted, folder.path()));
        let other = Manifest { options: Value::from(2), ..wanted.clone() };
        assert!(!read.is_current(&other, folder.path()));
        std::fs::write(&path, b"ab").unwrap();
        assert!(!read.is_current(&wanted, folder.path()));
    }
}
