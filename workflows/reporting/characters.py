"""Characters as classes of tasks, and their names as people write them."""

import re
from collections.abc import Sequence

from fanfold.data.source import ClassName
from fanfold.tasks.episodes import Episodes

Character = tuple[int, int, bool]  # class, quarter turns, whether mirrored: where tasks turn, classes of their own


def characters(episodes: Episodes) -> list[list[Character]]:
    """The characters of each task."""
    parts = (episodes.classes, episodes.rotations, episodes.reflections)
    return [
        [(one, turn, mirrored) for one, turn, mirrored in zip(*of_task, strict=True)]
        for of_task in zip(*(part.tolist() for part in parts), strict=True)
    ]


def label(character: Character, names: Sequence[ClassName], longest: int | None = None) -> str:
    """A character in words, such as "Tibetan 7, turned by 90°"; an alphabet longer than `longest` is cut short."""
    number, turn, mirrored = character
    name = names[number]
    turned = f", turned by {90 * turn}°" if turn else ""
    called = _beside(name.alphabet, in_print(name.character).removeprefix("character "))
    return f"{in_print(name.alphabet, longest)} {called}{', mirrored' if mirrored else ''}{turned}"


def in_print(name: str, longest: int | None = None) -> str:
    """An alphabet's or a character's name as people write it, "character 7" for "character07"."""
    plain = re.sub(r"(?<=[a-z])0*(?=\d)", " ", name.replace("_", " "))
    return plain if longest is None or len(plain) <= longest else f"{plain[: longest - 1]}…"


def _beside(alphabet: str, character: str) -> str:
    """A letter's name by Unicode beside its alphabet's, "U+03B1 small letter alpha"; any other as it is."""
    code, *words = character.split(" ")
    if not code.startswith("U+"):
        return character
    return " ".join([code, *(word.lower() for word in words if word not in alphabet.upper().split())])
