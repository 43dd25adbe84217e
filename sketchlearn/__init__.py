"""How would this model behave if that part of its training data had never been there?

Run the training program over truncated power series along random complex
directions of the example weights, keep those jets (the sketch), and predict any
output after any deletion, with an error bar. After Gunn, "How to sketch a
learning algorithm", arXiv:2604.07328.
"""

# ruff: noqa: E402 (XLA reads its flags once: they are set before anything else is imported, which might compute)
from sketchlearn.runtime import jax_compat

jax_compat.avoid_wrong_fusions()

from sketchlearn import reference as reference
from sketchlearn import taylor as taylor
from sketchlearn.deletions.candidates import Candidates as Candidates
from sketchlearn.deletions.examples import Examples as Examples
from sketchlearn.deletions.groups import Groups as Groups
from sketchlearn.deletions.linear_map import LinearMap as LinearMap
from sketchlearn.errors import PrecisionWarning as PrecisionWarning
from sketchlearn.errors import StoreError as StoreError
from sketchlearn.errors import UnsupportedPrimitive as UnsupportedPrimitive
from sketchlearn.evaluation import baselines as baselines
from sketchlearn.evaluation.deletion_sets import random_deletions as random_deletions
from sketchlearn.evaluation.evaluate import evaluate as evaluate
from sketchlearn.evaluation.result import Evaluation as Evaluation
from sketchlearn.experiments import datasets as datasets
from sketchlearn.experiments import microgpt as microgpt
from sketchlearn.experiments import worlds as worlds
from sketchlearn.experiments import zoo as zoo
from sketchlearn.planning.check import CheckReport as CheckReport
from sketchlearn.planning.check import Finding as Finding
from sketchlearn.planning.check import check as check
from sketchlearn.planning.plan import Plan as Plan
from sketchlearn.planning.plan import plan as plan
from sketchlearn.planning.stability import StabilityProfile as StabilityProfile
from sketchlearn.planning.stability import stability_profile as stability_profile
from sketchlearn.prediction.base import estimators as estimators
from sketchlearn.prediction.result import Prediction as Prediction
from sketchlearn.sketching.make import sketch as sketch
from sketchlearn.sketching.open import open_sketch as open_sketch
from sketchlearn.sketching.sketch import Sketch as Sketch
from sketchlearn.taylor import piecewise_report as piecewise_report
from sketchlearn.taylor import taylor_coefficients as taylor_coefficients
from sketchlearn.training.batches import minibatches as minibatches
from sketchlearn.training.checkpointing import checkpointed_scan as checkpointed_scan
from sketchlearn.training.objective import Checkpoint as Checkpoint
from sketchlearn.training.objective import Problem as Problem
from sketchlearn.training.recipe import Recipe as Recipe
from sketchlearn.training.state import Trained as Trained
from sketchlearn.truth.bank import RetrainBank as RetrainBank
from sketchlearn.truth.curvature import Curvature as Curvature
from sketchlearn.truth.curvature import curvature as curvature
from sketchlearn.truth.gradient import gradient as gradient
from sketchlearn.truth.retrain import retrain as retrain
from sketchlearn.truth.seed_noise import seed_noise as seed_noise
