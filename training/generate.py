"""Answers to prompts, from a model folder: JSON lines that `zephyr-data evaluate` and alpaca_eval take.

    python training/generate.py --model_name_or_path dpo --prompts prompts.jsonl --out answers.jsonl

Prompts are JSON lines (plain, `.gz`, `.zst`), a JSON array or Parquet; a row has `prompt` (text), `instruction` (text) or
`messages` (ending with the user), and may have an `id`. Answers have `id`, `instruction`, `output`, `generator`,
`finish_reason` (`stop`: the model ended its turn; `length`: it was cut) and `tokens`; `dataset`, `source` and `reference` of a
prompt are passed on. If the name of `--out` ends with `.json`, the result is a JSON array, which the alpaca_eval package
wants, and the lines are collected beside it until all are there.

A killed run goes on where it stopped and ends with the same bytes: prompts are dealt into the same batches every time, and
each batch has a seed of its own. What the answers depend on stands in `OUT.settings.json`, and a run with other settings is
refused.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zephyr_data.errors import ConfigError, DataError, LockedError, ZephyrDataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PASSED_ON = ("dataset", "source", "reference")
# Bytes at both ends of a file of weights that go into the model's fingerprint: all of a 7B model would take a minute.
SAMPLE = 1 << 20


class Prompt(NamedTuple):
    """One thing to answer."""

    id: str
    messages: list[dict[str, str]]
    passed_on: dict[str, Any]

    @property
    def instruction(self) -> str:
        """The user's text, or the labelled dialogue."""
        turns = [message for message in self.messages if message["role"] != "system"]
        if len(turns) == 1:
            return turns[0]["content"]
        return "\n\n".join(f"{turn['role'].capitalize()}: {turn['content']}" for turn in turns)


# ---- arguments ----


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model_name_or_path", required=True, help="folder or name of the model (or adapter)")
    add("--tokenizer_name_or_path", help="its tokenizer, with a chat template (the model's)")
    add("--prompts", type=Path, required=True, help="JSON lines, JSON array or Parquet")
    add("--out", type=Path, required=True, help="the answers, `.jsonl` or `.json`")
    add("--overwrite", action="store_true", help="begin anew, whatever is there")
    add("--generator", help="name of the model in the answers (the last part of its path)")
    add("--system", help="a system message before every prompt that has none")
    add("--batch_size", type=int, default=16, help="prompts at once (16)")
    add("--max_new_tokens", type=int, default=1024, help="most tokens of an answer (1024)")
    add("--temperature", type=float, default=0.0, help="0, the default, takes the likeliest token")
    add("--top_p", type=float, default=1.0, help="sample from this share of probability (1)")
    add("--top_k", type=int, default=0, help="sample from so many tokens; 0 for all (0)")
    add("--repetition_penalty", type=float, default=1.0, help="above 1 against loops (1)")
    add("--seed", type=int, default=0, help="for sampling (0)")
    add("--keep_special_tokens", action="store_true", help="special tokens stay in the answers")
    add("--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16"])
    add("--device", default="auto", help="`auto`, `cpu`, `cuda`, `cuda:1`, `mps` (auto)")
    add("--attn_implementation", default="sdpa", help="as transformers names it (sdpa)")
    return parser


def check(options: argparse.Namespace) -> None:
    """Refuses values that transformers would take silently or refuse obscurely.

    Raises:
        ConfigError: A value cannot be honoured.
    """
    bounds = {
        "batch_size": (options.batch_size >= 1, "must be at least 1"),
        "max_new_tokens": (options.max_new_tokens >= 1, "must be at least 1"),
        "temperature": (options.temperature >= 0, "must not be negative"),
        "top_p": (0 < options.top_p <= 1, "must be above 0 and at most 1"),
        "top_k": (options.top_k >= 0, "must not be negative"),
        "repetition_penalty": (options.repetition_penalty > 0, "must be above 0"),
        "out": (options.out.suffix in {".jsonl", ".json"}, "must end with `.jsonl` or `.json`"),
    }
    for name, (fits, rule) in bounds.items():
        if not fits:
            raise ConfigError(f"`--{name}` {rule}, found: `{getattr(options, name)}`", name)
    if options.temperature == 0 and (options.top_p < 1 or options.top_k > 0):
        raise ConfigError(
            "`--top_p` and `--top_k` need a `--temperature` above 0, found: `0`"
            "\nhint: `--temperature 1.0` samples from the model as it is",
            "temperature",
        )


# ---- prompts ----


def read_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Line or row, from 1, and what stands there.

    Raises:
        DataError: A line is no JSON.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    if path.suffix == ".parquet":
        yield from enumerate(parquet.read_table(path).to_pylist(), 1)
        return
    codec = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix)
    with pa.input_stream(str(path), compression=codec) as stream:
        text = stream.read().decode("utf-8")
    if path.suffix == ".json":
        rows = parse(text, path, 1)
        if not isinstance(rows, list):
            raise DataError(f"no JSON array in: {path}", str(path))
        yield from enumerate(rows, 1)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, parse(line, path, number)


def parse(text: str, path: Path, number: int) -> object:
    """JSON, or an error with its place."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"no JSON at {path}:{number}: {error}", str(path), number) from None


def read_prompts(path: Path, system: str | None) -> list[Prompt]:
    """All prompts of a file, each with an id of its own.

    Raises:
        DataError: A row has no prompt, or an id comes twice.
    """
    prompts: dict[str, Prompt] = {}
    for number, row in read_rows(path):
        messages = messages_of(row)
        if messages is None:
            raise DataError(
                f"no usable prompt at {path}:{number}, found: {json.dumps(row)[:80]}"
                "\nhint: a row needs `prompt` or `instruction` (text), or `messages` that end with the user",
                str(path),
                number,
                "prompt",
            )
        if system is not None and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": system})
        identity = str(row.get("id", row.get("prompt_id", f"{path.name}:{number}")))
        if identity in prompts:
            raise DataError(
                f"an `id` comes twice at {path}:{number}: `{identity}`"
                "\nhint: give each prompt its own id, or leave `id` out",
                str(path),
                number,
                "id",
            )
        passed_on = {name: row[name] for name in PASSED_ON if row.get(name) is not None}
        prompts[identity] = Prompt(identity, messages, passed_on)
    if not prompts:
        raise DataError(f"no prompts in file: {path}", str(path))
    return list(prompts.values())


def messages_of(row: object) -> list[dict[str, str]] | None:
    """The turns of a prompt, or None where there are none that a model could answer."""
    if not isinstance(row, dict):
        return None
    value = next((row[name] for name in ("messages", "prompt", "instruction") if row.get(name)), "")
    if isinstance(value, str):
        return [{"role": "user", "content": value}] if value.strip() else None
    fits = isinstance(value, list) and all(
        isinstance(turn, dict)
        and turn.get("role") in {"system", "user", "assistant"}
        and isinstance(turn.get("content"), str)
        for turn in value
    )
    if not fits or value[-1]["role"] != "user":
        return None
    return [{"role": turn["role"], "content": turn["content"]} for turn in value]


# ---- the answers that are there ----


def fingerprint(name: str) -> str:
    """Of a model folder: names, sizes and samples of its files; a name of the hub stands for itself."""
    if not Path(name).is_dir():
        return name
    digest = sha256()
    for path in sorted(Path(name).iterdir()):
        if path.suffix in {".safetensors", ".bin", ".json", ".jinja", ".model"}:
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                digest.update(f"{path.name} {size} ".encode())
                for place in (0, max(0, size - SAMPLE)):
                    file.seek(place)
                    digest.update(file.read(SAMPLE))
    return digest.hexdigest()


def settings(options: argparse.Namespace, prompts: list[Prompt]) -> dict[str, Any]:
    """All that the answers depend on, but for the machine and its libraries."""
    names = ("generator", "batch_size", "max_new_tokens", "temperature", "top_p", "top_k")
    names += ("repetition_penalty", "seed", "keep_special_tokens", "dtype", "attn_implementation")
    asked = [[prompt.id, prompt.messages, prompt.passed_on] for prompt in prompts]
    return {
        **{name: getattr(options, name) for name in names},
        "model": fingerprint(options.model_name_or_path),
        "tokenizer": fingerprint(options.tokenizer_name_or_path),
        "prompts": sha256(json.dumps(asked).encode()).hexdigest(),
    }


class Answers:
    """The file of answers: one line for each, appended a batch at a time, never twice."""

    def __init__(self, out: Path, asked: dict[str, Any], *, overwrite: bool) -> None:
        self.out = out
        self.lines = out.with_suffix(".jsonl")
        self.done: set[str] = set()
        out.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.lines.open("a+b")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(
                f"another run writes the same answers: {self.lines}\nhint: wait for it, or use another `--out`"
            ) from None
        note = out.with_name(f"{out.name}.settings.json")
        try:
            if overwrite:
                self.file.truncate(0)
            else:
                self._resume(note, asked)
        except BaseException:
            self.file.close()
            raise
        replace(note, json.dumps(asked, indent=2, sort_keys=True) + "\n")

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()  # and with it goes the lock

    def _resume(self, note: Path, asked: dict[str, Any]) -> None:
        """Takes over what an earlier run left, if it was asked for the same."""
        self.file.seek(0)
        there = self.file.read()
        if not there:
            return
        known = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
        other = sorted(name for name in asked if known.get(name) != asked[name])
        if other:
            raise ConfigError(
                f"`{self.lines}` holds answers to other settings, different: `{', '.join(other)}`"
                "\nhint: use another `--out`, or `--overwrite`",
                "out",
            )
        whole = there[: there.rfind(b"\n") + 1]
        for number, line in enumerate(whole.decode("utf-8").splitlines(), 1):
            self.done.add(parse(line, self.lines, number)["id"])
        self.file.truncate(len(whole))  # a line without its end was being written at the kill

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Appends the rows that are not there yet, in one call, and waits until the disk has them."""
        new = [row for row in rows if row["id"] not in self.done]
        self.file.write(b"".join(json.dumps(row).encode() + b"\n" for row in new))
        self.file.flush()
        os.fsync(self.file.fileno())
        self.done.update(row["id"] for row in new)

    def finish(self, prompts: list[Prompt]) -> None:
        """Brings the rows into the order of the prompts."""
        self.file.seek(0)
        rows = {row["id"]: row for row in map(json.loads, self.file.read().splitlines())}
        ordered = [rows[prompt.id] for prompt in prompts]
        if self.out.suffix == ".json":
            replace(self.out, json.dumps(ordered, indent=1) + "\n")
        text = "".join(json.dumps(row) + "\n" for row in ordered)
        replace(self.lines, text)


def replace(path: Path, text: str) -> None:
    """Writes beside and renames."""
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


# ---- the model ----


def load(options: argparse.Namespace) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer, ready to generate.

    Raises:
        ConfigError: The tokenizer has no chat template.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer_name_or_path, padding_side="left")
    if tokenizer.chat_template is None:
        raise ConfigError(
            f"the tokenizer has no chat template: `{options.tokenizer_name_or_path}`"
            "\nhint: name the one that the model was trained with: `--tokenizer_name_or_path`",
            "tokenizer_name_or_path",
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked, so any token will do
    device = options.device
    if device == "auto":
        kind = torch.accelerator.current_accelerator(check_available=True)
        device = "cpu" if kind is None else kind.type
    model = AutoModelForCausalLM.from_pretrained(
        options.model_name_or_path,
        dtype=options.dtype,
        attn_implementation=options.attn_implementation,
    )
    return model.to(device).eval(), tokenizer


def batches(
    prompts: list[Prompt], tokenizer: PreTrainedTokenizerBase, size: int
) -> tuple[list[list[int]], list[list[int]]]:
    """The ids of each prompt, and the prompts of each batch: of like length, the longest first.

    The longest come first, so that a batch that does not fit into memory fails at once.
    """
    texts = [
        tokenizer.apply_chat_template(prompt.messages, add_generation_prompt=True, tokenize=False)
        for prompt in prompts
    ]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    order = sorted(range(len(ids)), key=lambda place: (-len(ids[place]), place))
    return ids, [order[start : start + size] for start in range(0, len(order), size)]


def answer(
    options: argparse.Namespace,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ids: list[list[int]],
    seed: str,
) -> list[dict[str, Any]]:
    """Texts, reasons of ending and numbers of tokens for the prompts of one batch."""
    import torch
    from transformers import GenerationConfig

    inputs = tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(model.device)
    ends = model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends]) | {tokenizer.eos_token_id}
    sampling = {"temperature": options.temperature, "top_p": options.top_p, "top_k": options.top_k}
    config = GenerationConfig(
        max_new_tokens=options.max_new_tokens,
        repetition_penalty=options.repetition_penalty,
        eos_token_id=sorted(ends - {None}),
        pad_token_id=tokenizer.pad_token_id,
        do_sample=options.temperature > 0,
        **(sampling if options.temperature > 0 else {}),
    )
    torch.manual_seed(int.from_bytes(sha256(seed.encode()).digest()[:8]) >> 1)
    with torch.inference_mode():
        found = model.generate(**inputs, generation_config=config)
    rows = []
    for tokens in found[:, inputs["input_ids"].shape[1] :].tolist():
        stop = next((place for place, token in enumerate(tokens) if token in ends), None)
        text = tokenizer.decode(tokens[:stop], skip_special_tokens=not options.keep_special_tokens)
        rows.append(
            {
                "output": text,
                "finish_reason": "length" if stop is None else "stop",
                "tokens": len(tokens) if stop is None else stop + 1,
            }
        )
    return rows


def check_length(
    prompts: list[Prompt], ids: list[list[int]], model: PreTrainedModel, new: int
) -> None:
    """Refuses prompts whose answers would run past the positions that the model knows.

    Raises:
        DataError: The longest prompt and its answer do not fit.
    """
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    longest = max(range(len(ids)), key=lambda place: len(ids[place]))
    if most is not None and len(ids[longest]) + new > most:
        raise DataError(
            f"prompt `{prompts[longest].id}` has {len(ids[longest])} tokens; with `--max_new_tokens {new}` "
            f"it is longer than the model's context: `{most}`\nhint: fewer new tokens, or leave the prompt out",
            field="prompt",
        )


def run(options: argparse.Namespace) -> None:
    """Answers all prompts that have no answer yet."""
    check(options)
    options.tokenizer_name_or_path = options.tokenizer_name_or_path or options.model_name_or_path
    options.generator = options.generator or Path(options.model_name_or_path).name
    prompts = read_prompts(options.prompts, options.system)
    asked = settings(options, prompts)
    with Answers(options.out, asked, overwrite=options.overwrite) as answers:
        if len(answers.done) < len(prompts):
            generate(options, prompts, answers)
        answers.finish(prompts)
    print(f"{len(prompts)} answers: {options.out}", file=sys.stderr)


def generate(options: argparse.Namespace, prompts: list[Prompt], answers: Answers) -> None:
    """Batch after batch; what is there is not asked again."""
    model, tokenizer = load(options)
    ids, dealt = batches(prompts, tokenizer, options.batch_size)
    check_length(prompts, ids, model, options.max_new_tokens)
    start, tokens = time.monotonic(), 0
    for batch in dealt:
        if all(prompts[place].id in answers.done for place in batch):
            continue
        seed = " ".join([str(options.seed), *(prompts[place].id for place in batch)])
        found = answer(options, model, tokenizer, [ids[place] for place in batch], seed)
        answers.add(
            [
                {
                    "id": prompts[place].id,
                    "instruction": prompts[place].instruction,
                    "generator": options.generator,
                    **row,
                    **prompts[place].passed_on,
                }
                for place, row in zip(batch, found, strict=True)
            ]
        )
        tokens += sum(row["tokens"] for row in found)
        rate = tokens / (time.monotonic() - start)
        print(
            f"{len(answers.done)} of {len(prompts)}, {rate:.0f} tokens/s",
            file=sys.stderr,
            flush=True,
        )


def main() -> None:
    """The command."""
    try:
        run(arguments().parse_args())
    except (ZephyrDataError, FileNotFoundError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
