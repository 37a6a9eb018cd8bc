"""A user's own packages, which register tasks and algorithms when they are imported."""

import importlib
import os
import pkgutil
import sys
from collections.abc import Iterable

from meta_latent.errors import UserError, described
from meta_latent.experiment.settings.structure import nearest
from task_suites import SuiteError


def import_packages(names: Iterable[str]) -> None:
    """Import the modules `names`, also from the working folder, but what is installed goes before it.

    Raises `UserError` for a name that is no module's, of a module that is not there, and with what a module raised.
    """
    for name in names:
        if os.getcwd() not in sys.path:
            # A console script's path lacks it. Last: a file of the user's called queue.py replaces no module.
            sys.path.append(os.getcwd())
        if name.endswith(".py"):
            module = name[:-3].replace(os.sep, ".")
            raise UserError(f"imports: {name!r} is a file; a module is named without .py: {module}")
        if not all(name.split(".")):
            raise UserError(f"imports: {name!r} is not a module's full name, such as my_package")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise UserError(f"imports: {name!r} imports {error.name!r}, which is not installed") from error
            said = f"imports: there is no module {name!r} in this folder or installed{_near(error.name)}"
            raise UserError(said) from error
        except (UserError, SuiteError):
            raise
        except SyntaxError as error:  # it names the place itself
            raise UserError(f"imports: {name!r}: SyntaxError: {error}") from error
        except Exception as error:
            raise UserError(f"imports: {name!r}: {described(error)}") from error


def _near(missing: str) -> str:
    """End of the message: what in this folder, or in the package that should hold it, has a name near to `missing`."""
    package, _, name = missing.rpartition(".")
    places = getattr(sys.modules.get(package), "__path__", []) if package else [os.getcwd()]
    hint = nearest(name, {module.name for module in pkgutil.iter_modules(places)}, package)
    return hint if hint.startswith("; did") else ""  # a folder may hold any number of others
