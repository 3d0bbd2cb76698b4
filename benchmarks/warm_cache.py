"""A cache of compiled kernels for a machine with a GPU: `python -m benchmarks.warm_cache CACHE`.

There, `TRITON_CACHE_DIR` lets Triton find what it would compile, some second a kernel. It does so by a digest of
its own files, of the kernels' text and of their arguments, so that the versions of Triton and of Fanfold must be the
machine's. With `--triton` Triton is another than the one installed; with `--wheel` also one for another Python, which
can't be imported here: all but its compiled library is the same.

    pip install --no-deps --target triton-3.6 triton==3.6.0
    pip download --no-deps --python-version 3.12 --only-binary :all: triton==3.6.0
    unzip -q triton-3.6.0-cp312-*.whl -d triton-3.6-cp312
    python -m benchmarks.warm_cache cache --at cache --triton triton-3.6 --wheel triton-3.6-cp312
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

from benchmarks.ahead import chosen, compiling, options


def main(argv: Sequence[str] | None = None) -> None:
    """Fill the cache."""
    parser = options(__doc__)
    parser.add_argument("cache", type=Path, help="a folder, which may have kernels already")
    parser.add_argument("--at", help="where the folder will be on the machine, as TRITON_CACHE_DIR names it there")
    parser.add_argument("--wheel", type=Path, help="a folder that the wheel for the machine's Python was unpacked into")
    arguments = parser.parse_args(argv)
    os.environ["TRITON_CACHE_DIR"] = str(arguments.cache.resolve())
    if arguments.triton:
        sys.path.insert(0, arguments.triton)
    import triton

    if arguments.wheel:
        known_as(arguments.wheel)
    from benchmarks.launches import meta_iteration

    with compiling() as found:
        for recipe in chosen(arguments):
            meta_iteration(recipe, counted=False)
            print(f"Triton {triton.__version__}: {len(found)} kernels", flush=True)
    if arguments.at:
        move(arguments.cache, arguments.at)


def move(cache: Path, place: str) -> None:
    """Let a cache say that it lies in some other place: Triton 3.6 writes down where each of its files is."""
    for path in cache.glob("*/__grp__*.json"):
        group = json.loads(path.read_text())
        group["child_paths"] = {name: f"{place}/{path.parent.name}/{name}" for name in group["child_paths"]}
        path.write_text(json.dumps(group))


def known_as(wheel: Path) -> None:
    """Let Triton call itself in its digests as an unpacked wheel does, whose compiled library is for another Python.

    Raises:
        ValueError: The wheel is of another version.
    """
    import triton
    from triton.runtime import cache

    (metadata,) = wheel.glob("triton-*.dist-info")
    if metadata.name != f"triton-{triton.__version__}.dist-info":
        raise ValueError(f"{metadata.name} is not of Triton {triton.__version__}, which compiles: give its like.")
    cache.triton_key.cache_clear()
    with patch.object(cache, "__file__", str(wheel / "triton" / "runtime" / "cache.py")):
        cache.triton_key()  # which is kept


if __name__ == "__main__":
    main()
