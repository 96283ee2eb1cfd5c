"""Train and apply image classifiers on encrypted images."""
