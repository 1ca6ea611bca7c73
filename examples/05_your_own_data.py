"""Your own data as the network's input: an array, an image folder, or token ids. A path and a line in the spec."""

from pathlib import Path

import numpy as np

import lensnet

rng = np.random.default_rng(0)
measurements = rng.gamma(2.0, size=(500, 40)).astype(np.float32)  # positive, skewed: nothing like a Gaussian
np.savez("measurements.npz", examples=measurements)

SPEC = """
network: own-data
input: {source: file, path: measurements.npz, key: examples, batch: 200, standardise: STANDARDISE}
body:
  - {name: dense, component: linear, units: 256, gain: sqrt(2)}
  - {name: relu, component: relu}
  - {name: head, component: linear, units: 10}
"""

for standardise in ("false", "true"):
    file = Path("own_data.yaml")
    file.write_text(SPEC.replace("STANDARDISE", standardise))
    report = lensnet.load(file).run(seeds=6)
    print(f"standardise: {standardise}")
    for row in report.rows:
        if row.view == "through" and row.direction == "forward" and row.quantity == "second_moment":
            print(f"  {row.component:6} predicted {row.predicted:7.3f}  measured {row.measured:7.3f}  {row.verdict}")
print("\nA dense layer answers to the second moment, mean included: what is not centred comes in as brightness.")
