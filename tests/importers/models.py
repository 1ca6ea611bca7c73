"""Models written in plain torch, as users write them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.down: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + self.down(x))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 1, 1)
        self.layers = nn.Sequential(BasicBlock(32, 32, 1), BasicBlock(32, 64, 2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.pool(self.layers(self.stem(x))), 1))


class Film(nn.Module):
    """A residual network over films: convolutions split in space and time, a pool, a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv3d(3, 24, (3, 5, 5), (1, 2, 2), (1, 2, 2)), nn.BatchNorm3d(24)
        self.space, self.time = (
            nn.Conv3d(24, 32, (1, 3, 3), padding=(0, 1, 1)),
            nn.Conv3d(32, 24, (3, 1, 1), padding=(1, 0, 0)),
        )
        self.down = nn.Conv3d(24, 32, 3, 2, 1)
        self.up = nn.ConvTranspose3d(32, 24, 2, 2)
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        x = x + self.time(F.relu(self.space(x)))
        x = F.relu(self.up(F.relu(self.down(x))))
        return self.head(F.adaptive_avg_pool3d(F.avg_pool3d(x, 2), 1).flatten(1))


class Frames(nn.Module):
    """Every frame of a film (N, T, C, H, W) is looked at as an image among the examples, then the frames in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 32, 3, 2, 1), nn.Conv2d(32, 64, 3, 1, 1)
        self.dense, self.time, self.head = nn.Linear(64, 64), nn.Conv1d(64, 64, 3, 1, 1), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = F.max_pool2d(F.relu(self.first(x.flatten(0, 1))), 2)
        y = F.adaptive_avg_pool2d(F.relu(self.second(y)), 2).mean((2, 3))
        y = self.dense(y).unflatten(0, x.shape[:2])
        return self.head(F.relu(self.time(y.transpose(1, 2))).mean(2))


class Moved(nn.Module):
    """A film that is rolled, padded and cut; one frame of it, in pools whose last windows reach beyond its edge."""

    def __init__(self) -> None:
        super().__init__()
        self.film, self.image, self.head = nn.Conv3d(3, 32, 3, 1, 1), nn.Conv2d(32, 32, 3, 1, 1), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.roll(F.relu(self.film(x)), (1, 1, 2), (2, 3, 4))
        y = self.image(F.pad(y, (1, 1, 0, 2, 1, 0))[:, :, 1:-1][:, :, 2])
        y = F.relu(F.max_pool2d(y, 2, 2, ceil_mode=True))
        return self.head(F.avg_pool2d(y, 3, 3, ceil_mode=True, count_include_pad=False).mean((2, 3)))


class Merged(nn.Module):
    """Patches cut by views; attention among the places of a block, for its largest queries; blocks that are merged."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm, self.qkv = nn.Linear(48, 32), nn.LayerNorm(32), nn.Linear(32, 96)
        self.out, self.merge = nn.Linear(32, 64), nn.Sequential(nn.LayerNorm(256), nn.Linear(256, 64, bias=False))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        n = len(x)
        x = self.patches(x.view(n, 3, 8, 4, 8, 4).permute(0, 2, 4, 3, 5, 1).reshape(n, 64, 48))
        x = x.view(n, 4, 2, 4, 2, 32).permute(0, 2, 4, 1, 3, 5).reshape(n, 64, 32)
        q, k, v = self.qkv(self.norm(x)).view(n, 4, 16, 3, 2, 16).permute(3, 0, 4, 2, 1, 5)
        y = F.scaled_dot_product_attention(q.amax(3, keepdim=True), k, v).transpose(1, 3).reshape(n, 16, 32)
        y = (self.out(y) + self.out(x).view(n, 4, 16, 64).amax(1)).view(n, 2, 2, 2, 2, 64)
        return self.head(self.merge(y.permute(0, 1, 3, 4, 2, 5).flatten(3)).mean((1, 2)))


class Pixels(nn.Module):
    """Channels as pixels and back, and shrinkages."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.third, self.head = nn.Conv2d(64, 48, 3, padding=1), nn.Linear(48, 32)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pixel_shuffle(F.softshrink(self.first(x), 0.1), 2)
        x = self.third(F.pixel_unshuffle(F.hardshrink(self.second(x), 0.05), 2)).mean((2, 3))
        return self.head(x)


class Decoder(nn.Module):
    """What image models are made of beside convolutions and norms: windows as channels and back, shuffled channels, a
    vector added to a map, enlargements that smooth, a vector as a picture, the larger of two, log-probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Linear(3 * 9, 48)
        self.back = nn.Linear(48, 32 * 9)
        self.mix, self.code = nn.Conv2d(32, 32, 1, groups=4), nn.Linear(32, 32)
        self.up, self.smooth = nn.ConvTranspose2d(16, 32, 2, 2), nn.Conv2d(32, 32, 3, padding=1)
        self.latent, self.head = nn.Linear(32, 24 * 16), nn.Conv2d(24, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        y = self.back(F.relu(self.patches(F.unfold(x, 3, padding=1).transpose(1, 2))))
        y = F.fold(y.transpose(1, 2), (height, width), 3, padding=1)
        y = F.channel_shuffle(self.mix(F.silu(y)), 4)
        y = y + self.code(y.mean((2, 3)))[:, :, None, None]
        y = self.up(torch.maximum(y[:, :16], y[:, 16:]))
        y = F.interpolate(self.smooth(F.relu(y)), size=(20, 14), mode="bilinear")
        y = self.latent(F.relu(y).mean((2, 3))).view(n, 24, 4, 4)
        return F.log_softmax(self.head(F.interpolate(y, scale_factor=2, mode="bicubic")), 1)


class Crossed(nn.Module):
    """Standardised filters, attention over channels (El-Nouby et al. 2021), and learned queries that look at it."""

    def __init__(self, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.stem = heads, nn.Conv2d(3, width, 4, 4)
        self.second = nn.Conv2d(width, width, 1)
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.queries, self.keys = nn.Parameter(torch.randn(5, width)), nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, 12)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.second.weight
        weight = (weight - weight.mean((1, 2, 3), keepdim=True)) / weight.std((1, 2, 3), keepdim=True)
        x = F.conv2d(F.relu(self.stem(x)), weight / 8).flatten(2).transpose(1, 2)
        n, t, width = x.shape
        q, k, v = self.qkv(self.norm(x)).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 4, 1)
        mixed = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)).softmax(-1) @ v
        x = x + self.out(mixed.permute(0, 3, 1, 2).reshape(n, t, width))
        k, v = self.keys(x).view(n, t, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        q = self.queries.view(1, 5, self.heads, -1).expand(n, -1, -1, -1).transpose(1, 2)
        return self.head(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, 5, width))


class ConvNeXtBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(0.1 * torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.down(F.gelu(self.up(y)))
        return x + y.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, 4)
        self.blocks = nn.Sequential(ConvNeXtBlock(width), ConvNeXtBlock(width))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.stem(x)).mean([-2, -1])))


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class SharedQueries(nn.Module):
    """Causal attention with rotary positions, four heads of queries and two of keys, written out; a gated MLP; dict in
    and out."""

    def __init__(self, width: int = 64, vocabulary: int = 200) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
        self.q, self.k, self.v = nn.Linear(width, width), nn.Linear(width, width // 2), nn.Linear(width, width // 2)
        self.out = nn.Linear(width, width)
        self.gate_up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(2 * width, width)
        self.head = nn.Linear(width, vocabulary)
        rate = 10000.0 ** (-torch.arange(0, 16, 2) / 16)
        angle = torch.arange(64)[:, None] * rate.repeat(2)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def turn(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        length = x.shape[-2]
        return x * self.cos[:length] + torch.cat([-second, first], -1) * self.sin[:length]

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x = self.embed(batch["ids"])
        n, t, width = x.shape
        y = self.norm1(x)
        q = self.turn(self.q(y).view(n, t, 4, 16).transpose(1, 2))
        k = self.turn(self.k(y).view(n, t, 2, 16).transpose(1, 2)).repeat_interleave(2, 1)
        v = self.v(y).view(n, t, 2, 16).transpose(1, 2).repeat_interleave(2, 1)
        hidden = torch.ones(t, t, dtype=torch.bool).triu(1)
        weights = (q @ k.transpose(-1, -2) / 4.0).masked_fill(hidden, float("-inf")).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(n, t, width))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
        x = x + self.down(F.silu(gate) * up)
        return {"logits": self.head(x), "hidden": x}


class DataDependent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        if y.mean() > 10:
            y = 2 * y
        return self.second(y)


class TopOne(nn.Module):
    """A mixture of experts with one of them per example, by masked assignment."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(32, 3)
        self.experts = nn.ModuleList(nn.Linear(32, 32) for _ in range(3))
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        share, chosen = self.router(x).softmax(-1).max(-1)
        out = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            mine = chosen == index
            out[mine] = expert(x[mine]) * share[mine][:, None]
        return self.head(out)


class Numpy(nn.Module):
    """What no exporter follows."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        factor = 2.0 if float(x.detach().numpy().sum()) > -1e9 else 1.0
        return torch.relu(self.dense(x)) * factor


class TracedTokens(nn.Module):
    """Token ids, and a step that no exporter follows."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.body = nn.Embedding(200, 96), RMSNorm(96), Numpy(96)

    def forward(self, ids: Tensor) -> Tensor:
        return self.body(self.norm(self.embed(ids)))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense, self.head = nn.Linear(64, 64), nn.Linear(64, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.dense(torch.tanh(self.dense(x)))))


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("a mistake of the user")


class Recurrent(nn.Module):
    """Two layers in two directions; the last states of both directions go on."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU] | type[nn.RNN]) -> None:
        super().__init__()
        self.rnn = kind(32, 64, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(128, 8)

    def forward(self, x: Tensor) -> Tensor:
        states = self.rnn(x)[1]
        last = states[0] if isinstance(states, tuple) else states
        return self.head(torch.cat([last[-2], last[-1]], -1))


class ShiftedWindows(nn.Module):
    """Attention in windows of a picture that was turned, with a bias of relative positions (Liu et al. 2021)."""

    def __init__(self, width: int = 32, side: int = 8, window: int = 4) -> None:
        super().__init__()
        self.stem, self.side, self.window, self.heads = nn.Conv2d(3, width, 2, 2), side, window, 2
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.bias = nn.Parameter(0.5 * torch.randn(self.heads, window**2, window**2))
        edges = torch.zeros(side, side)
        parts = slice(0, -window), slice(-window, -window // 2), slice(-window // 2, None)
        for place, rows in enumerate(parts):
            for other, columns in enumerate(parts):
                edges[rows, columns] = 3 * place + other
        cut = self.cut(edges[None, :, :, None]).squeeze(-1)
        self.register_buffer("mask", -100.0 * (cut[:, None, :] != cut[:, :, None]))

    def cut(self, x: Tensor) -> Tensor:
        n, w = self.side // self.window, self.window
        return x.view(len(x), n, w, n, w, -1).permute(0, 1, 3, 2, 4, 5).reshape(-1, w * w, x.shape[-1])

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        n, w, width = self.side // self.window, self.window, x.shape[-1]
        turned = self.cut(self.norm(x).roll((-w // 2, -w // 2), (1, 2)))
        q, k, v = self.qkv(turned).reshape(len(turned), w * w, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + self.bias
        logits = logits.view(-1, n * n, self.heads, w * w, w * w) + self.mask[:, None]
        y = logits.view(-1, self.heads, w * w, w * w).softmax(-1) @ v
        y = self.out(y.transpose(1, 2).reshape(-1, w * w, width)).view(-1, n, n, w, w, width)
        y = y.permute(0, 1, 3, 2, 4, 5).reshape(-1, self.side, self.side, width)
        return x + y.roll((w // 2, w // 2), (1, 2))


class WrittenOut(nn.Module):
    """A norm over channels, attention by `einsum`, a class token that no rotation touches: all in plain operations."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        y = self.gain * centred / (x.std(-1, keepdim=True) + 1e-6) + self.shift
        q, k, v = (layer(y).unflatten(-1, (4, -1)) for layer in (self.q, self.k, self.v))
        k = torch.cat([k[:, :1], k[:, 1:] * 2.0], 1)
        weights = (torch.einsum("bqhd,bkhd->bhqk", q, k) / 4).softmax(-1)
        return x + self.out(torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(-2))


class Sequence(nn.Module):
    """Convolutions and pools along time, a gated linear unit, squeeze and excite, a gate for every place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(8, 64, 3, padding=1), nn.Conv1d(32, 32, 3, padding=1)
        self.down, self.up = nn.Linear(32, 16), nn.Linear(16, 32)
        self.place, self.head = nn.Conv1d(32, 1, 5, padding=2), nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool1d(F.glu(self.first(x), 1), 2)
        x = F.max_pool1d(self.second(x), 2)
        x = x * torch.sigmoid(self.up(F.relu(self.down(x.mean(-1)))))[..., None]
        x = x * torch.sigmoid(self.place(x))
        return self.head(F.adaptive_avg_pool1d(x, 1).flatten(1))
