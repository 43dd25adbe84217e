"""How would this model behave if that part of its training data had never been there?

Run the training program over truncated power series along random complex
directions of the example weights, keep those jets (the sketch), and predict any
output after any deletion, with an error bar. After Gunn, "How to sketch a
learning algorithm", arXiv:2604.07328.
"""

from . import datasets as datasets
from . import microgpt as microgpt
from . import reference as reference
from . import taylor as taylor
from .errors import PrecisionWarning as PrecisionWarning
from .errors import UnsupportedPrimitive as UnsupportedPrimitive
from .taylor import piecewise_report as piecewise_report
from .taylor import taylor_coefficients as taylor_coefficients

__version__ = "0.1.0"
