"""Names of files: too long, not there, of another kind of file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.fuzz.judging import Read, WrongError
from benchmarks.fuzz.mutation import NAMES, Random, choice, damaged
from fanfold.data.labelled import classes_in, count_pictures
from fanfold.data.pictures import Preprocessing, read_picture
from fanfold.data.sources.arrays import read_npz
from fanfold.data.sources.cifar import cifar_source
from fanfold.data.sources.folder import Looks, folder_source
from fanfold.data.sources.omniglot import OmniglotSource
from fanfold.data.sources.tables import read_split
from fanfold.data.store import open_store, verify_store
from fanfold.pipeline.checkpoint import load_checkpoint
from fanfold.pipeline.classifier import Classifier
from fanfold.pipeline.learner_file import read_learner
from fanfold.pipeline.recording.kept import read_configuration
from fanfold.workflows.cli.configs import read_config
from fanfold.workflows.cli.configuration import check_run
from fanfold.workflows.reporting.run import read_run

READERS: tuple[Callable[[Any], object], ...] = (
    *(read_config, open_store, verify_store, OmniglotSource, Classifier.load),
    *(lambda name: check_run(name, ""), lambda name: read_picture(name, Preprocessing(8))),
    *(lambda name: folder_source(Path(name), Looks(Preprocessing(8)), {}),),
    *(
        lambda name, reader=reader: reader(Path(name))
        for reader in (
            *(count_pictures, classes_in, read_npz, cifar_source, read_split, load_checkpoint, read_learner),
            *(read_configuration, read_run),
        )
    ),
)


def names(folder: Path, random: Random) -> Read:
    """A name that no reader can take: it is refused."""
    name, reader = choice(random, NAMES), choice(random, list(READERS))
    if random.random() < 0.4:
        name = damaged(name.encode(errors="surrogatepass"), random).decode(errors="surrogateescape")
    name = name if name.strip("/.") else "nowhere"  # no folder that is there
    place = f"{folder}/{name}" if random.random() < 0.5 else name
    if random.random() < 0.1:
        (folder / "loop").symlink_to(folder / "loop")
        place = str(folder / "loop")

    def read() -> None:
        reader(place)
        raise WrongError(f"{name!r:.100} was read")

    return read
