"""How large each order is at a typical deletion, by what it is along the directions."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float


class Sizes(NamedTuple):
    """The mean square of every order over deletions of one length, in two parts.

    Attributes:
        pure: (k, Q), of the coefficients of ``z_j^r``; of order one all is pure.
        mixed: (k, Q), of the rest.
    """

    pure: Float[np.ndarray, "k Q"]
    mixed: Float[np.ndarray, "k Q"]

    def at(self, z: Float[np.ndarray, "B q"]) -> Float[np.ndarray, "B k Q"]:
        """The typical size of every order at coordinates z (B, q): (B, k, Q).

        ``S_r(z)² = pure_r Σ_j z_j^2r + mixed_r [|z|^2r - Σ_j z_j^2r]``: what P_r(z)² is in the mean over polynomials
        whose coefficients have random signs, and of each kind one size.
        """
        squares, orders = z * z, range(1, len(self.pure) + 1)
        of_powers = np.stack([(squares**r).sum(1) for r in orders], 1)[..., None]
        every = np.stack([squares.sum(1) ** r for r in orders], 1)[..., None]
        return np.sqrt(of_powers * self.pure + np.maximum(every - of_powers, 0) * self.mixed)


def sizes_along(
    psi: Complex[np.ndarray, "m q"], coefficients: Complex[np.ndarray, "m k Q"], interactions: bool = False
) -> Sizes:
    """How large the orders are along directions, and how much of it the pure powers ``z_j^r`` are.

    ``E|c_r|² = C Σ_j b_j² + rest`` with ``C = E|ψ_j|^2r = 1 / C(q+r-1, r)`` and b_j the coefficient of ``z_j^r``, for
    different monomials are orthogonal. ``E Re[conj(ψ_j)^r c_r] = C b_j``, so pairs of different directions estimate
    ``Σ_j b_j²`` without bias.

    Args:
        psi: (m, q) complex, independent and uniform on the unit sphere.
        coefficients: (m, k, Q) complex.
        interactions: whether there are no pure powers above order one.
    """
    k, q = coefficients.shape[1], psi.shape[1]
    pure, mixed = [], []
    for r in range(1, k + 1):
        c, one = coefficients[:, r - 1], 1 / math.comb(q + r - 1, r)
        size = (c.real**2 + c.imag**2).mean(0)
        if r > 1 and interactions:
            of_powers = np.zeros_like(size)
        elif r == 1 or q == 1:
            of_powers = size
        else:
            of_powers = np.clip(_squares_of_pure(psi**r, c) / one, 0, size)
        pure.append(of_powers / (one * q))
        mixed.append((size - of_powers) / (1 - q * one) if r > 1 and q > 1 else np.zeros_like(size))
    return Sizes(np.array(pure), np.array(mixed))


def _squares_of_pure(powers: np.ndarray, c: np.ndarray) -> np.ndarray:
    """``Σ_j (E Re[conj(ψ_j)^r c])²`` without bias from powers ``ψ_ij^r`` (m, q) and coefficients (m, Q): (Q,)."""
    m = len(c)
    re, im = np.ascontiguousarray(powers.real), np.ascontiguousarray(powers.imag)
    sums = re.T @ c.real + im.T @ c.imag  # (q, Q)
    own = (re * re).sum(1) @ c.real**2 + (im * im).sum(1) @ c.imag**2 + 2 * (re * im).sum(1) @ (c.real * c.imag)
    return ((sums**2).sum(0) - own) / (m * (m - 1))  # without what a direction is paired with itself


def fraction_of(part: Complex[np.ndarray, "m k Q"], whole: Complex[np.ndarray, "m k Q"]) -> Float[np.ndarray, "k Q"]:
    """How large a part of the coefficients is along the directions, root mean square, over the whole: (k, Q).

    For the size of what fits leave: its own pure powers say too little. Fits that leave out one direction at a time
    share all others, so that pairs of what they leave are negatively correlated (a factor of two in the size of
    order two, for microgpt's 1000 examples and 500 directions). The size alone is honest.

    Args:
        part: (m, k, Q) complex.
        whole: (m, k, Q) complex.
    """
    some, every = ((c.real**2 + c.imag**2).sum(0) for c in (part, whole))
    return np.sqrt(np.divide(some, every, out=np.zeros_like(some), where=every > 0))
