"""The finite-horizon optimum of a linear system with quadratic costs, shared by the toy tasks that know theirs."""

from __future__ import annotations

import numpy as np


def riccati(a: np.ndarray, b: np.ndarray, q: np.ndarray, r: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (gains (T, m, n), costs (T + 1, n, n)) of state' = a state + b action over T = `steps`.

    a: (n, n), b: (n, m). Each step costs q (n, n) on the state AFTER the action and r (m, m) on the action. The
    optimum is action[t] = -gains[t] @ state; costs[t] is what is left to pay before action[t].
    """
    costs, gains = [np.zeros_like(q)], []
    for _ in range(steps):
        ahead = q + costs[0]
        gain = np.linalg.solve(r + b.T @ ahead @ b, b.T @ ahead @ a)
        gains.insert(0, gain)
        costs.insert(0, a.T @ ahead @ (a - b @ gain))
    return np.array(gains), np.array(costs)
