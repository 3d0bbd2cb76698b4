"""Draw tasks as a picture: their support images and their queries."""

from collections.abc import Sequence

from fanfold.data.errors import FanfoldError
from fanfold.workflows.cli.configuration import build_parser, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.flags import say


def main(argv: Sequence[str]) -> None:
    parser = build_parser("workflows.picture", __doc__, argv, ["dataset", "task"])
    parser.add_argument("--seed", type=int, default=0, help="the seed of the tasks")
    parser.add_argument("--tasks", type=int, default=3, help="how many tasks to draw")
    parser.add_argument(
        "--out", type=str, default="tasks.png", help="the picture's path; its suffix decides the format"
    )
    options = parse(parser, argv)
    # Only here: help and wrong arguments need no PyTorch, which takes seconds to import.
    from fanfold.data.images import open_images
    from fanfold.data.splits import split_classes
    from fanfold.data.store import open_store
    from fanfold.pipeline.experiment import resolve_dataset
    from fanfold.tasks.batch import gather_tasks
    from fanfold.tasks.episodes import Stream, check_episode_shape, check_seed, draw_episodes, large_enough
    from fanfold.workflows.actions.picture import draw_tasks

    check_seed(options.seed)
    if options.tasks < 1:
        raise FanfoldError(f"--tasks must be at least 1, not {options.tasks}.")
    dataset, note = resolve_dataset(options.dataset)
    if note:
        say(note)
    store = open_store(dataset.store or "")
    images, classes = open_images(store), split_classes(store, dataset.split).test
    shape = options.task.shape([images.counts[classes]])
    check_episode_shape(Stream.TEST, shape, classes, images.counts)
    classes = large_enough(shape, classes, images.counts)
    episodes = draw_episodes(options.seed, Stream.TEST, 0, options.tasks, shape, classes, images.counts)
    figure = draw_tasks(gather_tasks(episodes, shape, images))
    try:
        figure.savefig(options.out)
    except (OSError, ValueError) as error:
        raise FanfoldError(f"The picture {options.out} can't be written ({error}).") from error
    print(f"{options.out}: {options.tasks} tasks of {store.dataset}, {dataset.split}")


if __name__ == "__main__":
    run(main)
