"""Data for the recipes: where images come from, how they are split, scaled, augmented and fed to a model."""

from pipelines import terminal, tf_import

terminal.keep_loopback_direct()
tf_import.install()
