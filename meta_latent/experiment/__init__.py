"""Experiments: run folders, checkpoints, configuration, pretraining, transfer, evaluation and reports."""
