"""`Encoder`: texts and chats in memory; ids are compared with transformers, also in forked and spawned workers."""

import multiprocessing
import pickle
import re
import runpy
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from zephyr_data import ConfigError, DataError, Encoder
from zephyr_data.tokenizer import PROBES

pytestmark = pytest.mark.usefixtures("transformers")

ROOT = Path(__file__).resolve().parent.parent
HARD = [
    *(message["content"] for _, chat in PROBES for message in chat),
    "</s>",
    "<s>a</s> b <unk>c",
    "x </s>\n</s>y",
    " <s> ",
    "<|user|>\nhi</s>\n<|assistant|>\n",
    "▁ ▁▁a",
    "\u0000\ufffd\U0010ffff",
    "word " * 3000,
]
CHATS = [chat for _, chat in PROBES]


@pytest.fixture(scope="module", params=["bundled", "mistral-v1"])
def both(request, examples, transformers):
    """An encoder and transformers' tokenizer of the same folder."""
    folder = examples / "tokenizer"
    if request.param == "mistral-v1":
        folder = request.getfixturevalue("shared") / "tokenizers" / "mistral-v1"
    live = transformers.AutoTokenizer.from_pretrained(folder)
    if live.chat_template is None:
        pytest.skip(f"no chat template: `{folder}`")
    return Encoder.from_pretrained(folder), live


@pytest.fixture(scope="module")
def encoder(examples, transformers):  # noqa: ARG001 - imported without its warnings
    return Encoder.from_pretrained(examples / "tokenizer")


@pytest.fixture
def by_jinja(examples, tmp_path):
    """An encoder with a template that is read by Jinja."""
    shutil.copytree(examples / "tokenizer", tmp_path, dirs_exist_ok=True)
    template = "{% for m in messages %}{{ m.role + (m.reasoning_content or '') + m.content + eos_token }}{% endfor %}"
    (tmp_path / "chat_template.jinja").write_text(template, encoding="utf-8")
    return Encoder.from_pretrained(tmp_path)


@pytest.mark.parametrize("add", [False, True])
def test_ids_of_texts_equal_transformers(both, add):
    encoder, live = both
    encoded = encoder.encode(HARD, add_special_tokens=add)
    assert encoded.type == pa.list_(pa.int32())
    for text, ids in zip(HARD, encoded.to_pylist(), strict=True):
        assert ids == live(text, add_special_tokens=add)["input_ids"], text


@settings(max_examples=300, deadline=None)
@given(text=st.lists(st.one_of(st.text(), st.sampled_from(["</s>", "<s>", " ", "\n", "▁"]))))
def test_ids_of_any_text_equal_transformers(both, text):
    encoder, live = both
    text = "".join(text)
    for add in (False, True):
        expected = live(text, add_special_tokens=add)["input_ids"]
        assert encoder.encode([text], add_special_tokens=add).to_pylist() == [expected]


def test_ids_of_chats_equal_transformers(both):
    encoder, live = both
    taken = CHATS if encoder.template == "zephyr" else CHATS[:1]
    table = encoder.encode_chats(taken)
    assert table.schema.field("input_ids").type == pa.list_(pa.int32())
    assert table.schema.field("assistant_masks").type == pa.list_(pa.int8())
    for chat, ids in zip(taken, table["input_ids"].to_pylist(), strict=True):
        assert ids == live.apply_chat_template(chat)["input_ids"]


def test_the_mask_covers_the_answer(encoder, live_tokenizer):
    (row,) = encoder.encode_chats([CHATS[0]]).to_pylist()
    carried = [i for i, m in zip(row["input_ids"], row["assistant_masks"], strict=True) if m]
    assert live_tokenizer.decode(carried) == "Hello! How can I help?</s>"


def test_special_tokens_in_a_message(encoder, examples, live_tokenizer):
    chat = [{"role": "user", "content": "What is </s>?"}]
    plain = live_tokenizer.apply_chat_template(chat)["input_ids"]
    allowing = Encoder.from_pretrained(examples / "tokenizer", allow_special_in_content=True)
    for one in (allowing, pickle.loads(pickle.dumps(allowing))):
        assert one.encode_chats([chat])["input_ids"].to_pylist() == [plain]
    (ids,) = encoder.encode_chats([chat])["input_ids"].to_pylist()
    end = live_tokenizer.eos_token_id
    assert ids.count(end) == plain.count(end) - 1


@pytest.mark.parametrize("add", [False, True])
def test_nulls_and_empty_inputs(encoder, add):
    ids = encoder.encode(["", None, "a"], add_special_tokens=add).to_pylist()
    assert ids[1] is None
    assert ids[0] is not None
    for nothing in ([], pa.array([], pa.string()), pa.chunked_array([], pa.string())):
        assert encoder.encode(nothing, add_special_tokens=add).to_pylist() == []
    for null in ([None], pa.nulls(1)):
        assert encoder.encode(null, add_special_tokens=add).to_pylist() == [None]
    assert encoder.encode_chats([]).num_rows == 0


def test_arrays_of_other_libraries(encoder):
    pl = pytest.importorskip("polars")
    texts = ["Hello", None, "there"]
    expected = encoder.encode(texts).to_pylist()
    arrays = [pa.array(texts, kind) for kind in (pa.string(), pa.large_string(), pa.string_view())]
    arrays.append(pa.array(["x", *texts, "y"]).slice(1, 3))
    arrays += [pa.array(texts).dictionary_encode(), pa.chunked_array([texts[:1], texts[1:]])]
    arrays += [pl.Series(texts), pl.Series(texts, dtype=pl.Categorical)]
    for given_texts in arrays:
        for add in (False, True):
            ids = encoder.encode(given_texts, add_special_tokens=add).to_pylist()
            assert ids == encoder.encode(texts, add_special_tokens=add).to_pylist()
    assert encoder.encode(tuple(texts)).to_pylist() == expected
    chats = encoder.encode_chats(CHATS)
    assert encoder.encode_chats(pl.Series(CHATS)).equals(chats)
    sliced = pl.Series(CHATS).to_arrow().slice(2, 3)
    assert encoder.encode_chats(sliced).equals(chats.slice(2, 3))


LIST = "give a list of strings, or an Arrow array of strings such as pyarrow and polars have"
CHAT = 'give a list of chats, each a list of `{"role": "user", "content": "…"}`'


def test_texts_that_are_none(encoder):
    with pytest.raises(DataError) as caught:
        encoder.encode("Hello")
    assert str(caught.value) == f"expected a list, found one `str`\nhint: {LIST}"
    with pytest.raises(DataError) as caught:
        encoder.encode(pa.array([1, 2]))
    assert str(caught.value) == f"expected strings, found: `int64`\nhint: {LIST}"
    broken = pa.StringArray.from_buffers(
        1, pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(b"\xff")
    )
    for add in (False, True):
        with pytest.raises(
            DataError,
            match=r"UTF-8.*\nhint: decode them from their own encoding, or leave such rows out",
        ):
            encoder.encode(broken, add_special_tokens=add)
    for bad in ([1], ["\ud800"], 7, [["a"]]):
        with pytest.raises(DataError, match=f"^cannot encode this: .*\nhint: {LIST}$"):
            encoder.encode(bad)


ROLES = "the roles are `system`, `user` and `assistant`; rename or drop the others before"


@pytest.mark.parametrize(
    ("chats", "message"),
    [
        (CHATS[0][0], f"expected a list, found one `dict`\nhint: {CHAT}"),
        (pa.array(["a"]), f"expected chats, found: `string`\nhint: {CHAT}"),
        (
            [CHATS[0], [{"role": "user"}]],
            "chat 1 is null, or lacks a role or a content\nhint: drop such chats before",
        ),
        ([None], "chat 0 is null, or lacks a role or a content\nhint: drop such chats before"),
        (
            [[{"role": "tool", "content": "x"}]],
            f"a message has an unknown role: `tool`\nhint: {ROLES}",
        ),
    ],
)
def test_chats_that_are_none(encoder, chats, message):
    with pytest.raises(DataError) as caught:
        encoder.encode_chats(chats)
    assert str(caught.value) == message


def test_what_only_the_template_could_read_is_not_left_out(encoder, by_jinja):
    pl = pytest.importorskip("polars")
    nulls = [[turn | {"reasoning_content": None} for turn in chat] for chat in CHATS[:2]]
    chats = [nulls[0], [*nulls[1], {"role": "assistant", "content": "a", "reasoning_content": "b"}]]
    message = "chat 1 has a message with more than a role and a content: `reasoning_content`\nhint: only these two are read"
    for make in (list, iter, pa.array, lambda rows: pl.from_arrow(pa.array(rows))):
        with pytest.raises(DataError, match=message):
            by_jinja.encode_chats(make(chats))
        assert by_jinja.encode_chats(make(nulls)).num_rows == len(chats)
        # Zephyr's template is known to read no more.
        assert encoder.encode_chats(make(chats)).num_rows == len(chats)


def _work(encoder, queue):
    added = encoder.encode(HARD, add_special_tokens=True)
    queue.put([encoder.encode(HARD).to_pylist(), added.to_pylist(), encoder.encode_chats(CHATS)])


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process")  # of threads in the parent
def test_worker_processes_give_the_same_ids(encoder, method):
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    _work(encoder, queue)
    workers = [context.Process(target=_work, args=(encoder, queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    results = [queue.get(timeout=100) for _ in range(3)]
    for worker in workers:
        worker.join(timeout=100)
        assert worker.exitcode == 0
    assert results[1] == results[0]
    assert results[2] == results[0]


def test_what_the_tokenizer_adds_is_added(examples, tmp_path, transformers):
    live = transformers.AutoTokenizer.from_pretrained(examples / "tokenizer")
    live.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>",
        special_tokens=[("<s>", live.bos_token_id), ("</s>", live.eos_token_id)],
    )
    live.save_pretrained(tmp_path)
    encoder = Encoder.from_pretrained(tmp_path)
    live = transformers.AutoTokenizer.from_pretrained(tmp_path)
    (plain,) = encoder.encode(["Hi there"]).to_pylist()
    (added,) = encoder.encode(["Hi there"], add_special_tokens=True).to_pylist()
    assert added == live("Hi there")["input_ids"]
    assert added == [live.bos_token_id, *plain, live.eos_token_id]


def test_an_id_that_differs_stops_the_load(examples, monkeypatch):
    monkeypatch.setattr(Encoder, "encode", lambda *_, **__: pa.array([[77]], pa.list_(pa.int32())))
    with pytest.raises(ConfigError) as caught:
        Encoder.from_pretrained(examples / "tokenizer")
    assert str(caught.value).startswith(
        f"cannot encode with the tokenizer `{examples / 'tokenizer'}`, with `add_special_tokens=False` its ids are not"
        " those of transformers for the text: 'Hi'\nhint: please report this"
    )


def test_the_name_says_what_it_is(encoder, examples):
    assert (encoder.engine, encoder.template) == ("exact-fast", "zephyr")
    name = str(examples / "tokenizer")
    assert repr(encoder) == f"Encoder({name!r}, engine='exact-fast', template='zephyr')"


def test_the_example_of_the_page_runs(monkeypatch, tmp_path):
    text = (ROOT / "docs/ENCODER.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(ROOT)
    (tmp_path / "page.py").write_text(program, encoding="utf-8")
    assert "encoder" in runpy.run_path(str(tmp_path / "page.py"))


# ---- the first ids only ----


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("most", [2, 3, 7, 50, 10_000])
def test_the_first_ids_are_transformers_own(both, add, most):
    encoder, live = both
    texts = [*HARD, " ".join(HARD), "a b\n" * 5000]
    ids = encoder.encode(texts, add_special_tokens=add, max_length=most).to_pylist()
    for text, found in zip(texts, ids, strict=True):
        expected = live(text, add_special_tokens=add, truncation=True, max_length=most)
        assert found == expected["input_ids"], text


def test_the_same_length_again_loads_nothing(encoder):
    def ids(most):
        return encoder.encode(["a b c"], add_special_tokens=True, max_length=most)

    first = ids(2)
    before = encoder._bounded(2)
    assert ids(2) == first
    assert encoder._bounded(2) is before
    assert [len(ids(most)[0]) for most in (1, 3, 2)] == [1, 3, 2]


def test_no_ids_and_fewer(encoder):
    assert encoder.encode(["a b", None], max_length=0).to_pylist() == [[], None]
    for add in (False, True):
        whole = encoder.encode(["a b"], add_special_tokens=add)
        for most in (2**31, 2**64 - 1, 2**64):
            assert encoder.encode(["a b"], add_special_tokens=add, max_length=most) == whole
    with pytest.raises(ConfigError, match=r"`max_length` must be at least 0, found: `-1`\nhint: "):
        encoder.encode(["a"], max_length=-1)
