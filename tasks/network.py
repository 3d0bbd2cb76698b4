"""An ordinary `nn.Module` as a pure function of named parameters, and those as one flat vector."""

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import linear
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from fanfold.data.advice import one_line
from fanfold.data.errors import FanfoldError
from fanfold.tasks.derivatives.backends import stack_for
from fanfold.tasks.derivatives.stack import Stack
from fanfold.tasks.derivatives.structure import structure_of
from fanfold.tasks.parameters import Shapes, count, unflatten


@dataclass(frozen=True)
class Network:
    """A module without state of its own: parameters are passed in.

    Attention that is learnt is computed by plain operations, as the fast kernels can't be differentiated twice.

    Args:
        module: The module; maps images `[n, channels, height, width]` to logits `[n, ways]`, or to embeddings `[n, d]`.
            Its own parameters serve as names and shapes only.
        shapes: The parameters' names and shapes, in the flat vector's order.
        channels_last: Whether images and filters are laid out with channels last, which on a CPU makes convolution,
            batch norm and pooling 1.7 times as fast; exact second order gains nothing from it.
        outputs: Numbers that an image is mapped to: ways, or the embedding's length.
        ends_in_head: Whether the last linear layer's output is the module's.
        draws: Whether a call may draw random numbers, as dropout does: any module may but a stack of known layers.
        vectorized: Whether each operation computes all tasks of a chunk, by `torch.vmap` or by the stack, which suits a
            GPU; otherwise tasks are computed one after another, a few small ones at a time, which suits a CPU.
        stack: The module as layers with their derivatives written out, for several tasks or for one; None for a module
            that isn't a stack of known layers.
    """

    module: nn.Module
    shapes: Shapes
    channels_last: bool
    outputs: int
    ends_in_head: bool
    draws: bool = True
    vectorized: bool = False
    stack: Stack | None = None

    def __call__(self, parameters: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Logits `[n, ways]`, or embeddings `[n, d]`, of images `[n, channels, height, width]`."""
        if self.one_task_stack is not None:
            return self.one_task_stack(parameters, images)
        if self.channels_last:
            parameters = {name: _channels_last(value) for name, value in parameters.items()}
            images = _channels_last(images)
        # Buffers are passed in as copies, so that none carries anything from one call to the next.
        buffers = {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        with nullcontext() if self.frozen else sdpa_kernel(SDPBackend.MATH):
            output: Tensor = functional_call(self.module, {**parameters, **buffers}, (images,))
        return output

    @property
    def one_task_stack(self) -> Stack | None:
        """The stack, if it computes calls: on a CPU, outside of `torch.vmap`."""
        stack = self.stack
        return stack if stack is not None and not self.vectorized and stack.device.type == "cpu" else None

    @property
    def batch_norms(self) -> dict[str, _BatchNorm]:
        """The layers through which images of one batch influence each other, by name."""
        layers = self.module.named_modules()
        return {name: one for name, one in layers if isinstance(one, _BatchNorm) and one.running_mean is None}

    @property
    def normalizes_by_batch(self) -> bool:
        """Whether images judged together influence each other, through statistics of their batch."""
        return bool(self.batch_norms)

    @property
    def frozen(self) -> bool:
        """Whether nothing is learnt but the last linear layer, if that."""
        return set(self.shapes) <= set(self.head)

    def train(self, mode: bool) -> None:
        """Let layers such as dropout do what they do in training, or not; frozen ones never do."""
        self.module.train(mode)
        for layer in _fixed(self.module):
            layer.eval()

    def features(self, parameters: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """The inputs of the last linear layer, `[n, d]`."""
        if self.one_task_stack is not None:
            return self.one_task_stack.features(parameters, images)
        found: list[Tensor] = []
        layer = self.module.get_submodule(last_linear(self.module) or "")
        hook = layer.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
        try:
            self(parameters, images)
        finally:
            hook.remove()
        return found[-1]

    @property
    def head(self) -> list[str]:
        """Names of the parameters of the last linear layer: none where the module has no such layer."""
        name = last_linear(self.module)
        return [] if name is None else [known for known in self.shapes if known.startswith(f"{name}.")]

    def initial(self) -> dict[str, Tensor]:
        """The module's own parameters that are learnt, as it was initialized, by name."""
        own = dict(self.module.named_parameters())
        return {name: own[name].detach().clone() for name in self.shapes}

    def kept(self) -> dict[str, Tensor]:
        """What of the module isn't learnt, by name: frozen parameters, and buffers that a state dict has."""
        return {name: value for name, value in self.module.state_dict().items() if name not in self.shapes}

    def fill(self, kept: Mapping[str, Tensor]) -> None:
        """Take what another network of this kind has kept; other tensors may stand among these."""
        with torch.no_grad():
            for name, value in self.kept().items():
                if name in kept:
                    value.copy_(kept[name])

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """The flat vector as named tensors, views of it."""
        return unflatten(self.shapes, vector)

    def own(self, vector: Tensor) -> dict[str, Tensor]:
        """The network's own parameters out of a flat vector that begins with them."""
        return self.unflatten(vector[: count(self.shapes)])


def as_network(
    module: nn.Module,
    size: tuple[int, int],
    ways: int | None,
    *,
    channels: int = 1,
    vectorized: bool = False,
    precision: str = "float32",
) -> Network:
    """Wrap a module, and check that it does what it must.

    Args:
        module: The module.
        size: Height and width of the images.
        ways: Classes to tell apart; None to take the last linear layer away, the one called `head` or else the one
            defined last: the network then gives embeddings, the inputs of that layer.
        channels: Of the images.
        vectorized: Whether each operation is to compute all tasks of a chunk.
        precision: Of vectorized tasks' products on a GPU, see `tasks.derivatives.backends.triton_operations`.

    Parameters that require no gradient are frozen: they stay as they are, as do the statistics of normalizations in
    modules all of whose parameters are frozen. Other running statistics are those of an order of tasks, and tasks
    computed in parallel have none. Without a head they are replaced by the batch's own; see `batch_statistics` for
    tests. So is it defined where each batch is one task, and its images are all that is known of it.

    Raises:
        FanfoldError: The module has a head and keeps running statistics, or has no parameters; or it does not map an
            image to so many logits, by all its parameters; or it can't be vectorized over tasks.
    """
    _check_parameters(module)
    if ways is None:
        module = _without_last_linear(module)
    module = _without_running(module, ways)
    shapes = {name: value.shape for name, value in module.named_parameters() if value.requires_grad}
    channels_last = ways is None and not vectorized
    network = Network(module, shapes, channels_last, outputs=0, ends_in_head=False, vectorized=vectorized)
    network.train(True)
    parameters = {name: value.requires_grad_() for name, value in network.initial().items()}
    own = next(module.parameters(), None)
    if own is None:
        but = " but those of its last linear layer, the head, which the algorithm leaves out" if ways is None else ""
        raise FanfoldError(f"The model has no parameters to learn{but}.")
    if not parameters and ways is not None:
        raise FanfoldError("All parameters of the model are frozen: leave those of its last linear layer, the head.")
    images = torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(0)).to(own)
    try:
        output, ends_in_head = _probe(network, parameters, images)
        if output.dim() != 2 or len(output) != 2 or ways not in (None, output.shape[1]):
            what = "embeddings [2, d]" if ways is None else f"logits [2, {ways}]"
            raise FanfoldError(f"The model must give {what} for two images, not {list(output.shape)}.")
        if parameters:
            torch.autograd.grad(output.sum(), list(parameters.values()))
    except FanfoldError:
        raise
    except Exception as error:  # whatever a user's own module may raise
        raise FanfoldError(f"The model fails on images of shape {list(images.shape)}: {one_line(error)}") from error
    structure = structure_of(module) if all(value.requires_grad for value in module.parameters()) else None
    network = replace(network, outputs=output.shape[1], ends_in_head=ends_in_head, draws=structure is None)
    if vectorized:
        _check_vectorized(network, parameters, images)
    if structure is None or (vectorized and ways is None):  # no algorithm has use for vectorized stacks without a head
        return network
    stack = stack_for(structure, shapes, size, output.device, vectorized=vectorized, precision=precision)
    return replace(network, stack=stack)


def batch_statistics(network: Network, parameters: Mapping[str, Tensor], images: Tensor) -> dict[str, Tensor]:
    """Mean and variance that each batch norm sees, all images being one batch: an estimate of the population's.

    Running averages estimate the same. These are of exactly these parameters, from a chosen batch, without state
    (Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", section 3).

    Returns:
        `LAYER.running_mean` and `LAYER.running_var`, `[channels]` each.
    """
    found: dict[str, Tensor] = {}

    def note(name: str, batch: Tensor) -> None:
        dimensions = [0, *range(2, batch.dim())]
        found[f"{name}.running_mean"] = batch.mean(dimensions)
        found[f"{name}.running_var"] = batch.var(dimensions)

    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: note(name, inputs[0]))
        for name, layer in network.batch_norms.items()
    ]
    try:
        with torch.no_grad():
            replace(network, stack=None)(parameters, images)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def with_statistics(network: Network, statistics: Mapping[str, Tensor]) -> Network:
    """The network with its batch norms normalizing by statistics of `batch_statistics`: each image by itself."""
    module = copy.deepcopy(network.module)
    for name, layer in replace(network, module=module).batch_norms.items():
        layer.running_mean = statistics[f"{name}.running_mean"]
        layer.running_var = statistics[f"{name}.running_var"]
        layer.eval()
    return replace(network, module=module, stack=None)


class Embedded(Network):
    """A network for images that were embedded already: it hands embeddings `[n, d]` on."""

    def __call__(self, parameters: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """The embeddings that were given."""
        return images


class HeadAlone(Network):
    """A network for images that were embedded already, of which the last linear layer, the head, is left."""

    def __call__(self, parameters: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Logits `[n, ways]` of embeddings `[n, d]`."""
        return linear(images, *(parameters[name] for name in self.head))

    def features(self, parameters: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """The embeddings that were given."""
        return images


def embedded(network: Network) -> Network:
    """A network for images that were embedded before: what is left of it is its head, if it has one.

    Raises:
        ValueError: An image's embedding isn't that of the image alone.
    """
    if not embeddable(network):
        raise ValueError("its body learns, or normalizes images together")
    kind = HeadAlone if network.shapes else Embedded
    return kind(**{**vars(network), "stack": None, "draws": False})


def embeddable(network: Network) -> bool:
    """Whether a network's body stays as it is, computes something, and embeds each image by itself."""
    body = {name for name, _ in network.module.named_parameters()} - set(network.head)
    own = network.ends_in_head or not network.shapes
    return bool(body) and network.frozen and not network.normalizes_by_batch and own


def _generators_kept(images: Tensor) -> AbstractContextManager[None]:
    """A context whose random numbers leave the worker's generators as they were.

    Of GPUs, only that of the images is asked: asked for its generator, a GPU gets a context.
    """
    return torch.random.fork_rng([images.device] if images.is_cuda else [])


def _check_vectorized(network: Network, parameters: Mapping[str, Tensor], images: Tensor) -> None:
    """Raise FanfoldError where a network can't be vectorized over tasks."""
    try:
        with _generators_kept(images):
            torch.vmap(lambda of_task: network(parameters, of_task), randomness="different")(images[None])
    except Exception as error:  # whatever a user's own module may raise
        raise FanfoldError(
            f"The model can't be vectorized over tasks ({one_line(error)}): set `meta.together` to false."
        ) from error


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def last_linear(module: nn.Module) -> str | None:
    """Its name: that of the layer called `head`, or else of the linear layer that was defined last."""
    if isinstance(getattr(module, "head", None), nn.Linear):
        return "head"
    names = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    return names[-1] if names else None


def _probe(network: Network, parameters: Mapping[str, Tensor], images: Tensor) -> tuple[Tensor, bool]:
    """The module's output, and whether it is that of the last linear layer, applied to what goes into it."""
    name = last_linear(network.module)
    called: list[Tensor] = []
    layer = network.module.get_submodule(name or "")
    hook = layer.register_forward_pre_hook(lambda _, inputs: called.append(inputs[0]))
    try:
        with _generators_kept(images):
            output = network(parameters, images)
    finally:
        hook.remove()
    # The layer may be the module itself, parametrized, or have its weight used without being called.
    plain = network.head in ([f"{name}.weight"], [f"{name}.weight", f"{name}.bias"])
    if not (name and called and plain):
        return output, False
    logits = linear(called[-1], *(parameters[known] for known in network.head))
    return output, logits.shape == output.shape and torch.allclose(logits, output)


def _check_parameters(module: nn.Module) -> None:
    """Raise FanfoldError unless all parameters have numbers, and those to be learnt real ones."""
    for name, value in module.named_parameters():
        if is_lazy(value):
            raise FanfoldError(f"The model's parameter '{name}' has no shape yet: call the model on pictures before.")
        if value.requires_grad and not value.is_floating_point():
            raise FanfoldError(f"The model's parameter '{name}' is {value.dtype}: only real numbers can be learnt.")


def _fixed(module: nn.Module) -> list[nn.Module]:
    """The modules that stay as they are: those of frozen parameters alone, and normalizations by given statistics."""
    found = []
    for layer in module.modules():
        parameters = list(layer.parameters())
        frozen = bool(parameters) and not any(value.requires_grad for value in parameters)
        if frozen or (_has_statistics(layer) and not layer.track_running_stats):
            found.append(layer)
    return found


def _has_statistics(layer: nn.Module) -> bool:
    return getattr(layer, "running_mean", None) is not None


def _without_running(module: nn.Module, ways: int | None) -> nn.Module:
    """The module without statistics that change as it is called, see `as_network`."""
    fixed = {layer for parent in _fixed(module) for layer in parent.modules()}
    running = {name: one for name, one in module.named_modules() if _has_statistics(one) and one not in fixed}
    if running and ways is not None:
        name, layer = next(iter(running.items()))
        raise FanfoldError(
            f"The model's layer '{name}' ({type(layer).__name__}) keeps running statistics, which tasks in parallel "
            "can't share: build it with track_running_stats=False, or freeze it by requires_grad_(False)."
        )
    if running:
        module = copy.deepcopy(module)
        for name in running:
            by_batch(module.get_submodule(name))
    return module


def by_batch(layer: Any) -> None:
    """Let a normalization take the statistics of the images at hand, and keep none."""
    layer.track_running_stats = False
    layer.running_mean = layer.running_var = layer.num_batches_tracked = None


def _without_last_linear(module: nn.Module) -> nn.Module:
    """A copy of the module whose last linear layer hands its input on."""
    name = last_linear(module)
    if name is None:
        return module
    if not name:  # the module itself is that layer
        return nn.Identity()
    module = copy.deepcopy(module)
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, nn.Identity())
    return module
