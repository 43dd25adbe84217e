"""t: any JAX program over truncated power series: algebra, rules, registry, interpreter."""

import sketchlearn.taylor.rules  # noqa: F401 (registers them)
from sketchlearn.taylor.cauchy.coefficients import CauchyCoefficients as CauchyCoefficients
from sketchlearn.taylor.cauchy.coefficients import cauchy_coefficients as cauchy_coefficients
from sketchlearn.taylor.coefficients import taylor_coefficients as taylor_coefficients
from sketchlearn.taylor.registry import Rule as Rule
from sketchlearn.taylor.registry import refused_primitives as refused_primitives
from sketchlearn.taylor.registry import supported_primitives as supported_primitives
from sketchlearn.taylor.stand_ins import stand_in as stand_in
from sketchlearn.taylor.transform import piecewise_report as piecewise_report
from sketchlearn.taylor.transform import push_forward as push_forward
