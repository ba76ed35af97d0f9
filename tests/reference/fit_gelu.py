"""Print the coefficients of numpy_distilbert.kernels.gelu: a weighted minimax fit to math.erf.

    python tests/reference/fit_gelu.py

x * Phi(x) = x/2 * (1 + tanh(x * p(x^2))) holds exactly for p(x^2) = atanh(erf(x / sqrt(2))) / x, smooth and even,
here fitted by a polynomial. Lawson's method: least squares repeated with the weights multiplied by the error, which
levels the error out.
"""

import math

import numpy as np

START, END, POINTS, DEGREE = 1e-3, 6.5, 4000, 6  # beyond END, tanh is 1 in float32


def minimax(x: np.ndarray, f: np.ndarray, scale: np.ndarray, degree: int) -> np.ndarray:
    """Coefficients, lowest power first, of the polynomial p that makes max |p(x) - f| * scale small."""
    span = x.max()  # powers of x up to 42 would not be told apart
    powers, weights, best = np.vander(x / span, degree + 1, increasing=True), np.ones_like(x), (np.inf, None)
    for _ in range(400):
        row = np.sqrt(weights) * scale
        coefficients = np.linalg.lstsq(powers * row[:, None], f * row, rcond=None)[0]
        error = np.abs(powers @ coefficients - f) * scale
        best = min(best, (error.max(), coefficients), key=lambda pair: pair[0])
        weights *= error / error.max() + 1e-3
        weights /= weights.sum()
    print(f"# largest error of gelu {best[0]:.1e}")
    return best[1] / span ** np.arange(degree + 1)


def main() -> None:
    x = START + (END - START) * (0.5 - 0.5 * np.cos(np.pi * (np.arange(POINTS) + 0.5) / POINTS))
    erf, erfc = (np.array([function(v / math.sqrt(2)) for v in x]) for function in (math.erf, math.erfc))
    exact = (np.log1p(erf) - np.log(erfc)) / 2
    # d gelu / d p = x^2 / 2 * (1 - tanh^2)
    coefficients = minimax(x * x, exact / x, scale=x * x / 2 / np.cosh(exact) ** 2, degree=DEGREE)
    print("GELU =", tuple(float(f"{c:.9g}") for c in coefficients))
    # No clamp is needed if x p(x^2) only grows beyond END.
    beyond = np.linspace(END, 1000, 200_000)
    assert (np.diff(beyond * np.polyval(coefficients[::-1], beyond**2)) > 0).all()


if __name__ == "__main__":
    main()
