"""MB-MPO meta-learns a policy that adapts to changed dynamics with a few policy-gradient steps.

A point in the plane, its action map turned by an angle that no observation shows: whatever a single policy does is
wrong for most angles. Ten models, one per training angle; tested on ten other angles, after 0 to 3 steps of 20 real
episodes each. meta_policy.png: return against steps of adapting, beside the control that does not adapt in training
(alpha = 0, one policy for the average of the models). The same from a command line:
    meta-latent transfer mb_mpo_toy target=rotated arm=mb_mpo/scratch run_seed=0
    meta-latent adapt mb_mpo_toy target=rotated arm=mb_mpo/scratch run_seed=0
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import meta_latent

TARGET, SEED = "rotated", 0
ARMS = {
    "mb_mpo/scratch": ("meta-learned to adapt (MB-MPO)", "#1b6ca8"),
    "mb_mpo_alpha0/scratch": ("trained without adapting (alpha = 0)", "#c2571a"),
}
QUICK = tuple(f"algorithms.{arm.split('/')[0]}.{setting}" for arm in ARMS
              for setting in ("outer_steps=2", "particles=4", "models.max_epochs=2"))  # fmt: skip


def main() -> None:
    """Meta-train with and without adapting, adapt both to angles that were never trained on, draw what it gains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds: only to see that it runs")
    parser.add_argument("--out", default="runs", help="folder of all runs")
    arguments = parser.parse_args()
    config = meta_latent.configure("mb_mpo_toy", f"out={arguments.out}", *(QUICK if arguments.quick else ()))
    found = {}
    for arm, (words, _) in ARMS.items():
        meta_latent.transfer(config, TARGET, arm, seed=SEED)
        result = meta_latent.adapt(config, TARGET, arm, seed=SEED)
        played = json.loads(result.files[0].read_text())
        found[arm] = np.array(played["arms"][arm]["seeds"][str(SEED)]["returns"]).mean(1)  # (angles, steps + 1)
        means = " ".join(f"{mean:.1f}" for mean in found[arm].mean(0))
        print(f"{words}: return after 0, 1, ... steps of adapting: {means}")
    optimum = np.array(played["references"])[:, 1].mean()
    print(f"optimum that knows the angle: {optimum:.1f}")
    path = Path(arguments.out) / "meta_policy.png"
    draw(found, optimum, played["rollouts"]).savefig(path, dpi=160)
    print(path)


def draw(found, optimum: float, rollouts: int) -> plt.Figure:
    """A panel per arm: a thin line per held-out angle, the mean with its values in bold, the optimum dashed."""
    look = {"axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#6b7078",
            "xtick.color": "#6b7078", "ytick.color": "#6b7078", "font.size": 10}  # fmt: skip
    with plt.rc_context(look):
        figure, panels = plt.subplots(1, len(found), figsize=(8.4, 3.9), sharey=True, layout="constrained")
        for panel, (arm, returns) in zip(panels, found.items(), strict=True):
            words, colour = ARMS[arm]
            steps, means = np.arange(returns.shape[1]), returns.mean(0)
            panel.axhline(optimum, color="#1d1f23", lw=1, ls="--", zorder=1)
            panel.plot(steps, returns.T, color=colour, lw=1, alpha=0.35, solid_capstyle="round")
            panel.plot(steps, means, color=colour, lw=3, marker="o", ms=7, mec="white", mew=1.5, zorder=3)
            for step, mean in zip(steps, means, strict=True):
                panel.annotate(f"{mean:.1f}", (step, mean), (8, -16), textcoords="offset points", color=colour,
                               weight="bold", zorder=4)  # fmt: skip
            panel.set_title(words, color=colour, weight="bold", loc="left", fontsize=10.5)
            panel.set(xticks=steps, xlim=(-0.3, steps[-1] + 0.5))
            panel.grid(axis="y", color="#e3e5e8", lw=0.8)
            panel.set_axisbelow(True)
        panels[0].annotate("optimum that knows the angle", (-0.25, optimum), (0, 4), textcoords="offset points",
                           fontsize=8.5, color="#1d1f23")  # fmt: skip
        panels[0].set_ylabel("return on angles never trained on")
        figure.supxlabel(f"policy-gradient steps, {rollouts} real episodes each", fontsize=10)
    return figure


if __name__ == "__main__":
    main()
