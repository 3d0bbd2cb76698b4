"""Ways to spoil bytes, plain values and names, drawn by a seed."""

import json
from typing import Any, TypeVar

import numpy as np

Random = np.random.Generator
Drawn = TypeVar("Drawn")

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 7, 300, 2**31, 2**70, -0.0, 0.5, 1e308, float("inf"), float("nan"), 10**400),
    *(
        "",
        "a",
        "0",
        "1e999",
        "\x1b[31m",
        "a\nb",
        "x" * 5000,
        "ü\u202e",
        "../..",
        "/etc/passwd",
        "a\0b",
        "null",
        "\ud800",
    ),
    *([], [1], {}, {"a": {}}, [[]] * 9, ["a", "a"], [None]),
)
NAMES = (
    *("a" * 300, "a/" * 3000, "a\0b", "\0", "\ud800", "\udcff", "\x1b]0;x\x07", "a\nb", "\u202eabc", "~nobody/x"),
    *("/dev/null", "/dev/null/x", "/proc/self/mem", "-", "--", "nowhere/" * 20, "x:y", "s3://", "file://", " "),
)
"""Names of files that no file has, or that are files of no use."""


def choice(random: Random, options: "tuple[Drawn, ...] | list[Drawn]") -> Drawn:
    """One of some options."""
    return options[int(random.integers(len(options)))]


def damaged(content: bytes, random: Random) -> bytes:
    """Bytes cut, flipped, replaced, repeated or added to, by one to three changes."""
    found = bytearray(content)
    for _ in range(random.integers(1, 4)):
        start = int(random.integers(len(found) + 1))
        length = int(random.integers(1, 9))
        match int(random.integers(7)):
            case 0:
                del found[start:]
            case 1 | 2 if start < len(found):
                found[start] ^= 1 << int(random.integers(8))
            case 3:
                found[start : start + length] = random.bytes(length)
            case 4:
                found[start:start] = found[start : start + 10 * length]
            case 5:
                found[start : start + length] = bytes([choice(random, (0, 0x7F, 0xFF))]) * length
            case _:
                del found[start : start + length]
    return bytes(found)


def odd(value: Any, random: Random) -> Any:
    """A plain value with one of its parts replaced, removed or named otherwise."""
    if not isinstance(value, (dict, list)) or not value or random.random() < 0.1:
        return choice(random, ODD)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = choice(random, keys)
    changed: Any = dict(value) if isinstance(value, dict) else list(value)
    if random.random() < 0.15:
        del changed[key]
    elif random.random() < 0.1 and isinstance(changed, list):
        changed.append(changed[key])
    elif isinstance(changed, dict) and random.random() < 0.1:
        changed[str(choice(random, ODD))[:50]] = changed.pop(key)
    else:
        changed[key] = odd(value[key], random)
    return changed


def spoiled_json(value: Any, random: Random) -> bytes:
    """A plain value as JSON: with an odd part, or with damaged bytes."""
    if random.random() < 0.7:
        return json.dumps(odd(value, random)).encode()
    return damaged(json.dumps(value).encode(), random)
