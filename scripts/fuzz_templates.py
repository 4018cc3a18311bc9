"""Random chat templates and chats through the extension and through transformers: prints what is not the same.

    .venv/bin/python scripts/fuzz_templates.py --count 3000 --seed 0

Three things can be wrong: another text (`differs`), a text where transformers fails (`lenient`), and a crash, which ends the
process; the exit status is 1 then. What only the extension refuses is right, and counted, with its reasons by `--reasons`.
"""

from __future__ import annotations

import argparse
import collections
import random
import re
import signal
import sys

import pyarrow as pa

from zephyr_data import ZephyrDataError, _core
from zephyr_data.config import Config
from zephyr_data.tokenizer import TokenizerSpec
from zephyr_data.trial import _BACKEND

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
WORDS = [
    "",
    " ",
    "a",
    "Ab",
    "b c",
    "a,b",
    " x\n",
    "1",
    "é",
    "İx",
    "a\u1f88",
    "\x1c",
    "{{",
    "role",
    "user",
    "content",
    "😀z",
    "'\"",
]
KINDS = ["text", "number", "truth", "list", "map", "nothing"]


class _Templates:
    """Makes expressions of a wanted kind, and now and then of another one, and statements around them."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.names: dict[str, list[str]] = {kind: [] for kind in KINDS}
        self.loops = 0

    def template(self) -> str:
        return "".join(self.statement(3) for _ in range(self.chance.randint(1, 4)))

    # ---- expressions ----

    def any(self, depth: int) -> str:
        return self.of(self.chance.choice(KINDS[:5]), depth)

    def of(self, kind: str, depth: int) -> str:
        if self.chance.random() < 0.06:
            kind = self.chance.choice(KINDS)
        if self.names[kind] and self.chance.random() < 0.3:
            return self.chance.choice(self.names[kind])
        made: str = getattr(self, kind)(depth - 1)
        return made

    def pick(self, *forms: str, depth: int) -> str:
        """One of the forms, with `T N B L D A X` in braces replaced by an expression of that kind."""
        form = self.chance.choice([f for f in forms if depth > 0 or "{" not in f] or ["none"])
        kinds = dict(zip("TNBLD", KINDS, strict=False))

        def fill(found: re.Match[str]) -> str:
            letter = found[1]
            if letter == "W":
                return repr(self.chance.choice(WORDS))
            made = self.any(depth) if letter == "A" else self.of(kinds[letter], depth)
            # Mostly as people write it, since what binds how is seldom in question.
            return f"({made})" if " " in made and self.chance.random() < 0.9 else made

        return re.sub(r"{([TNBLDAW])}", fill, form)

    def text(self, depth: int) -> str:
        literal = repr(self.chance.choice(WORDS))
        return self.pick(
            literal, literal, "messages[0].content", "messages[-1]['role']", "eos_token",
            "{T} + {T}", "{T} ~ {A}", "{T} * {N}", "{T}[{N}]", "{T}[{N}:]", "{T}[:{N}]", "{T}[::{N}]",
            "{T}|upper", "{T}|lower", "{T}|trim", "{T}|trim({W})", "{T}|replace({W}, {T})", "{T}|replace(old={W}, new={W})",
            "{T}|replace({W}, {W}, {N})", "{T}|title", "{T}|capitalize", "{T}|reverse", "{L}|join", "{L}|join({W})",
            "{L}|join(d={W})", "{A}|tojson", "{D}|tojson(indent={N})", "{A}|string", "{A}|default({W})",
            "{A}|default({W}, true)", "{A}|default(default_value={W}, boolean=true)", "{L}|first", "{L}|last", "{T}|first",
            "{T}|last", "{T}.strip()", "{T}.strip({W})", "{T}.lstrip()", "{T}.rstrip({W})", "{T}.upper()", "{T}.lower()",
            "{T}.replace({W}, {W})", "{T}.split({W})[{N}]", "{T}.split()[0]", "{T}.split({W}, {N})[-1]", "{T}.title()",
            "{T}.capitalize()", "{W}.join({L})", "{T}.rsplit({W}, 1)[0]", "{T}.removeprefix({W})", "{T}.splitlines()[0]",
            "({T} if {B} else {T})", "({T} if {B})", "({A} or {T})", "({A} and {T})", "{D}.get({W}, {T})", "{D}['a']",
            "{D}.role", "f({A})", "f({A}, b={A})", "{L}|map('upper')|join", "messages|map(attribute={W})|join(',')",
            "{T}|string", "{T}|safe", "{T}|e", "{T}|indent", "{T}|center({N})", "'%s' % {A}", "{T}|format({A})",
            depth=depth,
        )  # fmt: skip

    def number(self, depth: int) -> str:
        literal = self.chance.choice(
            ["0", "1", "2", "-1", "3", "1.5", "10", "true", "loop.index0" if self.loops else "5"]
        )
        return self.pick(
            literal, literal, literal, "{T}|length", "{L}|length", "{D}|count", "{N} + {N}", "{N} - {N}", "{N} * {N}",
            "{N} // {N}", "{N} % {N}", "{N} / {N}", "-{N}", "{N}|abs", "{L}|sum", "{L}|max", "{L}|min", "{T}.find({W})",
            "{T}.count({W})", "{L}.count({A})", "{L}.index({A})", "{N}|int", "{T}|int", "{N}|round", "({N} if {B} else {N})",
            "{L}|sum(start={N})", "{T}.index({W})", "2 ** {N}", "{L}[{N}]", "{T}|wordcount",
            depth=depth,
        )  # fmt: skip

    def truth(self, depth: int) -> str:
        return self.pick(
            "true", "false", "add_generation_prompt", "{A} == {A}", "{A} != {A}", "{T} == {T}", "{N} < {N}", "{N} >= {N}",
            "{T} < {T}", "{L} < {L}", "{A} < {A}", "{T} in {T}", "{A} in {L}", "{A} not in {L}", "{T} in {D}", "{A} in {A}",
            "not {A}", "{B} and {B}", "{B} or {B}", "{A} is defined", "{A} is none", "{A} is string", "{A} is number",
            "{A} is mapping", "{A} is iterable", "{A} is sequence", "{A} is true", "{A} is boolean", "{N} is even",
            "{N} is odd", "{A} is odd", "{A} is even", "{N} is divisibleby {N}", "{A} is eq({A})", "{A} is in({L})",
            "{N} is gt({N})", "{T} is lower", "{T} is upper", "{A} is sameas {A}", "{A} is integer", "{A} is float",
            "{A} is undefined", "{A} is callable", "{T}.startswith({W})", "{T}.endswith({T})", "{T}.isdigit()",
            "{T}.isspace()", "{T}.isupper()", "{T}.isalpha()", "{N} < {N} < {N}", "nowhere is defined", "n == n", "n == m",
            "n != m", "n is sameas n", "loop.last", "{A} is not none", "n is mapping", "n is iterable", "{A} is false",
            depth=depth,
        )  # fmt: skip

    def list(self, depth: int) -> str:
        return self.pick(
            "messages", "[]", "['b', 'a', 'B']", "[3, 1, 2]", "[1, 'a', none]", "('a', 1)", "[[1, 2], [3]]",
            "[{A}, {A}]", "[{T}, {T}]", "[{N}, {N}]", "({A},)", "{L} + {L}", "{L} * {N}", "{L}[{N}:]", "{L}[::-1]", "{L}[:{N}]",
            "{L}|list", "{T}|list", "{L}|sort", "{L}|sort(reverse=true)", "{L}|sort(attribute={W})", "{L}|unique|list",
            "{L}|reverse|list", "{L}|map('upper')|list", "{L}|map('length')|list", "{L}|map(attribute={W})|list",
            "{L}|map(attribute={W}, default={A})|list", "{L}|select('string')|list", "{L}|select|list", "{L}|select('odd')|list",
            "{L}|reject('eq', {A})|list", "{L}|selectattr('role', 'eq', {W})|list", "{L}|rejectattr({W})|list",
            "{L}|selectattr({W}, 'defined')|list", "{D}|list", "{D}|dictsort", "{D}.items()|list", "{D}.keys()|list",
            "{D}.values()|list", "{D}|items|list", "{T}.split({W})", "{T}.split()", "{T}.splitlines()", "range({N})|list",
            "({L} if {B} else {L})", "{L}|map('trim')", "{L}|reverse", "range({N})", "{L}|unique", "{D}|dictsort(by='value')",
            "{L}|batch(2)|list", "{L}|slice(2)|list", "{L}|groupby({W})", "{L}|map('string')|list", "{D}.items()", "{D}",
            depth=depth,
        )  # fmt: skip

    def map(self, depth: int) -> str:
        return self.pick(
            "messages[0]", "messages[-1]", "{{}}".replace("{{}}", "{ }"), "{'a': 1, 'b': 'x'}", "{'b': 2, 'A': 1}",
            "{'a': {A}, {W}: {A}}", "dict(a={A})", "dict({D}, b={A})", "({D} if {B} else {D})", "{L}|first", "{1: {A}}",
            "{{A}: 1}",
            depth=depth,
        )  # fmt: skip

    def nothing(self, depth: int) -> str:
        return self.pick(
            "none", "nowhere", "messages[0].nothing", "{D}.nothing", "n.nothing", depth=depth
        )

    # ---- statements ----

    def statement(self, depth: int) -> str:
        kinds = ["print"] * 4 + ["plain"]
        if depth > 0:
            kinds += [
                "if",
                "for",
                "set",
                "set",
                "namespace",
                "block",
                "macro",
                "filter",
                "with",
                "call",
                "pairs",
            ]
        return getattr(self, "_" + self.chance.choice(kinds))(depth - 1)

    def body(self, depth: int) -> str:
        return "".join(self.statement(depth) for _ in range(self.chance.randint(1, 2)))

    def open(self, inside: str) -> str:
        left, right = (self.chance.choice(["", "", "-", "+"]), self.chance.choice(["", "", "-"]))
        return (
            "{%" + left + " " + inside + " " + right + "%}" + self.chance.choice(["", "\n", "  "])
        )

    def _print(self, _: int) -> str:
        kind = self.chance.choice(["text", "text", "number", "truth", "list"])
        made = self.of(kind, 3)
        return "{{ " + (made if kind in ("text", "truth") else f"({made})|tojson") + " }}|"

    def _plain(self, _: int) -> str:
        return self.chance.choice(
            ["x\n", " \n", "{# c #}", "\n\n", "é", "{% raw %}{{ {% endraw %}", "{ }"]
        )

    def _if(self, depth: int) -> str:
        kind = self.chance.choice(["truth", "truth", "list", "text", "number"])
        otherwise = self.open("else") + self.body(depth) if self.chance.random() < 0.4 else ""
        return (
            self.open(f"if {self.of(kind, 3)}") + self.body(depth) + otherwise + self.open("endif")
        )

    def _for(self, depth: int) -> str:
        kind = self.chance.choice(["list", "list", "list", "text", "map"])
        over = "messages" if self.chance.random() < 0.3 else self.of(kind, 2)
        name = self.chance.choice(["m", "i"])
        condition = f" if {name} {self.chance.choice(['', 'is string', '!= 1', 'is mapping'])}"
        head = f"for {name} in {over}" + (condition if self.chance.random() < 0.2 else "")
        before, self.names["text"] = (
            self.names["text"],
            [*self.names["text"], name, f"{name}.content"],
        )
        self.loops += 1
        about = self.chance.choice(
            ["", "", "{{ loop.index }}", "{{ loop.last }}", "{{ loop.revindex }}{{ loop.length }}"]
        )
        about += self.chance.choice(
            [
                "",
                "",
                "",
                "{% if loop.index > 2 %}{% break %}{% endif %}",
                "{{ loop.previtem is defined }}",
            ]
        )
        inside = self.body(depth)
        self.loops -= 1
        self.names["text"] = before
        return self.open(head) + about + inside + self.open("endfor")

    def _set(self, _: int) -> str:
        kind = self.chance.choice(KINDS)
        name = self.chance.choice("uvw")
        made = self.open(f"set {name} = {self.of(kind, 3)}")
        self.names[kind].append(name)
        return made

    def _pairs(self, _: int) -> str:
        target = self.chance.choice(["u, v", "n.a, n.b", "u, n.a", "n.a, n.a"])
        return self.open(f"set {target} = {self.pick('{A}, {A}', '{L}', '[{A}, {A}]', depth=2)}")

    def _namespace(self, _: int) -> str:
        if self.chance.random() < 0.5:
            return (
                self.open(f"set n.{self.chance.choice('ab')} = {self.any(2)}")
                + "{{ n.a is defined }}"
            )
        return self.open(
            f"set n = namespace({self.pick('', '{D}', 'a={A}', '{D}, a={A}', '{L}', depth=2)})"
        )

    def _block(self, depth: int) -> str:
        target = self.chance.choice(["u", "n.a", "w | upper", "v | trim"])
        return self.open(f"set {target}") + self.body(depth) + self.open("endset")

    def _macro(self, depth: int) -> str:
        return self.open("macro f(a, b='d')") + "{{ a }}" + self.body(depth) + self.open("endmacro")

    def _call(self, depth: int) -> str:
        macro = "{% macro g(x=1) %}<{{ caller() }}{{ x }}>{% endmacro %}"
        return macro + self.open(f"call g({self.any(2)})") + self.body(depth) + self.open("endcall")

    def _filter(self, depth: int) -> str:
        name = self.chance.choice(["upper", "trim", "replace('a', 'b')", "length", "title"])
        return self.open(f"filter {name}") + self.body(depth) + self.open("endfilter")

    def _with(self, depth: int) -> str:
        return self.open(f"with u = {self.any(2)}") + self.body(depth) + self.open("endwith")


HEAD = "{% set n = namespace(a=1) %}{% set m = namespace() %}{% macro f(a, b='d') %}{{ a }}{{ b }}{% endmacro %}"


def random_chat(chance: random.Random) -> list[dict[str, str]]:
    """A few turns of odd texts."""
    roles = [chance.choice(["user", "assistant", "system"]) for _ in range(chance.randint(1, 4))]
    return [
        {"role": role, "content": chance.choice(WORDS) + chance.choice(WORDS)} for role in roles
    ]


def ours(source: str, turns: list[dict[str, str]], read: object) -> tuple[str | None, str]:
    """The text, or none and the reason."""
    spec = TokenizerSpec("", "", _BACKEND, source, SPECIAL)
    try:
        encoder = _core.ChatEncoder(spec, loss_on="all", allow_special_in_content=True)
        table = pa.Table.from_pylist([{"messages": turns}])
        return pa.table(
            _core.render_rows(table, read, encoder, add_generation_prompt=False, workers=1)
        )["text"][0].as_py(), ""
    except ZephyrDataError as error:
        return None, str(error).splitlines()[0]


def theirs(source: str, turns: list[dict[str, str]]) -> tuple[str | None, str]:
    """Likewise, by transformers; what it cannot read it refuses for every chat, which is noticed when the template is loaded."""
    from transformers.utils.chat_template_utils import render_jinja_template

    signal.alarm(5)
    try:
        return render_jinja_template([turns], chat_template=source, **SPECIAL)[0][0], ""
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)


def main() -> None:
    """Reads the command line, and tries one template after another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--reasons",
        action="store_true",
        help="list why the extension refuses what transformers takes",
    )
    options = parser.parse_args()

    def stop(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    read = Config.load(None, {"read.kind": "chat"}).read
    counts: collections.Counter[str] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()
    for number in range(options.count):
        chance = random.Random(f"{options.seed}-{number}")
        source, turns = HEAD + _Templates(chance).template(), random_chat(chance)
        (mine, why), (wanted, error) = ours(source, turns, read), theirs(source, turns)
        if mine is None:
            outcome = "refused by both" if wanted is None else "refused here"
            if wanted is not None:
                reasons[re.sub(r"`[^`]*`|\d+", "…", why)] += 1
        else:
            outcome = "equal" if mine == wanted else "lenient" if wanted is None else "differs"
            if error.startswith(("TemplateSyntaxError", "TemplateAssertionError")):
                outcome = "unreadable there"
        counts[outcome] += 1
        if outcome in ("differs", "lenient"):
            print(
                f"{outcome} {options.seed}-{number}: {source[len(HEAD) :]!r}\n  {turns}\n  ours {mine!r}\n  theirs {wanted!r} {error}"
            )
    print(dict(counts))
    if options.reasons:
        for reason, times in reasons.most_common(40):
            print(times, reason)
    sys.exit(counts["differs"] + counts["lenient"] > 0)


if __name__ == "__main__":
    main()
