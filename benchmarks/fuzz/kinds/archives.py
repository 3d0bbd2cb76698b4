"""Archives: Omniglot's, CIFAR-100's, and NumPy's; damaged, or with strange entries."""

import io
import pickle
import tarfile
import zipfile
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image

from benchmarks.fuzz.judging import Read, right
from benchmarks.fuzz.kinds.pictures import encoded
from benchmarks.fuzz.mutation import NAMES, ODD, Random, choice, damaged, odd
from fanfold.data.sources import omniglot as source
from fanfold.data.sources.arrays import read_npz
from fanfold.data.sources.cifar import ARCHIVE, FOLDER, cifar_source

CHARACTERS = {"images_background": 2, "images_evaluation": 1}
"""Characters of the imitated parts: with all 1,623 an input would take seconds."""


@cache
def _drawing(number: int) -> bytes:
    pixels = np.full((105, 105), 255, np.uint8)
    pixels[: 2 + number, 50:53] = 0
    file = io.BytesIO()
    Image.fromarray(pixels).convert("1").save(file, "PNG")
    return file.getvalue()


def _entries(part: str) -> dict[str, bytes]:
    first = 40 * (part == "images_evaluation")
    return {
        f"{part}/Alphabet_{part[7]}/character{number // 20:02}/{number:04}.png": _drawing(first + number)
        for number in range(20 * CHARACTERS[part])
    }


@cache
def _zipped(part: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in _entries(part).items():
            archive.writestr(name, content, choice_of(name))
    return file.getvalue()


def choice_of(name: str) -> int:
    """Stored or deflated, so that an archive has both."""
    return zipfile.ZIP_DEFLATED if name.endswith(("1.png", "3.png")) else zipfile.ZIP_STORED


def _classes(found: source.OmniglotSource) -> Counter[tuple[bytes, ...]]:
    """The pixels of each class, whatever its drawings are called: names are under no checksum."""
    pixels = [found.read(index, 0, 20) for index in range(len(found.names))]
    return Counter(tuple(sorted(one.tobytes() for one in of_class)) for of_class in pixels)


@cache
def _true(folder: Path) -> Counter[tuple[bytes, ...]]:
    for part in CHARACTERS:
        (folder / f"{part}.zip").write_bytes(_zipped(part))
    return _classes(source.OmniglotSource(folder))


def omniglot(folder: Path, random: Random) -> Read:
    """Omniglot's archives, one damaged: CRCs leave none but the very drawings."""
    with patch.dict(source.CHARACTERS, CHARACTERS):
        true = _true(folder)
    spoiled = choice(random, list(CHARACTERS))
    for part in CHARACTERS:
        content = _zipped(part)
        (folder / f"{part}.zip").write_bytes(damaged(content, random) if part == spoiled else content)
    return lambda: _read_omniglot(folder, true)


def entries(folder: Path, random: Random) -> Read:
    """Omniglot's archives, one with an entry that is strange: encrypted, unknown, enormous, twice, of another name."""
    with patch.dict(source.CHARACTERS, CHARACTERS):
        true = _true(folder)
    for part in CHARACTERS:
        (folder / f"{part}.zip").write_bytes(_zipped(part))
    path = folder / f"{choice(random, list(CHARACTERS))}.zip"
    part = path.stem
    added = (
        "../out.png",
        "/abs.png",
        f"{part}/a/b/c/d.png",
        f"{part}/Alphabet_b/character00/../../../x.png",
        f"{part}\\a",
    )
    with zipfile.ZipFile(path, "w") as archive:
        known = _entries(part)
        strange = choice(random, list(known))
        for name, content in known.items():
            if name == strange:
                content = _other(content, random)
            archive.writestr(zipfile.ZipInfo(name), content, choice_of(name))
        if random.random() < 0.3:
            name = choice(random, (*added, *NAMES)).encode(errors="replace").decode()
            archive.writestr(zipfile.ZipInfo(name), _drawing(7))
        if random.random() < 0.2:
            archive.writestr(zipfile.ZipInfo(strange), _drawing(99))  # twice
    if random.random() < 0.5:
        directory = bytearray(path.read_bytes())
        place = directory.rindex(strange.encode()) - 46
        field = choice(random, ((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (38, 4), (42, 4)))
        directory[place + field[0] : place + sum(field)] = random.bytes(field[1])
        path.write_bytes(directory)
    return lambda: _read_omniglot(folder, true)


def _other(content: bytes, random: Random) -> bytes:
    """What may stand in a drawing's place."""
    big = bytearray(content)
    big[16:24] = 2 * (60_000).to_bytes(4, "big")
    return choice(
        random, (content, content, bytes(big), b"", encoded("EPS"), encoded("JPEG"), b"\0" * 10**6, encoded("PNG"))
    )


def _read_omniglot(folder: Path, true: Counter[tuple[bytes, ...]]) -> None:
    with patch.dict(source.CHARACTERS, CHARACTERS):
        found = _classes(source.OmniglotSource(folder))
    right("the drawings differ", found == true)
    right("a file was written", {path.suffix for path in folder.iterdir()} == {".zip"})


CIFAR: dict[str, Any] = {
    "data": (np.arange(4 * 3072, dtype=np.uint32).reshape(4, 3072) ** 2 % 251).astype(np.uint8),
    "coarse_labels": [0, 1, 1, 0],
    "fine_labels": [0, 1, 2, 0],
    "filenames": ["a.png", "b.png", "c.png", "d.png"],
}
META = {"fine_label_names": ["apple", "whale", "otter"], "coarse_label_names": ["fruit", "aquatic_mammals"]}


def _packed(parts: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        for name, content in parts.items():
            entry = tarfile.TarInfo(f"{FOLDER}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


@cache
def _cifar() -> tuple[dict[str, bytes], bytes]:
    parts = {name: pickle.dumps(value, 2) for name, value in (("meta", META), ("train", CIFAR), ("test", CIFAR))}
    return parts, _packed(parts)


def cifar(folder: Path, random: Random) -> Read:
    """CIFAR-100: a damaged archive gives the very pictures; of odd parts each picture has a class that is named."""
    parts, content = _cifar()
    if whole := random.random() < 0.4:
        (folder / ARCHIVE).write_bytes(damaged(content, random))
    else:
        name = choice(random, list(parts))
        known: dict[str, Any] = META if name == "meta" else CIFAR
        spoiled = odd(known, random)
        if random.random() < 0.2 and name != "meta":
            kind = choice(random, ("i4", "f4", "O", "S2", "M8[s]", "?"))
            data = CIFAR["data"] if kind != "M8[s]" else CIFAR["data"].astype("i8")
            spoiled = {**CIFAR, "data": choice(random, (data.astype(kind), data[:, :-1], data[0], data.T, data[:0]))}
        packed = pickle.dumps(spoiled, 2) if random.random() < 0.8 else damaged(parts[name], random)
        place = folder / FOLDER
        place.mkdir()
        for one, text in {**parts, name: packed}.items():
            (place / one).write_bytes(text)

    def read() -> None:
        found = cifar_source(folder)
        pixels = [np.stack(found.read(index, 0, count)) for index, count in enumerate(found.counts)]  # type: ignore[arg-type]
        if whole:
            right("the names differ", {one.name for one in found.names} == set(META["fine_label_names"]))
            right("the pictures differ", sorted(p.tobytes() for of in pixels for p in of) == _pictures())
        for name in found.names:
            "/".join(name).encode()

    return read


@cache
def _pictures() -> list[bytes]:
    return sorted(2 * [one.tobytes() for one in CIFAR["data"]])


KINDS_OF_ARRAYS = ("u2", "f4", "S3", "U3", "?", "c8", "O", "i1")


def npz(folder: Path, random: Random) -> Read:
    """A file of arrays: damaged, CRCs leave none but the very pictures; of odd arrays each picture has a label."""
    path = folder / "pictures.npz"
    images = (np.arange(4 * 7 * 11, dtype=np.uint32).reshape(4, 7, 11) ** 2 % 251).astype(np.uint8)
    arrays: dict[str, Any] = {"images": images, "labels": np.array([0, 1, 1, 0]), "names": np.array(["a", "b"])}
    if plain := random.random() < 0.5:
        np.savez(path, **arrays)
        path.write_bytes(damaged(path.read_bytes(), random))
    else:
        name = choice(random, list(arrays))
        match int(random.integers(5)):
            case 0:
                del arrays[name]
            case 1:
                arrays[name] = arrays[name].astype(
                    choice(random, ("S3", "U3", "O") if name == "names" else KINDS_OF_ARRAYS)
                )
            case 2:
                arrays[name] = arrays[name].reshape(choice(random, ((-1, 1), (1, -1), (-1,))))
            case 3:
                arrays[name] = arrays[name][choice(random, (0, slice(1), slice(0), slice(None, None, -1)))]
            case _:
                value = choice(random, ODD)
                arrays[name] = np.array(
                    value if isinstance(value, (str, int, float)) else str(value),
                    "O" if random.random() < 0.2 else None,
                )
        np.savez_compressed(path, **arrays)

    def read() -> None:
        found = read_npz(path)
        counts = sum(len(one.pictures) for one in found)
        right("a picture is missing", counts == len(arrays["images"]))
        right("a class is there twice", len({one.name for one in found}) == len(found))
        if plain:
            kept = {one.name.name: [np.asarray(picture).tobytes() for picture in one.pictures] for one in found}
            expected = {"a": [0, 3], "b": [1, 2]}
            by_number = {key: [images[n].tobytes() for n in numbers] for key, numbers in expected.items()}
            # An entry's name is under no checksum: without `names`, numbers are the classes' names.
            renamed = {str(n): by_number[key] for n, key in enumerate("ab")}
            right("the pictures differ", kept in (by_number, renamed))

    return read
