"""Tries a chat template in a process of its own before it is let into this one.

    try_template(name, template, special_tokens)        # raises ConfigError if it hangs, crashes, or fills the memory
    try_chats(name, template, special_tokens, chats)    # likewise, for chats that transformers is going to render here

A chat template is a program from somebody else. The extension bounds what a render costs (docs/decisions/0013), but reads a
template by recursion, and a bound may have been forgotten: a hang or a stack overflow cannot be stopped inside of a process. So
a child renders the probes first, with a limit on its CPU time and its memory: by the extension, and by jinja2, as transformers
will without any limit. It never loads transformers or the real tokenizer: what is on trial is the template. Templates that are
formatted natively are not executed at all, and are not tried.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zephyr_data.errors import ConfigError, ZephyrDataError
from zephyr_data.extension import core

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from zephyr_data.tokenizer import Chat

SECONDS = 1.0
"""CPU seconds for all probes together. The 72 templates that trl ships take 0.02 (the median) to 0.05."""

CHAT_SECONDS = 10.0
"""CPU seconds for one chat of the data, which may be long: jinja2 takes 0.2 for 20 MB with most templates."""

MEMORY = 512 << 20
"""Bytes that the child may take on top of what it has when it begins."""

MEMORY_PER_BYTE = 64
"""And for each byte of the longest chat: Python takes up to four for a character, and templates copy."""

PATIENCE = 60
"""Seconds on the clock after which the child is given up, for a machine that is busy."""

CHANCE = 3
"""The child's status where a text depends on the clock or on a random choice, which the extension did not meet."""

# The smallest tokenizer there is: loading the real one would take longer than the trial.
_BACKEND = json.dumps(
    {"model": {"type": "WordLevel", "vocab": {"<unk>": 0}, "unk_token": "<unk>"}},
)

_LOOK = "look in the template for a loop without an end, a text that is repeated without limit, or lists that hold one another"


@dataclass(frozen=True)
class Tried:
    """A chat that transformers is going to render.

    Attributes:
        name: For the message.
        chat: Its turns.
        add_generation_prompt: Whether the header of an answer is asked for.
    """

    name: str
    chat: Chat
    add_generation_prompt: bool = False


def try_template(name: str, chat_template: str, special_tokens: Mapping[str, str]) -> None:
    """Renders hard chats with the template in a child, which may not take more than a second or half a gigabyte.

    What the template only refuses is nothing to this: the caller meets the same error, with its reason.

    Args:
        name: The tokenizer's, for the message.
        chat_template: Jinja source.
        special_tokens: What the template sees as variables.

    Raises:
        ConfigError: The child did not come to an end by itself.
    """
    if core().ChatEncoder.is_native(chat_template, dict(special_tokens)):
        return
    task = {"chat_template": chat_template, "special_tokens": dict(special_tokens)}
    status, _ = _run("_try_probes", task, PATIENCE)
    if status != 0:
        reason = _reason(status, "short chats", SECONDS, MEMORY)
        raise ConfigError(
            f"cannot use the chat template of the tokenizer `{name}`: rendering {reason}"
            f"\nhint: {_LOOK}; if it is a good one, please report this",
            key="tokenizer",
        )


def try_chats(
    name: str, chat_template: str, special_tokens: Mapping[str, str], chats: Sequence[Tried]
) -> None:
    """Renders chats that the extension takes by jinja2, in one child, with a limit on the CPU time of each and on its memory.

    Args:
        name: The tokenizer's, for the message.
        chat_template: Jinja source.
        special_tokens: What the template sees as variables.
        chats: What transformers is going to render without a limit, in this process.

    Raises:
        ConfigError: The child did not come to an end by itself; the message names the chat that it was at.
    """
    if not chats or core().ChatEncoder.is_native(chat_template, dict(special_tokens)):
        return
    longest = max(sum(len(turn["content"].encode()) for turn in tried.chat) for tried in chats)
    memory = MEMORY + MEMORY_PER_BYTE * longest
    task = {
        "chat_template": chat_template,
        "special_tokens": dict(special_tokens),
        "chats": [(tried.chat, tried.add_generation_prompt) for tried in chats],
        "memory": memory,
        "seconds": CHAT_SECONDS,
    }
    status, begun = _run("_try_chats", task, PATIENCE + CHAT_SECONDS * len(chats))
    if status != 0:
        # It says when it begins with a chat; before the first it compiles the template.
        at = chats[max(begun - 1, 0)].name
        raise ConfigError(
            f"cannot hold {at} against transformers: rendering {_reason(status, 'it', CHAT_SECONDS, memory)} with the chat"
            f" template of the tokenizer `{name}`"
            f"\nhint: {_LOOK}; if it is a good one, leave transformers out with `--verify 0`, and please report this",
            key="verify",
        )


def _run(function: str, task: dict[str, Any], patience: float) -> tuple[int | None, int]:
    """The status of a child that runs `function` of this module, and how many lines it wrote."""
    # `-P`: what lies in the working folder is not imported.
    call = f"from zephyr_data import trial; trial.{function}()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", call],
            input=json.dumps(task).encode("ascii"),
            capture_output=True,
            check=False,
            env=environment,
            timeout=patience,
        )
    except subprocess.TimeoutExpired as error:
        return None, (error.stdout or b"").count(b"\n")
    return done.returncode, (done.stdout or b"").count(b"\n")


def _reason(status: int | None, what: str, seconds: float, memory: int) -> str:
    import signal

    if status is None or status == -signal.SIGPROF:
        return f"{what} takes more than {seconds:g} s of CPU time"
    if status == -signal.SIGSEGV:
        return f"{what} overflows the stack"
    if status == -signal.SIGABRT:
        return f"{what} takes more than {memory >> 20} MiB of memory, or overflows the stack"
    if status == CHANCE:
        return f"{what} depends on the clock or on a random choice in transformers"
    return f"{what} ended its process with the status {status}"


# ---- what runs in the child ----


def _try_probes() -> None:
    """Reads the task from standard input; the exit status is the result."""
    from zephyr_data.tokenizer import PROBES, TokenizerSpec, encode_chat

    task = json.load(sys.stdin)
    spec = TokenizerSpec("", "", _BACKEND, task["chat_template"], task["special_tokens"])
    # Before the clock starts.
    import jinja2.ext
    import jinja2.sandbox  # noqa: F401
    import pyarrow as pa  # noqa: F401

    _limit(MEMORY)
    _start_clock(SECONDS)
    try:
        encoder = core().ChatEncoder(spec)
    except ZephyrDataError:
        return  # transformers never gets to see it
    for _, chat in PROBES:
        with contextlib.suppress(ZephyrDataError):
            encode_chat(encoder, chat)
    _in_jinja2(task, [(chat, False) for _, chat in PROBES])


def _try_chats() -> None:
    """Likewise; says on standard output when it begins with a chat."""
    task = json.load(sys.stdin)
    import jinja2.ext
    import jinja2.sandbox  # noqa: F401

    _limit(task["memory"])
    _start_clock(task["seconds"])
    _in_jinja2(task, task["chats"], each=task["seconds"])


def _in_jinja2(
    task: dict[str, Any], chats: Iterable[tuple[Chat, bool]], each: float | None = None
) -> None:
    """Compiles and renders as transformers will in the parent, without limits, when ids are held against its own.

    Where `each` chat has a clock of its own, the extension took them all. If jinja2 comes to the clock or to a random choice
    then, the two went different ways, and what the next render does is unknown.
    """
    from zephyr_data.sandbox import environment, render

    _abort_on_large_constants()
    chance = (lambda: None) if each is None else (lambda: os._exit(CHANCE))
    try:
        template = environment(chance).from_string(task["chat_template"])
    except MemoryError:
        os.abort()
    except Exception:  # the caller meets it again, and says so
        return
    special_tokens, marked = task["special_tokens"], "generation" in task["chat_template"]
    for chat, prompt in chats:
        if each is not None:
            os.write(1, b"\n")
            _start_clock(each)
        try:
            render(template, chat, special_tokens, add_generation_prompt=prompt, marked=marked)
        except MemoryError:
            os.abort()
        except Exception:  # templates raise whatever they like
            continue


def _abort_on_large_constants() -> None:
    """Ends this process where memory runs out for a constant, which jinja2 takes for one that cannot be worked out.

    It works out constants as it compiles, also where they are never used: `{% if false %}{{ 'a' * 10**10 }}{% endif %}` takes
    ten gigabytes.
    """
    import jinja2

    class Impossible(jinja2.nodes.Impossible):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)
            if isinstance(sys.exc_info()[1], MemoryError):
                os.abort()

    jinja2.nodes.Impossible = Impossible  # type: ignore[misc]


def _start_clock(seconds: float) -> None:
    """Ends this process after so much CPU time, whatever it is in the middle of, unless the clock is started again.

    CPU time, so that a busy machine does not make a good template look like a bad one.
    """
    import signal

    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)


def _limit(memory: int) -> None:
    """Bounds the address space, where the system says how much is taken already, and leaves no core file behind."""
    import resource
    from pathlib import Path

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    statm = Path("/proc/self/statm")
    if statm.exists():
        limit = int(statm.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") + memory
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        if hard == resource.RLIM_INFINITY or hard > limit:
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
