"""Classifiers trained on ciphertexts, each with its clear twin: the same arithmetic in float64.

learners.py   what a task says about its learner: kind, sizes, spectrum, steps, depth
chebyshev.py  the recurrence that solves A W = R without divisions or branches on data
twin.py       the whole training in the clear, exact or with modelled noise
bounds.py     whitening, spectrum and number of steps from a few clear images
signal.py     class means of the clear images, for those of others to be compared with
residual.py   what the owner checks after decrypting a model
reference.py  scikit-learn's exact solvers on the same features
"""
