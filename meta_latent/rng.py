"""One seed -> named, independent, checkpointable random streams. Nothing here touches a global generator."""

from __future__ import annotations

import hashlib
import random
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on `seed` and on every name; equal inputs give equal seeds on every
    machine.
    """
    text = ":".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


@contextmanager
def seeded_construction(seed: int):
    """Build torch modules inside: their initial weights depend on `seed` alone; the global state is put
    back.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def seeded_globals(stream: torch.Generator):
    """Run code of others that draws from torch's and numpy's global generators: inside, those follow from
    `stream`; afterwards those on the CPU are what they were.
    """
    seed, before = int(torch.randint(2**32, (1,), generator=stream)), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before)


class Streams:
    """Named random streams of one seed.

    ``numpy(name)`` and ``torch(name)`` return the same generator at every call; ``state()`` and
    ``load_state()`` carry all of them through a checkpoint, bit for bit.
    """

    def __init__(self, seed: int):
        self.seed = int(seed)
        self._numpy: dict[str, np.random.Generator] = {}
        self._torch: dict[str, torch.Generator] = {}

    def numpy(self, name: str) -> np.random.Generator:
        """The numpy generator called `name`."""
        if name not in self._numpy:
            self._numpy[name] = np.random.default_rng(derive(self.seed, "numpy", name))
        return self._numpy[name]

    def torch(self, name: str) -> torch.Generator:
        """The (CPU) torch generator called `name`; draw on the CPU and move, so that devices agree."""
        if name not in self._torch:
            self._torch[name] = torch.Generator().manual_seed(derive(self.seed, "torch", name))
        return self._torch[name]

    def state(self) -> dict:
        """Everything needed to go on bit for bit."""
        return {
            "seed": self.seed,
            "numpy": {name: g.bit_generator.state for name, g in self._numpy.items()},
            "torch": {name: g.get_state() for name, g in self._torch.items()},
        }

    def load_state(self, state: dict) -> None:
        """Continue the streams of `state()`."""
        self.seed = int(state["seed"])
        self._numpy, self._torch = {}, {}
        for name, value in state["numpy"].items():
            self.numpy(name).bit_generator.state = value
        for name, value in state["torch"].items():
            self.torch(name).set_state(value)


def global_states() -> dict[str, Any]:
    """Where the global generators of torch, numpy and Python stand, which no checkpoint keeps: who drew from them?"""
    name, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (name, keys.tobytes(), *rest),
        "Python": random.getstate(),
    }
