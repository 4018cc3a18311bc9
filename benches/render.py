"""How long chats take through each chat template that trl ships: CPU seconds of one thread, the best of three.

Only templates that are not formatted natively: what is measured is the engine and the bounds put around it. The hash of the
texts shows whether two runs printed the same.

Run: python benches/render.py [--chats N] [--out FILE]
"""

import argparse
import hashlib
import importlib.util
import json
import os
import sys
import time
from pathlib import Path

import pyarrow as pa
from figures import environment, writer

from zephyr_data import ZephyrDataError, _core
from zephyr_data.config import Config
from zephyr_data.tokenizer import TokenizerSpec

FILE = "chats_multi_turn_train.jsonl.zst"
# Rendering needs no tokenizer.
BACKEND = json.dumps({"model": {"type": "WordLevel", "vocab": {"<unk>": 0}, "unk_token": "<unk>"}})
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


def shared_folder() -> Path:
    default = Path(__file__).parents[2] / "shared" / "data"
    return Path(os.environ.get("ZEPHYR_DATA_SHARED", default))


def chats_of(path: Path, count: int) -> pa.Table:
    lines = pa.input_stream(path, compression="zstd").read().splitlines()[:count]
    keep = ("role", "content")
    messages = [
        [{name: turn[name] for name in keep} for turn in json.loads(line)["messages"]]
        for line in lines
    ]
    return pa.table({"messages": messages})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--chats", type=int, default=8000, metavar="N")
    parser.add_argument("--out", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    path = shared_folder() / FILE
    trl = importlib.util.find_spec("trl")
    if not path.exists() or trl is None or trl.origin is None:
        sys.exit(f"no real data: `{shared_folder()}` (set ZEPHYR_DATA_SHARED), or no trl")
    say = writer(arguments.out)
    say(environment("render.py", ("trl", "zephyr-data")))
    chats = chats_of(path, arguments.chats)
    read = Config.load(None, {"read.kind": "chat"}).read
    total = 0.0
    for template in sorted(Path(trl.origin).parent.glob("chat_templates/*.jinja")):
        source = template.read_text(encoding="utf-8")
        if _core.ChatEncoder.is_native(source, SPECIAL):
            continue
        encoder = _core.ChatEncoder(TokenizerSpec("", "", BACKEND, source, SPECIAL), loss_on="all")
        seconds = []
        try:
            for _ in range(3):
                start = time.process_time()
                texts = pa.table(_core.render_rows(chats, read, encoder, False, 1))["text"]
                seconds.append(time.process_time() - start)
        except ZephyrDataError as error:
            say({"template": template.stem, "refused": str(error).splitlines()[0]})
            continue
        digest = hashlib.sha256("\0".join(texts.to_pylist()).encode()).hexdigest()[:16]
        total += min(seconds)
        say({"template": template.stem, "cpu_s": round(min(seconds), 3), "texts": digest})
    say({"all": round(total, 2)})


if __name__ == "__main__":
    main()
