"""A report is data: rows as objects, a data frame, a file, a figure."""

import json
from pathlib import Path

import lensnet

report = lensnet.load("residual_mlp", overrides=["constants.depth=4", "constants.width=256"]).run(seeds=6)

worst = max(report.rows, key=lambda row: abs(row.error or 0.0))
print(f"{len(report.rows)} rows; the largest error is {worst.error:+.1%} at {worst.component} ({worst.verdict})")

frame = report.to_pandas()
print(frame.groupby(["view", "direction", "verdict"]).size().to_string())

Path("report.json").write_text(json.dumps(report.to_dict(), allow_nan=False))
data = json.loads(Path("report.json").read_text())
print(f"\nreport.json: schema {data['schema']}, {data['seeds']} seeds, findings: {len(data['findings'])}")

report.plot("beam.svg")
print(f"beam.svg: {Path('beam.svg').stat().st_size // 1000} kB")
