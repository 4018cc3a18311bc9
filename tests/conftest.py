"""What several test files share: the bundled sample, prepared once, and small helpers as fixtures."""

import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pyarrow as pa
import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
SHARED = Path(os.environ.get("ZEPHYR_DATA_SHARED", ROOT.parent / "shared" / "data"))

# The tests make their own data and never leave the machine.
os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")


@pytest.fixture(scope="session")
def examples():
    """The folder of the bundled samples."""
    return EXAMPLES


@pytest.fixture(scope="session")
def shared():
    """The folder with real data; tests that want it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data: `{SHARED}` (set ZEPHYR_DATA_SHARED)")
    return SHARED


@pytest.fixture(scope="session")
def transformers():
    """The package, imported without its warnings, which are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers

        # The lazy modules warn as they load, so they load here.
        transformers.AutoTokenizer.from_pretrained(EXAMPLES / "tokenizer")
    return transformers


@pytest.fixture(scope="session")
def live_tokenizer(transformers):
    """transformers' tokenizer of the bundled folder: the oracle."""
    return transformers.AutoTokenizer.from_pretrained(EXAMPLES / "tokenizer")


@pytest.fixture(scope="session")
def prepare(transformers):  # noqa: ARG001 - loaded where its warnings do not count
    """`zephyr_data.prepare`, silent, with the bundled tokenizer unless another is named."""
    import zephyr_data

    def run(inputs, out, **options):
        options.setdefault("tokenizer", EXAMPLES / "tokenizer")
        options.setdefault("progress", False)
        return zephyr_data.prepare(inputs, out=out, **options)

    return run


@pytest.fixture(scope="session")
def sample(prepare, tmp_path_factory):
    """The bundled chats after `prepare`, with a test set of a tenth. Nobody may change the folder."""
    return prepare(
        EXAMPLES / "chats.jsonl", tmp_path_factory.mktemp("sample") / "out", test_fraction=0.1
    )


@pytest.fixture(scope="session")
def pairs(prepare, tmp_path_factory):
    """The bundled preferences after `prepare`. Nobody may change the folder."""
    out = tmp_path_factory.mktemp("pairs") / "out"
    return prepare(EXAMPLES / "preferences.jsonl", out, test_fraction=0.1)


@pytest.fixture(scope="session")
def read_rows():
    """A function: all rows of the Arrow parts in a folder, as dictionaries."""

    def read(folder):
        rows = []
        for path in sorted(Path(folder).glob("*.arrow")):
            with pa.memory_map(str(path)) as source:
                try:
                    reader = pa.ipc.open_file(source)
                except pa.ArrowInvalid:
                    source.seek(0)
                    reader = pa.ipc.open_stream(source)
                rows.extend(reader.read_all().to_pylist())
        return rows

    return read


@pytest.fixture(scope="session")
def write_rows():
    """A function: writes rows as JSON lines and gives the path."""

    def write(path, rows):
        lines = (
            row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows
        )
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def chat():
    """A function: a row of turns that alternate, user first."""

    def make(*contents, id=None, system=None):
        roles = ("user", "assistant")
        messages = [
            {"role": roles[turn % 2], "content": text} for turn, text in enumerate(contents)
        ]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        return {"messages": messages} | ({} if id is None else {"id": id})

    return make


@pytest.fixture(scope="session")
def many_chats(write_rows):
    """A function: writes the bundled chats again and again, each copy a text of its own, until there are `count`."""

    def write(path, count):
        lines = (EXAMPLES / "chats.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        return write_rows(
            path, (_copy(rows[number % len(rows)], number) for number in range(count))
        )

    return write


def _copy(row, number):
    messages = [dict(message) for message in row["messages"]]
    for message in messages:
        # The number at every fourth word: else the copies would be near-duplicates.
        places = itertools.count()
        numbered = re.sub(
            r"\w+",
            lambda word, places=places: word[0] + f" {number}" * (next(places) % 4 == 3),
            message["content"],
        )
        message["content"] = f"{numbered} Number {number}."
    return {"id": f"chat-{number}", "messages": messages}


@pytest.fixture(scope="session")
def digests():
    """A function: name and hash of every file below a folder but the lock, which holds nothing."""

    def read(folder):
        paths = sorted(
            path
            for path in Path(folder).rglob("*")
            if path.is_file() and path.name not in (".lock", "report.html")  # it names seconds
        )
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in paths
        }

    return read


@pytest.fixture(scope="session")
def command():
    """A function: runs `zephyr-data` in a process of its own; gives the finished process with its texts."""

    def run(*arguments, **options):
        environment = {**os.environ, "COLUMNS": "100", **options.pop("env", {})}
        return subprocess.run(
            [sys.executable, "-m", "zephyr_data", *map(str, arguments)],
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
            check=False,
            env=environment,
            **options,
        )

    return run


@pytest.fixture(scope="session")
def raw_stages(transformers):  # noqa: ARG001 - as above
    """A function: the three stages without transformers, as a program for a process that is to be killed.

    The program's arguments are input, folder and workers. It says `go` when the work begins, and the name of each stage
    when that has ended.
    """
    from zephyr_data.tokenizer import load_tokenizer

    spec = load_tokenizer(EXAMPLES / "tokenizer").spec
    fields = {name: getattr(spec, name) for name in spec.__dataclass_fields__}

    def program(folder):
        (folder / "spec.json").write_text(json.dumps(fields), encoding="utf-8")
        path = folder / "stages.py"
        path.write_text(STAGES.format(spec=str(folder / "spec.json")), encoding="utf-8")
        return path

    return program


STAGES = """\
import json, sys
from zephyr_data import _core
from zephyr_data.config import Config
from zephyr_data.tokenizer import TokenizerSpec

source, folder, workers = sys.argv[1], sys.argv[2], int(sys.argv[3])
spec = TokenizerSpec(**json.load(open({spec!r})))
options = Config(seed=1)
with _core.DirectoryLock(folder):
    print("go", flush=True)
    quiet = lambda *state: None
    _core.clean([source], folder, options.read, options.clean, workers, quiet)
    print("clean", flush=True)
    _core.dedup(folder, options.dedup_options(), workers, quiet)
    print("dedup", flush=True)
    _core.pack(folder, spec, options.pack_options(), workers, quiet)
    print("pack", flush=True)
"""
