"""Words for a user's mistakes."""

import difflib
from collections.abc import Iterable, Sequence

SYNONYMS = {
    "--meta.clip": "clip_grad clip_norm clip_value grad_clip gradient_clip gradient_clipping max_grad_norm",
    "--meta.weight_decay": "decay l2 wd",
    "--meta.initial": "checkpoint from init initialize pretrained warm_start weights",
    "--meta.lr": "learning_rate meta_lr outer_lr",
    "--meta.batch": "batch_size meta_batch_size tasks_per_batch",
    "--meta.iterations": "epochs max_steps n_iterations num_iterations",
    "--evaluation.patience": "early_stop early_stopping early_stopping_patience",
    "--record.wandb": "wandb weights_and_biases",
    "--task.ways": "n_way n_ways num_ways way",
    "--task.shots": "k_shot n_shot n_shots num_shots shot",
    "--task.queries": "n_queries n_query num_queries query",
    "--cluster.workers": "devices gpus n_workers num_workers",
    "--algorithm.inner_lr": "fast_lr step_size update_lr",
}
"""Other libraries' names of a flag, with words joined by underscores."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint at the known word that means the same as another or is most like it; empty where none is."""
    known = list(known)
    close: Sequence[str] = _same(word, known) or difflib.get_close_matches(word, known, n=1)
    return f" Did you mean {close[0]}?" if close else ""


def _same(word: str, known: Sequence[str]) -> list[str]:
    """The known flag that other libraries call by an unknown flag's name."""
    name = word.strip("-").rpartition(".")[2].replace("-", "_").lower()
    return [flag for flag, names in SYNONYMS.items() if name in names.split() and flag in known]
