"""One thread per test process: tiny tensors gain nothing from more, and processes side by side lose much."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
