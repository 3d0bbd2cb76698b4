"""Characters as classes of tasks, and their names for readers."""

import re
from collections.abc import Sequence

from fanfold.data.source import ClassName
from fanfold.tasks.episodes import Episodes

Character = tuple[int, int, bool]  # class, rotation in quarters, whether mirrored: each a class of its own


def characters(episodes: Episodes) -> list[list[Character]]:
    """The characters of each task."""
    parts = (episodes.classes, episodes.rotations, episodes.reflections)
    return [
        [(one, quarters, mirrored) for one, quarters, mirrored in zip(*of_task, strict=True)]
        for of_task in zip(*(part.tolist() for part in parts), strict=True)
    ]


def label(character: Character, names: Sequence[ClassName], longest: int | None = None) -> str:
    """A character in words, such as "Tibetan 7, rotated by 90°"; an alphabet longer than `longest` is shortened."""
    number, quarters, mirrored = character
    name = names[number]
    rotated = f", rotated by {90 * quarters}°" if quarters else ""
    called = _beside(name.group, in_print(name.name).removeprefix("character "))
    return f"{in_print(name.group, longest)} {called}{', mirrored' if mirrored else ''}{rotated}"


def in_print(name: str, longest: int | None = None) -> str:
    """The name of an alphabet or a character for readers: "character 7" for "character07"."""
    plain = re.sub(r"(?<=[a-z])0*(?=\d)", " ", name.replace("_", " "))
    return plain if longest is None or len(plain) <= longest else f"{plain[: longest - 1]}…"


def _beside(alphabet: str, character: str) -> str:
    """A Unicode name without its alphabet's words, "U+03B1 small letter alpha"; other names as they are."""
    code, *words = character.split(" ")
    if not code.startswith("U+"):
        return character
    return " ".join([code, *(word.lower() for word in words if word not in alphabet.upper().split())])
