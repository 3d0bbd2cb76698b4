"""The embedded data set: which letters it holds, and how they are drawn."""

import hashlib
import pickle
import subprocess
import sys
import unicodedata
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from fontTools.ttLib import TTFont
from numpy.typing import NDArray

from fanfold.data.errors import FanfoldError
from fanfold.data.sources.glyphs import ALPHABETS, DRAWINGS, FACES, GlyphSource, letters
from fanfold.data.sources.handwriting import PAPER, write
from fanfold.data.sources.lookalikes import alike, distinct, views
from fanfold.data.sources.strokes import Strokes, trace

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"

READ_ELSEWHERE = """
import hashlib, pickle, sys
from fanfold.data.sources.glyphs import letters
source = pickle.loads(sys.stdin.buffer.read())
pixels = b"".join(one.tobytes() for index in (0, 200) for one in source.read(index, 0, 20))
print(hashlib.sha256(pixels).hexdigest(), letters.cache_info().misses)
"""


def whole(source: GlyphSource, index: int) -> NDArray[np.uint8]:
    """All drawings of a character, `[20, 28, 28]`."""
    return np.concatenate(source.read(index, 0, DRAWINGS))


@pytest.fixture(scope="module")
def source() -> GlyphSource:
    return GlyphSource()


@pytest.fixture(scope="module")
def drawings(source: GlyphSource) -> NDArray[np.uint8]:
    """Every fourth character's drawings, ``[characters, 20, 28, 28]``."""
    return np.stack([whole(source, index) for index in range(0, len(source.names), 4)])


def test_the_letters_are_a_fixed_result(source: GlyphSource) -> None:
    codes = " ".join(f"{letter.code:X}" for letter in source.letters)
    assert hashlib.sha256(codes.encode()).hexdigest() == (
        "48916b89242bb467deb39262f9ffa4a122e9a252323eed8d6d806206dd588a10"
    )


def test_there_are_many_characters_of_many_alphabets(source: GlyphSource) -> None:
    sizes = Counter(name.group for name in source.names)
    assert len(source.names) >= 400
    assert set(sizes) == set(ALPHABETS.values())
    assert len(sizes) == 16
    assert min(sizes.values()) >= 5


def test_names_are_unique_and_name_the_letter(source: GlyphSource) -> None:
    assert len(set(source.names)) == len(source.names)
    assert ("Greek", "U+03BB GREEK SMALL LETTER LAMDA") in source.names
    assert source.dataset == "glyphs"


def test_every_face_has_the_letters_it_is_used_for(source: GlyphSource) -> None:
    printed = {face: set(TTFont(FONTS / f"{face}.ttf").getBestCmap()) for face in FACES}
    for letter in source.letters:
        assert letter.faces == tuple(face for face in FACES if letter.code in printed[face])
        assert letter.faces[0] == FACES[0]


@pytest.mark.parametrize(
    ("group", "survivor"),
    [
        ("AΑА", "A"),
        ("CcϹСс", "C"),
        ("OoΟοОоՕօ߀ⵔ", "O"),
        ("SsЅѕ", "S"),
        ("XxΧХх", "X"),
        ("IlΙІӀǀⵏ", "I"),
        ("HНΗнʜ", "H"),
        ("eəǝә", "e"),
        ("NZzᴎ", "N"),
        ("dpԁрᑯᑭ", "d"),
        ("bqԛᑲᑫ", "b"),
        ("Δᐁᐃᐅᐊ", "Δ"),
        ("Δᐌᐐᐴᑈ", "Δ"),  # the triangles again, with a dot
    ],
)
def test_of_letters_that_look_alike_or_are_turned_the_first_stays(
    source: GlyphSource, group: str, survivor: str
) -> None:
    kept = {chr(letter.code) for letter in source.letters}
    assert kept & set(group) == {survivor}


def test_of_turned_letters_at_most_one_stays(source: GlyphSource) -> None:
    kept = {chr(letter.code) for letter in source.letters}
    assert len(kept & set("unUᑌᑎᑐᑕ")) <= 1


def test_no_letter_is_composed(source: GlyphSource) -> None:
    for letter in source.letters:
        character = chr(letter.code)
        assert unicodedata.category(character).startswith("L")
        assert not unicodedata.decomposition(character), character
        assert " WITH " not in unicodedata.name(character)
    assert not {ord(character) for character in "éёйøłب"} & {letter.code for letter in source.letters}


def test_a_character_is_drawn_the_same_again_and_elsewhere(source: GlyphSource) -> None:
    """Also after pickling, in a process that doesn't choose the letters anew."""
    pixels = whole(source, 0).tobytes() + whole(source, 200).tobytes()
    assert whole(source, 0).tobytes() + whole(source, 200).tobytes() == pixels
    packed = pickle.dumps(source)
    assert len(packed) < 50_000
    elsewhere = subprocess.run([sys.executable, "-c", READ_ELSEWHERE], input=packed, capture_output=True, check=True)
    assert elsewhere.stdout.split() == [hashlib.sha256(pixels).hexdigest().encode(), b"0"]


def test_a_character_does_not_depend_on_the_others(source: GlyphSource) -> None:
    alone = GlyphSource(letters=source.letters[300:301])
    np.testing.assert_array_equal(whole(alone, 0), whole(source, 300))


def test_threads_do_not_disturb_each_other(source: GlyphSource) -> None:
    indices = list(range(0, 96, 8))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            together = list(threads.map(partial(whole, source), indices))
    finally:
        sys.setswitchinterval(interval)
    np.testing.assert_array_equal(np.stack(together), np.stack([whole(source, index) for index in indices]))


def test_drawings_are_ink_on_blank_paper_and_all_different(drawings: NDArray[np.uint8]) -> None:
    assert drawings.dtype == np.uint8
    assert drawings.shape[1:] == (DRAWINGS, 28, 28)
    for character in drawings:
        assert len(np.unique(character.reshape(DRAWINGS, -1), axis=0)) == DRAWINGS
    ink = drawings.mean(axis=(2, 3)) / 255
    assert ink.min() > 0.005
    assert ink.max() < 0.3
    assert drawings.max(axis=(2, 3)).min() > 128
    assert np.median(drawings) == 0


def test_drawings_have_omniglots_ink_place_and_size(drawings: NDArray[np.uint8]) -> None:
    """Omniglot: mean ink 0.079; the box around a character 18 pixels long, its middle at 13.4, give or take 1.3.

    Two drawings of a character differ in length by about 12 %.
    """
    assert drawings.mean() / 255 == pytest.approx(0.079, abs=0.008)
    inked = (drawings > 64).reshape(-1, 28, 28)
    for axis in (1, 2):
        along = inked.any(axis=axis)
        first, last = along.argmax(axis=1), 27 - along[:, ::-1].argmax(axis=1)
        middle = (first + last) / 2
        assert middle.mean() == pytest.approx(13.4, abs=0.4)
        assert 0.8 < middle.std() < 1.8
    lengths = np.maximum(*(inked.any(axis=axis).sum(axis=1) for axis in (1, 2))).reshape(-1, DRAWINGS)
    assert np.median(lengths) == pytest.approx(18, abs=1.5)
    assert np.log(lengths).std(axis=1).mean() == pytest.approx(0.12, abs=0.03)


def test_characters_can_be_told_apart_but_not_by_their_means_alone(drawings: NDArray[np.uint8]) -> None:
    """On as many of Omniglot's characters 45 in 100 are nearest to their own mean."""
    pixels = drawings.reshape(len(drawings), DRAWINGS, -1) / 255
    means, held_out = pixels[:, : DRAWINGS // 2].mean(axis=1), pixels[:, DRAWINGS // 2 :].reshape(-1, 28 * 28)
    distances = (means**2).sum(axis=-1) - 2 * held_out @ means.T  # squared, less what all means share
    accuracy = (distances.argmin(axis=-1) == np.repeat(np.arange(len(drawings)), DRAWINGS // 2)).mean()
    assert 0.25 < accuracy < 0.55


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_font_that_cannot_be_read_is_named(
    source: GlyphSource, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fonts = tmp_path / "fonts" / "ttf"
    fonts.mkdir(parents=True)
    if damage == "damaged":
        (fonts / "DejaVuSans.ttf").write_bytes((FONTS / "DejaVuSans.ttf").read_bytes()[:1000])
    monkeypatch.setattr(matplotlib, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(FanfoldError, match=r"DejaVuSans\.ttf.*reinstall Matplotlib") as caught:
        source.read(0, 0, 20)
    assert "\n" not in str(caught.value)
    with pytest.raises(FanfoldError):
        letters.__wrapped__()


def bars(*boxes: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """Ink in boxes of top, bottom, left, right."""
    ink = np.zeros((100, 100), dtype=bool)
    for top, bottom, left, right in boxes:
        ink[top:bottom, left:right] = True
    return ink


def ends(strokes: Strokes) -> int:
    return int((strokes.neighbours().sum(axis=1) == 1).sum())


def test_a_bar_is_one_stroke_without_forked_ends() -> None:
    strokes = trace(bars((10, 90, 40, 60)))
    assert ends(strokes) == 2
    assert 55 < strokes.size <= 80
    assert set(strokes.parts()) == {0}
    assert np.ptp(strokes.points[:, 1]) <= 2


def test_the_corners_of_a_flared_end_are_no_strokes() -> None:
    rows, columns = np.mgrid[:100, :100]
    flared = (abs(columns - 50) < 8 + rows // 8) & (rows > 5) & (rows < 95)
    assert ends(trace(flared)) == 2


def test_a_branch_stays_and_a_dot_is_a_part_of_its_own() -> None:
    strokes = trace(bars((10, 90, 20, 30), (45, 55, 20, 70), (20, 28, 80, 88)))
    assert ends(strokes) - 3 in {0, 2}  # the dot is one point, or a line of a few
    assert set(strokes.parts()) == {0, 1}


def test_a_letter_looks_like_itself_turned_slanted_or_dotted_and_like_no_other() -> None:
    hook = bars((10, 90, 20, 30), (80, 90, 20, 70))
    slanted = np.stack([np.roll(row, (100 - number) // 6) for number, row in enumerate(hook)])
    dotted = hook | bars((30, 38, 60, 68))
    wide = bars((10, 90, 20, 30), (80, 90, 20, 80))
    cross = bars((10, 90, 45, 55), (45, 55, 10, 90))
    same = [hook, np.rot90(hook), np.rot90(hook, 2), np.rot90(hook, 3), slanted, dotted, wide]
    assert distinct([views(trace(ink)) for ink in [*same, cross, np.fliplr(hook)]]) == [0, 7]  # its mirror is a turn

    upright, *others = [views(trace(ink)) for ink in same]
    assert [alike(upright, other) for other in others] == [False, False, False, True, True, True]


def test_a_mirrored_letter_is_another_letter() -> None:
    flag = bars((10, 90, 20, 30), (10, 20, 20, 70), (40, 50, 20, 50))
    assert distinct([views(trace(ink)) for ink in (flag, np.fliplr(flag), np.flipud(np.fliplr(flag)))]) == [0, 1]


def test_writing_stays_on_the_paper() -> None:
    """A pixel at least is left free all round, however large or misplaced a hand writes."""
    line = np.stack([np.linspace(-0.5, 0.5, 200), np.zeros(200)], axis=1)
    ink = write([line], 500, np.random.default_rng(1))
    assert ink.shape == (500, PAPER, PAPER)
    assert not ink[:, [0, -1]].any()
    assert not ink[:, :, [0, -1]].any()
    assert ink.any(axis=(1, 2)).all()
