"""Classes of tasks, rotated and mirrored ones too, and their names for readers: characters, or as they stand."""

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


def for_readers(names: Sequence[ClassName], *, handwriting: bool) -> list[ClassName]:
    """The names as they are printed: a character's in words, "Tibetan" and "7"; a picture's class as it stands.

    A group that all classes share is left out.
    """
    if handwriting:
        return [
            ClassName(in_print(name.group), _beside(name.group, in_print(name.name).removeprefix("character ")))
            for name in names
        ]
    alone = len({name.group for name in names}) == 1
    return [ClassName("" if alone else name.group, name.name) for name in names]


def label(character: Character, names: Sequence[ClassName], longest: int | None = None) -> str:
    """A class in words, such as "Tibetan 7, rotated by 90°"; a group longer than `longest` is shortened."""
    number, quarters, mirrored = character
    name = names[number]
    rotated = f", rotated by {90 * quarters}°" if quarters else ""
    called = " ".join(filter(None, (shortened(name.group, longest), name.name)))
    return f"{called}{', mirrored' if mirrored else ''}{rotated}"


def in_print(name: str) -> str:
    """The name of an alphabet or a character in words: "character 7" for "character07"."""
    return re.sub(r"(?<=[a-z])0*(?=\d)", " ", name.replace("_", " "))


def shortened(name: str, longest: int | None) -> str:
    """A name of at most so many letters."""
    return name if longest is None or len(name) <= longest else f"{name[: longest - 1]}…"


def _beside(alphabet: str, character: str) -> str:
    """A Unicode name without its alphabet's words, "U+03B1 small letter alpha"; other names as they are."""
    code, *words = character.split(" ")
    if not code.startswith("U+"):
        return character
    return " ".join([code, *(word.lower() for word in words if word not in alphabet.upper().split())])
