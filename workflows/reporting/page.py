"""The report's page: one HTML file that needs no network and no JavaScript, and its pictures as files beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.files import write_bytes
from fanfold.workflows.reporting.style import Picture

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Card:
    """A main result at the top of the page."""

    value: str  # the number with its unit
    interval: str  # such as "± 0.60"; empty for none
    label: str  # the result's description


@dataclass(frozen=True)
class Table:
    """A table of words."""

    head: Sequence[str]  # the columns' names; the first column names the rows
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    words: Sequence[str] = ()  # paragraphs above the pictures
    pictures: Sequence[Picture] = ()
    table: Table | None = None  # below the paragraphs
    code: str = ""  # commands or a file to copy, below the pictures


@dataclass(frozen=True)
class Page:
    """A report."""

    title: str
    words: Sequence[str]  # paragraphs below the title
    cards: Sequence[Card]  # the main results
    facts: Sequence[tuple[str, str]]  # names and values
    sections: Sequence[Section]


def write_page(page: Page, folder: Path) -> Path:
    """Write `report.html`, and its pictures as `pictures/NAME.png`; a missing folder is made. Returns the page's path.

    Raises:
        FanfoldError: A file can't be written.
    """
    pictures, path = folder / "pictures", folder / "report.html"
    try:
        pictures.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FanfoldError(f"The folder {pictures} can't be made ({error.strerror}).") from error
    for section in page.sections:
        for picture in section.pictures:
            write_bytes(pictures / f"{picture.name}.png", picture.png())
    write_bytes(path, render(page).encode(errors="backslashreplace"))
    return path


def render(page: Page) -> str:
    style = Markup((HERE / "style.css").read_text())  # noqa: S704 (our own file)
    return template("page.html").render(page=page, style=style)


def template(name: str) -> Template:
    """A template beside this file; it escapes all text but drawings, style sheets and other `Markup` of ours."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["drawing"] = lambda picture: Markup(picture.svg())  # noqa: S704 (Matplotlib escapes)
    return environment.get_template(name)
