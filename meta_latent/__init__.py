"""Pretrain a latent state model once, reuse it in every algorithm, and measure how much faster they learn."""

__version__ = "0.1.0"
