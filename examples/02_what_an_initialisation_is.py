"""AlexNet as published beside AlexNet with He initialisation: predictions alone, no forward pass, a second or two.

The published weights have one standard deviation for all layers. Look at the share of the mean squared: in the
published network it is near 100 %: the signal is the bias, whatever the photograph shows.
"""

import lensnet


def forward(name: str) -> dict[str, tuple[float, float]]:
    """Path -> (second moment, share of the mean squared in it)."""
    rows = [
        row for row in lensnet.load(name).predict().rows if row.direction == "forward" and row.predicted is not None
    ]
    mean = {row.component: row.predicted or 0.0 for row in rows if row.quantity == "mean"}
    second = {row.component: row.predicted or 0.0 for row in rows if row.quantity == "second_moment"}
    return {path: (q, mean[path] ** 2 / q if q else 0.0) for path, q in second.items()}


published, he = forward("alexnet"), forward("alexnet_he")
print(f"{'second moment (share of mean^2)':28}{'published':>20}{'He':>20}")
for path, (q, share) in published.items():
    other, other_share = he[path]
    print(f"{path:28}{q:12.4f} ({share:4.0%}) {other:12.4f} ({other_share:4.0%})")
