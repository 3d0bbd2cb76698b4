"""Embed a store's pictures over the workers of a cluster, once, before the first task needs them."""

from dataclasses import replace
from functools import partial
from time import monotonic

from fanfold.data.advice import counted
from fanfold.data.embeddings import EmbeddedImages
from fanfold.pipeline import worker
from fanfold.pipeline.embedding import fill
from fanfold.pipeline.events import Embedding, Listener, Noticed
from fanfold.pipeline.executors.base import Executor
from fanfold.pipeline.recipe import Recipe


def embed_once(executor: Executor, recipe: Recipe, tell: Listener = lambda _: None) -> None:
    """Embed the store's pictures where a recipe's network is frozen and nobody did so before; a line says what is done.

    Raises:
        RunError: The cluster lost all its workers.
        FanfoldError: The embeddings can't be written.
    """
    images = worker.open_context(replace(recipe, device="cpu")).images
    if not isinstance(images, EmbeddedImages):
        return
    pictures = images.store.pictures
    if images.path is not None:
        tell(Noticed(f"{counted(pictures, 'picture')} were embedded before: {images.path}"))
        return
    began = monotonic()
    fill(
        images,
        lambda chunks: executor.map("embed", partial(worker.embed, recipe), [], chunks),
        lambda done: tell(Embedding(done, pictures)),
    )
    tell(
        Noticed(
            f"embedded {counted(pictures, 'picture')} once, in {monotonic() - began:.1f} s: "
            f"{images.width} numbers each, in {images.path}"
        )
    )
