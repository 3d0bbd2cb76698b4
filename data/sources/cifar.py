"""CIFAR-FS (Bertinetto, Henriques, Torr and Vedaldi, ICLR 2019): the classes of CIFAR-100, split by name."""

import pickle
import sys
import tarfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fanfold.data.advice import as_text, one_line
from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import Preprocessing
from fanfold.data.source import ClassName
from fanfold.data.sources.download import FAILURES, TIMEOUT_SECONDS, DownloadError, socket_timeout
from fanfold.data.sources.picture_source import PictureClass, PictureSource

ARCHIVE = "cifar-100-python.tar.gz"
FOLDER = "cifar-100-python"
SIZE = 32
VALIDATION = (
    *("beaver", "beetle", "butterfly", "camel", "cattle", "crab", "crocodile", "flatfish"),
    *("lamp", "maple_tree", "motorcycle", "otter", "sea", "shark", "television", "tractor"),
)
TEST = (
    *("baby", "bed", "bicycle", "chimpanzee", "fox", "leopard", "man", "pickup_truck", "plain", "poppy"),
    *("rocket", "rose", "snail", "sweet_pepper", "table", "telephone", "wardrobe", "whale", "woman", "worm"),
)
_PARTS = {**dict.fromkeys(VALIDATION, "validation"), **dict.fromkeys(TEST, "test")}  # others train
_MOST_BYTES = 1_000_000_000  # of a member of the archive; the largest has 155 MB
_BLOCK = 2**20
_ALLOWED = {  # what the archive's pickles are made of: arrays
    *(("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")),
    *(("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")),
}


class CifarSource(PictureSource):
    """The pictures of CIFAR-100's training and test part together, by class; the groups are its superclasses."""

    dataset = "cifar-fs"


def cifar_source(place: Path, origin: str | None = None) -> CifarSource:
    """The source of CIFAR-100's archive for Python, of the folder that holds it, or of its unpacked folder.

    Args:
        place: The archive or folder.
        origin: Where it comes from; by default itself.

    Raises:
        FanfoldError: It can't be read, or holds anything else.
    """
    meta, *parts = _members(place)
    try:
        fine, coarse = ([as_str(name) for name in meta[key]] for key in ("fine_label_names", "coarse_label_names"))
        found: dict[ClassName, list[tuple[str, NDArray[np.uint8]]]] = {}
        for part in parts:
            pixels = _pixels(part["data"]).reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1)
            groups, labels = (
                _numbered(part[key], names) for key, names in (("coarse_labels", coarse), ("fine_labels", fine))
            )
            named = zip(groups, labels, map(as_str, part["filenames"]), strict=True)
            for picture, (group, label, name) in zip(pixels, named, strict=True):
                found.setdefault(ClassName(group, label), []).append((name, picture))
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise FanfoldError(f"{place}: not CIFAR-100 for Python ({one_line(error)[:200]})") from error
    classes = [
        PictureClass(name, _PARTS.get(name.name, "train"), [one[1] for one in pictures], [one[0] for one in pictures])
        for name, pictures in sorted(found.items(), key=lambda item: [part.encode() for part in item[0]])
    ]
    return CifarSource(classes, Preprocessing(SIZE, 3), {"source": origin or str(place.absolute())})


def as_str(text: Any) -> str:
    """Text of a pickle of Python 2's, which is bytes."""
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else as_text(str(text))


def _pixels(data: Any) -> NDArray[np.uint8]:
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8:
        raise ValueError("data are no array of uint8")
    return np.ascontiguousarray(data)


def _numbered(numbers: Any, names: Sequence[str]) -> list[str]:
    """The names of labels, which number them from 0."""
    if not all(isinstance(number, int) and 0 <= number < len(names) for number in numbers):
        raise ValueError(f"a label is no number from 0 to {len(names) - 1}")
    return [names[number] for number in numbers]


def download_cifar(folder: Path, *, progress: bool = True) -> tuple[Path, str]:
    """Download CIFAR-100's archive, unless the folder has it, and compare its MD5 sum. Returns it, and its address.

    Raises:
        DownloadError: It can't be downloaded.
    """
    from torchvision.datasets import CIFAR100  # takes seconds to import
    from torchvision.datasets.utils import check_integrity, download_url

    path = folder / ARCHIVE
    if progress and not path.exists():
        print(f"Downloading {CIFAR100.url}", file=sys.stderr, flush=True)
    try:
        with socket_timeout(TIMEOUT_SECONDS):
            download_url(CIFAR100.url, str(folder), ARCHIVE, CIFAR100.tgz_md5)
        if not check_integrity(str(path), CIFAR100.tgz_md5):
            raise RuntimeError("its MD5 sum is another")
    except FAILURES as error:
        path.unlink(missing_ok=True)
        raise DownloadError(
            f"CIFAR-100 could not be downloaded ({one_line(error)}); name a folder that holds {ARCHIVE} with "
            "`dataset.source`"
        ) from error
    return path, CIFAR100.url


class _Arrays(pickle._Unpickler):
    """Reads pickles of numbers, texts and arrays, and calls nothing else.

    The one in Python: that in C takes memory for as many objects as a damaged pickle says it has.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it would call {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _members(place: Path) -> list[Mapping[str, Any]]:
    """The files `meta`, `train` and `test` of the archive, by their keys.

    Raises:
        FanfoldError: One isn't there, or can't be read.
    """
    if (place / FOLDER / "meta").exists():
        place = place / FOLDER
    elif (place / ARCHIVE).exists():
        place = place / ARCHIVE
    names = ("meta", "train", "test")
    try:
        if place.is_dir():
            return [_unpickled(BytesIO((place / name).read_bytes())) for name in names]
        with tarfile.open(place, "r:*") as archive:
            found = [_unpickled(_entry(archive, f"{FOLDER}/{name}")) for name in names]
            assert archive.fileobj is not None
            while archive.fileobj.read(_BLOCK):  # to the end, where the checksum of a compressed archive stands
                pass
            return found
    except FileNotFoundError as error:
        missing = Path(error.filename).name if place.is_dir() else "meta"
        raise FanfoldError(f"{place}: holds no {ARCHIVE}, nor what is in it ({missing} is missing)") from error
    except Exception as error:  # damaged archives and pickles raise many kinds of errors
        raise FanfoldError(f"{place}: not CIFAR-100 for Python ({one_line(error)[:200]})") from error


def _entry(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    entry = archive.getmember(name)
    content = archive.extractfile(entry)
    if content is None or entry.size > _MOST_BYTES:
        raise ValueError(f"{name} is no file, or far too large")
    return content


def _unpickled(file: IO[bytes]) -> Mapping[str, Any]:
    return {as_str(key): value for key, value in _Arrays(file, encoding="bytes").load().items()}
