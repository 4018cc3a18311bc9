"""Tries a chat template in a process of its own before it is let into this one.

    try_template(template, special_tokens)      # raises ConfigError if it hangs, crashes, or fills the memory

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
from typing import TYPE_CHECKING

from zephyr_data.errors import ConfigError, ZephyrDataError
from zephyr_data.extension import core

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from zephyr_data.tokenizer import Chat

SECONDS = 1.0
"""CPU seconds for all probes together. The 72 templates that trl ships take 0.02 (the median) to 0.05."""

MEMORY = 512 << 20
"""Bytes that the child may take on top of what it has when it begins."""

PATIENCE = 60
"""Seconds on the clock after which the child is given up, for a machine that is busy."""

# The smallest tokenizer there is: loading the real one would take longer than the trial.
_BACKEND = json.dumps(
    {"model": {"type": "WordLevel", "vocab": {"<unk>": 0}, "unk_token": "<unk>"}},
)


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
    task = json.dumps({"chat_template": chat_template, "special_tokens": dict(special_tokens)})
    # `-P`: what lies in the working folder is not imported.
    command = [sys.executable, "-P", "-c", "from zephyr_data.trial import _child; _child()"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(
            command,
            input=task.encode("ascii"),
            capture_output=True,
            check=False,
            env=environment,
            timeout=PATIENCE,
        )
        status = done.returncode
    except subprocess.TimeoutExpired:
        status = None
    if status != 0:
        raise ConfigError(
            f"cannot use the chat template of the tokenizer `{name}`: rendering {_reason(status)}"
            "\nhint: look in the template for a loop without an end, a text that is repeated without limit, or lists that hold"
            " one another; if it is a good one, please report this",
            key="tokenizer",
        )


def _reason(status: int | None) -> str:
    import signal

    if status is None or status == -signal.SIGPROF:
        return f"short chats takes more than {SECONDS:g} s of CPU time"
    if status == -signal.SIGSEGV:
        return "short chats overflows the stack"
    if status == -signal.SIGABRT:
        return f"short chats takes more than {MEMORY >> 20} MiB of memory, or overflows the stack"
    return f"short chats ended its process with the status {status}"


def _child() -> None:
    """What runs in the child: reads the task from standard input; the exit status is the result."""
    import resource
    import signal

    from zephyr_data.tokenizer import PROBES, TokenizerSpec, encode_chat

    task = json.load(sys.stdin)
    spec = TokenizerSpec("", "", _BACKEND, task["chat_template"], task["special_tokens"])
    # Before the clock starts.
    import jinja2.ext
    import jinja2.sandbox  # noqa: F401
    import pyarrow as pa  # noqa: F401

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_memory()
    # The default action of this signal ends the process, whatever it is in the middle of; CPU time, so that a busy machine
    # does not make a good template look like a bad one.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        encoder = core().ChatEncoder(spec)
    except ZephyrDataError:
        return  # transformers never gets to see it
    for _, chat in PROBES:
        with contextlib.suppress(ZephyrDataError):
            encode_chat(encoder, chat)
    _in_jinja2(spec.chat_template, [chat for _, chat in PROBES], spec.special_tokens)


def _in_jinja2(source: str, chats: Iterable[Chat], special_tokens: Mapping[str, str]) -> None:
    """Compiles and renders as transformers will in the parent, without limits, when ids are held against its own.

    jinja2 works out constants as it compiles, also where they are never used: `{% if false %}{{ 'a' * 10**10 }}{% endif %}`
    takes ten gigabytes. What it raises is nothing to this, but that memory ran out, which it takes for a constant that cannot
    be worked out and goes on.
    """
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Impossible(jinja2.nodes.Impossible):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)
            if isinstance(sys.exc_info()[1], MemoryError):
                os.abort()

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012 - as the base class has it

        def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def fail(*_: object) -> None:
        raise jinja2.TemplateError

    jinja2.nodes.Impossible = Impossible  # type: ignore[misc]
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.globals.update(raise_exception=fail, strftime_now=fail)
    environment.filters["tojson"] = json.dumps
    try:
        template = environment.from_string(source)
    except MemoryError:
        os.abort()
    except Exception:  # the caller meets it again, and says so
        return
    for chat in chats:
        try:
            template.render(
                messages=chat,
                tools=None,
                documents=None,
                add_generation_prompt=False,
                **special_tokens,
            )
        except MemoryError:
            os.abort()
        except Exception:  # templates raise whatever they like
            continue


def _limit_memory() -> None:
    """Bounds the address space, where the system says how much is taken already."""
    import resource
    from pathlib import Path

    statm = Path("/proc/self/statm")
    if statm.exists():
        limit = int(statm.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") + MEMORY
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        if hard == resource.RLIM_INFINITY or hard > limit:
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
