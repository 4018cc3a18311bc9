"""The environment that templates are tried in is transformers': the same text, or both fail."""

import pytest

from zephyr_data.sandbox import environment, render

CHAT = [{"role": "user", "content": "Hi <é>"}, {"role": "assistant", "content": "Yes\n"}]
SPECIAL = {"eos_token": "</s>"}
SOURCES = [
    "{{ messages | tojson }}{{ messages | tojson(true) }}{{ [1] | tojson(false, 2) }}{{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}",
    "{{ [1, 2] | tojson(separators=(',', ':')) }}{{ [1] | tojson(indent='ab') }}",
    "{{ messages | tojson(default=1) }}",
    "{{ namespace | tojson }}",
    "{% set n = namespace({'a': 1}, b=2, self=3) %}{{ n.a + n.b + n.self }}{% set n.c = 4 %}{{ n.c }}",
    "{% set n = namespace([('a', 1)]) %}{{ n.a }}",
    "{{ namespace(_x=1) }}",
    "{% set n = namespace() %}{% set n._x = 1 %}",
    "{% set n = namespace() %}{{ n.x is defined }}{{ n['_x'] is defined }}",
    "{{ dict(a=1, self=2).self }}{{ dict({'a': 1}).a }}{{ dict.fromkeys(['a', 'b'], 1)['b'] }}{{ dict([(1, 2)])[1] }}",
    "{{ dict.update }}{{ dict is callable }}{{ dict.__call__ }}",
    "{{ raise_exception('no') }}",
    "{{ raise_exception() }}",
    "{{ strftime_now('%Y') }}{{ strftime_now is defined }}",
    "{{ strftime_now() }}",
    "{{ [7] | random }}{{ lipsum(n=1, min=1, max=2) is string }}",
    "{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
    "a {%- generation -%} \n{{ messages[1].content }} {% endgeneration %}\n b{{ eos_token }}\n\n",
    "{% generation %}{% set x = 1 %}{% endgeneration %}{{ x }}",
    "  {% if tools is none and documents is none and not add_generation_prompt %}\n x\n  {% endif %}\n",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({'role': 'x'}) }}",
    "{{ ''.__class__ }}",
    "{{ '<' | e }}{{ '<' }}",
    "{% trans %}x{% endtrans %}",
]


def outcome(call, *arguments, **options):
    try:
        return call(*arguments, **options)
    except Exception:
        return None


def ours(source, **options):
    return render(environment(lambda: None).from_string(source), CHAT, SPECIAL, **options)


@pytest.mark.usefixtures("transformers")
@pytest.mark.parametrize("source", SOURCES)
def test_texts_are_those_of_transformers(source):
    from transformers.utils.chat_template_utils import render_jinja_template

    def theirs(**options):
        return render_jinja_template([CHAT], chat_template=source, **SPECIAL, **options)[0][0]

    text = outcome(theirs)
    assert outcome(ours, source) == outcome(ours, source, marked=True) == text
    assert outcome(theirs, return_assistant_tokens_mask=True) == text
    prompted = outcome(theirs, add_generation_prompt=True)
    assert outcome(ours, source, add_generation_prompt=True) == prompted


def test_clock_and_chance_are_told():
    told = []
    env = environment(lambda: told.append(True))
    for source in ["{{ strftime_now('%Y') }}", "{{ [7] | random }}", "{{ lipsum() }}"]:
        env.from_string(source).render()
    assert len(told) == 3
    env.from_string("{{ strftime_now is defined }}{{ lipsum is callable }}").render()
    assert len(told) == 3
