"""A first report: a trap, predicted beside measured.

`x_plus_x` adds a signal to itself, to its rectified copy, and to a rectified random mixture of itself. Adding second
moments is right for one of the three.
"""

import lensnet

net = lensnet.load("x_plus_x", overrides=["constants.width=256"])
report = net.run(seeds=6)
print(report)

rows = {row.component: row for row in report.rows if row.direction == "forward" and row.quantity == "second_moment"}
for name, naive in (("doubled", 2.0), ("folded", 1.5), ("fresh", 1.5)):
    row = rows[name]
    print(
        f"{name:8} adding powers says {naive}, lensnet {row.predicted:.3f}, measured {row.measured:.3f}: {row.verdict}"
    )
