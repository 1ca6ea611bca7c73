"""Construction of ReduNet layers at d = 500, m = 2000, k = 10, beside the arithmetic of the public implementations.

The public arithmetic, written down plainly here: a loop over the classes, an explicit inverse for every operator, the
soft gates of all classes for every example, and the rates from determinants of their own. It has no other mode: label
gates are compared with that, and once more with the same plain code reduced to what label gates need. One thread,
processor time, the two interleaved. `python tests/benchmarks/bench_redunet.py`; exits with 1 where a bar is missed.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from lensnet.measure.redunet import step
from lensnet.measure.redunet.operators import construct

D, M, K, EPS2, ETA, LAM = 500, 2000, 10, 0.1, 0.5, 500.0
BARS = {"label gates": 3.0, "soft gates": 1.5, "label gates, the plain code too": 0.0}
ROUNDS = 5


def plain_layer(z: Tensor, y: Tensor, by_label: bool = False) -> tuple[Tensor, float, float]:
    """One layer of the public arithmetic on rows (m, d); `by_label`: reduced to each example's own class."""
    m, d = z.shape
    identity = torch.eye(d, dtype=z.dtype)
    expansion = d / (m * EPS2) * torch.inverse(identity + d / (m * EPS2) * z.T @ z)
    operators, shares = [], []
    for j in range(K):
        mine = z[y == j]
        alpha = d / (len(mine) * EPS2)
        operators.append(alpha * torch.inverse(identity + alpha * mine.T @ mine))
        shares.append(len(mine) / m)
    if by_label:
        pull = torch.zeros_like(z)
        for j, share in enumerate(shares):
            pull[y == j] = share * z[y == j] @ operators[j].T
    else:
        compressed = torch.stack([z @ operator.T for operator in operators])
        gates = torch.softmax(-LAM * compressed.norm(dim=2).clamp_min(1e-8), 0)
        pull = sum(share * gates[j][:, None] * compressed[j] for j, share in enumerate(shares))
    moved = z + ETA * (z @ expansion.T - pull)
    moved = moved / moved.norm(dim=1, keepdim=True).clamp_min(1e-8)
    return moved, *plain_rates(moved, y)


def plain_rates(z: Tensor, y: Tensor) -> tuple[float, float]:
    m, d = z.shape
    identity = torch.eye(d, dtype=z.dtype)
    total = float(torch.logdet(identity + d / (m * EPS2) * z.T @ z)) / 2
    classes = 0.0
    for j in range(K):
        mine = z[y == j]
        logarithm = torch.logdet(identity + d / (len(mine) * EPS2) * mine.T @ mine)
        classes += len(mine) / m / 2 * float(logarithm)
    return total, classes


def our_layer(z: Tensor, y: Tensor, by_label: bool) -> tuple[Tensor, float, float]:
    """One layer as lensnet makes it: operators, rates (of what comes in) and the features that go on."""
    v, weights = z[None], torch.ones(1, dtype=z.dtype)
    made = construct(v, y, K, EPS2, weights)
    if by_label:
        direction = step.ascent_by_label(made, v)
    else:
        gates = step.soft_gate(step.training_norms(made, v, weights), LAM)
        direction = step.ascent(made.operators, v, gates)
    moved = step.project(z + ETA * direction[0])
    return moved, float(made.rates.total), float(made.rates.conditional)


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def layer_memory(d: int, k: int, m: int, by_label: bool) -> int:
    """Bytes by which the peak of this process grows while one layer is made, its operators and its output held."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    y = torch.arange(m) % k
    with torch.no_grad():
        _one_layer(step.project(torch.randn(4 * k, 8, dtype=torch.float64)), torch.arange(4 * k) % k, by_label)
        z = step.project(torch.randn(m, d, dtype=torch.float64))
        before = resident()
        held = _one_layer(z, y, by_label)
    assert len(held) == 2
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def resident() -> int:
    """Bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _one_layer(z: Tensor, y: Tensor, by_label: bool) -> tuple[object, Tensor]:
    v, weights = z[None], torch.ones(1, dtype=z.dtype)
    made = construct(v, y, int(y.max()) + 1, EPS2, weights)
    if by_label:
        return made.operators, step.project(z + ETA * step.ascent_by_label(made, v)[0])
    gates = step.soft_gate(step.training_norms(made, v, weights), LAM)
    return made.operators, step.project(z + ETA * step.ascent(made.operators, v, gates)[0])


def memory() -> bool:
    """Print the peak of one layer at several sizes and its fit by (k + 1) d^2 and m d; whether that is all there is."""
    fits = True
    for gates in ("label gates", "soft gates"):
        terms, found = [], []
        for d, k in ((400, 10), (400, 20), (600, 5), (600, 10), (600, 20), (900, 10)):
            command = [sys.executable, __file__, "--memory", str(d), str(k), str(2 * d), gates]
            found.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 8)
            terms.append([(k + 1) * d**2, 2 * d**2, 2**20])
            print(f"{gates}, d = {d}, m = {2 * d}, k = {k}: {found[-1] * 8 / 2**20:.0f} MiB")
        (layer, features, rest), *_ = np.linalg.lstsq(np.array(terms, float), np.array(found), rcond=None)
        missed = max(abs(np.array(terms) @ [layer, features, rest] - found) / found)
        print(f"{gates}: {layer:.2f} (k + 1) d^2 + {features:.1f} m d + {rest:.1f} Mi numbers, within {missed:.0%}")
        fits = fits and missed < 0.25
    return fits


def main() -> int:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    missed = 0
    with torch.no_grad():
        for dtype in (torch.float64, torch.float32):
            bases = torch.linalg.qr(torch.randn(K, D, 30))[0]
            y = torch.arange(M) % K
            z = torch.einsum("mr,mdr->md", torch.randn(M, 30), bases[y]) + 0.02 * torch.randn(M, D)
            z = step.project(z.to(dtype))
            for name, bar in BARS.items():
                by_label, same = name.startswith("label"), name.endswith("too")
                agreement = float((plain_layer(z, y)[0] - our_layer(z, y, by_label)[0]).abs().max())
                pairs = [
                    (seconds(lambda: plain_layer(z, y, same)), seconds(lambda: our_layer(z, y, by_label)))  # noqa: B023
                    for _ in range(ROUNDS)
                ]
                ratio = median(a / b for a, b in pairs)
                verdict = "" if ratio >= bar else "  MISSED"
                missed += bool(verdict)
                print(
                    f"{str(dtype).removeprefix('torch.')}, {name}: plain {median(a for a, _ in pairs):.2f} s, "
                    f"ours {median(b for _, b in pairs):.2f} s, {ratio:.2f}x{f' (asked {bar}x)' if bar else ''}, "
                    f"largest difference {agreement:.1e}{verdict}"
                )
    if not memory():
        print("memory is not linear in (k + 1) d^2  MISSED")
        missed += 1
    return 1 if missed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        print(layer_memory(*map(int, sys.argv[2:5]), sys.argv[5].startswith("label")))
        sys.exit()
    sys.exit(main())
