"""The fixtures of the feedback tests serve here too."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "feedback_conftest", Path(__file__).parents[1] / "feedback" / "conftest.py"
)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

server = _module.server
model_options = _module.model_options
write_yaml = _module.write_yaml
write_jsonl = _module.write_jsonl
feedback = _module.feedback
evaluate = _module.evaluate
shared = _module.shared
