"""transformers' jinja2 environment for chat templates, without transformers, which would take seconds to import.

    template = environment(chance).from_string(source)
    text = render(template, chat, special_tokens)

It decides nothing: what a template gives is asked of transformers itself. Here templates are tried, in a child with limits, and
`tests/test_sandbox.py` holds it against the original, since what fails only here would hide what comes after it.
"""

from __future__ import annotations

import functools
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    from zephyr_data.tokenizer import Chat


def environment(chance: Callable[[], None]) -> ImmutableSandboxedEnvironment:
    """The environment; `chance` is called before a template gets at the clock or at a random choice."""
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_generation(), loopcontrols]
    )
    env.filters["tojson"] = _tojson
    env.filters["random"] = _after(chance, env.filters["random"])
    env.globals["lipsum"] = _after(chance, cast("Any", env.globals["lipsum"]))
    env.globals["strftime_now"] = _after(chance, lambda form: datetime.now().strftime(form))
    env.globals["raise_exception"] = _raise
    env.globals["dict"] = _Dict()
    env.globals["namespace"] = _namespace()
    return env


def render(
    template: jinja2.Template,
    chat: Chat,
    special_tokens: Mapping[str, str],
    *,
    add_generation_prompt: bool = False,
    marked: bool = False,
) -> str:
    """The text; `marked` is the way that transformers takes to find what stands between generation tags."""
    variables = {
        "messages": chat,
        "tools": None,
        "documents": None,
        "add_generation_prompt": add_generation_prompt,
        **special_tokens,
    }
    if not marked:
        return template.render(variables)
    blocks: list[str] = []
    tracker = next(e for e in template.environment.extensions.values() if hasattr(e, "blocks"))
    tracker.blocks = blocks
    try:
        for block in template.generate(variables):
            blocks.append(block)  # noqa: PERF402 - the tags look at the list while it grows
    finally:
        tracker.blocks = None
    return "".join(blocks)


def _generation() -> type[jinja2.ext.Extension]:
    import jinja2
    from jinja2.ext import Extension

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012 - as the base class has it
        blocks: list[str] | None = None

        def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            call = self.call_method("_support")
            return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

        @jinja2.pass_eval_context
        def _support(self, _: jinja2.nodes.EvalContext, caller: Callable[[], str]) -> str:
            text = caller()
            if self.blocks is not None:
                len("".join(self.blocks))  # which is the work that transformers does here
            return text

    return Generation


class _Dict:
    def __call__(self, *arguments: object, **named: object) -> object:
        return _dict(*arguments, **named)

    def fromkeys(self, *arguments: object, **named: object) -> object:
        return cast("Any", dict.fromkeys)(*arguments, **named)


def _namespace() -> type[jinja2.utils.Namespace]:
    from jinja2.exceptions import SecurityError
    from jinja2.utils import Namespace as Original

    def check(name: object) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError

    class Namespace(Original):
        # Without a name for the first parameter, since a namespace may hold the name `self`.
        def __init__(*arguments: object, **named: object) -> None:
            self, *positional = arguments
            values = _dict(*positional, **named)
            for name in values:
                check(name)
            Original.__init__(cast("Original", self), values)

        def __setitem__(self, name: str, value: object) -> None:
            check(name)
            super().__setitem__(name, value)

    return Namespace


def _dict(*arguments: object, **named: object) -> dict[Any, Any]:
    return cast("dict[Any, Any]", cast("Any", dict)(*arguments, **named))


def _raise(message: str) -> None:
    import jinja2

    raise jinja2.TemplateError(message)


# The names and the order are those of transformers, as json has them.
def _tojson(
    x: object,
    ensure_ascii: object = False,  # noqa: FBT002
    indent: object = None,
    separators: object = None,
    sort_keys: object = False,  # noqa: FBT002
) -> str:
    return cast("Any", json.dumps)(  # type: ignore[no-any-return]
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _after(chance: Callable[[], None], function: Callable[..., object]) -> Callable[..., object]:
    """The function with `chance` called before it; what jinja2 passes to it, it still passes."""

    @functools.wraps(function)
    def wrapped(*arguments: object, **named: object) -> object:
        chance()
        return function(*arguments, **named)

    return wrapped
