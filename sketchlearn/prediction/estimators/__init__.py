"""The estimators, one a file. Importing this registers them all."""

from sketchlearn.prediction.estimators import auto as auto
from sketchlearn.prediction.estimators import kernel as kernel
from sketchlearn.prediction.estimators import least_squares as least_squares
from sketchlearn.prediction.estimators import mean as mean
from sketchlearn.prediction.estimators import median_of_means as median_of_means
