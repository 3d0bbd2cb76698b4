"""Networks for use without Fanfold: ONNX, or PyTorch's exported programs, each with a model card.

Both take images `[n, channels, height, width]`, float32 from 0 to 1, any number of them, each judged by itself.
"""

import copy
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fanfold.data.errors import FanfoldError
from fanfold.data.extras import need
from fanfold.data.pictures import Preprocessing
from fanfold.pipeline.files import write_bytes
from fanfold.pipeline.model_card import Format, write_card
from fanfold.tasks.learner import Learner

if TYPE_CHECKING:
    from fanfold.pipeline.classifier import Classifier

FORMATS: Mapping[str, Format] = {".onnx": "onnx", ".pt2": "torch"}
"""The formats by the suffixes of their files."""


def format_of(path: Path) -> Format:
    """The format that a file's suffix names.

    Raises:
        FanfoldError: It names none, or what writes it isn't installed.
    """
    if path.suffix not in FORMATS:
        raise FanfoldError(f"`path` must end in {' or '.join(FORMATS)}, not '{path.name}'.")
    if FORMATS[path.suffix] == "onnx":
        need("onnx", "Export to ONNX")
    return FORMATS[path.suffix]


class _Probabilities(nn.Module):
    """A classifier's calibrated probabilities `[n, ways]`."""

    def __init__(self, learnt: nn.Module, temperature: float) -> None:
        super().__init__()
        self.learnt, self.temperature = learnt, temperature

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = (self.learnt(images) / self.temperature).softmax(1)
        return found


def export_classifier(classifier: "Classifier", path: Path, kind: Format) -> None:
    """Write a classifier, with all that it learnt: images to the probabilities of its classes, in their order.

    Raises:
        FanfoldError: The network can't be exported, the file can't be written, or ONNX isn't installed.
    """
    module = _Probabilities(classifier.learnt, classifier.temperature).eval()
    _write(module, classifier.preprocessing, "probabilities", path, kind)
    lines = [f"{place}. {label}" for place, label in enumerate(classifier.labels)]
    trust = []
    if classifier.right is not None:
        trust.append("Leave-one-out on its support pictures: {} of {} right.".format(*classifier.right))
    if classifier.calibration is not None:
        trust.append(f"Accuracy {classifier.calibration}, temperature {classifier.temperature:.3f}.")
    output = "`probabilities` `[n, classes]`, of the classes"
    outputs = [output, "", *lines, "", *trust]
    write_card(path, kind, classifier.learner, classifier.preprocessing, outputs, classifier.origin)


def export_encoder(learner: Learner, preprocessing: Preprocessing, path: Path, kind: Format, origin: str = "") -> None:
    """Write a network that embeds: images to embeddings `[n, d]`.

    Raises:
        FanfoldError: The algorithm adapts its network to a support set, so that there is none before; or as above.
    """
    if not learner.embeds:
        raise FanfoldError(
            f"{learner.algorithm.name} adapts its network to a support set: give `support`, to export a classifier."
        )
    _write(learner.encoder, preprocessing, "embeddings", path, kind)
    write_card(path, kind, learner, preprocessing, ["`embeddings` `[n, d]`"], origin)


def _write(module: nn.Module, preprocessing: Preprocessing, output: str, path: Path, kind: Format) -> None:
    # Filters with channels last, as on a CPU, are no complete tensors to PyTorch's file.
    module = copy.deepcopy(module).to(memory_format=torch.contiguous_format)
    example = torch.rand(2, preprocessing.channels, preprocessing.size, preprocessing.size)
    shapes = ({0: torch.export.Dim("n", min=1)},)
    try:
        program = torch.export.export(module, (example,), dynamic_shapes=shapes)
        if kind == "torch":
            content = BytesIO()
            torch.export.save(program, content)
            write_bytes(path, content.getvalue())
            return
        need("onnx", "Export to ONNX")
        found = torch.onnx.export(program, input_names=["images"], output_names=[output], dynamo=True, verbose=False)
        assert found is not None
        write_bytes(path, found.model_proto.SerializeToString())
    except (FanfoldError, MemoryError):
        raise
    except Exception as error:  # whatever a network may hold that can't be exported
        raise FanfoldError(f"The network can't be exported ({' '.join(str(error).split())[:200]}).") from error
