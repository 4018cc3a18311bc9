"""Chat templates are programs from somebody else: hostile ones end in an error within a second of CPU time.

Each hostile template runs in a process of its own, with a limit on its memory and on the clock: a crash of the engine fails
one test, not the run.
"""

import json
import re
import signal
import subprocess
import sys

import pytest

from zephyr_data import ConfigError
from zephyr_data.trial import try_template

GROW = "{% set n = namespace(x='ab', y=[]) %}{% for i in range(64) %}"
# A text of two megabytes, and as many steps as a template gets, each of which goes through it.
SEARCH = "{% set x = 'a' * 2000000 %}{% for i in range(60000) %}{% set z = "
HOSTILE = {
    "an endless loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a long range": "{% for a in range(10**12) %}{% endfor %}",
    "a long list": "{{ range(10**12) | list }}",
    "a long text": "{{ 'a' * 10**9 }}",
    "much output": "{% for a in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
    "much output, captured": "{% set x %}{% for a in range(99999) %}{{ 'x' * 9999 }}{% endfor %}{% endset %}",
    "a text that doubles": GROW + "{% set n.x = n.x + n.x %}{% endfor %}",
    "a text that doubles by ~": GROW + "{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "a product of lists": "{{ ([1] * 999999999) | tojson }}",
    "a list added to itself": GROW
    + "{% set n.y = n.y + n.y + [1] %}{% endfor %}{{ n.y | tojson }}",
    "a huge power": "{{ 10 ** 10 ** 10 }}",
    "format": "{{ '%1000000000d' | format(1) }}",
    "%": "{{ '%1000000000d' % 1 }}",
    "center": "{{ 'a' | center(10**9) }}",
    "str.center": "{{ 'a'.center(10**9) }}",
    "str.zfill": "{{ 'a'.zfill(10**9) }}",
    "indent": "{{ 'a\nb' | indent(10**9) }}",
    "tojson with an indent": "{{ [[1]] | tojson(indent=10**9) }}",
    "batch": "{{ [1] | batch(10**9, 'x') | list }}",
    "wordwrap": "{{ ('a ' * 99999) | wordwrap(1) }}",
    "replace": "{{ ('x' * 99999).replace('x', 'y' * 99999) }}",
    "join": "{{ ('x' * 9999).join(('y' * 99999).split('y')) }}",
    "a macro in itself": "{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "a macro in its caller": (
        "{% macro f() %}{{ caller() }}{% endmacro %}"
        "{% macro g() %}{% call f() %}{{ g() }}{% endcall %}{% endmacro %}{{ g() }}"
    ),
    "a loop in itself": "{% for m in [[1]] recursive %}{{ loop([[1], [1]]) }}{% endfor %}",
    "a template in itself": "{% include 'chat_template' %}",
    "the last character": SEARCH + "x[-1] %}{% endfor %}",
    "a part": SEARCH + "x[1999000:] %}{% endfor %}",
    "a search": SEARCH + "'b' in x %}{% endfor %}",
    "a count": SEARCH + "x.count('b') %}{% endfor %}",
    "a comparison": SEARCH.replace("{% for", "{% set y = 'a' * 1999999 + 'b' %}{% for", 1)
    + "x == y %}{% endfor %}",
    "strip of a set": "{% set x = 'a' * 2000000 %}{% set y = 'b' * 2000000 ~ 'a' %}{{ x.strip(y) }}",
    "trim of a set": "{% set x = 'a' * 2000000 %}{% set y = 'b' * 2000000 ~ 'a' %}{{ x | trim(y) }}",
    "a count in a list": (
        "{% set x = range(50000) | list %}{% for i in range(60000) %}{% set z = x.count(-1) %}{% endfor %}"
    ),
    "attributes": "{{ ''.__class__.__mro__ }}",
    "attributes by a filter": "{{ '' | attr('__class__') }}",
    "attributes of a function": "{{ raise_exception.__globals__.os }}",
    "attributes of a class": "{{ cycler.__init__.__globals__.os.system('id') }}",
    "a list of lists": GROW + "{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x | tojson }}",
}
# These the engine cannot stop: it reads a template by recursion, and the last ones are hostile only to jinja2.
RUNAWAY = {
    "many `elif`": "{% if 0 %}" + "{% elif 0 %}" * 50000 + "{% endif %}",
    "many `not`": "{{ " + "not " * 100000 + "1 }}",
    "a constant that is never used": "{% if false %}{{ 'a' * 10**10 }}{% endif %}",
    "a filter of a constant": "{% if false %}{{ 'a' | center(10**10) }}{% endif %}",
    "a constant between tags": (
        "{% generation %}{% if false %}{{ 'a' * 10**10 }}{% endif %}{% endgeneration %}"
    ),
    "a long power": "{% if false %}{{ 3 ** 1000000000 }}{% endif %}",
    "where methods are attributes": (
        "{% if 'a'.format %}{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}{% endif %}"
    ),
    "memory where methods are attributes": (
        "{% if 'a'.format %}" + GROW + "{% set n.x = n.x + n.x %}{% endfor %}{% endif %}"
    ),
}

# The core alone, without the trial: what it does not bound would end this process.
PROGRAM = """
import json, resource, sys, time
from pathlib import Path
import pyarrow
from zephyr_data import _core
from zephyr_data.tokenizer import PROBES, TokenizerSpec, encode_chat

backend = Path(sys.argv[1]).read_text(encoding="utf-8")
spec = TokenizerSpec("x", "", backend, sys.stdin.read(), {"eos_token": "</s>"})
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
start, error = time.process_time(), None
try:
    encode_chat(_core.ChatEncoder(spec), PROBES[0][1])
except Exception as caught:
    error = [type(caught).__name__, str(caught)]
print(json.dumps([time.process_time() - start, error]))
"""


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_templates_end_in_an_error(case, examples):
    command = [sys.executable, "-c", PROGRAM, str(examples / "tokenizer" / "tokenizer.json")]
    done = subprocess.run(
        command, input=HOSTILE[case], capture_output=True, text=True, check=True, timeout=60
    )
    seconds, error = json.loads(done.stdout)
    assert error is not None, "the template was taken"
    kind, message = error
    assert kind == "ConfigError"
    assert re.match("cannot apply the chat template: [^\n]+\nhint: [^\n]+$", message), message
    assert seconds < 1


@pytest.mark.parametrize("case", RUNAWAY)
def test_what_the_engine_cannot_stop_is_stopped_from_outside(case):
    with pytest.raises(ConfigError) as caught:
        try_template("x", RUNAWAY[case], {"eos_token": "</s>"})
    reason, hint = str(caught.value).splitlines()
    assert reason.startswith("cannot use the chat template of the tokenizer `x`: rendering short")
    assert hint.startswith("hint: look in the template for a loop without an end")


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (None, "takes more than 1 s of CPU time"),
        (-signal.SIGPROF, "takes more than 1 s of CPU time"),
        (-signal.SIGABRT, "takes more than 512 MiB of memory, or overflows the stack"),
        (-signal.SIGSEGV, "overflows the stack"),
        (4, "ended its process with the status 4"),
    ],
)
def test_the_message_names_the_limit(status, reason, monkeypatch):
    def run(command, **options):
        if status is None:
            raise subprocess.TimeoutExpired(command, options["timeout"])
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ConfigError) as caught:
        try_template("x", "{{ messages[0].content }}", {})
    assert f": rendering short chats {reason}\n" in str(caught.value)
    assert caught.value.key == "tokenizer"


def test_templates_that_only_refuse_pass_the_trial(monkeypatch):
    statuses = []

    def run(*arguments, **options):
        done = real(*arguments, **options)
        statuses.append(done.returncode)
        return done

    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", run)
    try_template("x", "{{ raise_exception('no') }}", {})
    try_template("x", "{% for m in messages %}{{ m.content + eos_token }}{% endfor %}", {})
    assert statuses == [0, 0], "both were tried, and came to an end"


@pytest.mark.usefixtures("transformers")
def test_a_hostile_template_does_not_get_to_transformers(examples, tmp_path):
    import shutil

    from zephyr_data.tokenizer import load_tokenizer

    folder = shutil.copytree(examples / "tokenizer", tmp_path / "tokenizer")
    (folder / "chat_template.jinja").write_text(RUNAWAY["many `not`"])
    with pytest.raises(ConfigError, match="^cannot use the chat template of the tokenizer "):
        load_tokenizer(folder)
