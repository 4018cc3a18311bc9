"""The documents that describe the code, held against the code: options, files, modules, reasons."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import BaseModel

from zephyr_data.config import Config

ROOT = Path(__file__).resolve().parent.parent


def document(name):
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def tables(text):
    """Every table of a text, as lists of rows; a row is its cells."""
    for lines in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [
            [cell.strip() for cell in line.strip().strip("|").split(" | ")]
            for line in lines.splitlines()
        ]
        yield [row for row in rows if not set("".join(row)) <= set("- |")]


def section(text, heading):
    """From a heading to the next one."""
    return re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE)[
        1
    ]


# ---- CONFIG.md ----


def options(model=Config, prefix=""):
    """Dotted name and default of every option."""
    for name, field in model.model_fields.items():
        default = field.get_default()
        if isinstance(default, BaseModel):
            yield from options(type(default), f"{prefix}{name}.")
        else:
            yield prefix + name, default


def documented_options():
    rows = [row for table in tables(document("CONFIG.md")) for row in table[1:]]
    return {row[0].strip("`"): row[1] for row in rows}


def test_every_option_is_documented():
    assert set(documented_options()) == set(dict(options()))


@pytest.mark.parametrize(("name", "default"), [item for item in options() if item[0] != "workers"])
def test_the_documented_default_is_the_real_one(name, default):
    assert yaml.safe_load(documented_options()[name].strip("`")) == default


def test_the_example_configuration_is_valid():
    for text in re.findall(
        r"^```yaml\n(.*?)^```$", document("CONFIG.md"), re.DOTALL | re.MULTILINE
    ):
        assert Config.load(yaml.safe_load(text)) != Config.load()


# ---- FORMAT.md ----


@pytest.fixture(scope="module", params=["chat", "preference"])
def prepared(request):
    """Kind and folder of a bundled sample after `prepare`."""
    result = request.getfixturevalue("sample" if request.param == "chat" else "pairs")
    return request.param, result.out


def table_of(path):
    with pa.memory_map(str(path)) as source:
        try:
            return pa.ipc.open_file(source).read_all()
        except pa.ArrowInvalid:
            source.seek(0)
            return pa.ipc.open_stream(source).read_all()


def type_name(column_type):
    """A column's type in the words of FORMAT.md."""
    if not pa.types.is_list(column_type):
        return str(column_type)
    item = column_type.value_type
    return "messages" if pa.types.is_struct(item) else f"list of {item}"


def columns_in(text, kind):
    """The columns of a section's tables for a kind; where there are two, the first is for chats."""
    found = list(tables(text))
    rows = found[0 if kind == "chat" or len(found) == 1 else 1][1:]
    return [(row[0].strip("`"), row[1]) for row in rows]


def check_columns(path, documented):
    """Names, order and types; nulls only where they are announced."""
    table = table_of(path)
    announced = [(name, kind.removesuffix(", may be null")) for name, kind in documented]
    assert [(field.name, type_name(field.type)) for field in table.schema] == announced
    for name, kind in documented:
        if kind.endswith(", may be null"):
            assert table.schema.field(name).nullable
        else:
            assert table[name].null_count == 0


@pytest.mark.parametrize(
    "heading",
    [
        "clean/part-*.arrow",
        "clean/changes/part-*.arrow",
        "packed/train/data-*.arrow",
        "packed/index/train/part-*.arrow",
    ],
)
def test_columns_are_documented(prepared, heading):
    kind, out = prepared
    paths = sorted(out.glob(heading))
    if kind == "preference" and "index" in heading:
        assert paths == []
        return
    check_columns(paths[0], columns_in(section(document("FORMAT.md"), f"`{heading}`"), kind))


def test_the_columns_of_dedup_are_those_of_clean_and_the_split(prepared):
    kind, out = prepared
    text = document("FORMAT.md")
    expected = columns_in(section(text, "`clean/part-*.arrow`"), kind) + columns_in(
        section(text, "`dedup/part-*.arrow`"), kind
    )
    check_columns(out / "dedup/part-00000.arrow", expected)


def test_rejects_have_documented_columns(prepared):
    kind, out = prepared
    text = document("FORMAT.md")
    expected = columns_in(section(text, "`clean/rejects/part-*.arrow`"), "chat")
    if kind == "preference":
        record = columns_in(section(text, "`clean/part-*.arrow`"), kind)[3:]
        nullable = [
            (name, kind if kind.endswith("null") else f"{kind}, may be null")
            for name, kind in record
        ]
        expected[6:7] = nullable
    for folder in ("clean", "dedup", "packed"):
        check_columns(out / folder / "rejects/part-00000.arrow", expected)


def key_paths(value, prefix=""):
    """Every key of a manifest as FORMAT.md writes it: `inputs[].name`, `counts.train.rows`."""
    if isinstance(value, list):
        yield prefix
        for item in value:
            yield from key_paths(item, f"{prefix}[]")
    elif isinstance(value, dict) and prefix not in {
        "options",
        "counts.dropped",
        "counts.near.s_curve",
        "tokenizer.special_tokens",
    }:
        for key, item in value.items():
            yield from key_paths(item, f"{prefix}.{key}".strip("."))
    else:
        yield prefix


def documented_keys(stage, kind):
    for key, stages, _ in next(tables(section(document("FORMAT.md"), "manifest.json")))[1:]:
        words = re.split(r", ", stages)
        if (stage in words or "all" in words) and (kind == "chat" or "chats" not in words):
            yield key.strip("`")


@pytest.mark.parametrize("stage", ["clean", "dedup", "pack"])
def test_manifest_keys_are_documented(prepared, stage):
    kind, out = prepared
    manifest = json.loads(
        (out / {"pack": "packed"}.get(stage, stage) / "manifest.json").read_bytes()
    )
    found = {re.sub(r"^counts\.test\.", "counts.train.", path) for path in key_paths(manifest)}
    expected = set(documented_keys(stage, kind))
    assert found - {"inputs[].rows"} == expected
    assert manifest["format_version"] == 1


def test_every_reason_is_documented():
    documented = {
        row[0].strip("`") for row in next(tables(section(document("FORMAT.md"), "Reasons")))[1:]
    }
    source = (ROOT / "rust/core/src/filter/mod.rs").read_text(encoding="utf-8")
    filters = set(re.findall(r'Filter \{ name: "(\w+)"', source))
    stages = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "rust/core/src/stage").glob("*.rs")
    )
    constants = set(re.findall(r'const [A-Z_]+: &str = "(\w+)";', stages))
    named = set(re.findall(r'Reject::of\([^;]*?, "(\w+)"', stages))
    assert len(filters) >= 6
    assert documented == filters | constants | named


def test_the_files_of_decontamination_are_documented(prepare, examples, tmp_path):
    benchmark = tmp_path / "bench.jsonl"
    benchmark.write_text(json.dumps({"text": "What makes the sea go in and out twice a day?"}))
    out = prepare(examples / "chats.jsonl", tmp_path / "out", decontaminate=[benchmark]).out
    text = document("FORMAT.md")
    found = pq.read_table(out / "dedup/closest.parquet").schema
    columns = columns_in(section(text, "`dedup/closest.parquet`"), "chat")
    assert [(field.name, str(field.type)) for field in found] == columns
    counts = json.loads((out / "dedup/manifest.json").read_bytes())["counts"]["contamination"]
    documented = {row[0].strip("`") for row in list(tables(section(text, "manifest.json")))[1][1:]}
    prefix = "counts.contamination"
    assert set(key_paths(counts, prefix)) - {f"{prefix}.benchmarks"} == documented


# ---- ARCHITECTURE.md ----


def modules_in(heading):
    cells = [
        row[0]
        for table in tables(section(document("ARCHITECTURE.md"), heading))
        for row in table[1:]
    ]
    return {name.rstrip("/") for cell in cells for name in re.findall(r"`([\w/]+)`", cell)}


def test_the_map_names_every_module():
    core = {path.stem for path in (ROOT / "rust/core/src").iterdir()} - {"lib"}
    sources = [
        path for path in (ROOT / "python/zephyr_data").iterdir() if not path.name.startswith("_")
    ]
    package = {
        path.stem for path in sources if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert modules_in("rust/core: knows no Python") == core
    assert modules_in("python/zephyr_data") == package


def test_the_map_and_the_layer_test_have_the_same_order():
    row = re.search(
        r"^\| core, in this order: (.*?) \|", document("ARCHITECTURE.md"), re.MULTILINE
    )[1]
    levels = [set(re.findall(r"`(\w+)`", level)) for level in row.split("→")]
    source = (ROOT / "tests/test_layers.py").read_text(encoding="utf-8")
    table = re.search(r"^CORE_LEVELS = \[\n(.*?)^\]", source, re.DOTALL | re.MULTILINE)[1]
    assert levels == [set(re.findall(r'"(\w+)"', line)) for line in table.splitlines()]


# ---- DEDUP.md ----


def test_the_example_for_tables_in_memory_runs():
    blocks = re.findall(r"^```python\n(.*?)^```$", document("DEDUP.md"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1
    exec(compile(blocks[0], "DEDUP.md", "exec"), {})


# ---- EXACTNESS.md ----


def test_every_claim_of_exactness_has_its_tests():
    named = [
        name
        for part in re.findall(
            r"^\*Tests:\*(.*?)\n\n", document("EXACTNESS.md"), re.DOTALL | re.MULTILINE
        )
        for name in re.findall(r"`([^`]+)`", part)
    ]
    assert len(named) > 25
    sources = [*(ROOT / "rust" / "core").rglob("*.rs"), *(ROOT / "tests").glob("*.py")]
    code = "".join(path.read_text(encoding="utf-8") for path in sources)
    for name in named:
        assert (ROOT / name).is_file() or f"fn {name}(" in code or f"def {name}(" in code, name


# ---- VERBS.md ----


@pytest.mark.parametrize("verb", ["clean", "render", "encode", "pack"])
def test_the_examples_in_memory_run(verb, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = section(document("VERBS.md"), verb)
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1
    exec(compile(blocks[0], "VERBS.md", "exec"), {})
