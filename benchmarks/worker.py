"""The child: calls the functions of `benchmarks` that it is asked for; what they return are its answers.

`python -m benchmarks.worker` reads lines of JSON from stdin, `{"function": "module.function", ...arguments}`, and
answers each with one on stdout; whatever a library prints goes to stderr. A failure ends the process with a traceback
there, which the parent quotes.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any


def main() -> None:
    """Serve until stdin ends."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        module, _, function = asked.pop("function").rpartition(".")
        answer = getattr(importlib.import_module(f"benchmarks.{module}"), function)(**asked)
        replies.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
