"""List the configurations that come with Fanfold, to be named by `--config`."""

from collections.abc import Sequence
from shutil import get_terminal_size

from fanfold.workflows.cli.configs import shipped
from fanfold.workflows.cli.configuration import build_parser, parse
from fanfold.workflows.cli.entry import run


def main(argv: Sequence[str]) -> None:
    parse(build_parser("workflows.configs", __doc__, argv, []), argv)
    found = dict(shipped())
    width = max(map(len, found))
    room = max(get_terminal_size((120, 24)).columns - width - 2, 20)
    for name, line in found.items():
        print(f"{name:{width}}  {line if len(line) <= room else line[: room - 1] + '…'}")


if __name__ == "__main__":
    run(main)
