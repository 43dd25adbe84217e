"""Primitives that are refused, each with the reason and what to write in its place."""

from __future__ import annotations

from sketchlearn.taylor.registry import refuse

INCOMPLETE = "the incomplete gamma and beta functions have no rule. "
for _name in ("igamma", "igammac"):
    refuse(
        _name,
        INCOMPLETE + "For a whole a write igammac(a, x) = exp(-x) * sum(x**j / j!, j < a), for a = 1/2 erfc(sqrt(x))",
    )
for _name in ("igamma_grad_a", "regularized_incomplete_beta"):
    refuse(
        _name,
        INCOMPLETE + "Integrate the density by a quadrature (jnp.trapezoid), or give jax.custom_jvp its derivative",
    )
refuse(
    "random_gamma",
    "a gamma variable depends on its shape through which draws were accepted. Hold the shapes of jax.random.gamma, "
    "beta, dirichlet and t constant and let scales vary: jax.random.gamma(key, 2.0) * scale",
)
for _name in ("bessel_i0e", "bessel_i1e"):
    refuse(
        _name, "Bessel functions have no rule. Write the integral: mean over t in [0, π] of exp(x (cos t - 1)) (cos t)"
    )
for _name in ("bitcast_convert_type", "nextafter", "shift_left", "shift_right_logical"):
    refuse(_name, "it acts on the bits of a number and has no derivative")
for _name in ("pure_callback", "io_callback"):
    refuse(_name, "what happens outside JAX cannot be expanded")

refuse(
    "eig",
    "the eigenvalues of a matrix that need not be symmetric have no rule. If it is symmetric, write "
    "jnp.linalg.eigh(a) or eigvalsh(a); of sums over all eigenvalues write the trace or the determinant "
    "(jnp.trace(jnp.linalg.matrix_power(a, k)), jnp.linalg.slogdet(a)); for the "
    "largest one iterate v = a @ v / jnp.linalg.norm(a @ v)",
)
refuse(
    "schur",
    "Schur's form, which jax.scipy.linalg.sqrtm and funm are computed from, has no rule. For a symmetric matrix write "
    "w, v = jnp.linalg.eigh(a) and then (v * jnp.sqrt(w)) @ v.T; jax.scipy.linalg.expm needs neither",
)
refuse("hessenberg", "Hessenberg's form has no rule. For a symmetric matrix write jnp.linalg.eigh(a)")
refuse("tridiagonal", "the tridiagonal form has no rule. Write jnp.linalg.eigh(a) for the eigenvalues themselves")
for _name in ("geqrf", "geqp3", "householder_product", "ormqr"):
    refuse(_name, "Householder's reflections have no rule of their own. Write jnp.linalg.qr(a), whose Q and R have one")
refuse(
    "cholesky_update",
    "an update of a Cholesky factor has no rule. Write jnp.linalg.cholesky(r.T @ r + jnp.outer(w, w)).T",
)

for _name in ("shard_map", "xla_pmap", "psum_invariant", "all_gather_invariant", "pvary"):
    refuse(
        _name,
        "it runs a program of its own on every device. Write the same mathematics for the whole array under jax.jit, "
        "whose compiler divides the work (jax.device_put with a sharding, jax.lax.with_sharding_constraint), or use "
        'jax.vmap(f, axis_name="...") in place of jax.pmap and jax.shard_map: psum and pmean mean the same there',
    )
