"""All roles in one process, for notebooks and scikit-learn pipelines.

estimator.py  ImageClassifier, scikit-learn's estimator protocol
protocol.py   that protocol without scikit-learn: parameters, tags, errors
roles.py      owner and server side by side
"""

from cipherlens.local.estimator import ImageClassifier

__all__ = ["ImageClassifier"]
