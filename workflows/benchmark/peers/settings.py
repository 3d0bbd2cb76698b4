"""The settings of the measured meta-gradients."""

from dataclasses import dataclass

from fanfold.data.datasets import CifarFs, Folder, Glyphs, Omniglot
from fanfold.pipeline.recipe import Meta, Recipe
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.episodes import EpisodeShape
from fanfold.tasks.models import Article, Conv4, Conv4Stride


@dataclass(frozen=True)
class Setting:
    """Tasks, an inner loop and a network.

    Args:
        shape: The shape of a task.
        algorithm: MAML, exact.
        model: The network.
    """

    shape: EpisodeShape
    algorithm: Maml
    model: Conv4 | Conv4Stride | Article

    def __str__(self) -> str:
        shape, steps = self.shape, self.algorithm.inner_steps
        queries = f"{shape.queries} {'query' if shape.queries == 1 else 'queries'} a class"
        loop = f"{steps} inner {'step' if steps == 1 else 'steps'} of {self.algorithm.inner_lr}"
        return f"{shape.ways}-way {shape.shots}-shot, {queries}, {loop}, {self.model.name}"

    def recipe(self, dataset: Omniglot | Glyphs | CifarFs | Folder, seed: int, meta: Meta) -> Recipe:
        """The setting as a training run's recipe, with a resolved data set."""
        return Recipe(
            seed=seed,
            store=str(dataset.store),
            split=str(dataset.split),
            algorithm=self.algorithm,
            model=self.model,
            train=self.shape,
            task=self.shape,
            steps=None,
            meta=meta,
        )


SETTINGS: dict[str, Setting] = {
    # MAML's own for 5-way 1-shot Omniglot.
    "a": Setting(EpisodeShape(5, 1, 1, rotations=True), Maml(inner_lr=0.4, inner_steps=1), Conv4()),
    # Queries, steps and rate of the Omniglot examples of higher and TorchOpt.
    "b": Setting(EpisodeShape(5, 1, 15, rotations=True), Maml(inner_lr=0.1, inner_steps=5), Conv4()),
    # MAML's own for 20-way 1-shot Omniglot: as many queries as shots.
    "c": Setting(EpisodeShape(20, 1, 1, rotations=True), Maml(inner_lr=0.1, inner_steps=5), Conv4()),
    "d": Setting(EpisodeShape(5, 1, 1, rotations=True), Maml(inner_lr=0.4, inner_steps=1), Article()),
}
