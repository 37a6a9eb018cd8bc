"""Locomotion: the six bodies of Gymnasium's MuJoCo v5 environments with changing tasks and dynamics."""

TASKS = {  # by body; here, where registering them imports nothing else
    "half_cheetah": ("run", "velocity", "direction"),
    "hopper": ("run", "upright", "velocity"),
    "walker2d": ("run", "upright", "velocity", "direction"),
    "ant": ("run", "upright", "velocity", "direction", "goal"),
    "swimmer": ("run", "velocity"),
    "humanoid": ("run", "direction"),
}
