"""Lists of pictures and classes: split files, tables, and CloserLookFewShot's JSON files."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.fuzz.judging import Read, kept, right
from benchmarks.fuzz.kinds.pictures import encoded
from benchmarks.fuzz.mutation import NAMES, Random, choice, damaged, spoiled_json
from fanfold.data.sources.layouts import as_classes
from fanfold.data.sources.tables import read_split, read_tables, tables_in

PARTS = {"train": ["a", "d"], "val": ["b"], "test": ["c"]}
SPLIT = b"class,split\n" + b"".join(f"{name},{part}\n".encode() for part, names in PARTS.items() for name in names)
LISTED: dict[str, Any] = {
    "label_names": ["a", "b"],
    "image_names": ["a/0.png", "a/1.png", "b/0.png", "b/1.png"],
    "image_labels": [0, 0, 1, 1],
}
ROWS = [("a/0.png", "a", "train"), ("a/1.png", "a", "train"), ("b/0.png", "b", "test"), ("b/1.png", "b", "test")]
PIECES = (
    '"',
    '""',
    "\r",
    "\n\n",
    ",",
    ",,",
    "\0",
    "\ufeff",
    "\t",
    ";",
    " ",
    "../",
    "/",
    "\x1b[2J",
    "é",
    "\udcff",
    *NAMES[:6],
)


def split(folder: Path, random: Random) -> Read:
    """A split file: each class that is accepted has one of the parts that there are, and a name that can be written."""
    if random.random() < 0.5:
        path = folder / "split.csv"
        path.write_bytes(_table(SPLIT, random))
    else:
        path = folder / "split.json"
        path.write_bytes(spoiled_json(PARTS, random))

    def read() -> None:
        found = read_split(path)
        right("there is no such part", set(found.values()) <= {"", "train", "validation", "test"})
        "".join(found).encode()
        if path.suffix == ".json":
            content = json.loads(path.read_text())
            right("the classes differ", len(found) == len({name for names in content.values() for name in names}))

    return read


@cache
def _pictures(folder: Path) -> Path:
    for name, _, _ in ROWS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded("PNG"))
    return folder


def table(folder: Path, random: Random) -> Read:
    """A table beside pictures: each that is accepted is there, with a part and a class whose name can be written."""
    place = _pictures(kept(folder, "pictures"))
    for file in place.iterdir():
        if file.is_file():
            file.unlink()
    if random.random() < 0.5:
        path = place / choice(random, ("metadata.csv", "train.csv"))
        text = "path,label,split\n" + "".join(",".join(row) + "\n" for row in ROWS)
        path.write_bytes(_table(text.encode(), random))
    else:
        for name in ("base", "val"):
            path = place / f"{name}.json"
            path.write_bytes(spoiled_json(LISTED, random))

    def read() -> None:
        found = read_tables(tables_in(place) or [(path, "train")])
        classes, _ = as_classes(found.entries, place)
        for one in classes:
            "".join([*one.name, *one.paths]).encode()
            right("a picture is not there", all(Path(str(picture)).is_file() for picture in one.pictures))
        right("there is no such part", {one.split for one in classes} <= {"", "train", "validation", "test"})
        right("a picture is lost", sum(len(one.pictures) for one in classes) == len(found.entries))

    return read


def _table(content: bytes, random: Random) -> bytes:
    """A table with a strange piece of text in it, or with damaged bytes."""
    if random.random() < 0.5:
        return damaged(content, random)
    place = int(random.integers(len(content)))
    piece = choice(random, PIECES) * int(choice(random, (1, 1, 1, 2, 300, 20_000)))
    return content[:place] + piece[:200_000].encode(errors="surrogatepass") + content[place:]
