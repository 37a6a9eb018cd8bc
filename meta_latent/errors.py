"""The two kinds of failure that a person sees as one line instead of a traceback."""


class UserError(Exception):
    """Wrong input, knowable before the first step (unknown key, missing folder, locked folder).

    The message is one line that names what was got, what was expected and what to do. Exit status 2.
    """


class RunError(Exception):
    """A run that started correctly failed (full disk, non-finite loss). One line; exit status 1."""
