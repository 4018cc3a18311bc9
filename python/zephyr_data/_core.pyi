"""The extension module, compiled from `rust/bindings`.

Long calls release the GIL and look for Ctrl-C about ten times a second. Errors are those of `zephyr_data.errors`, or
Python's own where it has one (`FileNotFoundError`, `PermissionError`, `OSError`, `KeyboardInterrupt`).
"""

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, TypeAlias, final

from zephyr_data.options import Clean, DedupOptions, PackOptions, Read
from zephyr_data.tokenizer import TokenizerSpec

_Path: TypeAlias = str | PathLike[str]

# Called about ten times a second with the stage, the bytes done, all bytes (0 while not known) and the rows so far, from
# the thread that called the stage. What it raises ends the stage.
_Observer: TypeAlias = Callable[[str, int, int, int], object]

class _ArrowArray(Protocol):
    """Any library's Arrow array, such as pyarrow's; `pyarrow.array` takes it without a copy."""

    def __arrow_c_array__(
        self, requested_schema: object | None = None
    ) -> tuple[object, object]: ...

class _ArrowTable(Protocol):
    """Any library's Arrow table; `pyarrow.table` takes it without a copy."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...

class _ArrowBatch(Protocol):
    """Any library's Arrow record batch; `pyarrow.record_batch` takes it without a copy."""

    def __arrow_c_array__(
        self, requested_schema: object | None = None
    ) -> tuple[object, object]: ...

__all__ = [
    "DEBUG_BUILD",
    "FORMAT_VERSION",
    "ChatEncoder",
    "DirectoryLock",
    "StageResult",
    "__version__",
    "check_dedup",
    "choose_instructions",
    "clean",
    "clean_rows",
    "dedup",
    "deduplicate_rows",
    "default_options",
    "encode_rows",
    "exact_duplicates",
    "find_files",
    "inspect",
    "measure_recall",
    "near_duplicates",
    "near_pairs",
    "pack",
    "pack_rows",
    "render_rows",
    "truecase",
    "words",
]

__version__: Final[str]
"""Version of the crate, which is the package's."""

FORMAT_VERSION: Final[int]
"""Version of the files and manifests that the stages write."""

DEBUG_BUILD: Final[bool]
"""Whether the module was compiled without optimization."""

def choose_instructions(name: str) -> None:
    """Lets what is made from now on in this process use these vector instructions, and nothing wider. Results never differ.

    Args:
        name: `avx512vbmi`, `avx512`, `avx2` or `scalar`.

    Raises:
        ConfigError: There is no such name, or the processor lacks the instructions.
    """

@final
class StageResult:
    """What a stage did."""

    @property
    def stage(self) -> str:
        """`clean`, `dedup` or `pack`."""
    @property
    def folder(self) -> Path:
        """Where its files are."""
    @property
    def skipped(self) -> bool:
        """Whether its manifest showed that there was nothing to do."""
    @property
    def seconds(self) -> float:
        """How long it took."""
    @property
    def text_bytes(self) -> int:
        """Bytes of message contents that it handled; 0 if skipped."""

@final
class DirectoryLock:
    """Keeps a second run out of a folder, which it makes if it is missing.

    The system releases it when the process ends, however it ends. Raises `LockedError` if another process holds it.
    """

    def __new__(cls, folder: _Path) -> DirectoryLock: ...
    def release(self) -> None:
        """Lets others in; once is enough."""
    def __enter__(self) -> DirectoryLock: ...
    def __exit__(
        self,
        _class: type[BaseException] | None,
        _value: BaseException | None,
        _trace: TracebackType | None,
    ) -> None: ...

@final
class ChatEncoder:
    """Encodes chats as `pack` does: ids equal `apply_chat_template`, masks those of a `{% generation %}` template."""

    def __new__(
        cls,
        tokenizer: TokenizerSpec,
        *,
        loss_on: str = "assistant",
        allow_special_in_content: bool = False,
    ) -> ChatEncoder: ...
    @staticmethod
    def is_native(chat_template: str, special_tokens: dict[str, str]) -> bool:
        """Whether the template is formatted natively, so that nothing of it is executed."""
    @property
    def template(self) -> str:
        """How the template is formatted: `zephyr`, `chatml`, …, or `jinja`."""
    @property
    def engine(self) -> str:
        """What makes the ids: `exact-fast` or `tokenizers`."""
    def encode(self, messages: _ArrowArray) -> _ArrowArray:
        """Encodes `list<struct<role, content>>` to `struct<input_ids: list<int32>, assistant_masks: list<int8>>`."""
    def encode_texts(self, texts: _ArrowArray, max_length: int | None = None) -> _ArrowArray:
        """Encodes strings to `list<int32>`, without a template and without adding special tokens; nulls stay.

        With `max_length` the first ids only; no more of a text is encoded than they need.
        """

def clean(
    inputs: Sequence[_Path | tuple[_Path, str] | tuple[_Path, str, str]],
    folder: _Path,
    read: Read,
    options: Clean,
    workers: int,
    observer: _Observer,
) -> StageResult:
    """Reads the inputs and writes `folder/clean`."""

def inspect(
    inputs: Sequence[_Path | tuple[_Path, str] | tuple[_Path, str, str]],
    read: Read,
    workers: int,
    observer: _Observer,
) -> str:
    """What the inputs hold, as the JSON of `zephyr_data.inspect.Inspection`; writes nothing."""

def find_files(inputs: Sequence[_Path | tuple[_Path, str] | tuple[_Path, str, str]]) -> list[Path]:
    """The files that the inputs name, in the order in which they are read: of a folder those below it, hidden ones left out."""

def dedup(folder: _Path, options: DedupOptions, workers: int, observer: _Observer) -> StageResult:
    """Reads `folder/clean` and writes `folder/dedup`."""

def check_dedup(options: DedupOptions) -> None:
    """Raises what is wrong with the options, as far as that is known before there are rows; reads all benchmarks."""

def measure_recall(folder: _Path, options: DedupOptions, observer: _Observer) -> str:
    """Looks for edited copies of rows of `folder/clean`: the JSON of a list of `zephyr_data.summary.Recall`."""

def pack(
    folder: _Path,
    tokenizer: TokenizerSpec,
    options: PackOptions,
    workers: int,
    observer: _Observer,
) -> StageResult:
    """Reads `folder/dedup` and writes `folder/packed`."""

def truecase(texts: _ArrowArray) -> _ArrowArray:
    """Repairs each string of an array; nulls stay."""

def clean_rows(
    table: _ArrowTable, read: Read, options: Clean, workers: int
) -> tuple[_ArrowTable, _ArrowTable, _ArrowTable]:
    """What `clean` does, in memory: the rows that stay, the rejects and the changes."""

def render_rows(
    table: _ArrowTable, read: Read, encoder: ChatEncoder, add_generation_prompt: bool, workers: int
) -> _ArrowTable:
    """The texts of chats by the chat template, in one column `text`."""

def encode_rows(table: _ArrowTable, read: Read, encoder: ChatEncoder, workers: int) -> _ArrowTable:
    """The tokens of each chat or preference, before anything is cut."""

def pack_rows(
    table: _ArrowTable, options: PackOptions, workers: int
) -> tuple[_ArrowTable, _ArrowTable | None, _ArrowTable]:
    """What `pack` does with tokens: packed rows, their index (none of pairs), and what was dropped."""

def deduplicate_rows(
    table: _ArrowTable, options: DedupOptions, workers: int
) -> tuple[_ArrowTable, _ArrowArray]:
    """Duplicates in a table's first column, texts or chats; a second one has the scores.

    Gives `row`, `kept_row`, `reason` and `similarity` of the rows that go, and for each row whether it stays.
    """

def words(text: str) -> list[str]:
    r"""The words by which near-duplicates are told: `\w+` of the lower-cased text."""

def exact_duplicates(messages: _ArrowArray) -> _ArrowArray:
    """For each chat, `list<struct<role, content>>`, the number of the first with the same canonical text: `uint32`."""

def near_duplicates(
    texts: _ArrowArray,
    *,
    threshold: float = 0.8,
    policy: str = "direct",
    keep: str = "first",
    scores: Sequence[float | None] | None = None,
    bands: int = 20,
    rows: int = 6,
) -> _ArrowBatch:
    """The texts that are near-duplicates of one that stays: `row`, `other` (which stays) and `similarity`, by row."""

def near_pairs(
    texts: _ArrowArray, *, threshold: float = 0.8, bands: int = 20, rows: int = 6
) -> _ArrowBatch:
    """All pairs of similar texts: `row`, `other` (which comes before it) and `similarity`."""

def default_options() -> str:
    """The core's own defaults as JSON: `{"clean": …, "dedup": …, "pack": …}`."""
