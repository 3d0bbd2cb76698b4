"""Look at this machine: versions, GPUs, caches, data, ports; what would stand in the way of a run."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from fanfold.data.errors import RunError
from fanfold.workflows.cli.configuration import build_parser, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.flags import in_flags


def main(argv: Sequence[str]) -> None:
    parser = build_parser("workflows.doctor", __doc__, argv, [])
    parser.add_argument("--json", type=bool, nargs="?", const=True, default=False, help="print it as JSON")
    options = parse(parser, argv)
    from fanfold.workflows.actions.doctor import findings  # only here: it imports PyTorch

    found = []
    for finding in findings():
        found.append(finding)
        if not options.json:
            mark = "ok" if finding.ok else " !"
            print(f"{mark}  {finding.what}: {in_flags(finding.text)}", flush=True)
    if options.json:
        print(json.dumps([asdict(finding) for finding in found], indent=1))
    if blocking := [finding.what for finding in found if finding.blocks]:
        raise RunError(f"In the way of a run: {', '.join(blocking)}.")


if __name__ == "__main__":
    run(main)
