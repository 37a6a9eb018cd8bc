"""`meta-latent COMMAND ...` as processes of their own, forked from one that has imported what all of them need.

They are processes of `cli.main`, without what `python -m meta_latent` sets up before it: signals other than Ctrl-C,
the allocator. They share the seed of Python's hashes.
"""

import multiprocessing
import os
import resource
import sys
import threading

_PRELOADED = ("meta_latent.cli", "meta_latent.experiment.learning.sweep", "torch._dynamo")
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(list(_PRELOADED))


class Command(_server.Process):
    """A command that has begun, as the head of a session.

    argv: its words. limit: bytes that a file of it, or of what it starts, may have.
    """

    def __init__(self, argv, limit=None):
        self._source, theirs = _server.Pipe(duplex=False)
        super().__init__(target=_run, args=(list(argv), dict(os.environ), theirs, limit))
        self.start()
        theirs.close()
        self._printed = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ended(self, seconds):
        """(exit status, what it has printed), once it has ended. AssertionError: it has not."""
        self.join(seconds)
        self._reader.join(1)  # what it started may hold its end open
        said = self._printed.decode(errors="replace")
        assert self.exitcode is not None, f"it still runs after {seconds} s:\n{said}"
        return self.exitcode, said

    def _read(self):
        while part := os.read(self._source.fileno(), 2**16):
            self._printed += part


def _run(argv, environment, out, limit):
    os.setsid()
    os.dup2(out.fileno(), 1)
    os.dup2(out.fileno(), 2)
    out.close()
    os.environ.clear()
    os.environ.update(environment)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    from meta_latent import cli

    sys.exit(cli.main(argv))
