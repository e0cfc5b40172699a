"""The average of weights has the learned sizes of the trained network."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.augment import DeviceSplits
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.training.loop import Training
from partialnas.space.arch.plan import Plan
from partialnas.space.deploy.freeze import learned_mixers
from partialnas.space.nn.dpconv import InputDependentMixer
from partialnas.space.nn.init import initialize
from partialnas.space.nn.network import Network

DECAY = 0.9
SHAPE = {"stem_stride": 1, "width": 8, "depths": (1, 1, 1, 1), "head_width": 16}
METHODS: dict[str, dict[str, Any]] = {
    "threshold": {},
    "gates": {"method": "gates"},
    "input": {"per": "input"},
}


class ExplicitAverage:
    """Averages the parameters and buffers of a network by timm's formula with warm-up."""

    def __init__(self, network: nn.Module) -> None:
        self.tensors = {name: tensor.clone() for name, tensor in self._tensors(network).items()}
        self.steps = 0

    @staticmethod
    def _tensors(network: nn.Module) -> dict[str, Tensor]:
        tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        return {name: t.detach() for name, t in tensors.items() if not name.endswith("shares")}

    def update(self, network: nn.Module) -> None:
        decay = min(1 - (1 + self.steps) ** (-2 / 3), DECAY) if self.steps else 0.0
        self.steps += 1
        for name, tensor in self._tensors(network).items():
            if tensor.is_floating_point():
                self.tensors[name] = decay * self.tensors[name] + (1 - decay) * tensor
            else:
                self.tensors[name] = tensor.clone()

    def network(self, training: Training) -> Network:
        """Return a new network with the averaged tensors and the sizes of the trained one."""
        assert isinstance(training.network, Network)
        network = Network(training.network.architecture, in_chans=1, num_classes=10)
        network.load_state_dict(self.tensors, strict=False)
        trained = learned_mixers(training.network)
        for block_index, mixer in learned_mixers(network).items():
            source = trained[block_index]
            if isinstance(mixer, InputDependentMixer):
                assert isinstance(source, InputDependentMixer)
                mixer.logit_offset = source.logit_offset
            else:
                assert not isinstance(source, InputDependentMixer)
                mixer.set_sizes(source.sizes, source.ramp)
        return network.eval()


@pytest.mark.parametrize("method", METHODS)
def test_the_average_has_the_sizes_of_the_trained_network(method: str, few_digits: Splits) -> None:
    recipe = Recipe(ema=DECAY, ratio_freeze=0.6, lr=0.02)
    ratio = {"learned": {"grain": 1, "budget": 0.3, **METHODS[method]}}
    network = Network(Plan.model_validate(SHAPE | {"ratio": ratio}).architecture(), 1, 10)
    initialize(network, 0)
    data = DeviceSplits.from_splits(few_digits, recipe, torch.device("cpu"))
    training = Training(network, recipe, 2, 0, data)
    assert training.average is not None
    explicit = ExplicitAverage(network)
    update = training.average.update

    def update_both(share: float | Tensor) -> None:
        update(share)
        explicit.update(network)

    training.average.update = update_both  # type: ignore[method-assign]
    images = next(iter(data.val.sequential_batches(20)))[0]
    for _ in range(2):  # the ratios are learned in the first epoch and fixed in the second
        training.run_epoch()
        expected = explicit.network(training)
        with torch.no_grad():
            logits = training.evaluated_network.eval()(images)
            torch.testing.assert_close(logits, expected(images), rtol=1e-4, atol=1e-6)
    if method != "input":
        start = Network(network.architecture, 1, 10)
        sizes = [mixer.sizes for mixer in learned_mixers(start).values()]  # type: ignore[union-attr]
        final = [mixer.sizes for mixer in learned_mixers(network).values()]  # type: ignore[union-attr]
        assert sizes != final
