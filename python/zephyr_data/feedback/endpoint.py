"""One request to a model: an OpenAI-compatible endpoint, a Python function or a file of answers.

An endpoint is asked once per call; what to do about a failure is decided in `collect.py`. Every
answer is sorted here into four kinds: `ok`, `retry` (worth another attempt), `failed` (this
request will never work) and `fatal` (no request will: wrong key, unknown model).

The `openai` client does the asking (`client.py`), with its own retries switched off (they could
neither be counted nor paid for) and the answer taken raw: a page of HTML with status 200 must be seen.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, cast

from zephyr_data.errors import ConfigError, DataError
from zephyr_data.feedback.pace import Pace, retry_after
from zephyr_data.feedback.rows import read_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from zephyr_data.feedback.client import Client
    from zephyr_data.feedback.options import Answerer
    from zephyr_data.feedback.prompts import Message

RETRIED_STATUS = frozenset({408, 409, 425, 429})
FATAL_STATUS = frozenset({401, 403, 404})


@dataclass(slots=True)
class Outcome:
    """What came of one attempt."""

    kind: Literal["ok", "retry", "failed", "fatal"]
    error: str | None = None
    answer: str = ""
    finish_reason: str | None = None
    usage: dict[str, int] | None = None
    response: dict[str, Any] = field(default_factory=dict)
    retry_after: float | None = None
    rate_limited: bool = False
    empty: bool = False


def estimate_tokens(messages: list[Message]) -> int:
    """About how many tokens the messages have: three bytes a token errs on the high side."""
    return sum(len(m["content"].encode("utf-8", "replace")) // 3 + 8 for m in messages)


def load_function(name: str, folder: Path) -> Callable[..., Any]:
    """Loads `module:name` or `file.py:name`, a file relative to `folder`."""
    where, separator, attribute = name.rpartition(":")
    if not separator:
        raise ConfigError(f"a function is written `module:name` or `file.py:name`, found: {name}")
    if where.endswith(".py"):
        path = folder / where
        if not path.is_file():
            raise ConfigError(f"no such file for function `{name}`: {path}")
        label = "zephyr_data_function_" + sha256(str(path.resolve()).encode()).hexdigest()[:16]
        spec = importlib.util.spec_from_file_location(label, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[label] = module
        spec.loader.exec_module(module)
    else:
        try:
            module = importlib.import_module(where)
        except ImportError as error:
            raise ConfigError(
                f"cannot import module `{where}` of function `{name}`: {error}"
            ) from None
    function = getattr(module, attribute, None)
    if not callable(function):
        raise ConfigError(f"no function `{attribute}` in: {where}")
    return cast("Callable[..., Any]", function)


def source_hash(name: str, folder: Path) -> str:
    """A hash of the file that a function comes from, so that an edited one counts as another."""
    where = name.rpartition(":")[0]
    path = folder / where
    return sha256(path.read_bytes()).hexdigest()[:16] if where.endswith(".py") else name


class Endpoint:
    """One model that can be asked."""

    def __init__(self, options: Answerer, folder: Path) -> None:
        self.options = options
        self.name = options.name
        self.pace = Pace(options.requests_per_minute, options.tokens_per_minute)
        self.secret: str | None = None
        self.body = options.sampling.body()
        self._client: Client | None = None
        self._function: Callable[..., Any] | None = None
        self._answers: dict[str, str] | None = None
        self.local_version: str | None = None
        if options.function is not None:
            self._function = load_function(options.function, folder)
            self.local_version = source_hash(options.function, folder)
        elif options.answers is not None:
            path = folder / options.answers
            self._answers = {
                str(row["id"]): _answer_of(row, path, number) for number, row in read_rows(path)
            }
            self.local_version = sha256(path.read_bytes()).hexdigest()[:16]

    @property
    def identity(self) -> dict[str, Any]:
        """What of the options can change an answer; the address and the price cannot."""
        options = self.options
        kind = {"model": options.model} if options.base_url else {"local": self.local_version}
        return {"name": self.name, **kind, "body": self.body}

    async def prepare(self) -> None:
        """Makes the client; the key is read from the environment and kept nowhere else.

        Raises:
            ConfigError: The `openai` package or the key is missing.
        """
        options = self.options
        if options.base_url is None or self._client is not None:
            return
        try:
            from zephyr_data.feedback.client import Client
        except ImportError as error:
            raise ConfigError(
                f"asking an endpoint needs the package: {error.name}\n"
                "hint: pip install 'zephyr-data[feedback]'"
            ) from None
        if options.key_env is not None:
            self.secret = os.environ.get(options.key_env)
            if not self.secret:
                raise ConfigError(
                    f"the key of model `{self.name}` is not set in the environment: "
                    f"{options.key_env}\nhint: export {options.key_env}=...",
                    "key_env",
                )
        self._client = Client(
            options.base_url,
            self.secret or "none",
            timeout_s=options.timeout_s,
            connections=options.concurrency,
        )
        await self._client.open()

    async def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def ask(self, prompt_id: str, messages: list[Message], body: dict[str, Any]) -> Outcome:
        """Asks once. `body` is what goes with the messages (sampling, logprobs)."""
        if self._function is not None:
            return self._call(messages)
        if self._answers is not None:
            answer = self._answers.get(prompt_id)
            if answer is None:
                return Outcome("failed", f"the answer file of `{self.name}` lacks id: {prompt_id}")
            return Outcome("ok", answer=answer, finish_reason="stop", usage={})
        return await self._request({"model": self.options.model, "messages": messages, **body})

    def _call(self, messages: list[Message]) -> Outcome:
        assert self._function is not None
        try:
            answer = self._function(messages[-1]["content"])
        except Exception as error:
            return Outcome("failed", f"function `{self.options.function}` raised {error!r}")
        if not isinstance(answer, str):
            return Outcome("failed", f"function `{self.options.function}` returned: {answer!r}")
        return Outcome("ok", answer=answer, finish_reason="stop", usage={})

    async def _request(self, body: dict[str, Any]) -> Outcome:
        assert self._client is not None
        try:
            reply = await self._client.post(body)
        except TimeoutError:
            return Outcome("retry", f"no answer within {self.options.timeout_s:g} s")
        except OSError as error:
            return Outcome("retry", f"connection failed: {type(error).__name__}: {error}"[:300])
        content = reply.content
        if self.secret:
            # some services repeat the key they refuse; before anything is cut to length
            content = content.replace(self.secret.encode(), b"***")
        if reply.status != 200:
            text = content.decode("utf-8", "replace")
            return _status_outcome(reply.status, text, reply.headers)
        return read_response(content)


def _answer_of(row: dict[str, Any], path: Path, number: int) -> str:
    answer = row.get("answer")
    if not isinstance(answer, str) or row.get("id") is None:
        raise DataError(
            f"an answer file needs `id` and `answer` (text) at {path}:{number}, found: "
            f"{', '.join(sorted(row))}",
            str(path),
            number,
            "answer",
        )
    return answer


def _status_outcome(status: int, text: str, headers: Mapping[str, str]) -> Outcome:
    error = f"status {status}: {_error_message(text)}"
    if status in RETRIED_STATUS or status >= 500:
        return Outcome("retry", error, retry_after=retry_after(headers), rate_limited=status == 429)
    return Outcome("fatal" if status in FATAL_STATUS else "failed", error)


def _error_message(text: str) -> str:
    try:
        detail = json.loads(text)
        if isinstance(detail, dict):
            detail = detail.get("error", detail)
            if isinstance(detail, dict):
                detail = detail.get("message", detail)
        return str(detail)[:300]
    except ValueError:
        return " ".join(text.split())[:300]


def read_response(raw: bytes) -> Outcome:
    """Sorts a body that came with status 200: JSON of the right shape, or another attempt."""
    try:
        body = json.loads(raw)
    except ValueError:
        return Outcome("retry", f"status 200 without JSON: {raw[:80].decode('utf-8', 'replace')}")
    try:
        choice = body["choices"][0]
        content = choice["message"].get("content")
        if content is not None and not isinstance(content, str):
            raise TypeError
    except (AttributeError, IndexError, KeyError, TypeError):
        return Outcome("retry", f"status 200 without a choice: {json.dumps(body)[:120]}")
    rest = {name: body[name] for name in ("id", "model", "system_fingerprint") if body.get(name)}
    if choice.get("logprobs"):
        rest["logprobs"] = choice["logprobs"]
    outcome = Outcome(
        "ok",
        # half of a surrogate pair can be neither hashed nor sent on
        answer=(content or "").encode("utf-8", "replace").decode("utf-8"),
        finish_reason=choice.get("finish_reason"),
        usage=_usage(body.get("usage")),
        response=rest,
    )
    # empty with `length` or `content_filter` is the model's last word: asking again changes nothing
    if not outcome.answer.strip() and outcome.finish_reason in (None, "stop"):
        outcome.empty = True
        outcome.error = "empty answer"
    return outcome


def _usage(usage: Any) -> dict[str, int] | None:  # noqa: ANN401
    if not isinstance(usage, dict):
        return None
    names = ("prompt_tokens", "completion_tokens")
    counts = {name: usage.get(name) for name in names}
    if not all(type(count) is int and count >= 0 for count in counts.values()):
        return None
    return cast("dict[str, int]", counts)
