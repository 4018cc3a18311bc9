"""Runs feedback commands in forked children, so that a test can kill many of them without paying for imports each time.

Reads one JSON list of arguments a line; answers `pid N`, then `exit N` when the child has ended.
"""

import json
import os
import sys

import aiohttp  # noqa: F401
import httpx2  # noqa: F401
import openai
import polars  # noqa: F401 # imported only: its threads start at the first query, in the children
import pyarrow.parquet  # noqa: F401

from zephyr_data.feedback import client, complete, judge, options, prompts, status, store, tables  # noqa: F401
from zephyr_data.feedback.cli import app

openai.AsyncOpenAI  # noqa: B018 # loads what the package loads lazily
client.tls_context()


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            sys.stdout = sys.stderr  # the protocol has standard output for itself
            code = app(json.loads(line), standalone_mode=False) or 0
        finally:
            os._exit(code)
    say(f"pid {pid}")
    _, status_word = os.waitpid(pid, 0)
    say(f"exit {os.waitstatus_to_exitcode(status_word)}")
