"""The record as JSON and as a page."""

import json
import platform
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.fuzz.judging import LENGTH, MEMORY, SECONDS
from fanfold.data.kinds import shown
from fanfold.workflows.cli.result import environment
from fanfold.workflows.reporting.markdown import markdown_table

VERSIONS = ("numpy", "pillow", "zarr", "safetensors", "pyyaml", "jsonargparse", "torch")
HEAD = """# Damaged and odd input

{inputs:,} inputs by `{command}`, seed {seed}, in {processes} processes, {minutes:.0f} minutes beside other work,
{date}: {machine}, {versions}.

An input was accepted, and is what was written, as far as its kind's check goes (`benchmarks/fuzz/kinds`); or refused in
one printable line of at most {length:,} characters, without an object's address, with status 2; within {bound:g}
seconds of a processor and {memory:g} GiB of memory. Anything else failed.

"""


def write(out: Path, found: Mapping[str, Any], command: str) -> None:
    """Write OUT.json and OUT.md."""
    machine = environment()
    record = {
        "command": command,
        "date": datetime.now().astimezone().date().isoformat(),
        "machine": f"{machine['cores']} × {machine['processor']}, {platform.system()}",
        "versions": {"python": machine["python"], **{name: version(name) for name in VERSIONS}},
        **found,
    }
    out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    out.with_suffix(".md").write_text(markdown(record))


def markdown(record: Mapping[str, Any]) -> str:
    """The page: inputs by kind, the commonest refusals, and what failed."""
    versions = ", ".join(f"{name} {text}" for name, text in record["versions"].items())
    bounds = {"minutes": record["seconds"] / 60, "length": LENGTH, "bound": SECONDS, "memory": MEMORY / 2**30}
    counts = [
        [kind, *(f"{number:,}" for number in (sum(of.values()), of["accepted"], of["refused"], of["failed"]))]
        for kind, of in record["kinds"].items()
    ]
    refusals = [[one["kind"], _quoted(one["line"]), f"{one['inputs']:,}"] for one in record["refusals"]]
    failures = [
        [one["kind"], str(one["index"]), _quoted(one["why"].strip().splitlines()[-1]), one["now"]]
        for one in record["failures"]
    ]
    parts = [
        HEAD.format(**{**record, **bounds, "versions": versions}),
        markdown_table(("kind", "inputs", "accepted, and right", "refused", "failed"), counts),
        "\nThe ten commonest refusals, without names and numbers:\n\n",
        markdown_table(("kind", "line", "inputs"), refusals),
    ]
    if failures:
        parts += [
            "\nWhat failed, and what comes of it now:\n\n",
            markdown_table(("kind", "input", "how", "now"), failures),
        ]
    return "".join(parts)


def _quoted(line: str) -> str:
    return f"`{shown(line).strip(chr(39)).replace('`', '')}`"
