"""Reads the prompts that models shall answer.

A row has `prompt` (text) or `messages` (ending with the user), and may have `id`, `source`,
`reference` (what a right answer holds) and `category`. Without an `id` it is the SHA-256 of the
prompt, as in `ultrafeedback_binarized`. Two rows with one id are refused: they would share
their draws and their answers.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast

from zephyr_data.errors import DataError
from zephyr_data.feedback.rows import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Message = dict[str, str]
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One thing to answer."""

    id: str
    messages: tuple[tuple[str, str], ...]
    """(role, content) pairs, the last of the user."""
    source: str | None = None
    reference: str | None = None
    category: str | None = None

    @property
    def text(self) -> str:
        """What judges and rules see: the user's text, or the labelled dialogue."""
        turns = [(role, content) for role, content in self.messages if role != "system"]
        if len(turns) == 1:
            return turns[0][1]
        return "\n\n".join(f"{role.capitalize()}: {content}" for role, content in turns)

    def chat(self, system: str | None = None) -> list[Message]:
        """The messages to send; `system` stands before the prompt's own system message."""
        messages = list(self.messages)
        if system is not None:
            if messages[0][0] == "system":
                system = f"{system}\n\n{messages.pop(0)[1]}"
            messages.insert(0, ("system", system))
        return [{"role": role, "content": content} for role, content in messages]

    def as_json(self) -> str:
        """One line of the store's prompt file."""
        row = asdict(self)
        row["messages"] = self.chat()
        return json.dumps(row, ensure_ascii=False)


def read_prompts(path: Path) -> list[Prompt]:
    """Reads and checks all prompts of a file.

    Raises:
        DataError: A row has no prompt, or an id comes twice.
    """
    prompts: list[Prompt] = []
    seen: dict[str, int] = {}
    for number, row in read_rows(path):
        prompt = parse_prompt(row, path, number)
        if prompt.id in seen:
            raise DataError(
                f"`id` at {path}:{number} was used in line {seen[prompt.id]} already: {prompt.id}"
                "\nhint: give each prompt its own id, or leave `id` out and drop repeated prompts",
                str(path),
                number,
                "id",
            )
        seen[prompt.id] = number
        prompts.append(prompt)
    if not prompts:
        raise DataError(f"no prompts in file: {path}", str(path))
    return prompts


def parse_prompt(row: dict[str, Any], path: Path, number: int) -> Prompt:
    """Builds a prompt from a row; `path` and `number` are for the message."""
    messages = _messages(row, path, number)
    identifier = row.get("id", row.get("prompt_id"))
    if identifier is None:
        seed = messages[0][1] if len(messages) == 1 else json.dumps(messages, ensure_ascii=False)
        identifier = sha256(seed.encode()).hexdigest()
    optional = {
        name: None if row.get(name) is None else str(row[name])
        for name in ("source", "reference", "category")
    }
    for name, text in {"id": str(identifier), **optional}.items():
        if text is not None and not sendable(text):
            raise DataError(
                f"`{name}` at {path}:{number} holds half of a surrogate pair: {text[:60]!r}",
                str(path),
                number,
                name,
            )
    return Prompt(id=str(identifier), messages=messages, **optional)


def sendable(text: object) -> bool:
    """Whether it is text; with half of a surrogate pair it can be neither hashed nor sent."""
    if not isinstance(text, str):
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _messages(row: dict[str, Any], path: Path, number: int) -> tuple[tuple[str, str], ...]:
    def bad(field: str, found: object) -> DataError:
        return DataError(
            f"no usable `{field}` at {path}:{number}, found: {found!r}\n"
            "hint: a row needs `prompt` (text) or `messages` that end with the user",
            str(path),
            number,
            field,
        )

    value = row.get("messages")
    if value is None:
        value = row.get("prompt")
        if isinstance(value, str) and value.strip():
            value = [{"role": "user", "content": value}]
        elif not isinstance(value, list):
            raise bad("prompt", value)
    if not isinstance(value, list) or not value:
        raise bad("messages", value)
    for message in value:
        if not isinstance(message, dict) or not sendable(message.get("content")):
            raise bad("messages", message)
        if message.get("role") not in ROLES:
            raise bad("messages", message.get("role"))
    if value[-1]["role"] != "user":
        raise bad("messages", value[-1]["role"])
    pairs = cast("list[Message]", value)
    return tuple((message["role"], message["content"]) for message in pairs)


def merge_prompts(old: Iterable[Prompt], new: Iterable[Prompt]) -> list[Prompt]:
    """The union by id, sorted by id, so that it does not depend on which file came first.

    Raises:
        DataError: One id stands for two different prompts.
    """
    merged = {prompt.id: prompt for prompt in old}
    for prompt in new:
        known = merged.setdefault(prompt.id, prompt)
        if known != prompt:
            raise DataError(
                f"the store holds another prompt with this id: {prompt.id}\n"
                "hint: use a new store, or give the changed prompt a new id",
                field="id",
            )
    return [merged[key] for key in sorted(merged)]
