"""`meta-latent COMMAND ...` as processes of their own, forked from one that has imported what all of them need."""

import multiprocessing
import os
import resource
import sys

_PRELOADED = ("meta_latent.cli", "meta_latent.experiment.learning.sweep", "torch._dynamo")
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(list(_PRELOADED))


class Command(_server.Process):
    """A command that has begun, as the head of a session.

    argv: its words. limit: bytes that a file of it, or of what it starts, may have.
    """

    def __init__(self, argv, limit=None):
        self._printed, theirs = _server.Pipe(duplex=False)
        super().__init__(target=_run, args=(list(argv), theirs, limit))
        self.start()
        theirs.close()

    def ended(self, seconds):
        """(exit status, what it has printed, 64 KiB at most), once it has ended. AssertionError: it has not."""
        self.join(seconds)
        assert self.exitcode is not None, f"it still runs after {seconds} s"
        os.set_blocking(self._printed.fileno(), False)
        try:
            return self.exitcode, os.read(self._printed.fileno(), 2**16).decode()
        except BlockingIOError:  # nothing, and what it started still runs
            return self.exitcode, ""


def _run(argv, out, limit):
    from meta_latent import cli

    os.setsid()
    os.dup2(out.fileno(), 1)
    os.dup2(out.fileno(), 2)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    sys.exit(cli.main(argv))
