"""`training/generate.py`: what it writes, that a kill loses and doubles nothing, that padding changes nothing."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zephyr_data.errors import ConfigError, DataError, LockedError
from zephyr_data.evaluate.alpaca_eval import read_outputs

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "training" / "generate.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # torch and transformers warn on their own
]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("generate", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(live_tokenizer, tmp_path_factory):
    """A random model with the bundled tokenizer, as a folder; it ends some of its answers and not others."""
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(live_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        sliding_window=None,
        eos_token_id=live_tokenizer.eos_token_id,
        initializer_range=0.5,
    )
    folder = tmp_path_factory.mktemp("random") / "small"
    made = MistralForCausalLM(config)
    with torch.no_grad():  # the end of a turn is as likely as all the rest together, now and then
        made.lm_head.weight[live_tokenizer.eos_token_id] *= 4
    made.save_pretrained(folder)
    live_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def prompts(write_rows, tmp_path_factory):
    rows = [
        {"id": f"p{number}", "prompt": f"Tell me about {'the sea ' * (number % 7)}{number}."}
        for number in range(13)
    ]
    rows[5] = {
        "id": "chat",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello."},
            {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": "Who are you?"},
        ],
        "reference": "nobody",
    }
    return write_rows(tmp_path_factory.mktemp("prompts") / "prompts.jsonl", rows)


def options(script, model, prompts, out, *more):
    names = ["--model_name_or_path", model, "--prompts", prompts, "--out", out]
    names += ["--max_new_tokens", 12, "--batch_size", 4, "--device", "cpu", *more]
    return script.arguments().parse_args([str(name) for name in names])


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_answers_are_what_the_evaluation_reads(script, model, prompts, tmp_path):
    out = tmp_path / "answers.jsonl"
    script.run(options(script, model, prompts, out))
    rows = rows_of(out)
    assert [row["id"] for row in rows] == [row["id"] for row in rows_of(prompts)]
    assert rows[5]["instruction"] == "User: Hello.\n\nAssistant: Hello!\n\nUser: Who are you?"
    assert rows[5]["reference"] == "nobody"
    assert {row["generator"] for row in rows} == {"small"}
    assert {row["finish_reason"] for row in rows} == {"stop", "length"}
    assert all(row["tokens"] == 12 for row in rows if row["finish_reason"] == "length")
    assert set(read_outputs(out)) == {row["instruction"] for row in rows}


def test_a_json_file_is_one_array(script, model, prompts, tmp_path):
    script.run(options(script, model, prompts, tmp_path / "answers.json"))
    rows = json.loads((tmp_path / "answers.json").read_text(encoding="utf-8"))
    assert rows == rows_of(tmp_path / "answers.jsonl")
    assert set(read_outputs(tmp_path / "answers.json")) == {row["instruction"] for row in rows}


def test_padding_changes_no_answer(script, model, prompts, tmp_path):
    """Greedy answers of batches equal those of transformers one at a time, without padding."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    script.run(
        options(
            script, model, prompts, tmp_path / "a.jsonl", "--batch_size", 8, "--dtype", "float32"
        )
    )
    alone, tokenizer = (
        AutoModelForCausalLM.from_pretrained(model),
        AutoTokenizer.from_pretrained(model),
    )
    asked = script.read_prompts(prompts, None)
    for prompt, row in zip(asked, rows_of(tmp_path / "a.jsonl"), strict=True):
        ids = tokenizer.apply_chat_template(
            prompt.messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        found = alone.generate(**ids, max_new_tokens=12, do_sample=False, pad_token_id=2)[0]
        text = tokenizer.decode(found[ids["input_ids"].shape[1] :], skip_special_tokens=True)
        assert row["output"] == text


def test_sampling_depends_on_the_seed_alone(script, model, prompts, tmp_path):
    texts = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        out = tmp_path / f"{name}.jsonl"
        script.run(options(script, model, prompts, out, "--temperature", 1, "--seed", seed))
        texts[name] = [row["output"] for row in rows_of(out)]
    assert texts["a"] == texts["b"] != texts["c"]


def test_what_is_there_is_kept_and_a_torn_line_is_written_again(script, model, prompts, tmp_path):
    """The file as a kill may leave it: some lines, then one without its end."""
    out = tmp_path / "answers.jsonl"
    sampled = ["--temperature", 1, "--seed", 3]
    script.run(options(script, model, prompts, out, *sampled))
    whole = out.read_bytes()
    for cut in (1, len(whole) // 2, len(whole) - 1):
        out.write_bytes(whole[:cut])
        script.run(options(script, model, prompts, out, *sampled))
        assert out.read_bytes() == whole


def test_a_killed_process_goes_on(model, prompts, tmp_path):
    def command(out):
        line = [sys.executable, SCRIPT, "--model_name_or_path", model, "--prompts", prompts]
        line += ["--out", out, "--max_new_tokens", "12", "--batch_size", "1"]
        return [*map(str, line), "--temperature", "1", "--device", "cpu"]

    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": os.environ}
    subprocess.run(command(tmp_path / "whole.jsonl"), check=True, **quiet)
    out = tmp_path / "killed.jsonl"
    with subprocess.Popen(command(out), **quiet) as process:
        while process.poll() is None and not (out.exists() and out.stat().st_size > 500):
            time.sleep(0.005)
        assert process.poll() is None, "it was too fast to be killed"
        process.send_signal(signal.SIGKILL)
    there = out.read_bytes()
    assert 0 < there.count(b"\n") < 13
    subprocess.run(command(out), check=True, **quiet)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_other_settings_are_refused_unless_told(script, model, prompts, tmp_path):
    out = tmp_path / "answers.jsonl"
    script.run(options(script, model, prompts, out, "--temperature", 1))
    first = out.read_bytes()
    with pytest.raises(ConfigError) as caught:
        script.run(options(script, model, prompts, out, "--temperature", 1, "--seed", 5))
    assert str(caught.value) == (
        f"`{out}` holds answers to other settings, different: `seed`"
        "\nhint: use another `--out`, or `--overwrite`"
    )
    assert out.read_bytes() == first
    script.run(options(script, model, prompts, out, "--temperature", 1, "--seed", 5, "--overwrite"))
    assert out.read_bytes() != first


def test_two_runs_do_not_write_one_file(script, model, prompts, tmp_path):
    out = tmp_path / "answers.jsonl"
    with (
        script.Answers(out, {}, overwrite=False),
        pytest.raises(LockedError, match="another run writes the same answers"),
    ):
        script.run(options(script, model, prompts, out))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": "x"}', 'no usable prompt at {path}:1, found: {{"text": "x"}}'),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', "no usable prompt at {path}:1"),
        ("{", "no JSON at {path}:1"),
        (
            '{"id": 1, "prompt": "x"}\n{"id": 1, "prompt": "y"}',
            "an `id` comes twice at {path}:2: `1`",
        ),
    ],
)
def test_a_bad_prompt_has_its_place(script, tmp_path, row, message):
    path = tmp_path / "prompts.jsonl"
    path.write_text(row, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        script.read_prompts(path, None)
    assert str(caught.value).startswith(message.format(path=path))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--top_p", "0.9"], "`--top_p` and `--top_k` need a `--temperature` above 0, found: `0`"),
        (["--batch_size", "0"], "`--batch_size` must be at least 1, found: `0`"),
        (["--temperature", "-1"], "`--temperature` must not be negative, found: `-1.0`"),
        (["--out", "x.txt"], "`--out` must end with `.jsonl` or `.json`, found: `x.txt`"),
    ],
)
def test_a_value_that_cannot_be_honoured_is_refused(script, more, message):
    found = options(script, "m", "p.jsonl", "o.jsonl", *more)
    with pytest.raises(ConfigError) as caught:
        script.run(found)
    assert str(caught.value).splitlines()[0] == message


def test_a_prompt_that_does_not_fit_is_named(script, model, write_rows, tmp_path):
    path = write_rows(tmp_path / "p.jsonl", [{"id": "long", "prompt": "sea " * 400}])
    with pytest.raises(
        DataError, match=r"prompt `long` has \d+ tokens; with `--max_new_tokens 12`"
    ):
        script.run(options(script, model, path, tmp_path / "a.jsonl"))


def test_a_tokenizer_without_a_template_is_refused(
    script, model, live_tokenizer, prompts, tmp_path
):
    folder = tmp_path / "tokenizer"
    live_tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="the tokenizer has no chat template"):
        script.run(
            options(
                script, model, prompts, tmp_path / "a.jsonl", "--tokenizer_name_or_path", folder
            )
        )


def test_help_explains_every_argument():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--help"], capture_output=True, text=True, check=True
    )
    for name in (
        "--prompts",
        "--max_new_tokens",
        "--temperature",
        "--seed",
        "--keep_special_tokens",
    ):
        assert name in done.stdout
