"""The chat templates that trl ships: ids equal transformers', or an error with a reason; never a third thing."""

import importlib.util
from pathlib import Path

import pytest

from zephyr_data import _core
from zephyr_data.errors import ZephyrDataError
from zephyr_data.tokenizer import PROBES, TokenizerSpec, encode_chat

_TRL = importlib.util.find_spec("trl")
FOLDER = Path(_TRL.origin).parent / "chat_templates" if _TRL and _TRL.origin else Path("none")
TEMPLATES = sorted(FOLDER.glob("*.jinja"))
LONG = [
    {"role": role, "content": f"{role} {turn} hello"}
    for turn in range(50)
    for role in ("user", "assistant")
]
CHATS = [*PROBES, ("long", LONG)]
DATE = "cannot apply the chat template: it prints today's date, so that the same chats would give other tokens tomorrow"


def ours(encoder, chat):
    """Ids, or the message of the error."""
    try:
        return encode_chat(encoder, chat)["input_ids"]
    except ZephyrDataError as error:
        return str(error)


def theirs(live, chat, source):
    """Ids, or None where the template refuses the chat."""
    try:
        return live.apply_chat_template(
            chat, chat_template=source, tokenize=True, return_dict=True
        )["input_ids"]
    except Exception:
        return None


@pytest.mark.skipif(not TEMPLATES, reason="trl is not installed")
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_ids_equal_transformers_or_there_is_a_reason(path, live_tokenizer):
    source = path.read_text(encoding="utf-8")
    special = {
        key: text
        for key, text in live_tokenizer.special_tokens_map.items()
        if isinstance(text, str)
    }
    backend = live_tokenizer.backend_tokenizer.to_str()
    spec = TokenizerSpec("x", "", backend, source, special)
    encoder = _core.ChatEncoder(spec, loss_on="all", allow_special_in_content=True)
    equal = 0
    for name, chat in CHATS:
        mine, wanted = ours(encoder, chat), theirs(live_tokenizer, chat, source)
        if isinstance(mine, str):
            assert "\nhint: " in mine
            # What transformers takes is refused for one reason only.
            assert wanted is None or mine.startswith(DATE + "\nhint: "), (name, mine)
            if wanted is not None:
                assert "strftime_now" in source
        else:
            assert mine == wanted, name
            equal += 1
    assert equal or "strftime_now" in source
