"""A user's own environment with the observations, actions and privileged inputs of a suite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from task_suites.errors import SuiteError


class LargestAction(gymnasium.ActionWrapper):
    """Discrete actions as n numbers in [-1, 1], of which the largest is taken."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self._start = int(env.action_space.start)
        self.action_space = Box(-1, 1, (int(env.action_space.n),), np.float32)

    def action(self, action: np.ndarray) -> int:
        """Return the number of the largest entry."""
        return self._start + int(np.argmax(action))


class ScaledAction(gymnasium.ActionWrapper):
    """Actions of a bounded Box (A,), whole numbers too, as A numbers in [-1, 1].

    Each whole number gets an equal share of [-1, 1]; where low and high are equal, any action means that.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        space = env.action_space
        self._low, self._high = space.low.astype(np.float64), space.high.astype(np.float64)
        self._type, self._whole = space.dtype, np.issubdtype(space.dtype, np.integer)
        self.action_space = Box(-1, 1, space.shape, np.float32)

    def action(self, action: np.ndarray) -> np.ndarray:
        """Return the environment's own action, of its type and within its limits."""
        low, high, action = self._low, self._high, np.asarray(action, np.float64)
        if self._whole:
            own = low + np.floor((action + 1) / 2 * (high - low + 1))
        else:
            own = (low / 2 + high / 2) + action * (high / 2 - low / 2)  # halves, as the width may overflow
        return own.clip(low, high).astype(self._type)


def number(value: Any, what: str) -> float:
    """Return `value` as a float, also from an array of one. SuiteError: it is nothing of the kind."""
    found = np.asarray(value)
    if found.size != 1 or found.dtype.kind not in "biuf":
        raise SuiteError(f"{what} is {value!r}: expected a number")
    return float(found.item())


def draw(env: gymnasium.Env) -> Any:
    """Return what the environment renders; an array is a copy, as some draw into the same one each time."""
    viewer = getattr(getattr(env.unwrapped, "mujoco_renderer", None), "viewer", None)
    if viewer is not None:
        viewer.make_context_current()  # Gymnasium takes it to be so; anything drawn in between changed it
    frame = env.render()
    return frame.copy() if isinstance(frame, np.ndarray) else frame


def rendered(env: gymnasium.Env, side: int | None, name: str) -> np.ndarray:
    """Return what the environment renders, uint8 (H, W, 3), scaled to `side`. SuiteError: no picture."""
    frame = draw(env)
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.shape[2:] != (3,):
        found = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise SuiteError(f"{name}: render() returned {found}; expected uint8 (height, width, 3)")
    if side is None:
        return frame
    from PIL import Image

    return np.array(Image.fromarray(frame).resize((side, side), Image.Resampling.BOX))


class Observer:
    """From an environment's observations to a dict of `image_CAMERA` and `proprio`; `space` is their space.

    Raises SuiteError for what is neither numbers nor pictures, uint8 (height, width, 3).
    """

    def __init__(self, space: gymnasium.Space, name: str) -> None:
        self._name = name
        self._is_dict = isinstance(space, Dict) and all(
            key == "proprio" or key.startswith("image_") for key in space.spaces
        )
        whole = "image_observation" if _is_picture(space) else "proprio"
        self._parts = dict(space.spaces) if self._is_dict else {whole: space}
        found = {}
        for key, part in self._parts.items():
            if key.startswith("image_"):
                if not (isinstance(part, Box) and part.dtype == np.uint8 and part.shape[2:] == (3,)):
                    raise SuiteError(f"{name}: {key} is {part}; expected uint8 (height, width, 3)")
                found[key] = part
            elif _holds(part, _looks_like_picture):
                raise SuiteError(f"{name}: {key} is {part}, which looks like a picture: give uint8 in [0, 255]; "
                                 "flatten what is none")  # fmt: skip
            elif not part.is_np_flattenable or _holds(part, _is_picture):
                raise SuiteError(
                    f"{name}: its observations are {part}; expected numbers, a picture, or a Dict with the "
                    "keys image_CAMERA and proprio"
                )
            else:
                found[key] = Box(-np.inf, np.inf, (gymnasium.spaces.flatdim(part),), np.float32)
        if not any(part.shape != (0,) for part in found.values()):
            raise SuiteError(f"{name}: its observations are {space}: nothing would be observed")
        self.space = Dict(found)
        self._read = {key: with_fractions(part) for key, part in self._parts.items()}

    def __call__(self, observation: Any) -> dict[str, np.ndarray]:
        """Return new arrays. SuiteError: not finite, or of another structure, shape or kind than its space."""
        given = observation if self._is_dict else {next(iter(self._parts)): observation}
        try:
            shown = {
                key: np.array(given[key])
                if key.startswith("image_")
                else np.array(gymnasium.spaces.flatten(part, given[key]), np.float32)
                for key, part in self._read.items()
            }
        except (IndexError, KeyError, TypeError, ValueError) as error:
            wrong = f"{type(error).__name__}: {error}"
            found = f"an observation of type {type(observation).__name__}"
            raise SuiteError(f"{self._name}: got {found}, which is not of its space ({wrong})") from error
        for key, value in shown.items():
            expected = self.space[key]
            if value.shape != expected.shape or value.dtype != expected.dtype:  # rows would stretch or wrap it around
                raise SuiteError(f"{self._name}: got as {key} {value.dtype} {value.shape}, which is not in its space "
                                 f"{expected}")  # fmt: skip
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise SuiteError(f"{self._name}: got as {key} {value.tolist()}: numbers have to be finite")
        return shown


def with_fractions(space: gymnasium.Space) -> gymnasium.Space:
    """Return `space` with Boxes of whole numbers as Boxes of floats, as `flatten` casts to their type what is seen."""
    if isinstance(space, Dict):
        return Dict([(key, with_fractions(part)) for key, part in space.spaces.items()])  # a dict would be sorted
    if isinstance(space, Tuple):
        return Tuple([with_fractions(part) for part in space.spaces])
    is_whole = isinstance(space, Box) and space.dtype.kind != "f"
    return Box(-np.inf, np.inf, space.shape, np.float64) if is_whole else space


def outside(space: gymnasium.Space, value: Any, where: str = "") -> str | None:
    """Return in words what of `value` lies outside `space`, and where; its type may be another one, as it is converted.

    where: of `value` in what holds it, such as "['proprio']".
    """
    at = f" at {where}" if where else ""
    if isinstance(space, Dict):
        parts = [(part, value[key], f"{where}[{key!r}]") for key, part in space.spaces.items()]
    elif isinstance(space, Tuple):
        pairs = zip(space.spaces, value, strict=True)
        parts = [(part, held, f"{where}[{place}]") for place, (part, held) in enumerate(pairs)]
    elif isinstance(space, Box):
        values = np.asarray(value)
        if values.shape != space.shape:
            return f"an array of shape {values.shape}{at}, which is not {space.shape}"
        values = values.astype(space.dtype) if space.dtype.kind == "f" else values  # limits are rounded alike
        wrong = (values < space.low) | (values > space.high)
        if not wrong.any():
            return None
        first = tuple(np.argwhere(wrong)[0])
        at = f" at {where}[{', '.join(map(str, first))}]" if first else at
        return f"{values[first]}{at}, which is not in [{space.low[first]}, {space.high[first]}]"
    else:
        fits = space.contains(value) or _counts(space, value)
        return None if fits else f"{value!r}{at}, which is not in {space}"
    return next((found for part in parts if (found := outside(*part))), None)


def _counts(space: gymnasium.Space, value: Any) -> bool:
    """Whether `value` is of a space of whole numbers but for its type, which is converted; one may be an array."""
    numbers = np.asarray(value)
    if isinstance(space, Discrete) and numbers.size == 1:
        numbers = numbers.reshape(())
    if not isinstance(space, Discrete | MultiDiscrete | MultiBinary) or numbers.shape != space.shape:
        return False
    converted = numbers.astype(space.dtype)
    return bool((converted == numbers).all()) and space.contains(converted[()])


class Converted(gymnasium.Wrapper):
    """A wrapper that makes other observations of those of the environment inside, which it keeps as `_own`."""

    _own: Any = None

    def outside(self) -> str | None:
        """Return what of the last observation is not in the own space inside, which nothing here relies on."""
        return outside(self.env.observation_space, self._own)


class AdaptedEnv(Converted):
    """The user's environment with a suite's observations, `info["reward_inputs"]` and time limit.

    suite: an `Adapted`. Raises SuiteError if its observations are not those of the suite's other tasks.
    """

    render_mode: str | None = None

    def __init__(self, env: gymnasium.Env, suite: Any) -> None:
        super().__init__(env)
        self._suite, self._count, self._shown = suite, None, {}
        self._observer = Observer(env.observation_space, suite.name)
        spaces = dict(self._observer.space.spaces)
        if suite.picture_shape is not None:
            spaces["image_render"] = Box(0, 255, suite.picture_shape, np.uint8)
        self.observation_space = Dict(spaces)
        self._draws = env.render_mode == "rgb_array"
        seen = self._draws or any(key.startswith("image_") for key in spaces)
        self.metadata = {**env.metadata, "render_modes": ["rgb_array"] if seen else []}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start an episode."""
        observation, info = self._parts("reset", 2, self.env.reset(seed=seed, options=options))
        self._count = 0
        return self._observed(observation), {**info, "reward_inputs": self._suite.inputs(self.env, 0.0)}

    def step(self, action: np.ndarray):
        """Take one step with an action (A,) in [-1, 1]; pays what the environment pays."""
        if self._count is None:
            raise SuiteError("step before reset: call reset(seed=...) first")
        observation, reward, terminated, truncated, info = self._parts("step", 5, self.env.step(action))
        self._count += 1
        reward = number(reward, f"{self._suite.name}: the reward that its environment paid")
        info = {**info, "reward_inputs": self._suite.inputs(self.env, reward)}
        truncated = truncated or self._count >= self._suite.max_episode_steps
        return self._observed(observation), reward, terminated, truncated, info

    def render(self) -> np.ndarray | None:
        """Return what the environment renders, else the first picture that was observed; None: neither."""
        if self._draws:
            return draw(self.env)
        return next((value.copy() for key, value in self._shown.items() if key.startswith("image_")), None)

    def _parts(self, what: str, count: int, found: Any) -> tuple:
        """Return what the environment returned. SuiteError: not as many things, or the last is no mapping."""
        if not isinstance(found, tuple) or len(found) != count or not isinstance(found[-1], dict):
            kinds = ", ".join(type(part).__name__ for part in found) if isinstance(found, tuple) else found
            names = ("observation, info", "observation, reward, terminated, truncated, info")[count == 5]
            expected = f"expected ({names}), info a dict"
            raise SuiteError(f"{self._suite.name}: {what} returned ({kinds}); {expected}")
        return found

    def _observed(self, observation: Any) -> dict[str, np.ndarray]:
        self._shown, self._own = self._observer(observation), observation
        if self._suite.picture_shape is not None:
            side = self._suite.options["image_size"]
            self._shown["image_render"] = rendered(self.env, side, self._suite.name)
        return dict(self._shown)


def _is_picture(space: gymnasium.Space) -> bool:
    return isinstance(space, Box) and space.dtype == np.uint8 and len(space.shape) > 1


def _looks_like_picture(space: gymnasium.Space) -> bool:
    is_bounded = isinstance(space, Box) and space.dtype.kind == "f" and space.is_bounded()
    return is_bounded and space.shape[2:] == (3,) and min(space.shape[:2]) >= 8


def _holds(space: gymnasium.Space, what: Callable[[gymnasium.Space], bool]) -> bool:
    parts = getattr(space, "spaces", ())
    parts = parts.values() if isinstance(parts, dict) else parts
    return what(space) or any(_holds(part, what) for part in parts)
