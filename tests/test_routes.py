"""The same vocabulary, loaded in five ways: transformers makes four tokenizers of it, and each gets its own ids and its own hash.

    A   tokenizer.json and config.json                    the JSON as it is
    B   tokenizer.json alone, class LlamaTokenizer        built anew: `Metaspace` in place of `Prepend` and `Replace`
    C   the same, class LlamaTokenizerFast                as B
    D   tokenizer.model and config.json                   built anew: nothing before the first word, merges in the vocabulary's order
    E   tokenizer.model alone, class LlamaTokenizer       built anew: as B, with the merges of D

`tokenizer.model` is read by the package sentencepiece, which is no dependency: a stand-in gives what it would read, the pieces in
their order. What transformers builds of them is its own work.
"""

import importlib
import importlib.util
import itertools
import json
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from zephyr_data import ConfigError, Encoder
from zephyr_data.tokenizer import PROBES, load_tokenizer

ROUTES = {
    "A": ({"tokenizer.json", "config.json"}, "LlamaTokenizer"),
    "B": ({"tokenizer.json"}, "LlamaTokenizer"),
    "C": ({"tokenizer.json"}, "LlamaTokenizerFast"),
    "D": ({"tokenizer.model", "config.json"}, "LlamaTokenizer"),
    "E": ({"tokenizer.model"}, "LlamaTokenizer"),
}
SPECIAL = ["<unk>", "<s>", "</s>"]
# One text at least for every two routes with other ids.
TELLING = ["Hello", " Hello", "\n  the", "</s>\n", "</s> Hello"]
TEXTS = [*TELLING, *(message["content"] for _, chat in PROBES for message in chat), "a<s> b</s>  c"]


def small_definition(texts):
    """A tokenizer.json like Mistral's: runs of spaces have the first ids and the last merges."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    learner.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=1200, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    pieces = sorted(learned["vocab"], key=learned["vocab"].get)
    pieces = [
        *SPECIAL,
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *("▁▁", "▁▁▁▁"),
        *(piece for piece in pieces if len(piece) > 1),
        *(piece for piece in pieces if len(piece) == 1),
    ]
    merges = [*learned["merges"], ["▁", "▁"], ["▁▁", "▁▁"]]
    model = models.BPE(
        vocab={piece: number for number, piece in enumerate(pieces)},
        merges=[tuple(merge) for merge in merges],
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
    definition = json.loads(Tokenizer(model).to_str())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    definition["added_tokens"] = [
        {"id": number, "content": text, **flags, "special": True}
        for number, text in enumerate(SPECIAL)
    ]
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    first = {"type": "Prepend", "prepend": "▁"}
    definition["normalizer"] = {"type": "Sequence", "normalizers": [first, spaces]}
    return definition


@pytest.fixture(scope="module", params=["small", "mistral-v1"])
def definition(request, examples):
    """A tokenizer.json: one learned here, or Mistral's."""
    if request.param == "small":
        lines = (examples / "chats.jsonl").read_text(encoding="utf-8").splitlines()
        return small_definition(
            m["content"] for line in lines for m in json.loads(line)["messages"]
        )
    path = request.getfixturevalue("shared") / "tokenizers" / "mistral-v1" / "tokenizer.json"
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def routes(definition, examples, transformers, tmp_path_factory):  # noqa: ARG001 - imported without its warnings
    """The five folders."""
    folders = {}
    for route, (files, kind) in ROUTES.items():
        folder = folders[route] = tmp_path_factory.mktemp(route)
        shutil.copy(examples / "tokenizer" / "chat_template.jinja", folder)
        config = {
            "tokenizer_class": kind,
            "legacy": True,
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "clean_up_tokenization_spaces": False,
            "added_tokens_decoder": {
                str(token["id"]): {key: value for key, value in token.items() if key != "id"}
                for token in definition["added_tokens"]
            },
        }
        contents = {
            "tokenizer_config.json": config,
            "config.json": {"model_type": "mistral"},
            "tokenizer.json": definition,
            "tokenizer.model": definition["model"]["vocab"],
        }
        for name in ["tokenizer_config.json", *files]:
            (folder / name).write_text(json.dumps(contents[name]), encoding="utf-8")
    return folders


class Extractor:
    """Stands for transformers' reader of tokenizer.model: the pieces, and merges in the order of the vocabulary."""

    def __init__(self, path):
        self.vocab = json.loads(Path(path).read_text(encoding="utf-8"))
        ids = {f"{name}_id": number for number, name in enumerate(("unk", "bos", "eos"))}
        texts = {"unk_piece": "<unk>", "bos_piece": "<s>", "eos_piece": "</s>"}
        self.proto = SimpleNamespace(
            trainer_spec=SimpleNamespace(byte_fallback=True, **ids, **texts),
            normalizer_spec=SimpleNamespace(precompiled_charsmap=b""),
        )

    def extract(self, _model_type=None, **kwargs):
        from transformers.tokenization_utils_base import generate_merges

        merges = generate_merges(self.vocab)
        return kwargs | {"vocab": dict(self.vocab), "merges": merges}


@pytest.fixture
def reader(monkeypatch, transformers):  # noqa: ARG001 - imported without its warnings
    module = importlib.import_module("transformers.convert_slow_tokenizer")
    monkeypatch.setattr(module, "SentencePieceExtractor", Extractor)


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("route", ROUTES)
def test_ids_are_those_of_the_live_tokenizer(routes, route):
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        encoder = Encoder.from_pretrained(routes[route], allow_special_in_content=True)
    # Where there is no tokenizer.json, that is said.
    rebuilt = [
        note for note in notes if "transformers builds the tokenizer anew" in str(note.message)
    ]
    assert len(rebuilt) == (route in "DE")
    live = load_tokenizer(routes[route]).live
    for add in (False, True):
        expected = live(TEXTS, add_special_tokens=add)["input_ids"]
        assert encoder.encode(TEXTS, add_special_tokens=add).to_pylist() == expected
    chats = [chat for _, chat in PROBES]
    expected = [live.apply_chat_template(chat)["input_ids"] for chat in chats]
    assert encoder.encode_chats(chats)["input_ids"].to_pylist() == expected


@pytest.mark.usefixtures("reader")
def test_other_ids_have_another_hash(routes):
    loaded = {route: load_tokenizer(folder) for route, folder in routes.items()}
    ids = {
        route: one.live(TELLING, add_special_tokens=False)["input_ids"]
        for route, one in loaded.items()
    }
    for one, other in itertools.combinations(ROUTES, 2):
        same = {one, other} == {"B", "C"}
        assert (ids[one] == ids[other]) == same, (one, other)
        assert (loaded[one].spec.hash == loaded[other].spec.hash) == same, (one, other)


@pytest.mark.parametrize("route", "DE")
def test_without_the_reader_of_the_model_there_is_a_way_out(routes, route):
    if any(map(importlib.util.find_spec, ("sentencepiece", "tiktoken"))):
        pytest.skip("a package that reads `tokenizer.model` is installed")
    with pytest.raises(ConfigError) as caught:
        load_tokenizer(routes[route])
    message, hint = str(caught.value).splitlines()
    assert message.startswith(f"cannot load the tokenizer `{routes[route]}`: ")
    assert hint.startswith("hint: the folder needs `tokenizer.json`, ")
