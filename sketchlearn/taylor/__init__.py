"""Run a real JAX program over truncated power series: rules, registry, interpreter."""

from . import (  # noqa: F401
    rules_algebraic,
    rules_analytic,
    rules_collective,
    rules_control,
    rules_custom,
    rules_eigen,
    rules_extremes,
    rules_linear,
    rules_piecewise,
    rules_reductions,
)
from .cauchy import CauchyCoefficients as CauchyCoefficients
from .cauchy import cauchy_coefficients as cauchy_coefficients
from .coefficients import taylor_coefficients as taylor_coefficients
from .registry import Rule as Rule
from .registry import refused_primitives as refused_primitives
from .registry import supported_primitives as supported_primitives
from .stand_ins import stand_in as stand_in
from .transform import piecewise_report as piecewise_report
from .transform import push_forward as push_forward
