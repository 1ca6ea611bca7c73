"""Why does learning stall, and what helps? Steps of an algorithm as components, predicted beside measured.

Gradient descent multiplies the error along every eigen-direction by 1 - rate*lam. On an ill-conditioned problem no rate
serves all directions; momentum serves them better, Levenberg-Marquardt divides by lam.
"""

import lensnet
from lensnet.compare import Report


def curve(report: Report, quantity: str) -> list[tuple[float, float]]:
    """(predicted, measured) after every step."""
    rows = [row for row in report.rows if row.quantity == quantity and row.view == "through"]
    return [(row.predicted or 0.0, row.measured or 0.0) for row in rows]


print("A bowl with condition number 100, 200 steps at the best settings of each")
for name in ("gd_quadratic", "heavy_ball_quadratic"):
    report = lensnet.load(name).run(seeds=2)
    norms = curve(report, "error_norm")
    worst = max(abs(measured / predicted - 1) for predicted, measured in norms)
    told = "  ".join(f"{norms[step - 1][0]:.1e}" for step in (1, 50, 100, 200))
    print(f"  {report.network:22s} error after 1, 50, 100, 200 steps: {told}   prediction off by {worst:.0e} at most")

print("\nRahimi's two-layer linear network, condition number 1e5: error of the weakest mode over what it has to learn")
for name in ("rahimi_gradient_descent", "rahimi_levenberg_marquardt"):
    report = lensnet.load(name).run(seeds=2)
    weakest, losses = curve(report, "error_flattest"), curve(report, "loss")
    print(
        f"  {report.network}: after {len(weakest)} steps {weakest[-1][1]:.1e} measured, {weakest[-1][0]:.1e} predicted"
    )
    print(f"    loss {losses[-1][1]:.1e}; every row agrees: {report.exit_status == 0}")

condition = curve(report, "condition_number")[-1]
print(f"\nCondition number at the solution: {condition[1]:.3e} measured, 2 kappa = 2e5: twice that of the target,")
print("since the curvatures are sums of its singular values.")
