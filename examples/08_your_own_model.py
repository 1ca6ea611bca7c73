"""Your own torch model, unchanged: what every module does to the signal, and where a change of initialisation shows."""

import torch
from torch import Tensor, nn

import lensnet


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.relu(self.up(self.norm(x))))


def model(scale: float) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(32, 64), *(Block(64) for _ in range(4)), nn.LayerNorm(64), nn.Linear(64, 10))
    for module in net.modules():
        if isinstance(module, Block):
            nn.init.normal_(module.down.weight, 0, scale / 256**0.5)
            nn.init.zeros_(module.down.bias)
    return net


plain = lensnet.summary(model(1.0), input_size=(64, 32), seeds=4, most_seeds=4, depth=2)
print(plain)
small = lensnet.summary(model(0.3), input_size=(64, 32), seeds=4, most_seeds=4)
print(plain.beside(small, ("scale 1", "scale 0.3")))
print("The network as a file, ready for lensnet lint, lensnet run and an `expect:` of your own:\n")
print("\n".join(plain.spec.splitlines()[:8]))
