"""Extras: optional packages, by the name that `pip install 'PATH/OF/THE/CLONE[NAME]'` takes: Fanfold is on no index."""

from importlib.util import find_spec

from fanfold.data.errors import FanfoldError

MODULES = {
    "search": ("optuna", "cmaes", "plotly"),
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow",),
    "wandb": ("wandb",),
    "timm": ("timm",),
    "tls": ("cryptography",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "s3": ("s3fs",),
}
"""The modules of each extra that Fanfold imports."""


def advice(extra: str) -> str | None:
    """A line that says how to install an extra; None where it is installed."""
    absent = [module for module in MODULES[extra] if not _found(module)]
    return f"{', '.join(absent)} not installed: pip install 'PATH/OF/THE/CLONE[{extra}]'" if absent else None


def need(extra: str, user: str) -> None:
    """Check that an extra is installed, before any work; `user` is what needs it, in words.

    Raises:
        FanfoldError: It isn't.
    """
    if absent := advice(extra):
        raise FanfoldError(f"{user} needs an extra ({absent}).")


def _found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # an import that is refused, or `sys.modules[module] = None`
        return False
