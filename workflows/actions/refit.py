"""A method on embeddings that judges the network of a run in the place of the algorithm that trained it."""

from dataclasses import asdict

from fanfold.data.errors import FanfoldError
from fanfold.data.kinds import either
from fanfold.pipeline.experiment import Experiment
from fanfold.pipeline.recording.kept import read_configuration
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.tasks.algorithms.registry import ALGORITHMS, TRAINED
from fanfold.tasks.fitted import Fitted


def is_of_another(plan: Experiment, directory: RunDirectory, what: str) -> bool:
    """Whether a method on embeddings judges the network of a run with another algorithm.

    Args:
        plan: What is asked for.
        directory: The run's.
        what: What can't be done by an algorithm that has to be trained, such as `be tested`.

    Raises:
        FanfoldError: Another algorithm is asked for, which has to be trained.
    """
    trained = read_configuration(directory.config).get("algorithm", {})
    own, asked, fitted = trained.get("name"), plan.flat["algorithm.name"], isinstance(plan.recipe.algorithm, Fitted)
    if asked != own and not fitted:
        methods = either(name for name in ALGORITHMS if name not in TRAINED)
        raise FanfoldError(
            f"`algorithm.name`: the run was trained by {own}, so it can't {what} by {asked}; its network can, by "
            f"{methods}."
        )
    return fitted and trained != asdict(plan.recipe.algorithm)
