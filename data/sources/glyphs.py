"""Glyphs: a data set that needs no download, drawn from the fonts that ship with Matplotlib.

The DejaVu fonts hold the letters of many alphabets. A letter becomes a character unless it is composed of another one
or looks like an earlier one in any rotation by quarters. Each character is drawn 20 times as if by hand, after its
printed forms in the faces that have it. The images resemble Omniglot's in size, pen and variety, but they are not
Omniglot: a result names its data set. Omniglot also has Latin, Greek, Cyrillic, Armenian, Hebrew, Georgian and Canadian
syllabics, so whoever trains on one and tests on the other tests on known letters.
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
from fanfold.data.pictures import HANDWRITING, Preprocessing
from fanfold.data.plain import JSON
from fanfold.data.resize import area_average
from fanfold.data.source import ClassName, Source
from fanfold.data.sources.handwriting import outline, write
from fanfold.data.sources.lookalikes import alike, distinct, views
from fanfold.data.sources.strokes import Strokes, trace

DRAWINGS = 20

FACES = tuple(
    f"DejaVu{family}"
    for family in (
        *("Sans", "Sans-Bold", "Sans-Oblique", "Sans-BoldOblique"),
        *("SansMono", "SansMono-Bold", "SansMono-Oblique", "SansMono-BoldOblique"),
        *("Serif", "Serif-Bold", "Serif-Italic", "Serif-BoldItalic"),
    )
)
"""The first face has every letter; letters are compared in it."""

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
"""Alphabets by the first words of their letters' Unicode names. Lisu is left out: its letters are rotated Latin."""

_SEED = 1623
_PRINT_SIZE = 128
"""Pixels per em of the printed letters that are traced."""
_SMALLEST = 16
"""A letter with shorter strokes, in these pixels, is a mere dot."""


class Letter(NamedTuple):
    """A letter, and the faces that have it."""

    code: int  # its Unicode code point
    alphabet: str  # one of `ALPHABETS`' values
    faces: tuple[str, ...]  # in the order of `FACES`


@cache
def letters() -> tuple[Letter, ...]:
    """The characters of the data set, by code point; takes a few seconds the first time.

    Composed letters are left out: those with a decomposition, or with "WITH" in their Unicode name. So are letters
    that differ from an earlier one only by dots or ticks, or by a rotation by quarters.

    Raises:
        FanfoldError: A font is missing or damaged.
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
class GlyphSource(Source):
    """The data set as a source for a store."""

    dataset = "glyphs"
    letters: Sequence[Letter] = field(default_factory=letters)  # a class each; found once, and pickled with the source

    @property
    def names(self) -> Sequence[ClassName]:
        """Alphabet and character, such as `("Greek", "U+03B1 GREEK SMALL LETTER ALPHA")`, by code point."""
        return [
            ClassName(letter.alphabet, f"U+{letter.code:04X} {unicodedata.name(chr(letter.code))}")
            for letter in self.letters
        ]

    @property
    def counts(self) -> Sequence[int]:
        return [DRAWINGS] * len(self.letters)

    @property
    def preprocessing(self) -> Preprocessing:
        return HANDWRITING

    @property
    def origin(self) -> Mapping[str, JSON]:
        return {
            "source": f"drawn from the DejaVu fonts of Matplotlib {matplotlib.__version__}",
            "fonts": FACES,
            "seed": _SEED,
            "numpy": np.__version__,
            "unicode": unicodedata.unidata_version,
        }

    def read(self, index: int, first: int, last: int) -> Sequence[NDArray[np.uint8]]:
        """Drawings of a character, which depend on no other character and not on the order of drawing."""
        letter = self.letters[index]
        rng = np.random.Generator(np.random.Philox(key=[_SEED, letter.code]))
        ink = write([outline(form) for form in _forms(letter)], DRAWINGS, rng)
        return list(area_average(ink.astype(np.uint8) * 255, (HANDWRITING.size, HANDWRITING.size))[first:last, None])


def _alphabet(character: str) -> str | None:
    """A letter's alphabet; None for other characters, composed letters and letters of other alphabets."""
    name = unicodedata.name(character, "")
    composed = unicodedata.decomposition(character) or " WITH " in name
    if composed or unicodedata.category(character) not in {"Lu", "Ll", "Lo"}:
        return None
    return next((alphabet for start, alphabet in ALPHABETS.items() if name.startswith(start + " ")), None)


def _forms(letter: Letter) -> list[Strokes]:
    """A letter's strokes in each face in which it looks as in the first one.

    Some faces print another form: an italic Cyrillic te looks like a Latin m.
    """
    first, *others = [_traced(_open(face), letter.code) for face in letter.faces]
    shape = views(first)
    return [first, *(form for form in others if alike(views(form), shape))]


def _traced(face: FT2Font, code: int) -> Strokes:
    """The strokes of a letter in a face."""
    face.set_size(_PRINT_SIZE, 72)
    # Without hinting, which differs between versions of FreeType.
    face.set_text(chr(code), 0.0, flags=LoadFlags.NO_HINTING)
    face.draw_glyphs_to_bitmap(antialiased=True)
    return trace(np.asarray(face.get_image()) > 127)


def _open(face: str) -> FT2Font:
    """A new face for every caller: a face keeps the last printed text, so threads can't share one."""
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"
    try:
        return FT2Font(str(path))
    except (OSError, RuntimeError) as error:
        raise FanfoldError(
            f"{path}: this font of Matplotlib's can't be read ({error}); "
            "reinstall Matplotlib with `pip install --force-reinstall matplotlib`"
        ) from error
