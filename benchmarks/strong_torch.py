"""The strong baseline's counterpart in PyTorch: the training of airbench94_muon (Jordan 2024), on a CPU.

PYTHON benchmarks/strong_torch.py FOLDER [--epochs 8] [--width 1.0] [--batch 2000] [--compile] [--precision float32]

PYTHON has PyTorch and NumPy; nothing of this project is needed. FOLDER holds train.npz and test.npz, each with `images`
uint8 (n, 32, 32, 3) and `labels` (n,), which `python -m benchmarks.strong_images FOLDER` writes. Prints a line of JSON:
the seconds of training and of the evaluation, and the test accuracy with the views of that program averaged.

Hyperparameters and architecture are those of that program (github.com/KellerJordan/cifar10-airbench). Since there is no
GPU, two things differ: bfloat16 takes the place of float16, and nothing is compiled unless asked for.
"""

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
SHIFT = 2
HEAD_RATE, BIAS_RATE, MUON_RATE = 0.67, 0.053, 0.24
WHITENING_BIAS_EPOCHS = 3


class Block(nn.Module):
    """Two 3 × 3 convolutions with BatchNorm and GELU; the first is max-pooled."""

    def __init__(self, inside: int, filters: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inside, filters, 3, padding="same", bias=False),
            nn.MaxPool2d(2),
            norm(filters),
            nn.GELU(),
            nn.Conv2d(filters, filters, 3, padding="same", bias=False),
            norm(filters),
            nn.GELU(),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):  # As many filters as there are channels begin as the identity.
                nn.init.dirac_(layer.weight.data[: layer.in_channels])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def norm(filters: int, epsilon: float = 1e-12) -> nn.Module:
    layer = nn.BatchNorm2d(filters, eps=epsilon, momentum=0.4)
    layer.weight.requires_grad_(False)
    return layer


class Net(nn.Module):
    """Images (n, 3, 32, 32), normalized, to logits (n, 10)."""

    def __init__(self, width: float) -> None:
        super().__init__()
        channels = [24, *(int(filters * width) for filters in (64, 256, 256))]
        self.whitening = nn.Conv2d(3, channels[0], 2)
        self.whitening.weight.requires_grad_(False)
        blocks = [Block(inside, filters) for inside, filters in itertools.pairwise(channels)]
        self.blocks = nn.Sequential(nn.GELU(), *blocks, nn.MaxPool2d(3))
        self.head = nn.Linear(channels[-1], 10, bias=False)
        self.head.weight.data /= self.head.weight.data.std()

    def whiten(self, images: torch.Tensor) -> None:
        """Set the first layer to the eigenvectors of 2 × 2 patches, scaled to unit variance, and their negatives."""
        patches = functional.unfold(images.float(), 2).transpose(1, 2).reshape(-1, 12)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        kernels = (vectors / torch.sqrt(values + 5e-4)).T.reshape(12, 3, 2, 2)
        self.whitening.weight.data.copy_(torch.cat([kernels, -kernels]))

    def forward(self, images: torch.Tensor, learn_whitening_bias: bool = True) -> torch.Tensor:
        bias = self.whitening.bias if learn_whitening_bias else self.whitening.bias.detach()
        x = self.blocks(functional.conv2d(images, self.whitening.weight, bias)).flatten(1)
        return self.head(x) / x.shape[1]


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalized by three Newton-Schulz steps; each kernel's norm is set before its step."""

    def __init__(self, kernels: list[nn.Parameter]) -> None:
        super().__init__(kernels, {"lr": MUON_RATE})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for kernel in group["params"]:
                state = self.state[kernel]
                momentum = state.setdefault("momentum", torch.zeros_like(kernel))
                momentum.mul_(0.6).add_(kernel.grad)
                update = orthogonal((kernel.grad + 0.6 * momentum).reshape(len(kernel), -1))
                kernel.mul_(len(kernel) ** 0.5 / kernel.norm())
                kernel.sub_(group["lr"] * update.view(kernel.shape))


def orthogonal(matrix: torch.Tensor, steps: int = 3) -> torch.Tensor:
    x = matrix.bfloat16()
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x


def prepared(images: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """Images uint8 (n, 32, 32, 3) as normalized ones (n, 3, 32, 32)."""
    scaled = (torch.from_numpy(images).float() / 255 - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    return scaled.to(dtype).permute(0, 3, 1, 2)


def shifted(padded: torch.Tensor) -> torch.Tensor:
    """Each image cropped at a random place."""
    size = padded.shape[-1] - 2 * SHIFT
    down, right = torch.randint(0, 2 * SHIFT + 1, (2, len(padded)))
    crops = torch.empty(len(padded), 3, size, size, dtype=padded.dtype, memory_format=torch.channels_last)
    for top in range(2 * SHIFT + 1):
        for left in range(2 * SHIFT + 1):
            chosen = (down == top) & (right == left)
            crops[chosen] = padded[chosen, :, top : top + size, left : left + size]
    return crops


def average_of_views(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The logits of an image and its mirror image, half of the weight on copies that are shifted by a pixel."""
    padded = functional.pad(images, (1, 1, 1, 1), mode="reflect")
    logits = torch.zeros(len(images), 10)
    for view, weight in ((images, 0.5), (padded[:, :, :-2, :-2], 0.25), (padded[:, :, 2:, 2:], 0.25)):
        for one in (view, view.flip(-1)):
            logits += weight * model(one.contiguous(memory_format=torch.channels_last)).float()
    return logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=2000)
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, help="stop after this many steps and print the speed only")
    chosen = parser.parse_args()
    if chosen.steps is not None and chosen.steps < 2:
        parser.error("--steps must be at least 2: the first one warms up")
    if not (chosen.folder / "train.npz").is_file():
        parser.error(
            f"{chosen.folder} has no train.npz: write it with python -m benchmarks.strong_images {chosen.folder}"
        )
    torch.manual_seed(chosen.seed)
    dtype = getattr(torch, chosen.precision)
    train, test = (np.load(chosen.folder / f"{part}.npz") for part in ("train", "test"))
    images, labels = prepared(train["images"], dtype), torch.from_numpy(train["labels"]).long()
    start = time.perf_counter()
    net = Net(chosen.width)
    net.whiten(images[:5000])
    for module in net.modules():
        if not isinstance(module, (nn.BatchNorm2d, Net, Block, nn.Sequential)):
            module.to(dtype)
    net = net.to(memory_format=torch.channels_last)
    model = torch.compile(net) if chosen.compile else net
    decay = 2e-6 * chosen.batch
    biases = [module.bias for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    groups = [([net.whitening.bias], BIAS_RATE), (biases, BIAS_RATE), ([net.head.weight], HEAD_RATE)]
    sgd = torch.optim.SGD(
        [{"params": of, "lr": rate, "weight_decay": decay / rate} for of, rate in groups], momentum=0.85, nesterov=True
    )
    muon = Muon([module.weight for module in net.blocks.modules() if isinstance(module, nn.Conv2d)])
    initial = [(group, group["lr"]) for optimizer in (sgd, muon) for group in optimizer.param_groups]
    steps_per_epoch = len(images) // chosen.batch
    steps, early = chosen.epochs * steps_per_epoch, WHITENING_BIAS_EPOCHS * steps_per_epoch
    flipped = torch.where((torch.rand(len(images)) < 0.5)[:, None, None, None], images.flip(-1), images)
    padded = functional.pad(flipped, (SHIFT,) * 4, mode="reflect").contiguous(memory_format=torch.channels_last)
    model.train()
    step = 0
    for epoch in range(chosen.epochs):
        crops = shifted(padded)
        crops = crops.flip(-1) if epoch % 2 else crops
        for index in torch.randperm(len(images))[: steps_per_epoch * chosen.batch].reshape(-1, chosen.batch):
            batch = crops[index].contiguous(memory_format=torch.channels_last)
            logits = model(batch, step < early)
            functional.cross_entropy(logits, labels[index], label_smoothing=0.2, reduction="sum").backward()
            for number, (group, rate) in enumerate(initial):
                group["lr"] = rate * max(0.0, 1 - step / (early if number == 0 else steps))
            for optimizer in (sgd, muon):
                optimizer.step()
                optimizer.zero_grad()
            step += 1
            if step == 1:
                first = time.perf_counter()
            if step == chosen.steps:
                each = (time.perf_counter() - first) / (step - 1)
                print(json.dumps({"seconds_per_step": each, "images_per_second": chosen.batch / each}))
                return
    trained = time.perf_counter()
    net.eval()
    with torch.no_grad():
        answers = [average_of_views(net, part).argmax(1) for part in prepared(test["images"], dtype).split(1000)]
    accuracy = float((torch.cat(answers) == torch.from_numpy(test["labels"])).float().mean())
    seconds = {"training": trained - start, "evaluation": time.perf_counter() - trained}
    print(json.dumps({**vars(chosen), "folder": None, "seconds": seconds, "test_accuracy": accuracy}))


if __name__ == "__main__":
    main()
