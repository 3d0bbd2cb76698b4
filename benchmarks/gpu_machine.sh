#!/bin/sh
# The check of a GPU on a machine that reaches no package registry, and has Python 3.12, PyTorch and Triton.
#   benchmarks/gpu_machine.sh pack             here: wheels, Omniglot's store and compiled kernels into .gpu/
#   benchmarks/gpu_machine.sh check --first    there, with .gpu/ in the clone: the check, into OUT or results/
# OMNIGLOT_SOURCE names a folder with Omniglot's archives, TRITON the machine's version of Triton, OUT a folder.
set -eu
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] && own=.venv/bin/python || own=python3
python=${PYTHON:-$own}
site=/tmp/fanfold-site
kernels=/tmp/fanfold-kernels # where the compiled kernels are told to lie

case ${1:-} in
pack)
    mkdir -p .gpu
    for_machine="--no-deps --only-binary=:all: --python-version 3.12 --implementation cp"
    for glibc in 2_28 2_27 2_24 2_17; do for_machine="$for_machine --platform manylinux_${glibc}_x86_64"; done
    for_machine="$for_machine --platform manylinux2014_x86_64"
    # shellcheck disable=SC2086 # words
    "$python" -m pip download -q $for_machine -d .gpu/wheels -r benchmarks/gpu_wheels.txt
    [ -e .gpu/omniglot.zarr ] ||
        "$python" -m workflows.prepare --dataset.name omniglot --dataset.store .gpu/omniglot.zarr
    triton=$(mktemp -d)
    "$python" -m pip install -q --no-deps --target "$triton/own" "triton==${TRITON:-3.6.0}"
    # shellcheck disable=SC2086
    "$python" -m pip download -q $for_machine -d "$triton" "triton==${TRITON:-3.6.0}"
    "$python" -m zipfile -e "$triton"/triton-*.whl "$triton/machine"
    for what in "--tasks 32 512 2048" "--precisions float32 tf32x3"; do # of the first half, and of a training
        # shellcheck disable=SC2086
        "$python" -m benchmarks.warm_cache "$triton/kernels" --at "$kernels" \
            --triton "$triton/own" --wheel "$triton/machine" $what
    done
    tar -czf .gpu/kernels.tgz -C "$triton/kernels" .
    rm -r "$triton"
    du -sh .gpu
    ;;
check)
    shift
    "$python" -m pip install -q --no-index --no-deps --no-compile --upgrade --target "$site" .gpu/wheels/*.whl
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
    if [ -e .gpu/kernels.tgz ]; then
        mkdir -p "$kernels" && tar -xzf .gpu/kernels.tgz -C "$kernels"
        export TRITON_CACHE_DIR="$kernels"
    fi
    exec "$python" -m benchmarks.gpu_check --store .gpu/omniglot.zarr --out "${OUT:-results}/h200" "$@"
    ;;
*)
    sed -n '2,5s/^# //p' "$0" >&2
    exit 2
    ;;
esac
