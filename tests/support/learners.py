"""Training programs whose Taylor terms are known exactly, and functions with derivative rules of their own."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

SIGMAS = 5  # the seeds are fixed: a right formula that passes once always passes


class Polynomial:
    """A learner whose parameters are cubic polynomials in the deletion: its Taylor terms stop and are known."""

    def __init__(self, n=4, outputs=2, seed=0, sizes=(1, 1, 1)):
        rng = np.random.default_rng(seed)
        self.n = n
        self.constant = rng.normal(size=outputs)
        self.tensors = [s * rng.normal(size=(outputs,) + (n,) * r) for r, s in enumerate(sizes, 1)]

    def term(self, r, x):
        """``P_r(x)``, the r-th Taylor term of all outputs."""
        y = self.tensors[r - 1]
        for _ in range(r):
            y = y @ x
        return y

    def train(self, weights):
        x = 1 - weights
        y = self.constant + sum(self.term(r, x) for r in range(1, len(self.tensors) + 1))
        return {"a": y[:1], "b": y[1:]}

    def query(self, parameters):
        return jnp.concatenate([parameters["a"], parameters["b"]])


class Ridge:
    """``argmin_θ Σ_i w_i (y_i - φ_i·θ)² + λ|θ|²``, solved in closed form."""

    def __init__(self, n=8, d=3, ridge=0.5, seed=0):
        rng = np.random.default_rng(seed)
        self.n, self.phi, self.y = n, rng.normal(size=(n, d)), rng.normal(size=n)
        self.penalty = ridge * np.eye(d)
        self.normal = self.phi.T @ self.phi + self.penalty

    def train(self, weights):
        weighted = self.phi * weights[:, None]
        return jnp.linalg.solve(weighted.T @ self.phi + self.penalty, weighted.T @ self.y)

    def jet(self, x, degree):
        """θ_0 .. θ_degree of the weights ``1 - t x``, x real or complex, by the recursion of a resolvent.

        ``(A - t B) θ(t) = b - t d`` with B and d the part of the normal equations that x deletes.
        """
        b, d = (self.phi.T * x) @ self.phi, self.phi.T @ (x * self.y)
        out = [np.linalg.solve(self.normal, self.phi.T @ self.y)]
        for r in range(1, degree + 1):
            out.append(np.linalg.solve(self.normal, b @ out[-1] - (d if r == 1 else 0)))
        return np.array(out)

    def without(self, i):
        keep = np.arange(self.n) != i
        normal = self.phi[keep].T @ self.phi[keep] + self.penalty
        return np.linalg.solve(normal, self.phi[keep].T @ self.y[keep])


def scrambled(y):
    """``y`` by way of its bits, where no derivative is left."""
    return lax.bitcast_convert_type(lax.bitcast_convert_type(y, jnp.int64) ^ 5 ^ 5, y.dtype)


@jax.custom_jvp
def exponential_by_bits(x):
    return scrambled(jnp.exp(x))


@exponential_by_bits.defjvp
def _(primals, tangents):  # the rule mentions the function: every order asks for one order less of it
    return exponential_by_bits(*primals), exponential_by_bits(*primals) * tangents[0]
