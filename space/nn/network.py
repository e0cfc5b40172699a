"""The network built from an architecture, with the model interface of timm."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, pairwise
from typing import Any

from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from torch import Tensor, nn
from torch.nn import functional

from partialnas.space.arch.architecture import Activation, Architecture, RealizedBlock
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.errors import UserError
from partialnas.space.nn.blocks import NetworkBlock, apply_checkpointed
from partialnas.space.nn.init import fresh_seed, initialize, initialize_layer
from partialnas.space.nn.layers import BatchNorm, Downsample, make_activation


class NetworkStage(nn.Module):
    """Blocks of one width, after a merge (except in the first stage)."""

    def __init__(
        self,
        blocks: tuple[RealizedBlock, ...],
        merge: nn.Module,
        drop_path: list[float],
        act: Activation,
        dropout: float,
    ) -> None:
        super().__init__()
        self.grad_checkpointing = False
        self.merge = merge
        rates = zip(blocks, drop_path, strict=True)
        self.blocks = nn.Sequential(*(NetworkBlock(b, act, rate, dropout) for b, rate in rates))

    def forward(self, x: Tensor) -> Tensor:
        """Halve the map (except in the first stage) and apply the blocks."""
        x = self.merge(x)
        checkpointed = self.grad_checkpointing and self.training
        for block in self.blocks:
            x = apply_checkpointed(block, x) if checkpointed else block(x)
        return x


class Network(nn.Module):
    """The network of an architecture.

    It is built from `architecture.realized` alone, so that equal digests give equal networks. Its
    weights are drawn by `initialize` with a seed from torch's global generator.

    Args:
        architecture: what to build.
        in_chans: channels of the images.
        num_classes: outputs of the classifier; 0 for no classifier.
        drop_path_rate: drop path rate of the last block; rates grow linearly from 0.
        attention_dropout: dropout rate of self-attention, on its weights and after its projection.
        drop_rate: dropout rate before the classifier.
        global_pool: `avg`, `max`, or an empty string for no pooling.
        output_norms: whether each stage has a batch norm for its output, which
            `forward_intermediates` applies on request. The released detectors have them.

    Raises:
        UserError: The pooling changes the number of channels.
    """

    def __init__(
        self,
        architecture: Architecture,
        in_chans: int = 3,
        num_classes: int = 1000,
        drop_path_rate: float = 0.0,
        attention_dropout: float = 0.1,
        drop_rate: float = 0.0,
        global_pool: str = "avg",
        output_norms: bool = False,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.drop_rate = drop_rate
        self.drop_path_rate = drop_path_rate
        self.attention_dropout = attention_dropout
        widths = architecture.widths
        self.num_features = widths[-1]
        self.head_hidden_size = architecture.head_width
        self.feature_info = _feature_info(architecture)

        act, smallest = architecture.activation, architecture.smallest_resolution
        self.stem = Downsample(in_chans, widths[0], architecture.stem_stride, smallest)
        merges = [nn.Identity(), *(Downsample(*pair, 2, smallest) for pair in pairwise(widths))]
        rates = _drop_path_rates(architecture.depths, drop_path_rate)
        stages = zip(architecture.realized, merges, rates, strict=True)
        self.stages = nn.Sequential(*(NetworkStage(*s, act, attention_dropout) for s in stages))
        self.output_norms = nn.ModuleList(BatchNorm(width) for width in widths if output_norms)
        self.global_pool = _pooling(global_pool)
        head_conv = nn.Conv2d(self.num_features, self.head_hidden_size, 1, bias=False)
        self.head_conv: nn.Module = head_conv
        self.head_act = make_activation(act)
        self.classifier = self._classifier(num_classes)
        initialize(self, fresh_seed())

    def _classifier(self, num_classes: int) -> nn.Module:
        return nn.Linear(self.head_hidden_size, num_classes) if num_classes > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return N x num_classes logits of N x C x H x W images.

        Raises:
            UserError: The images are too small for the strides.
        """
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the maps of the last stage.

        Raises:
            UserError: The images are too small for the strides.
        """
        out: Tensor = self.stages(self.stem(x))
        return out

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the maps of the last stage and a list of those of the chosen stages.

        Args:
            x: N x C x H x W images.
            indices: positions of the stages, from 0, negative from the end; a number for so many
                of the last ones; None for all.
            norm: whether to apply the norms of the outputs to the list, if the network has them.
            stop_early: whether to compute no stage after the last chosen one; the first result is
                then the maps of that stage.
            output_fmt: `NCHW`, the only layout.
            intermediates_only: whether to return the list alone.

        Raises:
            UserError: The images are too small for the strides, there is no such stage, or another
                layout is requested.
        """
        if output_fmt != "NCHW":
            raise UserError(f"invalid output_fmt {output_fmt!r}: maps have the layout NCHW")
        chosen = _stage_positions(len(self.stages), indices)
        x = self.stem(x)
        maps: list[Tensor] = []
        for index, stage in enumerate(self.stages):
            if stop_early and index > max(chosen):
                break
            x = stage(x)
            if index in chosen:
                maps.append(self.output_norms[index](x) if norm and self.output_norms else x)
        return maps if intermediates_only else (x, maps)

    def prune_intermediate_layers(
        self,
        indices: int | Sequence[int] = 1,
        prune_norm: bool = False,
        prune_head: bool = True,
    ) -> list[int]:
        """Remove what the maps of the chosen stages do not need, and return their positions.

        These are the stages after the last chosen one, the norms of other outputs and the head. The
        head stays if `prune_head` is false and the last stage is chosen. Without a head, the
        network returns the maps of its last stage.

        Args:
            indices: the stages, as in `forward_intermediates`.
            prune_norm: whether to remove the norms of all outputs.
            prune_head: whether to remove the head although it could stay.

        Raises:
            UserError: There is no such stage.
        """
        chosen = _stage_positions(len(self.stages), indices)
        last = max(chosen)
        if prune_head or last < len(self.stages) - 1:
            self.num_features = self.head_hidden_size = self.architecture.widths[last]
            self.head_conv = self.head_act = nn.Identity()
            self.reset_classifier(0, "")
        self.stages = self.stages[: last + 1]
        for index in range(len(self.output_norms)):
            if prune_norm or index not in chosen:
                self.output_norms[index] = nn.Identity()
        return chosen

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits of the maps of the last stage, or the input of the classifier."""
        x = self.head_act(self.head_conv(self.global_pool(x)))
        if self.global_pool.pool_type:
            x = x.flatten(1)
        x = functional.dropout(x, self.drop_rate, self.training)
        return x if pre_logits else self.classifier(x)

    def no_weight_decay(self) -> set[str]:
        """Return the names of the matrices without weight decay.

        These are the position tables and the predictors of learned ratios. Decay would make the
        outputs of a predictor equal.
        """
        names = [name for name, _ in self.named_parameters()]
        return {n for n in names if n.endswith("position.table") or ".mixer.predictor." in n}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the pattern by which timm groups parameters into layers."""
        fine = [
            (r"^stages\.(\d+)\.merge", (0,)),
            (r"^stages\.(\d+)\.blocks\.(\d+)", None),
            (r"^head_conv", (99999,)),
        ]
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else fine}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the activations inside blocks in training, to save memory."""
        for module in self.modules():
            if isinstance(module, NetworkStage):
                module.grad_checkpointing = enable

    def get_classifier(self) -> nn.Module:
        """Return the linear layer of the logits (the identity if there are no classes)."""
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier, and the pooling if one is given.

        Raises:
            UserError: The pooling changes the number of channels.
        """
        if global_pool is not None:
            self.global_pool = _pooling(global_pool)
        self.num_classes = num_classes
        weight = self.stem.conv.weight
        self.classifier = self._classifier(num_classes).to(weight.device, weight.dtype)
        if isinstance(self.classifier, nn.Linear):
            initialize_layer(self.classifier, "classifier", fresh_seed())
        self.train(self.training)


def _pooling(kind: str) -> SelectAdaptivePool2d:
    if kind.endswith("catavgmax"):  # two values per channel, for which the head has no weights
        raise UserError(f"invalid global_pool {kind!r}: choose avg, max, avgmax or '' (none)")
    return SelectAdaptivePool2d(pool_type=kind)


def _stage_positions(stages: int, indices: int | Sequence[int] | None) -> list[int]:
    """Return the chosen positions of `stages` stages; see `Network.forward_intermediates`."""
    if isinstance(indices, int):
        indices = range(-indices, 0)
    positions = range(stages) if indices is None else indices
    if not positions or not all(-stages <= position < stages for position in positions):
        raise UserError(
            f"invalid indices {list(positions)}: choose from the {stages} stages, 0 to {stages - 1}"
        )
    return [position % stages for position in positions]


def _feature_info(architecture: Architecture) -> list[dict[str, Any]]:
    stride = architecture.stem_stride
    return [
        {"num_chs": width, "reduction": stride * 2**index, "module": f"stages.{index}"}
        for index, width in enumerate(architecture.widths)
    ]


def _drop_path_rates(depths: tuple[int, ...], rate: float) -> list[list[float]]:
    """Return the rates of the blocks of each stage, linear from 0 to `rate`."""
    steps = max(sum(depths) - 1, 1)
    blocks = count()
    return [[rate * next(blocks) / steps for _ in range(depth)] for depth in depths]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Set evaluation mode; on exit each module returns to the mode that it had."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def blank_images(network: nn.Module, input_spec: InputSpec, batch: int = 1) -> Tensor:
    """Return N x C x H x W zeros on the device and in the precision of a network."""
    return next(network.parameters()).new_zeros(batch, *input_spec.image_shape)
