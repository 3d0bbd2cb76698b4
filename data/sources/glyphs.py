"""Glyphs: a data set for a machine without a way out, drawn from the fonts that ship with Matplotlib.

The DejaVu fonts hold the letters of many alphabets. Every letter that is neither composed of another one nor looks
like an earlier one, in any quarter turn, is a character, written by 20 hands after the printed forms of the faces
that have it. The pictures are kin to Omniglot's in size, pen and variety, but they are not Omniglot: a result names
the data set it was measured on. Omniglot itself has Latin, Greek, Cyrillic, Armenian, Hebrew, Georgian and Canadian
syllabics among its alphabets, so that to train on the one and test on the other is to test on letters seen before.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font, LoadFlags
from numpy.typing import NDArray

from fanfold.data.errors import FanfoldError
from fanfold.data.source import JSON, ClassName
from fanfold.data.sources.handwriting import outline, write
from fanfold.data.sources.lookalikes import alike, distinct, views
from fanfold.data.sources.resize import FILTER, area_average
from fanfold.data.sources.strokes import Strokes, trace

DRAWINGS = 20
SIZE = (28, 28)

FACES = tuple(
    f"DejaVu{family}"
    for family in (
        *("Sans", "Sans-Bold", "Sans-Oblique", "Sans-BoldOblique"),
        *("SansMono", "SansMono-Bold", "SansMono-Oblique", "SansMono-BoldOblique"),
        *("Serif", "Serif-Bold", "Serif-Italic", "Serif-BoldItalic"),
    )
)
"""The first one has every letter, and it is what letters are compared in."""

ALPHABETS = {
    "LATIN": "Latin",
    "GREEK": "Greek",
    "COPTIC": "Coptic",
    "CYRILLIC": "Cyrillic",
    "ARMENIAN": "Armenian",
    "HEBREW": "Hebrew",
    "ARABIC": "Arabic",
    "NKO": "N'Ko",
    "LAO": "Lao",
    "GEORGIAN CAPITAL": "Georgian Asomtavruli",
    "GEORGIAN LETTER": "Georgian Mkhedruli",
    "GEORGIAN SMALL": "Georgian Nuskhuri",
    "CANADIAN": "Canadian syllabics",
    "OGHAM": "Ogham",
    "TIFINAGH": "Tifinagh",
    "OLD ITALIC": "Old Italic",
}
"""How the Unicode names of an alphabet's letters begin. (Lisu is left out: its letters are Latin capitals, turned.)"""

_SEED = 1623
_PRINT_SIZE = 128
"""Pixels an em at which letters are printed to be traced."""
_SMALLEST = 16
"""A letter whose strokes are shorter than so many of these pixels is a mere dot."""


class Letter(NamedTuple):
    """A letter and where it is printed.

    Attributes:
        code: its Unicode code point.
        alphabet: one of ``ALPHABETS``' values.
        faces: the faces that have it, in the order of ``FACES``.
    """

    code: int
    alphabet: str
    faces: tuple[str, ...]


@cache
def letters() -> tuple[Letter, ...]:
    """The characters of the data set, by code point; takes a few seconds the first time.

    Left out are letters that are composed (they have a decomposition, or are one "WITH" something, by their Unicode
    names), those that only dots or ticks tell from another one, and those that look like an earlier one as they
    stand or turned by quarters.

    Raises:
        FanfoldError: a font is missing or damaged.
    """
    printed = {face: set(_open(face).get_charmap()) for face in FACES}
    face = _open(FACES[0])
    candidates, shapes = [], []
    for code in sorted(printed[FACES[0]]):
        alphabet = _alphabet(chr(code))
        if alphabet is None:
            continue
        strokes = _traced(face, code)
        if strokes.size >= _SMALLEST:
            candidates.append(Letter(code, alphabet, tuple(face for face in FACES if code in printed[face])))
            shapes.append(views(strokes))
    return tuple(candidates[number] for number in distinct(shapes))


@dataclass(frozen=True)
class GlyphSource:
    """The data set as a source for a store.

    Attributes:
        letters: the characters, one a class. They are found out once and travel with the source when it is pickled.
    """

    letters: Sequence[Letter] = field(default_factory=letters)

    @property
    def dataset(self) -> str:
        """The data set's name."""
        return "glyphs"

    @property
    def names(self) -> Sequence[ClassName]:
        """Alphabet and character, such as ``("Greek", "U+03B1 GREEK SMALL LETTER ALPHA")``, by code point."""
        return [
            ClassName(letter.alphabet, f"U+{letter.code:04X} {unicodedata.name(chr(letter.code))}")
            for letter in self.letters
        ]

    @property
    def attributes(self) -> Mapping[str, JSON]:
        """What the drawings depend on."""
        return {
            "source": f"drawn from the DejaVu fonts of Matplotlib {matplotlib.__version__}",
            "resize": FILTER,
            "fonts": FACES,
            "seed": _SEED,
            "numpy": np.__version__,
            "unicode": unicodedata.unidata_version,
        }

    def read(self, index: int) -> NDArray[np.uint8]:
        """The 20 drawings of a character, ink 255 on 0: ``[20, 28, 28]``.

        They depend on the character alone, not on what other characters there are, nor on when they are drawn.

        Raises:
            FanfoldError: a font is missing or damaged.
        """
        letter = self.letters[index]
        rng = np.random.Generator(np.random.Philox(key=[_SEED, letter.code]))
        ink = write([outline(form) for form in _forms(letter)], DRAWINGS, rng)
        return area_average(ink.astype(np.uint8) * 255, SIZE)


def _alphabet(character: str) -> str | None:
    """A letter's alphabet; None for what is no letter, is composed, or is of none of the alphabets."""
    name = unicodedata.name(character, "")
    composed = unicodedata.decomposition(character) or " WITH " in name
    if composed or unicodedata.category(character) not in {"Lu", "Ll", "Lo"}:
        return None
    return next((alphabet for start, alphabet in ALPHABETS.items() if name.startswith(start + " ")), None)


def _forms(letter: Letter) -> list[Strokes]:
    """A letter's strokes in each face where it looks as it does in the first one.

    Some faces print another letter's form: an italic Cyrillic te looks like a Latin m.
    """
    first, *others = [_traced(_open(face), letter.code) for face in letter.faces]
    shape = views(first)
    return [first, *(form for form in others if alike(views(form), shape))]


def _traced(face: FT2Font, code: int) -> Strokes:
    """The strokes of a letter in a face."""
    face.set_size(_PRINT_SIZE, 72)
    # Without hinting, so that letters don't depend on how a version of FreeType bends them to the pixels.
    face.set_text(chr(code), 0.0, flags=LoadFlags.NO_HINTING)
    face.draw_glyphs_to_bitmap(antialiased=True)
    return trace(np.asarray(face.get_image()) > 127)


def _open(face: str) -> FT2Font:
    """A face of its own for every caller: it keeps what was last printed, so threads can't share one."""
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"
    try:
        return FT2Font(str(path))
    except (OSError, RuntimeError) as error:
        raise FanfoldError(
            f"{path}: this font of Matplotlib's can't be read ({error}); "
            "reinstall Matplotlib with `pip install --force-reinstall matplotlib`"
        ) from error
