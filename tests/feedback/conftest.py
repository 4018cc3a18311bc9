"""What the feedback tests share: a misbehaving endpoint, model files, the command line in this process."""

import importlib.util
import json
import os
import threading
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from zephyr_data.errors import ZephyrDataError

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def load_server_module():
    spec = importlib.util.spec_from_file_location("endpoint_server", HERE / "endpoint_server.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def server():
    """The endpoint of `endpoint_server.py`, on a free port."""
    endpoint = load_server_module().EndpointServer()
    thread = threading.Thread(
        target=endpoint.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    yield endpoint
    endpoint.shutdown()
    endpoint.server_close()
    thread.join()


@pytest.fixture
def model_options(server):
    """Options of one model on the test server; quick to retry."""

    def make(name="small", **changes):
        return {
            "name": name,
            "base_url": server.base_url,
            "model": name,
            "backoff_s": 0.01,
            "max_backoff_s": 0.05,
            "sampling": {"max_tokens": 64},
            **changes,
        }

    return make


@pytest.fixture
def write_yaml(tmp_path):
    def write(name, data):
        path = tmp_path / name
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
        return path

    return write


@pytest.fixture
def write_jsonl(tmp_path):
    def write(name, rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def feedback():
    """Runs `zephyr-data feedback …` in this process; returns its standard output."""
    from zephyr_data.feedback.cli import app

    return lambda *arguments: invoke(app, arguments)


@pytest.fixture
def evaluate():
    """Runs `zephyr-data evaluate …` in this process; returns its standard output."""
    from zephyr_data.evaluate.cli import app

    return lambda *arguments: invoke(app, arguments)


def invoke(app, arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if isinstance(result.exception, ZephyrDataError | OSError):
        raise result.exception
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.stdout


@pytest.fixture(scope="session")
def shared():
    """A function that finds a file of real data that is not part of the repository, or skips."""
    folder = Path(os.environ.get("ZEPHYR_DATA_SHARED", ROOT.parent / "shared" / "data"))

    def find(name):
        path = folder / name
        if not path.exists():
            pytest.skip(f"needs {name} in the folder that ZEPHYR_DATA_SHARED names")
        return path

    return find
