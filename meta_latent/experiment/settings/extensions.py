"""A user's own packages, which register tasks, models and algorithms when they are imported."""

import importlib
import os
import sys
from collections.abc import Iterable

from meta_latent.errors import UserError


def import_packages(names: Iterable[str]) -> None:
    """Import the modules `names`, also from the working folder. One that does not exist: `UserError`."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # a console script's path lacks it, `python -m` has it
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # something that their package needs: their traceback says what
            raise UserError(f"imports: there is no module {name!r} in this folder or installed") from error
