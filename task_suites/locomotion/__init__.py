"""Locomotion: the six bodies of Gymnasium's MuJoCo v5 environments with changing tasks and dynamics."""
