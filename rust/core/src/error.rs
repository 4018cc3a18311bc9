//! What can go wrong, named by what the user can do about it.
//!
//! Every message says what failed, puts literals in backticks and the value last, behind a colon; the way out stands on a
//! line of its own that begins with `hint:`. The bindings map the variants to Python's exceptions.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::Once;

/// Short for a result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything this crate can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something.
    #[error("cannot {action} `{}`: {}{}", path.display(), reason(source), io_hint(source))]
    Io {
        /// What was tried: `read`, `write`, `create`, …
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An input file is not of the format that its name promises.
    #[error("cannot read `{path}`: {message}{}", Hint(hint))]
    Format {
        /// The file, as the user named it.
        path: String,
        /// What is wrong with it.
        message: String,
        /// The way out.
        hint: String,
    },
    /// A row cannot be read.
    #[error("{message} at {path}:{line}{}{}", Field(field), Hint(hint))]
    Row {
        /// The file, as the user named it.
        path: String,
        /// Line or row number, from 1.
        line: u64,
        /// The field, as a path like `messages[2].content`; empty if the row as a whole is meant.
        field: String,
        /// What is wrong with it.
        message: String,
        /// The way out.
        hint: String,
    },
    /// An option has a value that cannot be honoured.
    #[error("{message}{}", Hint(hint))]
    Config {
        /// The option, as in the configuration file: `pack.max_length`.
        key: String,
        /// What is wrong with it.
        message: String,
        /// The way out.
        hint: String,
    },
    /// The tokenizer cannot be used.
    #[error("cannot use the tokenizer: {message}{}", Hint(hint))]
    Tokenizer {
        /// What is wrong with it.
        message: String,
        /// The way out.
        hint: String,
    },
    /// The chat template cannot be used, or refuses a chat.
    #[error("cannot apply the chat template: {message}{}", Hint(hint))]
    Template {
        /// What is wrong.
        message: String,
        /// The way out.
        hint: String,
    },
    /// What an earlier stage wrote is missing, damaged or of another version.
    #[error("cannot use `{}`: {message}{}", path.display(), Hint(hint))]
    Manifest {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
        /// The way out.
        hint: String,
    },
    /// Another run works on the folder.
    #[error(
        "cannot lock `{}`: another `zephyr-data prepare` works on this folder\nhint: wait for it to end, or choose another `--out`",
        path.display()
    )]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// Something failed, and what was left behind could not be removed.
    #[error("{error}\nnote: {left}")]
    Left {
        /// What failed.
        #[source]
        error: Box<Error>,
        /// What could not be removed.
        left: Box<Error>,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A defect of this crate: a worker thread panicked.
    #[error(
        "internal error: a worker failed: {message}\nhint: this is a defect of zephyr-data; please report it with the input that caused it"
    )]
    Panic {
        /// The panic's message.
        message: String,
    },
}

impl Error {
    /// An [`Error::Io`] for `path`; made to be used as `.map_err(Error::io("read", path))`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { action, path, source }
    }
}

/// The system's words without Rust's `(os error 2)`.
fn reason(source: &io::Error) -> String {
    let text = source.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_string(),
        None => text,
    }
}

/// A way out for the failures that have one.
fn io_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "\nhint: check the spelling; a relative path starts at the current directory",
        io::ErrorKind::PermissionDenied => "\nhint: check the permissions of the file and of its folder",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "\nhint: free some space and run the same command again; finished stages are kept"
        }
        _ => "",
    }
}

/// ` hint: …` on its own line, or nothing.
struct Hint<'a>(&'a str);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "\nhint: {}", self.0) }
    }
}

/// `, field: …`, or nothing.
struct Field<'a>(&'a str);

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ", field: `{}`", self.0) }
    }
}

thread_local! {
    pub(crate) static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Does `work`; what it panics with is the error. Nothing is printed.
pub(crate) fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let printing = take_hook();
        set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                printing(panic);
            }
        }));
    });
    let before = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(before);
    done.map_err(|panic| panic_text(&*panic))
}

/// What a panic says.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_place_and_the_way_out() {
        let row = Error::Row {
            path: "data/chats.jsonl".into(),
            line: 7,
            field: "messages[1].content".into(),
            message: "expected a string, found a number".into(),
            hint: "quote it".into(),
        };
        assert_eq!(
            row.to_string(),
            "expected a string, found a number at data/chats.jsonl:7, field: `messages[1].content`\nhint: quote it"
        );
        let io = Error::io("read", "missing.jsonl")(io::Error::from_raw_os_error(2));
        assert_eq!(
            io.to_string(),
            "cannot read `missing.jsonl`: No such file or directory\nhint: check the spelling; a relative path starts at the current directory"
        );
    }
}
