"""AlexNet as published beside AlexNet with He initialisation: predictions alone, no forward pass.

The published weights have one standard deviation for all layers. Look at the share of the mean squared: in the
published network it is near 100 % after conv2: the signal is the bias, whatever the photograph shows.

A max pool needs to know how alike neighbouring pixels are. Nobody has measured that here, so the prediction goes on
with a default (not alike at all) and marks with `o` every number that rests on it. `lensnet run` measures it.
"""

import lensnet


def forward(name: str) -> dict[str, tuple[float, float, str]]:
    """Path -> second moment, share of the mean squared in it, and a mark when it rests on a default."""
    rows = [
        row for row in lensnet.load(name).predict().rows if row.direction == "forward" and row.predicted is not None
    ]
    mean = {row.component: row.predicted or 0.0 for row in rows if row.quantity == "mean"}
    table = {}
    for row in rows:
        if row.quantity == "second_moment" and row.predicted:
            mark = "o" if row.verdict == "out-of-regime" else " "
            table[row.component] = (row.predicted, mean[row.component] ** 2 / row.predicted, mark)
    return table


published, he = forward("alexnet"), forward("alexnet_he")
print(f"{'second moment (share of mean^2)':32}{'published':>18}{'He':>22}")
for path, (q, share, mark) in published.items():
    other, other_share, other_mark = he[path]
    print(f"{path:32}{q:9.4f} ({share:4.0%}) {mark} {other:12.4f} ({other_share:4.0%}) {other_mark}")
