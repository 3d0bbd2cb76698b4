"""What a page of the documentation shows: its blocks of code, how each is run, and what it should print.

A page's fenced blocks run in order in one empty folder, and see what the blocks before them left there.

- `console`: lines that begin with `$` are commands, the others what they print. Fanfold's commands run in this process,
  with the flags after the page's `append` mark, on workers that are there already; of pip, make, Dask and what else a
  test has no business to run, only the flags are checked.
- `python`: runs in one namespace a page.
- `text` after the mark `output`: what the block before it prints.
- `yaml`, `toml`, `dockerfile`: with the mark `file NAME`, written there; YAML must parse.

What is shown must be printed, line by line and in order; a line with `…` alone stands for any, `…` in a line for
any text. Numbers, which differ between machines, stand for any number, but for blocks with the mark `exact`.

Marks are comments before a block, which readers of the page don't see:

    <!-- page: parsed -->                            the commands take minutes: only their flags are parsed
    <!-- page: append --meta.iterations 4 -->        flags that the test adds to each of Fanfold's commands
    <!-- page: smaller minutes=10 -> iterations=4 -->    what the test puts in the place of what the page says
    <!-- page: file ridge.py -->                     the block is a file
    <!-- page: given pictures -->                    the folder `pictures` is there: alphabets of classes of pictures
    <!-- page: exact -->                             numbers are compared too
    <!-- page: output -->                            a `text` block is what the block before it prints
    <!-- page: cluster -->                           the commands start workers of their own, which see the folder
    <!-- page: fails -->                             the command is refused, or the code raises
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
GENERATED = {"api.md", "command-line.md", "quickstart-notebook.md"}
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in GENERATED),
]
LINK = re.compile(r"!?\[[^\]]*\]\((?![a-z]+:|#)([^)#\s]+)")

PART = re.compile(
    r"<!-- page: (?P<mark>.*?) -->|^(?P<fence>```+)(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=fence)$",
    re.DOTALL | re.MULTILINE,
)
NUMBER = re.compile(r"\d[\d.,:-]*")


@dataclass(frozen=True)
class Block:
    """A block of code, and the marks before it."""

    language: str
    code: str
    marks: tuple[str, ...]
    line: int

    def marked(self, name: str) -> str | None:
        """What a mark says after its name; None where the block has no such mark."""
        found = [mark for mark in self.marks if mark.split()[0] == name]
        return found[0].removeprefix(name).strip() if found else None

    def smaller(self, code: str) -> str:
        """Code with what its `smaller` marks replace.

        Raises:
            ValueError: The page doesn't say what a mark replaces.
        """
        for mark in self.marks:
            if mark.startswith("smaller "):
                old, new = mark.removeprefix("smaller ").split(" -> ")
                if old not in self.code:
                    raise ValueError(f"line {self.line}: {old!r} is not in the block")
                code = code.replace(old, new)
        return code


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order. Directives of the site, such as `{toctree}`, are none."""
    text = page.read_text()
    marks: list[str] = []
    for part in PART.finditer(text):
        if part["mark"]:
            marks.append(" ".join(part["mark"].split()))
        else:
            if not part["language"].startswith("{"):
                yield Block(part["language"], part["code"], tuple(marks), text[: part.start()].count("\n") + 1)
            marks = []


def commands(code: str) -> list[tuple[str, list[str]]]:
    """The commands of a `console` block, each with the lines it prints."""
    found: list[tuple[str, list[str]]] = []
    for line in code.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        elif found:
            found[-1][1].append(line)
        else:
            raise ValueError(f"{line!r} stands before any command")
    return found


def first_missing(shown: Sequence[str], printed: str, exact: bool) -> str | None:
    """The first line shown that was not printed after those before it; None where all were."""
    lines = iter(printed.splitlines())
    for line in shown:
        if line.strip() in ("", "…"):
            continue
        pattern = pattern_of(line.strip(), exact)
        if not any(pattern.fullmatch(other.strip()) for other in lines):
            return line
    return None


def pattern_of(line: str, exact: bool) -> re.Pattern[str]:
    """What a printed line must be like to be the one shown."""
    pieces = []
    for piece in line.split("…"):
        words = NUMBER.split(piece)
        numbers = [re.escape(number) if exact else r"[-+]?\d[\d.,:-]*" for number in NUMBER.findall(piece)]
        joined = [re.escape(" ".join(words[0].split(" ")))]
        for number, word in zip(numbers, words[1:], strict=True):
            joined += [number, re.escape(word)]
        pieces.append("".join(joined))
    return re.compile(re.sub(r"(\\ )+", r"\\s+", ".*".join(pieces)))
