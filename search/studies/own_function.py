"""A training loop in plain PyTorch, which own-function.yaml runs in place of the built-in one."""

from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

from partialnas.space import Architecture, Network


def train(
    architecture: Architecture, seed: int, epochs: int, report: Callable[..., None]
) -> dict[str, float]:
    """Train on 1,400 handwritten digits of 8 x 8 pixels; return metrics on 397 other ones."""
    torch.manual_seed(seed)
    pixels, digits = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(digits)
    network = Network(architecture, in_chans=1, num_classes=10)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    metrics: dict[str, float] = {}
    for epoch in range(1, epochs + 1):
        network.train()
        for batch in torch.randperm(1400).split(64):
            optimizer.zero_grad()
            cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            logits = network(images[1400:])
        correct = (logits.argmax(dim=1) == labels[1400:]).double().mean()
        metrics["val_nll"] = cross_entropy(logits, labels[1400:]).item()
        metrics["val_accuracy"] = 100 * correct.item()
        report(epoch, metrics)
    return metrics
