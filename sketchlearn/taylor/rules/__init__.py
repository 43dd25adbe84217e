"""The rules: how each JAX primitive acts on a jet. Importing this registers them all."""

from sketchlearn.taylor.rules import algebraic as algebraic
from sketchlearn.taylor.rules import analytic as analytic
from sketchlearn.taylor.rules import collective as collective
from sketchlearn.taylor.rules import control as control
from sketchlearn.taylor.rules import custom as custom
from sketchlearn.taylor.rules import eigen as eigen
from sketchlearn.taylor.rules import extremes as extremes
from sketchlearn.taylor.rules import linear as linear
from sketchlearn.taylor.rules import piecewise as piecewise
from sketchlearn.taylor.rules import reductions as reductions
from sketchlearn.taylor.rules import refused as refused
