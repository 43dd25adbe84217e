"""How would this model behave if that part of its training data had never been there?

Run the training program over truncated power series along random complex
directions of the example weights, keep those jets (the sketch), and predict any
output after any deletion, with an error bar. After Gunn, "How to sketch a
learning algorithm", arXiv:2604.07328.
"""

# ruff: noqa: E402 (XLA reads its flags once: they are set before anything else is imported, which might compute)
from . import _jax_compat

_jax_compat.avoid_wrong_fusions()

from . import baselines as baselines
from . import datasets as datasets
from . import microgpt as microgpt
from . import reference as reference
from . import taylor as taylor
from . import worlds as worlds
from . import zoo as zoo
from .batches import minibatches as minibatches
from .checking import CheckReport as CheckReport
from .checking import Finding as Finding
from .checking import check as check
from .checkpointing import checkpointed_scan as checkpointed_scan
from .controls import gradient as gradient
from .errors import PrecisionWarning as PrecisionWarning
from .errors import StoreError as StoreError
from .errors import UnsupportedPrimitive as UnsupportedPrimitive
from .evaluation import Evaluation as Evaluation
from .evaluation import evaluate as evaluate
from .evaluation import random_deletions as random_deletions
from .keeping import open_sketch as open_sketch
from .planning import Plan as Plan
from .planning import plan as plan
from .prediction import Prediction as Prediction
from .problem import Checkpoint as Checkpoint
from .problem import Problem as Problem
from .querying import Sketch as Sketch
from .recipes import Recipe as Recipe
from .retraining import RetrainBank as RetrainBank
from .retraining import retrain as retrain
from .retraining import seed_noise as seed_noise
from .sketching import sketch as sketch
from .spaces import Candidates as Candidates
from .spaces import Examples as Examples
from .spaces import Groups as Groups
from .spaces import LinearMap as LinearMap
from .stability import StabilityProfile as StabilityProfile
from .stability import stability_profile as stability_profile
from .states import Trained as Trained
from .taylor import piecewise_report as piecewise_report
from .taylor import taylor_coefficients as taylor_coefficients
