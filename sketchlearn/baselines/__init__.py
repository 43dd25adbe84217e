"""Other ways to predict a deletion, each with the sketch's ``predict(query, delete)``, in the unit of the query."""

from .additive import CoordinateSums as CoordinateSums
from .answer import Baseline as Baseline
from .convex import GroupInfluence as GroupInfluence
from .convex import InfinitesimalJackknife as InfinitesimalJackknife
from .convex import NewtonStep as NewtonStep
from .influence import Influence as Influence
from .metagradient import ForwardFirstOrder as ForwardFirstOrder
from .metagradient import Metagradient as Metagradient
from .projected import ProjectedGradients as ProjectedGradients
from .regression import DatamodelRegression as DatamodelRegression
from .tracin import TracIn as TracIn
