"""Data for the recipes: where images come from, how they are split, scaled, augmented and fed to a model."""

from pipelines import tf_import

tf_import.install()
