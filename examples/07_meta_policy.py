"""MB-MPO meta-learns a policy that adapts to changed dynamics with a few policy-gradient steps.

A point in the plane, its action map turned by an angle that no observation shows: whatever a single policy does is
wrong for most angles. Ten models, one per training angle; tested on ten others, 20 real episodes per step of adapting.
meta_policy.png: return against steps of adapting, beside a policy that was trained on the average of the models. The
same from a command line:
    meta-latent transfer mb_mpo_toy target=rotated arm=mb_mpo/scratch run_seed=0
    meta-latent adapt mb_mpo_toy target=rotated arm=mb_mpo/scratch run_seed=0
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import meta_latent

TARGET = "rotated"
ARMS = {"mb_mpo/scratch": "meta-learned to adapt (MB-MPO)", "mb_mpo_alpha0/scratch": "trained without adapting"}
BUDGET = "transfer.budget_env_steps={default: 1000}"
QUICK = tuple(f"algorithms.{name}.{setting}" for name in ("mb_mpo", "mb_mpo_alpha0")
              for setting in ("outer_steps=2", "particles=4", "models.max_epochs=2"))  # fmt: skip


def main() -> None:
    """Meta-train with and without adapting, adapt both to angles that were never trained on, draw what it gains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds: only to see that it runs")
    parser.add_argument("--out", default="runs", help="folder of all runs")
    arguments = parser.parse_args()
    config = meta_latent.configure("mb_mpo_toy", f"out={arguments.out}", BUDGET, *(QUICK if arguments.quick else ()))
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for arm, words in ARMS.items():
        meta_latent.transfer(config, TARGET, arm, seed=0)
        found = meta_latent.adapt(config, TARGET, arm, seed=0).numbers["lines"][0]["returns"]
        means = [entry["mean"] for entry in found]
        print(f"{words}: return after 0, 1, ... steps of adapting: {' '.join(f'{mean:.1f}' for mean in means)}")
        axes.plot(range(len(means)), means, marker="o", lw=2, label=words)
        axes.fill_between(range(len(means)), *zip(*(entry["interval"] for entry in found), strict=True), alpha=0.2)
    axes.set(xlabel="policy-gradient steps, 20 real episodes each", ylabel="return on angles never trained on",
             xticks=range(len(means)))  # fmt: skip
    axes.axhline(-0.41, color="black", lw=0.8, ls=":", label="optimum that knows the angle")
    axes.legend()
    path = Path(arguments.out) / "meta_policy.png"
    figure.savefig(path, dpi=120)
    print(path)


if __name__ == "__main__":
    main()
