"""Chat templates in the manner of the families people use: texts, ids and masks equal transformers', chat by chat.

Each template says which chats it refuses, and which the engine refuses though transformers takes them. Every other chat has to
come out equal; a refusal that is not listed fails, and so does a listed one that does not come.
"""

from dataclasses import dataclass

import pytest
from jinja2 import TemplateError

from zephyr_data import DataError, Encoder, _core, render
from zephyr_data.errors import ZephyrDataError
from zephyr_data.tokenizer import TokenizerSpec, encode_chat


def turns(*pairs):
    return [{"role": role, "content": content} for role, content in pairs]


def exchange(question, answer):
    return turns(("user", question), ("assistant", answer))


SYSTEM = turns(("system", "Be brief."))
CHATS = {
    "plain": exchange("Hi", "Hello! How can I help?"),
    "system": SYSTEM + exchange("Why?", "Because."),
    "empty system": turns(("system", "")) + exchange("Why?", "Because."),
    "padded system": turns(("system", " \n Be brief.\n\n")) + exchange("Why?", "Because."),
    "five exchanges": [m for n in range(5) for m in exchange(f"{n}+{n}?", f"It is {2 * n}.")],
    "system, twenty exchanges": SYSTEM
    + [m for n in range(20) for m in exchange(f"{n}?", f"{n}!\n")],
    "no answer yet": turns(("user", "Are you there?")),
    "system, no answer yet": [*SYSTEM, *turns(("user", "Are you there?"))],
    "unicode": exchange("👍🏽 你好,世界! Cafe\u0301 ﬁ", "안녕 🇯🇵 שלום ½ ²\u200b\ufeff"),
    "empty contents": exchange("", ""),
    "blank contents": exchange(" ", "\n"),
    "leading white space": exchange("  hi", "\n\n  - one\n  - two"),
    "trailing white space": exchange("hi \t", "yes \n\n") + exchange("ok\r\n", "\u00a0"),
    "white space of Unicode": exchange("\u2028a\u3000", "\x1c\x85b\x1f\u2003"),
    "jinja": exchange("{{ y }} {% if z %}", "{# no #} {%- raw %}{{ messages }} \\n 'q' \"r\""),
    "texts of special tokens": exchange("What is </s> or <s>?", "<|user|> <pad></s>x"),
    "words of templates": exchange(
        "[INST] <<SYS>> <|im_end|> ### Response:", "<think>a</think>\n\nb</think> c [/INST] USER:"
    ),
    "HTML": exchange("<b>&amp;</b> 'x' \"y\"", "a < b && c > d\u2028\x7f\x00"),
    "two questions": turns(("user", "One?"), ("user", "Two?"), ("assistant", "Three.")),
    "answer first": turns(("assistant", "Welcome."), ("user", "Thanks."), ("assistant", "Sure.")),
    "late system": exchange("One?", "Two.") + SYSTEM + exchange("Three?", "Four."),
    "system only": SYSTEM,
}
# Chats in which user and assistant do not take turns, if a system message counts as none.
DISORDER = {"two questions", "answer first", "late system"}
NOT_FIRST_A_USER = {"answer first", "system only"}
WITH_SYSTEM = {name for name, chat in CHATS.items() if any(m["role"] == "system" for m in chat)}


@dataclass(frozen=True)
class Family:
    """A template and what is expected of it.

    Attributes:
        source: Jinja.
        refuses: Chats that the template refuses by `raise_exception`, or fails on, in transformers and here.
        beyond: Chats that transformers takes and the engine refuses, with a reason and a way out.
        reason: What the message says then.
        tagged: Whether `{% generation %}` marks what the assistant says; then masks are compared, too.
    """

    source: str
    refuses: frozenset[str] | set[str] = frozenset()
    beyond: frozenset[str] | set[str] = frozenset()
    reason: str = ""
    tagged: bool = False


FAMILIES = {
    "ChatML with a system message of its own": Family(
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are a careful helper.<|im_end|>\n' }}{% endif %}"
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "Llama-2": Family(
        "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}"
        "{% set system_message = messages[0]['content'] %}"
        "{% else %}{% set rest = messages %}{% set system_message = false %}{% endif %}"
        "{% if rest | length == 0 %}{{ raise_exception('A question is missing') }}{% endif %}"
        "{% for message in rest %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Roles must alternate: ' ~ loop.index0) }}{% endif %}"
        "{% if loop.index0 == 0 and system_message != false %}"
        "{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}"
        "{% else %}{% set content = message['content'] %}{% endif %}"
        "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}"
        "{% endfor %}",
        refuses=DISORDER | NOT_FIRST_A_USER,
    ),
    "Llama-3 headers": Family(
        "{% set loop_messages = messages %}{% for message in loop_messages %}"
        "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim"
        " + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
        "{{ content }}{% endfor %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' if add_generation_prompt }}"
    ),
    "Llama-3 with a system block and a date of its own": Family(
        "{{- bos_token }}\n"
        "{%- if not date_string is defined %}\n    {%- set date_string = '26 Jul 2024' %}\n{%- endif %}\n"
        "{%- if messages[0]['role'] == 'system' %}\n"
        "    {%- set system_message = messages[0]['content'] | trim %}\n    {%- set messages = messages[1:] %}\n"
        "{%- else %}\n    {%- set system_message = '' %}\n{%- endif %}\n"
        "{{- '<|start_header_id|>system<|end_header_id|>\n\n' }}\n"
        "{%- if tools is not none %}\n    {{- 'Environment: ipython\n' }}\n{%- endif %}\n"
        "{{- 'Today Date: ' + date_string + '\n\n' }}\n{{- system_message }}\n{{- '<|eot_id|>' }}\n"
        "{%- for message in messages %}\n"
        "    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}\n"
        "        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
        " + message['content'] | trim + '<|eot_id|>' }}\n"
        "    {%- endif %}\n{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}\n{%- endif %}\n"
    ),
    "Gemma": Family(
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{% for message in messages %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
        "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}"
        "{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
        refuses=WITH_SYSTEM | DISORDER,
    ),
    "Mistral v0.3": Family(
        '{%- if messages[0]["role"] == "system" %}\n    {%- set system_message = messages[0]["content"] %}\n'
        "    {%- set loop_messages = messages[1:] %}\n{%- else %}\n    {%- set loop_messages = messages %}\n{%- endif %}\n"
        '{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}\n'
        "{%- set ns = namespace() %}\n{%- set ns.index = 0 %}\n"
        "{%- for message in loop_messages %}\n"
        '    {%- if not (message.role == "tool" or (message.tool_calls is defined)) %}\n'
        '        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}\n'
        '            {{- raise_exception("After the optional system message, roles must alternate") }}\n'
        "        {%- endif %}\n        {%- set ns.index = ns.index + 1 %}\n    {%- endif %}\n{%- endfor %}\n"
        "{{- bos_token }}\n"
        '{%- for message in loop_messages %}\n    {%- if message["role"] == "user" %}\n'
        "        {%- if loop.last and system_message is defined %}\n"
        '            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}\n'
        '        {%- else %}\n            {{- "[INST] " + message["content"] + "[/INST]" }}\n        {%- endif %}\n'
        '    {%- elif message["role"] == "assistant" %}\n'
        '        {{- " " + message["content"] | trim + eos_token }}\n'
        '    {%- else %}\n        {{- raise_exception("Only user and assistant roles are supported") }}\n'
        "    {%- endif %}\n{%- endfor %}\n",
        refuses=DISORDER,
    ),
    "Phi-3": Family(
        "{{ bos_token }}{% for message in messages %}{% if message['role'] in ['user', 'system'] %}"
        "{{ '<|' ~ message['role'] ~ '|>\n' ~ message['content'] ~ '<|end|>\n' }}"
        "{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
    ),
    "DeepSeek": Family(
        "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
        "{% set ns = namespace(is_first=false, system_prompt='', answers=0) %}"
        "{%- for message in messages %}{%- if message['role'] == 'system' %}"
        "{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}"
        "{{bos_token}}{{ns.system_prompt}}"
        "{%- for message in messages %}{%- if message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}"
        "{%- elif message['role'] == 'assistant' and message['content'] is not none %}"
        "{% set content = message['content'] %}{% if '</think>' in content %}"
        "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
        "{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{% set ns.answers = ns.answers + 1 %}"
        "{%- endif %}{%- endfor -%}{{ ns.answers }}{% if add_generation_prompt %}{{'<｜Assistant｜>'}}{% endif %}"
    ),
    "Alpaca": Family(
        "{% macro block(title, text) %}### {{ title }}:\n{{ text }}\n\n{% endmacro %}\n"
        "{% if messages[0].role == 'system' %}\n{{ messages[0].content }}\n\n{% else %}\n"
        "Below is an instruction that describes a task.\n\n{% endif %}\n"
        "{% for message in messages if message.role != 'system' %}\n"
        "{{ block('Instruction' if message.role == 'user' else 'Response', message.content) }}\n"
        "{% else %}\n(nothing was asked)\n{% endfor %}\n"
        "{% if add_generation_prompt %}### Response:\n{% endif %}{{ eos_token }}\n\n"
    ),
    "Vicuna": Family(
        "{%- set seps = [' ', eos_token] -%}\n"
        "{% if messages[0]['role'] == 'system' -%}{{ messages[0]['content'].rstrip() ~ seps[0] }}\n"
        "{%- set messages = messages[1:] %}{%- else -%}\n"
        "A chat between a curious user and an artificial intelligence assistant.{{ ' ' -}}\n{%- endif %}"
        "{%- for m in messages -%}\n"
        "{{ {'user': 'USER', 'assistant': 'ASSISTANT'}.get(m.role, m.role | upper) }}: {{ m['content'] -}}\n"
        "{{- seps[loop.index0 % 2] -}}\n{%- endfor -%}\n"
        "{%- if add_generation_prompt %}ASSISTANT:{% endif -%}\n"
    ),
    "ChatML with generation tags": Family(
        "{%- for message in messages %}\n    {%- if message.role == 'assistant' %}\n"
        "        {{- '<|im_start|>assistant\n' }}\n"
        "        {%- generation %}\n        {{- message.content + '<|im_end|>' }}\n        {%- endgeneration %}\n"
        "        {{- '\n' }}\n    {%- else %}\n"
        "        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}\n"
        "    {%- endif %}\n{%- endfor %}",
        tagged=True,
    ),
    "generation tags on lines of their own, the last answer alone": Family(
        "{% macro says(m) %}\n<|{{ m.role }}|>\n{{ m.content | trim }}{{ eos_token }}\n{% endmacro %}\n"
        "{% set n = namespace(last=-1) %}\n"
        "{% for m in messages %}{% if m.role == 'assistant' %}{% set n.last = loop.index0 %}{% endif %}{% endfor %}\n"
        "{% for m in messages %}\n  {% if loop.index0 == n.last %}\n    {% generation %}\n{{ says(m) }}"
        "    {% endgeneration %}\n  {% else %}\n{{ says(m) }}  {% endif %}\n{% endfor %}\n",
        tagged=True,
    ),
    "Qwen-3 with its thoughts cut, tagged": Family(
        "{%- set ns = namespace(last_query_index=messages | length - 1, search=true) %}\n"
        "{%- for message in messages[::-1] %}\n    {%- set index = messages | length - 1 - loop.index0 %}\n"
        "    {%- if ns.search and message.role == 'user' and not (message.content.startswith('<tool_response>')"
        " and message.content.endswith('</tool_response>')) %}\n"
        "        {%- set ns.search = false %}\n        {%- set ns.last_query_index = index %}\n    {%- endif %}\n"
        "{%- endfor %}\n"
        "{%- for message in messages %}\n    {%- if message.content is string %}\n"
        "        {%- set content = message.content %}\n    {%- else %}\n        {%- set content = '' %}\n    {%- endif %}\n"
        "    {%- if message.role != 'assistant' %}\n"
        "        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}\n    {%- else %}\n"
        "        {%- set thought = '' %}\n        {%- if '</think>' in content %}\n"
        "            {%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}\n"
        "            {%- set content = content.split('</think>')[-1].lstrip('\n') %}\n        {%- endif %}\n"
        "        {{- '<|im_start|>assistant\n' }}\n        {%- generation %}\n"
        "        {%- if loop.index0 > ns.last_query_index and (loop.last or thought) %}\n"
        "            {{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}\n"
        "        {%- else %}\n            {{- content }}\n        {%- endif %}\n"
        "        {{- '<|im_end|>' }}\n        {%- endgeneration %}\n        {{- '\n' }}\n"
        "    {%- endif %}\n{%- endfor %}\n",
        tagged=True,
    ),
    "JSON lines": Family(
        "{% for message in messages %}{{ message | tojson }}\n\n{{ {'turn': loop.index, 'of': loop.length, 'last': loop.last,"
        " 'text': message.content} | tojson(indent=2) }}{% endfor %}{{ messages | tojson(ensure_ascii=true) }}"
    ),
    "set blocks and filters": Family(
        "{% set head %}\n== {{ messages | length }} turns by {{ messages | map(attribute='role') | unique | join(', ') }} ==\n"
        "{% endset %}\n{{ head | upper | replace('TURNS', 'turns') }}"
        "{% for role in messages | map(attribute='role') | list | unique | sort %}{{ role | capitalize }};{% endfor %}\n"
        "{% for m in messages | rejectattr('role', 'eq', 'system') %}"
        "{{ m.content | default('nothing', true) }}|{{ m.content | length }}|{{ (m.content ~ '.') | first }}|"
        "{{ m.content[:3] }}|{{ m.content[-2:] }}|{{ m.content.split('\n')[0] }}{{ '/' if not loop.last else eos_token }}"
        "{% endfor %}{{ (messages | last).role }}"
    ),
    "loops that break off and look around": Family(
        "⟦début⟧ {# no output 🙂 #}{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}"
        "{% if loop.index > 7 %}{{ '…' * 3 }}{% break %}{% endif %}"
        "{% if loop.previtem is defined and loop.previtem.role == m.role %}«encore»{% endif %}"
        "{{ loop.revindex0 }}·{{ loop.cycle('α', 'β') }}·{{ m.role }}→{{ m.content }}"
        "{% if loop.nextitem is defined %}↵\n{% else %}∎{% endif %}{% endfor %}"
        "{% raw %}{{ not a variable }}{% endraw %}  {{- ' ' }}«ﬁn»\n"
    ),
    "conditions on one line, and what is undefined": Family(
        "{%- for m in messages -%}   {{ m.name if m.name is defined else m.role }}{{ ' (' ~ m.nothing ~ ')' }}"
        "{{ m['tool_calls'] }}{% if m.get('reasoning_content') %}!{% endif %}: {{ m.content or '(empty)' }}   {%- if not"
        " loop.last %}   {{ pad_token }}{% endif %}   {% endfor %}{{ nowhere }}{{ 7 // 2 }}{{ 2 ** 5 }}{{ -7 % 3 }}{{ none }}"
    ),
    "a fraction, which is not printed as Python prints it": Family(
        "{% for m in messages %}{{ m.content }}{% endfor %}{{ messages | length / 2 }}",
        beyond=set(CHATS),
        reason="a number printed as text is not supported here with Python's exact behaviour",
    ),
    "a list, printed only where a turn is empty": Family(
        "{% for m in messages %}{{ m.content if m.content else [m.role] }}{% endfor %}",
        beyond={"empty system", "empty contents"},
        reason="a sequence printed as text is not supported here with Python's exact behaviour",
    ),
    "a filter that is not taken on, with a condition before it": Family(
        "{% for m in messages %}{{ m.content | wordwrap(9) if m.content | length > 24 else m.content }}{{ eos_token }}{% endfor %}",
        beyond={name for name, chat in CHATS.items() if any(len(m["content"]) > 24 for m in chat)},
        reason="filter wordwrap is unknown",
    ),
}


@pytest.fixture(scope="module", params=["bundled", "mistral-v1"])
def live(request, examples, transformers):
    """transformers' tokenizer, byte-level or SentencePiece-style."""
    folder = examples / "tokenizer"
    if request.param == "mistral-v1":
        folder = request.getfixturevalue("shared") / "tokenizers" / "mistral-v1"
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def family(request, live):
    """A family, with the tokenizer's special tokens and definition as the extension takes them."""
    chosen = FAMILIES[request.param]
    backend, special = live.backend_tokenizer.to_str(), live.special_tokens_map
    return chosen, TokenizerSpec("x", "", backend, chosen.source, special)


each_family = pytest.mark.parametrize("family", FAMILIES, indirect=True)


def taken(family):
    """The chats that have to come out equal."""
    return [chat for name, chat in CHATS.items() if name not in family.refuses | family.beyond]


@each_family
@pytest.mark.parametrize("prompt", [False, True], ids=["", "with the prompt"])
def test_texts_equal_transformers(family, live, prompt):
    family, spec = family
    encoder = Encoder(spec)
    chats = taken(family)
    texts = render(chats, encoder, add_generation_prompt=prompt).to_pylist() if chats else []
    for chat, text in zip(chats, texts, strict=True):
        assert text == live.apply_chat_template(
            chat, chat_template=family.source, tokenize=False, add_generation_prompt=prompt
        )


@each_family
def test_ids_and_masks_equal_transformers(family, live):
    family, spec = family
    loss_on = "assistant" if family.tagged else "all"
    encoder = _core.ChatEncoder(spec, loss_on=loss_on, allow_special_in_content=True)
    for chat in taken(family):
        theirs = live.apply_chat_template(
            chat,
            chat_template=family.source,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=family.tagged,
        )
        mine = encode_chat(encoder, chat)
        assert mine["input_ids"] == theirs["input_ids"], chat
        if family.tagged:
            assert mine["assistant_masks"] == theirs["assistant_masks"], chat
            assert any(mine["assistant_masks"]) == any(m["role"] == "assistant" for m in chat)


@each_family
def test_refusals_are_those_that_are_listed(family, live):
    family, spec = family
    encoder = Encoder(spec)
    for name in sorted(family.refuses | family.beyond):
        chat, reason = CHATS[name], family.reason
        if name in family.refuses:
            with pytest.raises(TemplateError) as theirs:
                live.apply_chat_template(chat, chat_template=family.source, tokenize=False)
            reason = f"it refuses this chat: {theirs.value}"
        else:
            live.apply_chat_template(chat, chat_template=family.source, tokenize=False)
        with pytest.raises(DataError) as caught:
            render([chat], encoder)
        assert str(caught.value).startswith("the chat template refuses the chat: ")
        assert reason in str(caught.value), name
        assert "\nhint: drop such chats, or give a template that " in str(caught.value)
        with pytest.raises(ZephyrDataError) as caught:
            encode_chat(encoder.core, chat)
        assert reason in str(caught.value), name
        assert "\nhint: drop such chats, or give a template that " in str(caught.value)


def test_special_texts_that_cannot_be_found_again_are_refused_with_the_way_out(live):
    source, chat = FAMILIES["JSON lines"].source, CHATS["texts of special tokens"]
    spec = TokenizerSpec("x", "", live.backend_tokenizer.to_str(), source, live.special_tokens_map)
    with pytest.raises(ZephyrDataError) as caught:
        encode_chat(_core.ChatEncoder(spec, loss_on="all"), chat)
    assert str(caught.value) == (
        "cannot apply the chat template: cannot tell special tokens of the template from their texts in messages: it changes"
        " the contents of messages, so that they cannot be found in what it prints\n"
        "hint: drop chats with such texts, or set `allow_special_in_content`, which makes them special tokens"
    )
