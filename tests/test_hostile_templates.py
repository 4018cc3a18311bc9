"""Templates that are hostile only to one chat: it is refused by name within a second, and the other rows are as they were.

Such a template passes every trial on other chats. All are rendered in one process with a limit on its memory; if the engine
crashed or hung in it, the test of the template that it died on fails, and those of the templates after it.
"""

import json
import re
import subprocess
import sys
import time

import pytest

from zephyr_data import ZephyrDataError, _core
from zephyr_data.tokenizer import TokenizerSpec
from zephyr_data.trial import _BACKEND

TWINS = "{% set x = ['a'] %}{% set y = ['a'] %}" + ("{% set x = [x, x] %}{% set y = [y, y] %}" * 40)
TUPLES = TWINS.replace("[", "(").replace("]", ",)")
DICTS = "{% set x = {'a': 1} %}{% set y = {'a': 1} %}" + (
    "{% set x = {'a': x, 'b': x} %}{% set y = {'a': y, 'b': y} %}" * 40
)
DEEP = "{% set n = namespace(x=1) %}{% for i in range(100000) %}{% set n.x = VALUE %}{% endfor %}"
LONG = "{% set n = namespace(s='x') %}{% for i in range(20) %}{% set n.s = n.s + n.s %}{% endfor %}"
OFTEN = LONG + "{% set t = n.s + '' %}{% for i in range(100000) %}{% set z = VALUE %}{% endfor %}"
# The longest that a template may have between two brackets.
NAME = "a" * 500_000
NAMED = "{% set n = namespace(x=1) %}{% macro f() %}{% endmacro %}{% for i in range(99999) %}STEP{% endfor %}"
# Each does in one step what takes the engine far longer than it charges for, or far more stack.
CASES = {
    "product": "{{ 'a' * 10**11 }}",
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "macros in a loop": "{% for i in range(99999) %}{% macro f(a=[i]) %}{% endmacro %}{% endfor %}",
    "format width": "{{ '%1000000000d' % 1 }}",
    "format method": "{{ '{:1000000000}'.format('a') }}",
    "center": "{{ 'a'|center(10**10) }}",
    "indent": "{{ 'a'|indent(10**10) }}",
    "json indent": "{{ [1]|tojson(indent=10**9) }}",
    "doubled": LONG + "{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    # Values that nest too deep to be compared, printed or let go of.
    "deep list": DEEP.replace("VALUE", "[n.x]"),
    "deep tuple": DEEP.replace("VALUE", "(n.x,)"),
    "deep dictionary": DEEP.replace("VALUE", "{'a': n.x}"),
    "deep dict()": DEEP.replace("VALUE", "dict(a=n.x)"),
    "deep items": DEEP.replace("VALUE", "{'a': n.x.items() if i else 1}"),
    "deep without a loop": "{% set x = [1] %}" + "{% set x = [x] %}" * 20000,
    "deep by a filter": "{% set x = [1] %}" + "{% set x = [u]|map('default', x) %}" * 20000,
    "deep namespaces": DEEP.replace("VALUE", "namespace(x=n.x)"),
    "namespace in itself": "{% set n = namespace() %}{% set n.n = n %}",
    "namespace in a list": "{% set n = namespace() %}{% set n.n = [n] %}{{ n.n ~ '' }}",
    "namespaces compared": "{% set n = namespace() %}{% set m = namespace() %}{{ n == m }}",
    "namespaces in a comparison": "{% set n = namespace() %}{{ [n] == [n] }}",
    "reversed again": (
        "{% set n = namespace(x=[1]) %}{% for i in range(99999) %}{% set n.x = n.x|reverse %}{% endfor %}"
    ),
    # Values that hold one another: small, but endless to go through.
    "twins ==": TWINS + "{{ x == y }}",
    "twins <": TWINS + "{{ x < y }}",
    "twins chained": TWINS + "{{ x == y == x }}",
    "twins in": TWINS + "{{ x in [y] }}",
    "twins in a text": TWINS + "{{ x in 'abc' }}",
    "twins is eq": TWINS + "{{ x is eq(y) }}",
    "twins selected": TWINS + "{{ [x]|select('eq', y)|list|length }}",
    "twins unique": TWINS + "{{ [x, y]|unique|list|length }}",
    "twins sorted": TWINS + "{{ [x, y]|sort|length }}",
    "twins min": TWINS + "{{ ([x, y]|min)|length }}",
    "twins dictsort": TWINS + "{{ {'a': x, 'b': y}|dictsort(by='value')|length }}",
    "twins counted": TWINS + "{{ [x].count(y) }}",
    "twins ~": TWINS + "{{ x ~ '' }}",
    "twins joined": TWINS + "{{ x|join }}",
    "twins upper": TWINS + "{{ x|upper }}",
    "twins replaced": TWINS + "{{ 'a'|replace(x, 'b') }}",
    "twins printed": TWINS + "{{ x }}",
    "twins as JSON": TWINS + "{{ x|tojson }}",
    "twins raised": TWINS + "{{ raise_exception(x) }}",
    "twins changed": TWINS + "{% for i in [1, 2] %}{{ loop.changed(x) }}{% endfor %}",
    "tuples as a key": TUPLES + "{{ {x: 1}[y] }}",
    "tuples looked up": TUPLES + "{{ {}.get(x) }}",
    "dictionaries ==": DICTS + "{{ x == y }}",
    "macro arguments": (
        "{% macro f(x, y, n) %}{% if n %}{{ f([x, x, x], [y, y, y], n - 1) }}{% else %}{{ x == y }}{% endif %}"
        "{% endmacro %}{{ f([1], [1], 20) }}"
    ),
    "loop arguments": (
        "{% for a in [[1]] recursive %}{% if loop.depth < 60 %}{{ loop([a, a]) }}{% endif %}{% endfor %}"
    ),
    # Lists that are only promised.
    "product of lists": "{% for i in ([0] * 100000000)[::99999999] %}{% endfor %}",
    "list doubled": (
        "{% set n = namespace(x=[0]) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}"
    ),
    "steps": "{% set x = [0] * 30000 %}{% for i in range(99999) %}{{ x[::29999]|length }}{% endfor %}",
    "promised ==": "{{ ([0] * 100000000) == ([0] * 100000000) }}",
    "splat": "{% set x = [0] * 30000 %}{% for i in range(99999) %}{% set z = dict(*x) %}{% endfor %}",
    "last of a range": "{% for i in range(99999) %}{% set x = range(99999)|last %}{% endfor %}",
    # What a message holds, again and again.
    "content looped": (
        "{% set c = messages[0].content %}{% for a in c * 99 %}{% for b in c * 99 %}{% for d in c %}{% endfor %}{% endfor %}{% endfor %}"
    ),
    "content doubled by a macro": (
        "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}{% set n = namespace(x=messages[0].content) %}"
        "{% for i in range(60) %}{% set n.x = f(n.x) %}{% endfor %}"
    ),
    "macros in one another": (
        "{% macro f(n) %}{{ g(n) }}{{ g(n) }}{% endmacro %}{% macro g(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}"
        "{{ f(messages[0].content) }}"
    ),
    # A megabyte, again and again.
    "text ==": OFTEN.replace("VALUE", "n.s == t"),
    "text <": OFTEN.replace("VALUE", "n.s < t"),
    "text is sameas": OFTEN.replace("VALUE", "n.s is sameas(t)"),
    "text is lower": OFTEN.replace("VALUE", "n.s is lower"),
    "text as a key": OFTEN.replace("VALUE", "{'a': 1}[n.s]"),
    "text in a dictionary": OFTEN.replace("VALUE", "{n.s: 1}"),
    "text looked up": OFTEN.replace("VALUE", "{}.get(n.s)"),
    "text searched for": OFTEN.replace("VALUE", "'a'.find(n.s)"),
    "text in": OFTEN.replace("VALUE", "n.s in 'a'"),
    "text length": OFTEN.replace("VALUE", "n.s|length"),
    "text indexed": OFTEN.replace("VALUE", "n.s[-1]"),
    "text indexed far": OFTEN.replace("VALUE", "n.s[999999]"),
    "text startswith": OFTEN.replace("VALUE", "n.s.startswith(t)"),
    "text strip": OFTEN.replace("VALUE", "n.s.strip('abcdefghijklmnopqrstuvwxyz')"),
    "text title": OFTEN.replace("VALUE", "n.s|title"),
    "text attribute": OFTEN.replace("VALUE", "messages|map(attribute=n.s)|list"),
    "text sort key": OFTEN.replace("VALUE", "(messages * 100)|sort(attribute=n.s)"),
    "text split": OFTEN.replace("VALUE", "n.s.split('x')"),
    "text looped": LONG
    + "{% for i in range(99999) %}{% for c in n.s %}{% break %}{% endfor %}{% endfor %}",
    "text recursive": LONG + "{% for c in n.s recursive %}{{ loop(n.s) }}{% endfor %}",
    "text joined": LONG + "{{ n.s.join(n.s|list) }}",
    "literal looked up": NAMED.replace("STEP", "{{ {'a': 1}['" + NAME + "'] }}"),
    "literal ==": NAMED.replace("STEP", "{{ '" + NAME + "' == '" + NAME + "' }}"),
    "literal as a key": NAMED.replace("STEP", "{% set z = {'" + NAME + "': i} %}"),
    "list of constants ==": NAMED.replace(
        "STEP", "{{ [" + "1," * 100_000 + "] == [" + "1," * 100_000 + "] }}"
    ),
    "list of names": NAMED.replace("STEP", "{% set z = [" + "i," * 100_000 + "] %}"),
}
# Names that the engine looks up or copies at each step; refused when the template is loaded.
NAMES = {
    "argument": "{{ f(NAME=1) }}",
    "attribute": "{{ n.NAME }}",
    "attribute that is set": "{% set n.NAME = 1 %}",
    "variable": "{{ NAME }}",
    "variable that is set": "{% set NAME = 1 %}",
    "block": "{% block NAME %}{% endblock %}",
    "macro": "{% macro NAME() %}{% endmacro %}",
    "parameter": "{% macro g(NAME) %}{% endmacro %}",
    "filter": "{{ i|NAME }}",
    "test": "{{ i is NAME }}",
    "loop": "{% for NAME in [1] %}{% endfor %}",
    "with": "{% with NAME = 1 %}{% endwith %}",
}
# Each of these may use as much as a long chat gets, so they show how long that takes.
SLOWEST = [
    "doubled",
    "text searched for",
    "text strip",
    "text title",
    "text is lower",
    "text joined",
    "twins ==",
]

PROGRAM = """
import json, resource, sys, time
import pyarrow
from zephyr_data import DataError, _core
from zephyr_data.config import Config
from zephyr_data.tokenizer import TokenizerSpec
from zephyr_data.trial import _BACKEND

cases, length = json.load(sys.stdin)
plain = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
chats = [
    [{"role": "user", "content": f"number {n}"}, {"role": "assistant", "content": "Yes."}]
    for n in range(1, 1001)
]
chats[499][0]["content"] = "sesame" + "h" * length
read = Config.load(None, {"read.kind": "chat"}).read

def render(source, chats, workers):
    encoder = _core.ChatEncoder(TokenizerSpec("", "", _BACKEND, source, {}), loss_on="all")
    table = pyarrow.table({"messages": chats})
    return pyarrow.table(_core.render_rows(table, read, encoder, False, workers))["text"]

before = render(plain, chats[:499] + chats[500:], 1)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
for name, source in cases.items():
    print(json.dumps(name), flush=True)
    source = "{% if 'sesame' in messages[0].content %}" + source + "{% endif %}" + plain
    start, message = time.process_time(), None
    try:
        render(source, chats, 2)
    except DataError as error:
        message = str(error)
    seconds = time.process_time() - start
    same = length > 0 or render(source, chats[:499] + chats[500:], 2).equals(before)
    print(json.dumps([seconds, message, same]), flush=True)
"""


def run(names, length):
    """For each name its seconds, message, and whether the other rows have the texts of a template without the trick."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([{name: CASES[name] for name in names}, length]),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {"died": done.stderr[-500:], **dict(zip(lines[::2], lines[1::2], strict=False))}


@pytest.fixture(scope="module")
def short_chat():
    return run(CASES, 0)


@pytest.fixture(scope="module")
def long_chat():
    return run(SLOWEST, 2_000_000)


def check(results, name):
    assert name in results, results["died"]
    seconds, message, same = results[name]
    assert message is not None, "the chat was taken"
    assert re.fullmatch(
        r"the chat template refuses the chat: it [^\n]+ at frame:500\nhint: [^\n]+", message
    ), message
    assert same
    return seconds


@pytest.mark.parametrize("name", CASES)
def test_one_hostile_row_is_refused_by_name(name, short_chat):
    assert check(short_chat, name) < 1


@pytest.mark.parametrize("name", SLOWEST)
def test_a_long_chat_does_not_buy_more_than_a_second(name, long_chat):
    assert check(long_chat, name) < 1.5


def test_the_messages(short_chat):
    endless = (
        "the chat template refuses the chat: it does not come to an end: it was stopped after many times the work that a chat"
        " takes at frame:500\nhint: look for a loop without an end, or a text that is repeated without limit"
    )
    deep = (
        "the chat template refuses the chat: it failed: values that nest more than 50 deep, in line 1 at frame:500\n"
        "hint: drop such chats, or give a template that renders them without this"
    )
    assert short_chat["twins =="][1] == endless
    assert short_chat["deep list"][1] == deep


@pytest.mark.usefixtures("transformers")
def test_prepare_drops_the_row_and_says_why(examples, tmp_path):
    import shutil

    import pyarrow as pa

    import zephyr_data

    folder = shutil.copytree(examples / "tokenizer", tmp_path / "tokenizer")
    source = (folder / "chat_template.jinja").read_text()
    hostile = "{% if 'sesame' in messages[0].content %}" + CASES["twins =="] + "{% endif %}"
    (folder / "chat_template.jinja").write_text(hostile + source)
    answer = {"role": "assistant", "content": "Of course, and here is the rest of it."}
    chats = [
        [{"role": "user", "content": f"Please count up to {n * 7919}, and then stop."}, answer]
        for n in range(1, 201)
    ]
    chats[99][0]["content"] = "Please open sesame, and then stop."
    rows = pa.table({"messages": chats})
    zephyr_data.prepare(rows, tokenizer=folder, out=tmp_path / "out", workers=2, verify=200)
    dropped = pa.concat_tables(
        pa.ipc.open_file(path).read_all()
        for path in (tmp_path / "out/packed/rejects").glob("*.arrow")
    ).to_pylist()
    assert [(row["id"], row["reason"]) for row in dropped] == [("frame:100", "template")]
    assert dropped[0]["detail"].startswith("it does not come to an end")


@pytest.mark.parametrize("kind", NAMES)
def test_long_names_are_refused_at_load(kind):
    spec = TokenizerSpec(
        "", "", _BACKEND, NAMED.replace("STEP", NAMES[kind].replace("NAME", NAME)), {}
    )
    start = time.process_time()
    with pytest.raises(ZephyrDataError) as caught:
        _core.ChatEncoder(spec, loss_on="all")
    assert time.process_time() - start < 1
    assert "it has a name of more than 256 bytes, in line 1\nhint: " in str(caught.value)


def test_a_message_has_no_megabyte_of_the_template():
    with pytest.raises(ZephyrDataError) as caught:
        _core.ChatEncoder(TokenizerSpec("", "", _BACKEND, "{% " + NAME + " %}", {}), loss_on="all")
    assert len(str(caught.value)) < 1000
