"""Labelled pictures on one sheet, each beside its label, the least certain first."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fanfold.data.pictures import PictureError, Preprocessing, decode, flat
from fanfold.pipeline.classifier import Prediction

MOST = 400  # pictures on a sheet
COLUMNS = 4
TILE, WORDS, GAP = 72, 168, 8  # pixels
INK, GREY, FRAME, PAPER = "#1a1a1a", "#6b6b6b", "#d9dde3", "#ffffff"


def draw_sheet(found: Sequence[Prediction], preprocessing: Preprocessing) -> bytes:
    """Predictions with paths as a PNG, in their order: pictures as they are, upright."""
    from io import BytesIO

    columns = min(COLUMNS, len(found))
    rows = -(-len(found) // columns)
    cell = TILE + WORDS + 2 * GAP
    sheet = Image.new("RGB", (columns * cell + GAP, rows * (TILE + GAP) + GAP), PAPER)
    pen, large, small = ImageDraw.Draw(sheet), ImageFont.load_default(15), ImageFont.load_default(12)
    for place, (one, name) in enumerate(zip(found, _names(found), strict=True)):
        left, top = GAP + place % columns * cell, GAP + place // columns * (TILE + GAP)
        tile = _tile(one, preprocessing)
        corner = x, y = left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2
        sheet.paste(tile, corner)
        pen.rectangle((x - 1, y - 1, x + tile.width, y + tile.height), outline=FRAME)  # a white picture has edges
        words = [(one.label, large, INK), (_confidence(one), small, INK), (name, small, GREY)]
        for line, (text, font, colour) in enumerate(words):
            pen.text((left + TILE + GAP, top + 8 + 20 * line), _cut(text, font), colour, font)
    content = BytesIO()
    sheet.save(content, "PNG")
    return content.getvalue()


def _tile(one: Prediction, preprocessing: Preprocessing) -> Image.Image:
    """A picture as it is seen, no larger than a tile."""
    try:
        picture = decode(str(one.path), 2 * TILE)
        shown = flat(picture, Preprocessing(channels=3)).convert("RGB")
        shown.thumbnail((TILE, TILE))
    except (PictureError, OSError):  # gone since it was labelled
        shown = Image.fromarray(np.full((TILE, TILE, 3), 220, np.uint8))
    return shown


def _confidence(one: Prediction) -> str:
    """The confidence; of an unknown picture with the class that it is in, as nobody is so sure that it is unknown."""
    if one.constant:
        return "one colour all over"
    share = f"{100 * one.confidence:.1f} %"
    nearest = max(one.probabilities, key=lambda name: one.probabilities[name])
    return share if nearest == one.label else f"{share} {nearest}"


def _names(found: Sequence[Prediction]) -> list[str]:
    """The files' names, with their folders' where several have one name."""
    paths = [Path() if one.path is None else one.path for one in found]
    often = Counter(path.name for path in paths)
    return [path.name if often[path.name] == 1 else "/".join(path.parts[-2:]) for path in paths]


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """A text as short as the room for it, its middle left out, its characters that can't be shown replaced."""
    text = text.encode("utf-8", "replace").decode()
    kept, shown = len(text), text
    while kept and font.getlength(shown) > WORDS:
        kept -= 1
        end = kept // 2  # where a number may stand that tells a name from others
        shown = f"{text[: kept - end]}…{text[len(text) - end :]}"
    return shown
