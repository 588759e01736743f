"""The nets of the speed benchmark in PyTorch, trained from arrays in memory, as its users write it."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks import strong_torch

SHIFT = 2
RATE, DECAY = 0.02, 0.2  # The strong recipe's.


def small_net() -> list[nn.Module]:
    """The net of recipes/optimizers.py."""

    def block(inside: int, filters: int, strides: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inside, filters, 3, strides, padding=1, bias=False)
        return [convolution, nn.MaxPool2d(2), nn.BatchNorm2d(filters, momentum=0.2), nn.ReLU()]

    return [*block(3, 24, 2), *block(24, 64, 1), nn.Flatten(), nn.Linear(1024, 10)]


def strong_net() -> list[nn.Module]:
    """The net of recipes/strong_baseline.py. Its first weights are fixed ones, and here random: that is as fast."""
    layers = [nn.Conv2d(3, 24, 2, bias=False).requires_grad_(False), nn.ReLU()]
    inside = 24
    for filters, convolutions in ((32, 2), (128, 2), (128, 3)):
        for number in range(convolutions):
            layers.append(nn.Conv2d(inside, filters, 3, padding=1, bias=False))
            layers += [] if number else [nn.MaxPool2d(2)]
            layers += [strong_torch.norm(filters, epsilon=1e-5), nn.ReLU()]
            inside = filters
    return [*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(inside, 10, bias=False)]


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalized by five Newton-Schulz steps, and decoupled weight decay (Jordan 2024)."""

    def __init__(self, kernels: list[nn.Parameter], orthogonal: Callable) -> None:
        super().__init__(kernels, {"lr": RATE, "decay": DECAY})
        self.orthogonal = orthogonal

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for kernel in group["params"]:
                state = self.state[kernel]
                if not state:
                    state["momentum"] = torch.zeros_like(kernel)
                momentum = state["momentum"].mul_(0.9).add_(kernel.grad)
                update = self.orthogonal((kernel.grad + 0.9 * momentum).reshape(len(kernel), -1), 5)
                kernel.mul_(1 - group["lr"] * group["decay"])
                scale = 0.2 * max(update.shape) ** 0.5
                kernel.sub_(update.view(kernel.shape), alpha=scale * group["lr"])


def contestant(
    net: str, images: np.ndarray, labels: np.ndarray, batch: int, compiled: bool
) -> tuple[Callable[[], None], int]:
    """A function that trains for an epoch, and how many weights it trains. Images are uint8 (n, 32, 32, 3)."""
    strong = net == "strong"
    model: nn.Module = nn.Sequential(*(strong_net() if strong else small_net()))
    model = model.to(memory_format=torch.channels_last)
    learned = [weight for weight in model.parameters() if weight.requires_grad]
    compiled_or_not: Callable = torch.compile if compiled else lambda function: function
    optimizers: list[torch.optim.Optimizer] = []
    if strong:
        kernels = [weight for weight in learned if weight.ndim == 4]
        others = [weight for weight in learned if weight.ndim != 4]
        optimizers = [Muon(kernels, compiled_or_not(strong_torch.orthogonal))]
        optimizers += [torch.optim.AdamW(others, RATE, weight_decay=DECAY)]
    else:
        optimizers = [torch.optim.SGD(learned, 0.1, momentum=0.9, nesterov=True)]

    @compiled_or_not
    def loss_of(crops: torch.Tensor, its_labels: torch.Tensor) -> torch.Tensor:
        x = (crops.float() / 64 - 2).contiguous(memory_format=torch.channels_last)
        # The weights stay in float32, as they do under Keras's mixed_bfloat16.
        with torch.autocast("cpu", torch.bfloat16, enabled=strong):
            logits = model(x)
        return functional.cross_entropy(logits.float(), its_labels, label_smoothing=0.2 if strong else 0.0)

    every_label = torch.from_numpy(labels).long()
    padded = functional.pad(torch.from_numpy(images).permute(0, 3, 1, 2).float(), (SHIFT,) * 4, mode="reflect")
    padded = padded.to(torch.uint8).contiguous()

    def epoch() -> None:
        order = torch.randperm(len(every_label))
        for index in order[: len(order) // batch * batch].reshape(-1, batch):
            loss = loss_of(augmented(padded, index), every_label[index])
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()

    return epoch, sum(weight.numel() for weight in learned)


def augmented(padded: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The images at `index`, each cropped at a random place, half of them mirrored."""
    size = padded.shape[-1] - 2 * SHIFT
    down, right = torch.randint(0, 2 * SHIFT + 1, (2, len(index), 1))
    rows, columns = (down + torch.arange(size))[:, :, None], (right + torch.arange(size))[:, None, :]
    crops = padded[index[:, None, None], :, rows, columns].permute(0, 3, 1, 2)
    return torch.where((torch.rand(len(index)) < 0.5)[:, None, None, None], crops.flip(3), crops)
