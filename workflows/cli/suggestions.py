"""The flag that a user may have meant."""

import difflib
import re
from argparse import Action
from collections.abc import Mapping
from dataclasses import fields

from fanfold.data.kinds import either, shown
from fanfold.workflows.cli.flags import VARIANTS, variants

MOST = 3  # flags that a message suggests
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


def unknown_flag(flag: str, known: Mapping[str, Action], what: str = "flag") -> str:
    """A message on an unknown flag, or on a key of a file, with those that may have been meant."""
    found = suggestions(flag, {name: action.help or "" for name, action in known.items() if name != "--config"})
    name = flag if what == "flag" else shown(flag[2:])
    if what != "flag":
        found = [suggestion.removeprefix("--") for suggestion in found]
    hint = f" Did you mean {either(found)}?" if found else ""
    if owners := of_other_variants(flag):
        section = flag[2:].partition(".")[0]
        hint = f" It belongs to {either(f'`{section}.name={owner}`' for owner in owners)}."
    return f"Unknown {what} {name}: see --help.{hint}"


def of_other_variants(flag: str) -> list[str]:
    """The variants of a section that have a flag which the chosen one lacks."""
    section, _, field = flag[2:].partition(".")
    if section not in VARIANTS:
        return []
    return [name for name, kind in variants(section).items() if field in {each.name for each in fields(kind)}]


def suggestions(flag: str, known: Mapping[str, str]) -> list[str]:
    """Flags like an unknown one: of the same last name, of a similar one, or whose description has its word.

    `known` are the flags with their descriptions.
    """
    section, _, word = flag.removeprefix("--").replace("-", "_").rpartition(".")
    if other := [name for name, names in SYNONYMS.items() if word.lower() in names.split() and name in known]:
        return other
    same = [name for name in known if _last(name) == word]
    if same:
        return same[:MOST]
    of_section = {_last(name): name for name in known if name.removeprefix("--").rpartition(".")[0] == section}
    if near := difflib.get_close_matches(word, of_section, n=1, cutoff=0.7):
        return [of_section[near[0]]]
    plain = {re.sub("[.-]", "_", name[2:]): name for name in known}
    if near := difflib.get_close_matches(re.sub("[.-]", "_", flag[2:]), plain, n=1, cutoff=0.85):
        return [plain[near[0]]]
    if len(word) < 3:
        return []
    parts = [name for name in known if word in _last(name).split("_")]
    described = [name for name, text in known.items() if re.search(rf"\b{re.escape(word)}", text, re.IGNORECASE)]
    inside = [name for name in (*parts, *described) if name.startswith(f"--{section}.")]
    return list(dict.fromkeys((*inside, *parts, *described)))[:MOST]


def _last(flag: str) -> str:
    return flag.removeprefix("--").rpartition(".")[2]
