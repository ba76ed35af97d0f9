"""Print the coefficients of numpy_distilbert.kernels.erf: two weighted minimax fits to math.erf and math.erfc.

    python tests/reference/fit_erf.py

Lawson's method: least squares repeated with the weights multiplied by the error, which levels the error out.
"""

import math

import numpy as np

CUT, END, POINTS = 1.0, 4.0, 2000


def chebyshev_points(low: float, high: float) -> np.ndarray:
    return low + (high - low) * (0.5 - 0.5 * np.cos(np.pi * (np.arange(POINTS) + 0.5) / POINTS))


def minimax(x: np.ndarray, f: np.ndarray, scale: np.ndarray, degree: int) -> np.ndarray:
    """Coefficients, lowest power first, of the polynomial p that makes max |p(x) - f| * scale small."""
    powers, weights, best = np.vander(x, degree + 1, increasing=True), np.ones_like(x), (np.inf, None)
    for _ in range(300):
        row = np.sqrt(weights) * scale
        coefficients = np.linalg.lstsq(powers * row[:, None], f * row, rcond=None)[0]
        error = np.abs(powers @ coefficients - f) * scale
        best = min(best, (error.max(), coefficients), key=lambda pair: pair[0])
        weights *= error / error.max() + 1e-3
        weights /= weights.sum()
    print(f"# largest error {best[0]:.1e}")
    return best[1]


def main() -> None:
    x = chebyshev_points(1e-4, CUT)
    ratio = np.array([math.erf(v) / v for v in x])
    # erf(x) = x + x * near(x * x): near's error counts relative to erf(x) / x
    print("near", [float(f"{c:.9g}") for c in minimax(x * x, ratio - 1, 1 / ratio, degree=6)])
    x = chebyshev_points(CUT, END)
    tail = np.array([math.erfc(v) for v in x])
    # erf(x) = 1 - exp(-far(x)): far's error counts as much as erfc(x) does in 1 - erfc(x)
    print("far", [float(f"{c:.9g}") for c in minimax(x, -np.log(tail), tail, degree=6)])


if __name__ == "__main__":
    main()
