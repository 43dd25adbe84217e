"""x: what may be deleted, a linear map from coordinates to the examples, and how users write it."""

from sketchlearn.deletions.candidates import Candidates as Candidates
from sketchlearn.deletions.examples import Examples as Examples
from sketchlearn.deletions.groups import Groups as Groups
from sketchlearn.deletions.linear_map import LinearMap as LinearMap
