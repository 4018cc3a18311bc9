"""The scripts as people run them: prepare, SFT, DPO; interrupted and resumed; on two processes; refused with a way out."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
PLAIN = [
    "--bf16",
    "false",
    "--use_cpu",
    "true",
    "--report_to",
    "none",
    "--disable_tqdm",
    "true",
    "--logging_steps",
    "1",
]
PLAIN += ["--gradient_checkpointing", "false"]
ENVIRONMENT = {
    **os.environ,
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@pytest.fixture(scope="module")
def folder(training, prepare, examples, live_tokenizer, tmp_path_factory):  # noqa: ARG001 - skips where there is no torch
    """A folder with a tiny model and with packed chats and pairs."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    folder = tmp_path_factory.mktemp("scripts")
    prepare(examples / "chats.jsonl", folder / "chats", max_length=256, report=False)
    prepare(examples / "preferences.jsonl", folder / "pairs", max_length=256, report=False)
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(live_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=None,
    )
    MistralForCausalLM(config).save_pretrained(folder / "model")
    live_tokenizer.save_pretrained(folder / "model")
    return folder


def command(script, folder, out, *more, launcher=()):
    data = {"sft": "chats", "dpo": "pairs"}[script]
    options = [
        "--model_name_or_path",
        folder / "model",
        "--data",
        folder / data,
        "--output_dir",
        out,
        *PLAIN,
        *more,
    ]
    return [sys.executable, *launcher, ROOT / "training" / f"{script}.py", *options]


def run(*arguments, code=0, **more):
    done = subprocess.run(
        [str(part) for part in command(*arguments, **more)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    assert done.returncode == code, done.stderr[-3000:]
    return done


def losses(folder):
    """Losses by step, from the newest checkpoint."""
    newest = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    log = json.loads((newest / "trainer_state.json").read_text())["log_history"]
    return {entry["step"]: entry["loss"] for entry in log if "loss" in entry}


def test_dsft_then_ddpo(folder, tmp_path):
    done = run(
        "sft",
        folder,
        tmp_path / "sft",
        "--max_steps",
        "3",
        "--learning_rate",
        "1e-2",
        "--save_strategy",
        "no",
    )
    assert (
        done.stdout.count("attention: sdpa, cpu with float32 has no fused kernel for packed rows")
        == 1
    )
    more = [
        "--model_name_or_path",
        tmp_path / "sft",
        "--max_steps",
        "3",
        "--learning_rate",
        "1e-3",
        "--save_steps",
        "3",
    ]
    done = run("dpo", folder, tmp_path / "dpo", *more, "--per_device_train_batch_size", "4")
    assert "'tokens_computed'" in done.stdout
    assert "'tokens_useful'" in done.stdout
    found = losses(tmp_path / "dpo")
    assert found[1] == pytest.approx(0.6931, abs=1e-3)  # ln 2: the policy is still the reference
    assert found[3] < found[1]
    assert (tmp_path / "dpo" / "model.safetensors").exists()
    assert (tmp_path / "dpo" / "chat_template.jinja").exists()


@pytest.mark.parametrize("script", ["sft", "dpo"])
def test_a_killed_run_resumes_with_the_same_losses_in_the_second_epoch(folder, tmp_path, script):
    batch = "8" if script == "dpo" else "16"
    more = [
        "--num_train_epochs",
        "2",
        "--per_device_train_batch_size",
        batch,
        "--learning_rate",
        "1e-2",
    ]
    run(script, folder, tmp_path / "whole", *more, "--save_steps", "1", "--save_total_limit", "2")
    expected = losses(tmp_path / "whole")
    steps = max(expected)
    middle = steps // 2 + 1  # the first step of the second epoch is behind it
    options = [*more, "--save_steps", str(middle)]
    process = subprocess.Popen(
        [str(part) for part in command(script, folder, tmp_path / "killed", *options)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
    )
    state = tmp_path / "killed" / f"checkpoint-{middle}" / "trainer_state.json"
    deadline = time.monotonic() + 300
    while process.poll() is None and not (state.exists() and state.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    run(
        script,
        folder,
        tmp_path / "killed",
        *options,
        "--resume_from_checkpoint",
        "true",
        "--save_total_limit",
        "2",
    )
    found = losses(tmp_path / "killed")
    assert found.keys() == expected.keys()
    for step, loss in expected.items():
        assert found[step] == pytest.approx(loss, abs=1e-4), step


def test_sigterm_saves_a_checkpoint_and_ends(folder, tmp_path):
    options = ["--max_steps", "100000", "--save_strategy", "no", "--learning_rate", "1e-3"]
    process = subprocess.Popen(
        [str(part) for part in command("sft", folder, tmp_path / "out", *options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=ENVIRONMENT,
    )
    for line in process.stdout:
        if "'loss'" in line:
            process.send_signal(signal.SIGTERM)
            break
    rest = process.stdout.read()
    assert process.wait(timeout=120) == 0
    assert "SIGTERM: saving a checkpoint after step " in rest
    (checkpoint,) = (tmp_path / "out").glob("checkpoint-*")
    assert (checkpoint / "optimizer.pt").exists()
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize("script", ["sft", "dpo"])
def test_two_processes_equal_one(folder, tmp_path, script):
    # bf16 weights with float32 masters on the way: both must round alike.
    more = [
        "--max_steps",
        "3",
        "--save_steps",
        "3",
        "--learning_rate",
        "1e-2",
        "--per_device_train_batch_size",
        "2",
    ]
    run(script, folder, tmp_path / "one", *more, "--gradient_accumulation_steps", "2")
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29533"]
    run(script, folder, tmp_path / "two", *more, "--ddp_backend", "gloo", launcher=launcher)
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert one.keys() == two.keys() == {1, 2, 3}
    for step in one:
        assert one[step] == pytest.approx(two[step], abs=2e-3), step


def test_a_run_in_bfloat16_keeps_float32_masters(folder, tmp_path):
    import torch

    options = [
        "--dtype",
        "bfloat16",
        "--max_steps",
        "2",
        "--save_steps",
        "2",
        "--learning_rate",
        "5e-7",
    ]
    run("dpo", folder, tmp_path / "out", *options, "--per_device_train_batch_size", "4")
    state = torch.load(tmp_path / "out" / "checkpoint-2" / "optimizer.pt")["state"]
    assert {value.dtype for entry in state.values() for value in entry.values()} == {torch.float32}
    assert all("master" in entry for entry in state.values())
    run(
        "dpo",
        folder,
        tmp_path / "plain",
        *options,
        "--master_weights",
        "false",
        "--per_device_train_batch_size",
        "4",
    )
    state = torch.load(tmp_path / "plain" / "checkpoint-2" / "optimizer.pt")["state"]
    assert not any("master" in entry for entry in state.values())


def test_lora_trains_adapters_on_packed_pairs(folder, tmp_path):
    options = [
        "--use_peft",
        "true",
        "--lora_r",
        "4",
        "--lora_target_modules",
        "q_proj",
        "v_proj",
        "--max_steps",
        "2",
    ]
    run(
        "dpo",
        folder,
        tmp_path / "out",
        *options,
        "--learning_rate",
        "1e-2",
        "--save_steps",
        "2",
        "--per_device_train_batch_size",
        "4",
    )
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()
    found = losses(tmp_path / "out")
    assert found[1] == pytest.approx(0.6931, abs=1e-3)
    assert found[2] != found[1]


def refusal(script, folder, out, *more):
    done = run(script, folder, out, *more, code=1)
    assert "Traceback" not in done.stderr
    error = done.stderr[done.stderr.index("error: ") :].strip()
    return error.replace(str(folder), "F").splitlines()


def test_what_does_not_fit_is_refused(folder, tmp_path, live_tokenizer):
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    first, hint = refusal("sft", folder, out, "--data", tmp_path / "empty")
    assert first.endswith("it has no `manifest.json`")
    assert hint.startswith("hint: name the folder that `zephyr-data prepare`")
    first, hint = refusal("sft", folder, out, "--data", folder / "pairs")
    assert (
        first
        == "error: cannot train on `F/pairs/packed`: it holds preferences, for `training/dpo.py`, not chats"
    )
    assert hint == "hint: prepare chats into a folder of their own"
    first, hint = refusal("dpo", folder, out, "--max_length", "512")
    assert (
        first
        == "error: cannot train on `F/pairs/packed`: its rows are of 256 tokens, the run asks for: 512"
    )
    assert hint == "hint: leave `--max_length` out, or run `zephyr-data prepare … --max-length 512`"
    live_tokenizer.save_pretrained(tmp_path / "other")
    template = tmp_path / "other" / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    first, hint = refusal("sft", folder, out, "--tokenizer_name_or_path", tmp_path / "other")
    assert first.startswith(
        "error: cannot train on `F/chats/packed`: it was packed with another tokenizer or chat template"
    )
    assert "only packing runs again" in hint
    first, hint = refusal("sft", folder, out, "--attn", "fa3")
    assert first == "error: cannot use `--attn fa3`: it needs a CUDA device, found: `cpu`"
    assert hint == "hint: `--attn auto` takes the fastest that works here"
    first, hint = refusal("sft", folder, out, "--packing", "true")
    assert first == "error: packed rows need `--packing false --padding_free true`"


@pytest.mark.parametrize("script", ["sft", "dpo"])
def test_help_explains_our_options(script, training):  # noqa: ARG001 - skips where there is no torch
    done = subprocess.run(
        [sys.executable, ROOT / "training" / f"{script}.py", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=ENVIRONMENT,
    )
    text = " ".join(done.stdout.split())
    options = {"--data", "--attn", "--master_weights", "--tokenizer_name_or_path", "--max_length"}
    for option in options | ({"--share_prefix"} if script == "dpo" else set()):
        assert f"{option} " in text
    assert "Flash Attention inside torch" in text


def test_unknown_names_are_said_first_with_the_nearest(folder, tmp_path):
    first, hint = refusal("sft", folder, tmp_path / "out", "--learning_rat", "1e-5")
    assert first == "error: unknown option: `--learning_rat`"
    assert hint == "hint: did you mean `--learning_rate`?"
    recipe = tmp_path / "sft.yaml"
    recipe.write_text("max_seq_length: 2048\n")
    first, hint = refusal("sft", folder, tmp_path / "out", f"--config={recipe}")
    assert first == f"error: unknown key in `{recipe}`: `max_seq_length`"
    assert hint == "hint: did you mean `max_length`?"
    recipe.write_text("- learning_rate\n")
    first, hint = refusal("dpo", folder, tmp_path / "out", "--config", recipe)
    assert first == f"error: `{recipe}` is no mapping of options to values"
    recipe.write_text("a: [1\n")
    (first,) = refusal("dpo", folder, tmp_path / "out", "--config", recipe)
    assert first.startswith(f"error: cannot read `{recipe}` as YAML: ")
    first, _ = refusal("dpo", folder, tmp_path / "out", "--config")
    assert first == "error: `--config` names no file"


def test_bfloat16_without_a_gpu_says_what_to_do(folder, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    more = ["--bf16", "true", "--use_cpu", "false"]
    *_, hint = refusal("sft", folder, tmp_path / "out", *more)
    assert hint == "hint: without a GPU add `--bf16 false --use_cpu true`"
