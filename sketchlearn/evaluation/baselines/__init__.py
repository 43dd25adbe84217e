"""Other ways to predict a deletion, each with the sketch's ``predict(query, delete)``, in the unit of the query."""

from sketchlearn.evaluation.baselines.additive import CoordinateSums as CoordinateSums
from sketchlearn.evaluation.baselines.base import Baseline as Baseline
from sketchlearn.evaluation.baselines.convex import GroupInfluence as GroupInfluence
from sketchlearn.evaluation.baselines.convex import InfinitesimalJackknife as InfinitesimalJackknife
from sketchlearn.evaluation.baselines.convex import NewtonStep as NewtonStep
from sketchlearn.evaluation.baselines.curvature import LeadingCurvature as LeadingCurvature
from sketchlearn.evaluation.baselines.influence import Influence as Influence
from sketchlearn.evaluation.baselines.metagradient import ForwardFirstOrder as ForwardFirstOrder
from sketchlearn.evaluation.baselines.metagradient import Metagradient as Metagradient
from sketchlearn.evaluation.baselines.projected import ProjectedGradients as ProjectedGradients
from sketchlearn.evaluation.baselines.regression import DatamodelRegression as DatamodelRegression
from sketchlearn.evaluation.baselines.tracin import TracIn as TracIn
