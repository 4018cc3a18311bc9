"""The families of `scripts/train_bytelevel.py` are those that the core recognises, by the same regexes."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(
        "train_bytelevel", ROOT / "scripts" / "train_bytelevel.py"
    )
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_regexes_are_those_of_the_core(script):
    source = (ROOT / "rust/core/src/tokenize/split/mod.rs").read_text(encoding="utf-8")
    known = set(re.findall(r'r"([^"]+)",?\n?\s*\)', source))
    asked = {family.regex for family in script.FAMILIES.values() if family.regex}
    assert len(asked) == 5
    assert asked < known


def test_a_folder_opens_and_keeps_its_shape(script, transformers, tmp_path):
    family = script.FAMILIES["llama3"]
    model = script.train(family, ["Hello there, hello there! 123456 it's so."], 300)
    script.write(script.build(family, model, 290), tmp_path)
    live = transformers.AutoTokenizer.from_pretrained(tmp_path)
    definition = json.loads(live.backend_tokenizer.to_str())
    assert definition["model"]["ignore_merges"] is True
    assert definition["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] == family.regex
    ids = live.apply_chat_template([{"role": "user", "content": "Hello 1234"}], return_dict=False)
    assert live.decode(ids) == "<|im_start|>user\nHello 1234<|im_end|>\n"


def test_tekken_files_become_tokenizers(script, tmp_path):
    import base64

    tokens = [bytes([byte]) for byte in range(256)] + [b"ab", b"abc"]
    vocab = [
        {"rank": rank, "token_bytes": base64.b64encode(t).decode()} for rank, t in enumerate(tokens)
    ]
    config = {"default_vocab_size": 259, "default_num_special_tokens": 1}
    path = tmp_path / "tekken_000000.json"
    path.write_text(json.dumps({"config": config, "vocab": vocab}))
    tokenizer = script.tekken(path)
    assert tokenizer.encode("abc abc", add_special_tokens=False).ids == [257, 32, 257]
