"""Omniglot (Lake, Salakhutdinov and Tenenbaum 2015), from its two official archives or their unpacked folders.

1,623 characters of 50 alphabets, each drawn by 20 people: 964 characters in the "background" part, 659 in the
"evaluation" part. The PNG files are 105 x 105 pixels, 1 bit deep, black ink on white.
"""

import io
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import HANDWRITING, Preprocessing, suffixes, why_unread
from fanfold.data.places import NAME_OMNIGLOT
from fanfold.data.plain import JSON
from fanfold.data.resize import area_average
from fanfold.data.source import ClassName, Source

CHARACTERS = {"images_background": 964, "images_evaluation": 659}
"""The two parts, and how many characters each holds."""

DRAWINGS = 20
_ORIGINAL_SIZE = (105, 105)
_MOST_BYTES = 2**16  # of a drawing's file


class OmniglotSource(Source):
    """Omniglot's characters at 28 x 28 pixels, as a `Source`.

    The classes of both parts are sorted by alphabet, then by character; the drawings of a class, by file name. The
    1-bit images are converted to 8 bits, then averaged by area.

    The folder holds the two archives or their unpacked folders, itself or in torchvision's sub-folder `omniglot-py`.
    Archives are preferred, as they carry checksums. The store names the origin, by default the folder, as its source.

    Raises:
        FanfoldError: The folder has no copy of Omniglot, or an incomplete or damaged one.
    """

    dataset = "omniglot"

    def __init__(self, folder: Path | str, origin: str | None = None) -> None:
        self.folder = Path(folder)
        self.origin_name = origin or str(self.folder)
        self._drawings: dict[ClassName, tuple[_Part, list[str]]] = {}
        for name, part in _find_parts(self.folder).items():
            drawings = part.drawings()
            _check_complete(part.path, drawings, CHARACTERS[name])
            self._drawings |= {character: (part, sorted(files)) for character, files in drawings.items()}
            if name == "images_background":
                self._background = sorted({character.group for character in drawings})
        self._names = sorted(self._drawings)

    @property
    def names(self) -> Sequence[ClassName]:
        return self._names

    @property
    def counts(self) -> Sequence[int]:
        return [DRAWINGS] * len(self._names)

    @property
    def preprocessing(self) -> Preprocessing:
        return HANDWRITING

    @property
    def attributes(self) -> Mapping[str, JSON]:
        return {"background_alphabets": self._background}

    @property
    def origin(self) -> Mapping[str, JSON]:
        return {"source": self.origin_name, "original_size": list(_ORIGINAL_SIZE)}

    def paths(self, index: int) -> Sequence[str]:
        part, files = self._drawings[self._names[index]]
        return [part.relative(file) for file in files]

    def read(self, index: int, first: int, last: int) -> Sequence[NDArray[np.uint8]]:
        part, files = self._drawings[self._names[index]]
        paper = np.stack([_decode(part, file) for file in files[first:last]])
        return list(area_average(255 - paper, (HANDWRITING.size, HANDWRITING.size))[:, None])


class _Archive:
    """A part as a zip archive of `part/alphabet/character/drawing.png`, opened once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _zip(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError) as error:
            raise _damaged(self.path, error) from error

    def drawings(self) -> dict[ClassName, list[str]]:
        found = defaultdict(list)
        for file in self._zip.namelist():
            match file.split("/"):
                case [self.path.stem, alphabet, character, drawing] if _is_drawing(drawing):
                    found[ClassName(alphabet, character)].append(file)
        return found

    def relative(self, file: str) -> str:
        """A drawing's name, relative to the folder of the parts."""
        return file

    def read(self, file: str) -> bytes:
        try:
            if self._zip.getinfo(file).file_size > _MOST_BYTES:
                raise OSError(f"{file} is too large for a drawing")
            return self._zip.read(file)
        # Encrypted entries and unknown methods are RuntimeError and NotImplementedError.
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, KeyError) as error:
            raise _damaged(self.path, error) from error


class _Folder:
    """A part as a folder of `alphabet/character/drawing.png`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def drawings(self) -> dict[ClassName, list[str]]:
        found = defaultdict(list)
        for path in self.path.glob("*/*/*.png"):
            alphabet, character, drawing = path.relative_to(self.path).parts
            if _is_drawing(drawing):
                found[ClassName(alphabet, character)].append(str(path))
        return found

    def relative(self, file: str) -> str:
        """A drawing's name, relative to the folder of the parts."""
        return Path(file).relative_to(self.path.parent).as_posix()

    def read(self, file: str) -> bytes:
        try:
            return Path(file).read_bytes()
        except OSError as error:
            raise _damaged(Path(file), error) from error


_Part = _Archive | _Folder  # `drawings` gives the files of each character


def _is_drawing(file: str) -> bool:
    return file.endswith(".png") and not file.startswith(".")  # macOS adds hidden copies of files


def _find_parts(folder: Path) -> dict[str, _Part]:
    if not folder.is_dir():
        raise FanfoldError(f"{folder}: there is no such folder to read Omniglot from; {NAME_OMNIGLOT}")
    for place in (folder, folder / "omniglot-py"):
        parts: dict[str, _Part] = {}
        for name in CHARACTERS:
            if (place / f"{name}.zip").is_file():
                parts[name] = _Archive(place / f"{name}.zip")
            elif (place / name).is_dir():
                parts[name] = _Folder(place / name)
        if len(parts) == len(CHARACTERS):
            return parts
        if parts:
            missing = ", ".join(name for name in CHARACTERS if name not in parts)
            raise FanfoldError(
                f"{place}: incomplete copy of Omniglot, without {missing}(.zip); add it, or {NAME_OMNIGLOT}"
            )
    own = "for pictures of your own add `dataset.name=folder`; otherwise " if _has_pictures(folder) else ""
    raise FanfoldError(f"{folder}: no Omniglot in this folder; {own}{NAME_OMNIGLOT}")


def _has_pictures(folder: Path) -> bool:
    """Whether a folder holds pictures, or folders of them."""
    kinds = suffixes()
    below = islice(chain.from_iterable(map(folder.glob, ("*", "*/*", "*/*/*"))), 10_000)  # a home folder is large
    return any(path.suffix.lower() in kinds for path in below)


def _check_complete(path: Path, drawings: Mapping[ClassName, Sequence[str]], characters: int) -> None:
    if len(drawings) != characters:
        found = f"{len(drawings)} characters, not {characters}"
    elif short := [name for name, files in drawings.items() if len(files) != DRAWINGS]:
        found = f"{len(drawings[short[0]])} drawings of {short[0].group}/{short[0].name}, not {DRAWINGS}"
    else:
        return
    raise FanfoldError(f"{path}: incomplete copy of Omniglot: {found}; fetch it again, or {NAME_OMNIGLOT}")


def _decode(part: _Part, file: str) -> NDArray[np.uint8]:
    encoded = part.read(file)
    try:
        with Image.open(io.BytesIO(encoded), formats=("PNG",)) as image:
            if image.size != _ORIGINAL_SIZE:  # before anything is decoded
                width, height = image.size
                raise FanfoldError(f"{file}: {width:,} x {height:,} pixels, where Omniglot's have 105 x 105")
            return np.asarray(image.convert("L"))
    except (FanfoldError, MemoryError):
        raise
    except Exception as error:  # decoders raise many kinds of errors on damaged bytes
        raise _damaged(Path(file) if isinstance(part, _Folder) else part.path, error) from error


def _damaged(path: Path, error: Exception) -> FanfoldError:
    return FanfoldError(f"{path}: damaged or cut short ({why_unread(error)}); fetch it again, or {NAME_OMNIGLOT}")
