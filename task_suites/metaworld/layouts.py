"""Meta-World's 50 scenes and its benchmarks as plain numbers: where objects and goals may lie.

Copied from Meta-World 3.1.1 (a test holds them against the installed package), so that tasks can be listed,
drawn and stored without it. Meta-World stores a task as a pickle of its "random vector"; here it is a
mapping of named numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from task_suites.errors import SuiteError, choose
from task_suites.task import Parameters

NUMBER_NAMES = tuple(f"{what}_{axis}_metres" for what in ("object", "goal") for axis in "xyz")
TASKS_PER_SCENE = 50  # per split, as in Meta-World
_TOLERANCE_METRES = 1e-6


@dataclass(frozen=True)
class Space:
    """The box (metres) that a scene's 3 or 6 numbers are drawn from: its object's place and its goal's.

    apart_metres: least horizontal distance between object and goal; nearer ones are drawn again.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    apart_metres: float = 0.0

    def allows(self, values: np.ndarray) -> bool:
        """Return whether `values` (3 or 6,) lie in the box and object and goal far enough apart."""
        low, high = np.array(self.low) - _TOLERANCE_METRES, np.array(self.high) + _TOLERANCE_METRES
        inside = bool(np.all((values >= low) & (values <= high)))
        return inside and (not self.apart_metres or _distance(values) >= self.apart_metres)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return one allowed vector (3 or 6,), uniformly."""
        while True:
            values = rng.uniform(self.low, self.high)
            if self.allows(values):
                return values


def _distance(values: np.ndarray) -> float:
    return float(np.hypot(values[0] - values[3], values[1] - values[4]))


# sweep-into keeps its goal at (0, 0.84) whatever was drawn, hence 2 mm more than Meta-World's 0.15.
SPACES = {
    "assembly": Space((0, 0.6, 0.02, -0.1, 0.75, 0.1), (0, 0.6, 0.02, 0.1, 0.85, 0.1), 0.1),
    "basketball": Space((-0.1, 0.6, 0.0299, -0.1, 0.85, 0), (0.1, 0.7, 0.0301, 0.1, 0.9000001, 0), 0.15),
    "bin-picking": Space((-0.21, 0.65, 0.02, 0.1199, 0.699, -0.001), (-0.03, 0.75, 0.02, 0.1201, 0.701, 0.001)),
    "box-close": Space((-0.05, 0.5, 0.02, -0.1, 0.7, 0.133), (0.05, 0.55, 0.02, 0.1, 0.8, 0.133), 0.25),
    "button-press-topdown": Space((-0.1, 0.8, 0.115), (0.1, 0.9, 0.115)),
    "button-press-topdown-wall": Space((-0.1, 0.8, 0.115), (0.1, 0.9, 0.115)),
    "button-press": Space((-0.1, 0.85, 0.115), (0.1, 0.9, 0.115)),
    "button-press-wall": Space((-0.05, 0.85, 0.1149), (0.05, 0.9, 0.1151)),
    "coffee-button": Space((-0.1, 0.8, -0.001), (0.1, 0.9, 0.001)),
    "coffee-pull": Space((-0.05, 0.7, -0.001, -0.1, 0.55, -0.001), (0.05, 0.75, 0.001, 0.1, 0.65, 0.001), 0.15),
    "coffee-push": Space((-0.1, 0.55, -0.001, -0.05, 0.7, -0.001), (0.1, 0.65, 0.001, 0.05, 0.75, 0.001), 0.15),
    "dial-turn": Space((-0.1, 0.7, 0), (0.1, 0.8, 0)),
    "disassemble": Space((0, 0.6, 0.025, -0.1, 0.6, 0.1699), (0.1, 0.75, 0.02501, 0.1, 0.75, 0.1701), 0.1),
    "door-close": Space((0, 0.85, 0.15), (0.1, 0.95, 0.15)),
    "door-lock": Space((-0.1, 0.8, 0.15), (0.1, 0.85, 0.15)),
    "door-open": Space((0, 0.85, 0.15), (0.1, 0.95, 0.15)),
    "door-unlock": Space((-0.1, 0.8, 0.15), (0.1, 0.85, 0.15)),
    "hand-insert": Space((-0.1, 0.6, 0.05, -0.04, 0.8, -0.0201), (0.1, 0.7, 0.05, 0.04, 0.88, -0.0199), 0.15),
    "drawer-close": Space((-0.1, 0.9, 0), (0.1, 0.9, 0)),
    "drawer-open": Space((-0.1, 0.9, 0), (0.1, 0.9, 0)),
    "faucet-open": Space((-0.05, 0.8, 0), (0.05, 0.85, 0)),
    "faucet-close": Space((-0.1, 0.8, 0), (0.1, 0.85, 0)),
    "hammer": Space((-0.1, 0.4, 0), (0.1, 0.5, 0)),
    "handle-press-side": Space((-0.35, 0.65, -0.001), (-0.25, 0.75, 0.001)),
    "handle-press": Space((-0.1, 0.8, -0.001), (0.1, 0.9, 0.001)),
    "handle-pull-side": Space((-0.35, 0.65, 0), (-0.25, 0.75, 0)),
    "handle-pull": Space((-0.1, 0.8, -0.001), (0.1, 0.9, 0.001)),
    "lever-pull": Space((-0.1, 0.7, 0), (0.1, 0.8, 0)),
    "pick-place-wall": Space((-0.05, 0.6, 0.015, -0.05, 0.85, 0.05), (0.05, 0.65, 0.015, 0.05, 0.9, 0.3), 0.15),
    "pick-out-of-hole": Space((0, 0.75, 0.02, -0.1, 0.5, 0.15), (0, 0.75, 0.02, 0.1, 0.6, 0.3), 0.15),
    "pick-place": Space((-0.1, 0.6, 0.02, -0.1, 0.8, 0.05), (0.1, 0.7, 0.02, 0.1, 0.9, 0.3), 0.15),
    "plate-slide": Space((0, 0.6, 0, -0.1, 0.85, 0), (0, 0.6, 0, 0.1, 0.9, 0)),
    "plate-slide-side": Space((0, 0.6, 0, -0.3, 0.54, 0), (0, 0.6, 0, -0.25, 0.66, 0)),
    "plate-slide-back": Space((0, 0.85, 0, -0.1, 0.6, 0.015), (0, 0.85, 0, 0.1, 0.6, 0.015)),
    "plate-slide-back-side": Space((-0.25, 0.6, 0, -0.05, 0.6, 0.015), (-0.25, 0.6, 0, 0.15, 0.6, 0.015)),
    "peg-insert-side": Space((0, 0.5, 0.02, -0.35, 0.4, -0.001), (0.2, 0.7, 0.02, -0.25, 0.7, 0.001), 0.1),
    "peg-unplug-side": Space((-0.25, 0.6, -0.001), (-0.15, 0.8, 0.001)),
    "soccer": Space((-0.1, 0.6, 0.03, -0.1, 0.8, 0), (0.1, 0.7, 0.03, 0.1, 0.9, 0), 0.15),
    "stick-push": Space((-0.08, 0.58, 0, 0.399, 0.55, 0.1319), (-0.03, 0.62, 0.001, 0.401, 0.6, 0.1321), 0.1),
    "stick-pull": Space((-0.1, 0.55, 0, 0.35, 0.45, 0.0199), (0, 0.65, 0.001, 0.45, 0.55, 0.0201), 0.1),
    "push": Space((-0.1, 0.6, 0.02, -0.1, 0.8, 0.01), (0.1, 0.7, 0.02, 0.1, 0.9, 0.02), 0.15),
    "push-wall": Space((-0.05, 0.6, 0.015, -0.05, 0.85, 0.01), (0.05, 0.65, 0.015, 0.05, 0.9, 0.02), 0.15),
    "push-back": Space((-0.1, 0.8, 0.02, -0.1, 0.6, 0.0199), (0.1, 0.85, 0.02, 0.1, 0.7, 0.0201), 0.15),
    "reach": Space((-0.1, 0.6, 0.02, -0.1, 0.8, 0.05), (0.1, 0.7, 0.02, 0.1, 0.9, 0.3), 0.15),
    "reach-wall": Space((-0.05, 0.6, 0.015, -0.05, 0.85, 0.05), (0.05, 0.65, 0.015, 0.05, 0.9, 0.3), 0.15),
    "shelf-place": Space((-0.1, 0.5, 0.019, -0.1, 0.8, 0.299), (0.1, 0.6, 0.021, 0.1, 0.9, 0.301), 0.1),
    "sweep-into": Space((-0.1, 0.6, 0.02, -0.001, 0.8399, 0.0199), (0.1, 0.7, 0.02, 0.001, 0.8401, 0.0201), 0.152),
    "sweep": Space((-0.1, 0.6, 0.02), (0.1, 0.7, 0.02)),
    "window-open": Space((-0.1, 0.7, 0.16), (0.1, 0.9, 0.16)),
    "window-close": Space((0, 0.75, 0.2), (0, 0.9, 0.2)),
}
SCENES = tuple(SPACES)
# Where the goal is a body of the scene, such as a net or a box: pictures show its place although the goal is
# hidden, in Meta-World as here; so does the state of box-close.
GOALS_IN_PICTURES = (
    "assembly",
    "basketball",
    "box-close",
    "coffee-push",
    "plate-slide",
    "peg-insert-side",
    "soccer",
    "shelf-place",
)
GOALS_IN_STATE = ("box-close",)

_ML10_TRAIN = [
    "reach",
    "push",
    "pick-place",
    "door-open",
    "drawer-close",
    "button-press-topdown",
    "peg-insert-side",
    "window-open",
    "sweep",
    "basketball",
]
_ML10_TEST = ["drawer-open", "door-close", "shelf-place", "sweep-into", "lever-pull"]
# Meta-World's ML25 also trains on basketball, which is one of its test scenes: left out here.
_ML25_TRAIN = [
    "reach",
    "push",
    "pick-place",
    "door-open",
    "drawer-open",
    "drawer-close",
    "button-press-topdown",
    "peg-insert-side",
    "window-open",
    "window-close",
    "coffee-pull",
    "pick-out-of-hole",
    "disassemble",
    "pick-place-wall",
    "stick-pull",
    "button-press-wall",
    "faucet-open",
    "door-lock",
    "lever-pull",
    "sweep-into",
    "faucet-close",
    "coffee-button",
    "button-press-topdown-wall",
    "dial-turn",
]
_ML25_TEST = ["basketball", "door-close", "shelf-place", "sweep", "button-press"]
_ML45_TEST = ["bin-picking", "box-close", "hand-insert", "door-lock", "door-unlock"]
_ML45_TRAIN = [scene for scene in SCENES if scene not in _ML45_TEST]
BENCHMARKS = {
    "ml10": (tuple(_ML10_TRAIN), tuple(_ML10_TEST)),
    "ml25": (tuple(_ML25_TRAIN), tuple(_ML25_TEST)),
    "ml45": (tuple(_ML45_TRAIN), tuple(_ML45_TEST)),
}


def draw(scene: str, split: str, seed: int) -> tuple[Parameters, ...]:
    """Return the 50 tasks of `scene` in `split` for benchmark seed `seed`: the scene and its numbers.

    Splits, scenes and seeds have streams of their own: no seed's test tasks are another's train tasks.
    """
    space = SPACES[choose(scene, SCENES, "Meta-World scene")]
    key = [seed, SCENES.index(scene), ("train", "test").index(split)]
    rng = np.random.default_rng(np.random.SeedSequence(key))
    drawn = [space.draw(rng).tolist() for _ in range(TASKS_PER_SCENE)]
    return tuple(Parameters(dict(zip(NUMBER_NAMES, values, strict=False)), scene=scene) for values in drawn)


def numbers(parameters: Parameters) -> np.ndarray:
    """Return the vector (3 or 6,) that Meta-World sets the scene up from. SuiteError: not an allowed one."""
    scene = choose(parameters.get("scene"), SCENES, "Meta-World scene")
    space = SPACES[scene]
    expected = {"scene", *NUMBER_NAMES[: len(space.low)]}
    if set(parameters) != expected:
        raise SuiteError(f"{scene}: parameters are {sorted(parameters)}, expected {sorted(expected)}")
    values = [parameters[name] for name in NUMBER_NAMES[: len(space.low)]]
    if any(isinstance(value, bool | str) for value in values) or not space.allows(np.array(values)):
        apart = f", object and goal at least {space.apart_metres} m apart" if space.apart_metres else ""
        raise SuiteError(f"{scene}: places are {values}, expected {space.low} to {space.high}{apart}")
    return np.array(values, np.float64)
