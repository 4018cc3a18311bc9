"""`open_packed`: what a trainer gets, and what is refused."""

import json
import shutil
import sys

import pyarrow as pa
import pytest

from zephyr_data import ConfigError, ManifestError, PackedDataset, open_packed
from zephyr_data.manifest import FORMAT_VERSION

pytestmark = pytest.mark.filterwarnings("ignore")  # `datasets` imports torch, which warns


@pytest.fixture
def copy(sample, tmp_path):
    """A copy of the prepared sample, free to be broken."""
    return shutil.copytree(sample.out, tmp_path / "out")


def change_manifest(folder, **values):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_same_version_as_the_extension():
    from zephyr_data import _core

    assert _core.FORMAT_VERSION == FORMAT_VERSION


def test_either_folder_opens(sample):
    outer, inner = open_packed(sample.out), open_packed(str(sample.out / "packed"))
    assert isinstance(outer, PackedDataset)
    assert outer.folder == inner.folder == sample.out / "packed"
    assert outer.kind == "chat"
    assert outer.max_length == 2048
    assert outer.tokenizer_hash == outer.manifest.tokenizer["hash"]
    assert repr(outer).startswith(f"PackedDataset('{sample.out}/packed', chat; train: ")


def test_train_is_a_memory_mapped_dataset(sample):
    datasets = pytest.importorskip("datasets")
    packed = open_packed(sample.out)
    assert isinstance(packed.train, datasets.Dataset)
    assert packed.train.column_names == ["input_ids", "labels", "seq_lengths"]
    assert packed.train.cache_files
    assert packed.train.num_rows == packed.table("train").num_rows == sample.splits["train"].rows
    assert packed.test[0] == packed.table("test").slice(0, 1).to_pylist()[0]
    assert packed.train.to_list() == packed.table("train").to_pylist()
    assert str(packed.train.split) == "train"
    both = datasets.load_from_disk(str(sample.out / "packed"))
    assert {name: rows.num_rows for name, rows in both.items()} == {
        name: split.rows for name, split in sample.splits.items()
    }


def test_pairs(pairs):
    datasets = pytest.importorskip("datasets")
    packed = open_packed(pairs.out)
    assert packed.kind == "preference"
    columns = ["prompt_ids", "chosen_ids", "rejected_ids", "id", "score_chosen", "score_rejected"]
    assert packed.train.column_names == columns
    assert datasets.load_from_disk(str(pairs.train)).to_list() == packed.table("train").to_pylist()
    with pytest.raises(ConfigError, match="these are preferences\nhint: each row is one pair"):
        packed.documents("train")


def test_other_libraries_take_the_table(sample):
    table = open_packed(sample.out).table("train")
    assert table.schema.field("labels").type == pa.list_(pa.int32())
    frame = pytest.importorskip("polars").from_arrow(table)
    assert frame.shape == (sample.splits["train"].rows, 3)
    assert frame["input_ids"].list.len().sum() == sample.splits["train"].tokens


def test_documents_say_where_each_one_lies(sample):
    documents = open_packed(sample.out).documents("train")
    assert documents.column_names == ["row", "start", "length", "id", "truncated"]
    assert documents.num_rows == sample.splits["train"].documents


def test_without_datasets_the_way_out_is_named(sample, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"\nhint: `pip install datasets`, or use `.table\('train'\)`"
    ):
        _ = open_packed(sample.out).train


def test_an_unknown_split(sample):
    with pytest.raises(
        ConfigError, match="unknown split: `validation`\nhint: the splits are `train` and `test`"
    ):
        open_packed(sample.out).table("validation")


def test_nothing_there(tmp_path):
    with pytest.raises(ManifestError) as caught:
        open_packed(tmp_path)
    assert str(caught.value) == (
        f"cannot use `{tmp_path}`: it has no `manifest.json`\n"
        "hint: name the folder that `zephyr-data prepare` was given as `--out`; if that run did not end, run it again"
    )


def test_a_folder_of_another_stage(sample):
    with pytest.raises(
        ManifestError, match="it holds the rows of another stage: `clean`\nhint: name the folder"
    ):
        open_packed(sample.out / "clean")


def test_a_newer_format(copy):
    change_manifest(copy / "packed", format_version=FORMAT_VERSION + 1, something="new")
    with pytest.raises(ManifestError) as caught:
        open_packed(copy)
    assert str(caught.value) == (
        f"cannot use `{copy}/packed`: its format is newer than this package reads ({FORMAT_VERSION}), found:"
        f" {FORMAT_VERSION + 1}\nhint: update zephyr-data, or prepare the data with this version"
    )


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format_version": 1}', '{"format_version": "1"}']
)
def test_a_damaged_manifest(copy, text):
    (copy / "packed" / "manifest.json").write_text(text)
    with pytest.raises(
        ManifestError, match="it is not a manifest of zephyr-data\nhint: remove the folder"
    ):
        open_packed(copy)


def test_a_file_that_was_cut_off_or_lost(copy):
    path = next((copy / "packed" / "train").glob("*.arrow"))
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(
        ManifestError, match=f"{path.name}` has {size - 8} bytes instead of {size}\nhint: copy"
    ):
        open_packed(copy)
    path.unlink()
    with pytest.raises(ManifestError, match=f"{path.name}` is missing\nhint: copy"):
        open_packed(copy)


def test_opening_never_loads_the_extension(sample):
    """Training forks its data loaders; the extension has threads."""
    import subprocess

    code = (
        "import sys; from zephyr_data.dataset import open_packed;"
        f"open_packed({str(sample.out)!r}).table('train');"
        "print([name for name in ('zephyr_data._core', 'transformers', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
