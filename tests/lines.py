"""Files of JSON, an object a line."""

import json
from pathlib import Path
from typing import Any


def lines(path: Path) -> list[dict[str, Any]]:
    """What a file's lines hold."""
    return [json.loads(line) for line in path.read_text().splitlines()]
