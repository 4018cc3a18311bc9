"""Against a real server: `transformers serve` with small random models, started here on loopback.

What it proves is the wire: two answerers and a judge in one process, sampling that really samples, usage, resume. Random
models cannot judge, so their verdicts must all be unreadable, counted, and repaired once.
"""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import polars as pl
import pytest

NEEDED = ("torch", "transformers", "fastapi", "uvicorn")


@pytest.fixture(scope="module")
def program():
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"`transformers serve` needs: {', '.join(missing)}")
    beside = Path(sys.executable).with_name("transformers")
    found = str(beside) if beside.exists() else shutil.which("transformers")
    if found is None:
        pytest.skip("needs the `transformers` program")
    return found


@pytest.fixture(scope="module")
def model_making(program, tmp_path_factory):  # noqa: ARG001 # not made where it is not needed
    """Two random models of some ten thousand weights with a byte tokenizer, made by another process."""
    folder = tmp_path_factory.mktemp("models")
    code = """
import sys
from pathlib import Path
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast
alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
vocabulary = {token: number for number, token in enumerate(["<s>", "</s>", *alphabet])}
core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
core.decoder = decoders.ByteLevel()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="</s>")
tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\\n{% endfor %}assistant:"
for seed, name in enumerate(("one", "two")):
    torch.manual_seed(seed)
    config = MistralConfig(vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=8192, bos_token_id=0, eos_token_id=1)
    path = Path(sys.argv[1]) / name
    MistralForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
"""
    return folder, subprocess.Popen([sys.executable, "-c", code, str(folder)])


@pytest.fixture(scope="module")
def real_server(program, model_making):
    folder, making = model_making
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cache = folder / "cache"
    cache.mkdir()
    process = subprocess.Popen(
        [program, "serve", "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, "`transformers serve` ended at once"
                assert time.monotonic() < deadline, "`transformers serve` did not come up"
                time.sleep(0.3)
        # made beside the server's start: both spend their time on importing torch
        assert making.wait(120) == 0
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_complete_and_judge_against_transformers_serve(
    real_server, model_making, tmp_path, feedback, write_jsonl, write_yaml
):
    def model(name, seed=0):
        # `temperature` alone never samples there: `do_sample` has to come in a generation_config
        generation = {"do_sample": True, "temperature": 1.0, "max_new_tokens": 12}
        return {
            "name": f"{name}-{seed}",
            "base_url": real_server,
            "model": str(model_making[0] / name),
            "concurrency": 1,
            "sampling": {
                "max_tokens": 12,
                "seed": seed,
                "extra": {"generation_config": json.dumps(generation)},
            },
        }

    prompts = write_jsonl("p.jsonl", [{"id": str(n), "prompt": f"Say {n}."} for n in range(2)])
    models = write_yaml("m.yaml", {"models": [model("one", 1), model("one", 2), model("two", 1)]})
    judge = write_yaml("j.yaml", {"judge": model("two")})
    store = tmp_path / "s"
    command = ("complete", prompts, "--models", models, "--per-prompt", 3, "--out", store)
    feedback(*command)
    table = pl.read_parquet(store / "completions.parquet")
    assert table.height == 6
    assert table["prompt_tokens"].min() > 0
    assert table["completion_tokens"].is_between(1, 12).all()
    first = {r["model"]: r["text"] for r in table.filter(pl.col("prompt_id") == "0").to_dicts()}
    assert first["one-1"] != first["one-2"], "two seeds must sample two answers"
    feedback("judge", store, "--judge", judge, "--mode", "overall")
    verdicts = pl.read_parquet(store / "verdicts.parquet")
    usable = table.filter(pl.col("text").str.strip_chars() != "").height
    assert verdicts.height == usable
    assert verdicts["score"].null_count() == usable
    assert set(verdicts["reason"]) <= {"truncated", "missing", "empty"}
    segment = store / "segments" / "000001.jsonl"
    before = segment.stat().st_size
    feedback(*command)
    feedback("judge", store, "--judge", judge, "--mode", "overall")
    assert segment.stat().st_size == before
