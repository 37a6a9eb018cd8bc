"""`python -m meta_latent COMMAND ...`, the same as `meta-latent COMMAND ...`."""

import sys

if not sys.flags.safe_path:
    # Python put the working folder first: a queue.py there would be imported in place of Python's own.
    sys.path.append(sys.path.pop(0))

from meta_latent.cli import main  # noqa: E402  (only now)

sys.exit(main())
