"""learn2learn's MAML without the rest of learn2learn.

`import learn2learn` also imports gym, torchvision and its data sets. MAML itself needs torch alone, so it is
imported below empty stand-ins of the two packages above it, which are taken away again afterwards.
"""

import functools
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from meta_latent.errors import UserError

_PACKAGES = ("learn2learn", "learn2learn.algorithms")
INSTALL = 'pip install --no-deps learn2learn==0.2.0 --config-settings="--build-option=build_ext"'


def installed() -> bool:
    """Whether learn2learn is installed (its MAML is an option, not a need)."""
    return importlib.util.find_spec("learn2learn") is not None


@functools.cache
def maml() -> type:
    """The class `learn2learn.algorithms.MAML`.

    `MAML(module, lr=..., first_order=False)` wraps a module; `.clone()` gives a differentiable copy and
    `.adapt(loss)` takes one gradient step in it. Raises `UserError` with the install command if it is
    missing.
    """
    if "learn2learn" in sys.modules:  # somebody has paid for the whole package already
        return importlib.import_module("learn2learn.algorithms.maml").MAML
    if not installed():
        raise UserError(f"learn2learn is not installed; `make setup` installs it, or (with a C compiler): {INSTALL}")
    with _stand_ins():
        return importlib.import_module("learn2learn.algorithms.maml").MAML


@contextmanager
def _stand_ins() -> Iterator[None]:
    spec = importlib.util.find_spec("learn2learn")
    assert spec is not None and spec.submodule_search_locations is not None
    root = Path(next(iter(spec.submodule_search_locations)))
    try:
        for name in _PACKAGES:
            package = types.ModuleType(name)
            package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
            sys.modules[name] = package
        yield
    finally:
        # Gone afterwards, so that a user's own `import learn2learn` gets the real package.
        for name in [name for name in sys.modules if name.split(".")[0] == "learn2learn"]:
            del sys.modules[name]
