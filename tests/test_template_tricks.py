"""Templates that reach for Python's objects: the text is transformers' or the template is refused, never a third thing.

transformers runs templates in a sandbox: some names are forbidden, some are hidden, and the rest are attributes of real
objects. Here there are no such objects.
"""

import pytest

from zephyr_data import ConfigError, _core
from zephyr_data.errors import ZephyrDataError
from zephyr_data.tokenizer import (
    PROBES,
    LoadedTokenizer,
    TokenizerSpec,
    check_ids,
    encode_chat,
)

EXPRESSIONS = r"""
''['__class__']
''.__class__
''.__class__.__mro__[1].__subclasses__()
''['__class__']['__mro__']
''|attr('__class__')
''|attr('upper')
''|attr('upper')()
'ab'['upper']
'ab'['upper']()
'ab'['nothing']
'ab'['nothing'] is defined
''['__class__'] is defined
''.__class__ is defined
messages.__class__
messages['__class__']
messages['__len__']()
messages['append']
messages.append
messages['append'](1)
messages.append(1)
messages.pop()
messages.clear()
messages.sort()
messages.copy()
messages|length
messages.count(1)
messages.index(messages[0])
messages[0].__class__
messages[0]['__class__']
messages[0]['__class__'] is defined
messages[0].update({'role':'x'})
messages[0].pop('role')
messages[0].get('__class__')
messages[0].get('__class__','no')
messages[0]['items']()
messages[0].items()|list|length
messages[0]|attr('role')
messages[0]|attr('content')
messages[0]|attr('items')
messages[0]|attr('__class__')
messages|map(attribute='__class__')|list
messages|map(attribute='__class__')|join
messages|map(attribute='role.__class__')|join
messages|map(attribute='content.0')|join
messages|selectattr('__class__')|list|length
messages|selectattr('__class__','defined')|list|length
messages|groupby('__class__')|list|length
messages|sort(attribute='__class__')|length
messages|sum(attribute='__class__')
messages|unique(attribute='__class__')|list|length
raise_exception.__globals__
raise_exception['__globals__']
raise_exception.__code__
raise_exception|attr('__globals__')
namespace.__init__
namespace.__init__.__globals__
namespace(__class__=1)
namespace(_x=1)._x
namespace(x=1).__class__
namespace(x=1)['__class__']
namespace(x=1)['x']
namespace(x=1)|attr('x')
dict.__class__
dict(a=1)['a']
dict(a=1).__class__
dict(__class__=1)['__class__']
dict(__class__=1).__class__
{'__class__': 1}.__class__
{'__class__': 1}['__class__']
{'__class__': 'a'}|attr('__class__')
range.__class__
range(3).__class__
lipsum.__globals__
cycler.__init__.__globals__.os
joiner.__init__
cycler('a','b').next()
self.__class__
self._TemplateReference__context
self.__init__
self
loop
caller
varargs
(1).__class__
(1)['real']
(1).real
(1).bit_length()
1.5.is_integer()
true.__class__
none.__class__
none['__class__']
undefined_thing.__class__
undefined_thing['__class__']
undefined_thing|attr('__class__')
'{0.__class__}'.format('')
'{0}'.format('a')
'{a.__class__}'.format(a=1)
'{}'.format_map({})
'%s'|format('a')
'%s' % ''.__class__
'a'.upper
'a'.upper.__self__
'a'.upper.__func__
'a'.encode()
'a'.encode('utf-8').__class__
'a'.join.__doc__
'a'.__len__()
'a'.__add__('b')
'a'['__add__']('b')
'a'.__doc__
'a'['__doc__']
'ab'[0].__class__
'ab'['0']
'ab'[-1]
'ab'[true]
messages['0'].role
messages[true].role
messages[0]['role']['__class__']
messages[0].role.__class__.__name__
(messages|first)['__class__']
('a','b').__class__
('a','b')['__class__']
('a','b').count('a')
[].__class__.__base__
[]['__class__']
{}['__class__']
{}.__class__
{}.keys.__self__
{}.fromkeys
dict.fromkeys(['a'])|length
''|attr(['__class__'])
''|attr('__cla' ~ 'ss__')
''['__cla' ~ 'ss__']
''[['__class__'][0]]
('' ~ '')['__class__']
('x'|upper)['__class__']
('x'|safe)['__html__']
'x'.__html__
'x'|e
'x'|escape
request
config
environment
g
get_flashed_messages
url_for
context
_
__builtins__
__import__('os')
import_module
self.__dict__
''.__class__()
''['__class__']()
messages[0]['role'].mro
x.__class__.__class__
x['y']
x.y.z
""".strip().splitlines()
STATEMENTS = r"""
{% set n = namespace() %}{% set n.__class__ = 1 %}{{ n.__class__ }}
{% set n = namespace() %}{% set n._x = 1 %}{{ n._x }}
{% set n = namespace(x=1) %}{% set n.x = n %}{{ n.x.x.x.x is defined }}
{% set messages[0].role = 'x' %}
{% set messages.x = 1 %}
{% set x = messages[0] %}{% set x.role = 'y' %}{{ x.role }}
{% do messages.append(1) %}
{% for k, v in messages[0].items() %}{{ k }}{{ v.__class__ }}{% endfor %}
{% for c in ''.__class__ %}{{ c }}{% endfor %}
{% for c in ''['__class__'] %}{{ c }}{% endfor %}
{% if ''.__class__ %}yes{% else %}no{% endif %}
{% if ''['__class__'] %}yes{% else %}no{% endif %}
{% if ''['__class__'] is defined %}yes{% else %}no{% endif %}
{% if messages.__class__ is defined %}yes{% else %}no{% endif %}
{% if raise_exception.__globals__ is defined %}yes{% else %}no{% endif %}
{% if ''.__class__ is none %}yes{% else %}no{% endif %}
{% if ''['__class__'] == ''['__class__'] %}yes{% else %}no{% endif %}
{% set c = ''['__class__'] %}ok
{% set c = ''.__class__ %}{{ c is undefined }}
{% set c = ''.__class__ %}{{ c | default('safe') }}
{% set c = ''['__class__'] %}{{ c | default('safe') }}
{{ ''.__class__ or 'safe' }}
{{ (''['__class__'] or 'safe') }}
{{ ''.__class__ ~ 'x' }}
{{ ''['__class__'] ~ 'x' }}
{{ ''.__class__ | length }}
{{ ''['__class__'] | length }}
{{ ''.__class__ | tojson }}
{{ [''['__class__']] | length }}
{{ [''.__class__] | join }}
{{ ''.__class__ | string }}
{{ ''.__class__ | upper }}
{{ ''.__class__ == none }}
{{ ''.__class__ in messages }}
{{ '__class__' in messages[0] }}
{{ 'role' in messages[0] }}
{% macro m() %}{{ caller.__class__ }}{% endmacro %}{{ m.name }}
{% macro m(a) %}x{% endmacro %}{{ m.__class__ }}
{% macro m(a) %}x{% endmacro %}{{ m.arguments }}
{% macro m(a) %}x{% endmacro %}{{ m._func.__globals__ }}
{% macro m(a) %}x{% endmacro %}{{ m['name'] }}
{% for m in messages %}{{ loop.__class__ }}{% endfor %}
{% for m in messages %}{{ loop['index'] }}{% endfor %}
{% for m in messages %}{{ loop._iterable }}{% endfor %}
{% for m in messages %}{{ loop._undefined }}{% endfor %}
{% for m in messages %}{{ loop.__init__.__globals__ }}{% endfor %}
{% for m in messages %}{{ loop|attr('index') }}{% endfor %}
{% with x = ''.__class__ %}{{ x }}{% endwith %}
{% import 'os' as os %}{{ os }}
{% from 'os' import system %}
{% extends 'x' %}
{% include '/etc/passwd' %}
{% include 'x' ignore missing %}ok
{% block a %}x{% endblock %}{{ self.a() }}
{% block a %}x{% endblock %}
{% filter upper %}x{% endfilter %}
{% autoescape true %}{{ '<' }}{% endautoescape %}
{% call(x) messages.append() %}{% endcall %}
{% trans %}x{% endtrans %}
{% debug %}
""".strip().splitlines()
TRICKS = [*(f"{{{{ {expression} }}}}" for expression in EXPRESSIONS), *STATEMENTS]
# A chat of its own: none of the probes.
CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]
# Usual keys, so that templates with them are not refused; the comparison before a run finds what they change.
ONLY_FOUND_BY_COMPARISON = [
    "{{ messages[0].items }}",
    "{{ messages[0]['items'] }}",
    "{{ range(3).start }}",
    "{{ range(3)['start'] }}",
    "{{ 'a'.format }}",
]


def spec_of(live, source):
    backend = live.backend_tokenizer.to_str()
    return TokenizerSpec("x", "", backend, source, live.special_tokens_map)


def ours(live, source):
    """Ids, or the message of the refusal."""
    try:
        encoder = _core.ChatEncoder(spec_of(live, source), loss_on="all")
        return encode_chat(encoder, CHAT)["input_ids"]
    except ZephyrDataError as error:
        return str(error)


def theirs(live, source):
    """Ids, or None where the sandbox ends it."""
    try:
        return live.apply_chat_template(CHAT, chat_template=source)["input_ids"]
    except Exception:
        return None


@pytest.mark.parametrize("source", TRICKS)
def test_tricks_are_refused_or_equal(source, live_tokenizer):
    mine = ours(live_tokenizer, source)
    if isinstance(mine, str):
        message, hint = mine.split("\n")
        assert message.startswith("cannot apply the chat template: it ")
        assert hint.startswith("hint: ")
    else:
        assert mine == theirs(live_tokenizer, source)


@pytest.mark.parametrize("name", ["__class__", "upper"])
@pytest.mark.parametrize("form", ["{{ ''.%s }}", "{{ ''['%s'] }}", "{{ ''.%s is defined }}"])
def test_the_message_names_the_trick(form, name, live_tokenizer):
    assert ours(live_tokenizer, form % name) == (
        f"cannot apply the chat template: it uses `{name}`, which is not the same here as in Python\n"
        "hint: write the template without it; a method needs its parentheses"
    )


def test_what_templates_do_with_usual_names_is_equal(live_tokenizer):
    for source in [
        "{{ 'ab'['nothing'] is defined }}{{ 'ab'[-1] }}{{ messages[0].get('x', 'no') }}",
        "{% set n = namespace(index=1) %}{% set n.items = 2 %}{{ n.index + n.items }}{{ dict(a=1)['a'] }}",
        "{% for m in messages %}{{ loop['index'] }}{{ m.content.upper() }}{% endfor %}{{ 'role' in messages[0] }}",
    ]:
        mine = ours(live_tokenizer, source)
        assert mine == theirs(live_tokenizer, source)
        assert isinstance(mine, list)


@pytest.mark.parametrize("source", ONLY_FOUND_BY_COMPARISON)
def test_the_rest_is_found_before_a_run(source, live_tokenizer, monkeypatch):
    monkeypatch.setattr(live_tokenizer, "chat_template", source)
    spec = spec_of(live_tokenizer, source)
    encoder = _core.ChatEncoder(spec, loss_on="all")
    loaded = LoadedTokenizer(spec=spec, live=live_tokenizer)
    with pytest.raises(ConfigError) as caught:
        check_ids(loaded, encoder, PROBES, literal_specials=False, masks=False)
    assert "\nhint: " in str(caught.value)
