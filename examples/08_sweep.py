"""Many runs from one description: two horizons, two pretrainings of each, three run seeds, with and without the model.

Every combination is an experiment folder; models and runs that several share are computed once, on two processes.
"""

import argparse

import meta_latent

CONFIG = {
    "name": "first_sweep",
    "sweep": {"of": "toy", "grid": {"seed": [0, 1], "algorithms.ivg.horizon": [2, 5]}},
    "transfer": {"arms": ["ivg/pretrained", "ivg/scratch"], "seeds": [0, 1, 2], "stop_at_threshold": False,
                 "budget_env_steps": {"default": 200}, "video": False},
    "algorithms": {"ivg": {"first_updates": 50, "updates_per_step": 0.5, "hidden": 32}},
}  # fmt: skip
NOTHING = "{joint: 0.02, transition: 0.02, first_joint: 1, first_transition: 1}"
QUICK = ("transfer.seeds=[0,1]", "sweep.grid={seed: [0], algorithms: {ivg: {horizon: [2]}}}",
         "transfer.budget_env_steps.default=100", "transfer.evaluation.interval_env_steps=50",
         "algorithms.ivg.first_updates=2", "algorithms.ivg.updates_per_step=0.05", "pretrain.joint_updates=5",
         f"transfer.adaptation.scratch={NOTHING}")  # fmt: skip


def main() -> None:
    """Run the sweep, or what is left of it, and print its comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs: only to see that it works")
    parser.add_argument("--out", default="runs", help="folder of all runs")
    arguments = parser.parse_args()
    result = meta_latent.sweep(CONFIG, f"out={arguments.out}", *(QUICK if arguments.quick else ()))
    for group, found in result["groups"].items():
        for arm, told in found["arms"].items():
            print(f"{group:12} {arm:16} {told['runs']} runs  final score {told['final_score_iqm']:.2f}")
    for one in result["comparisons"]:
        between = f" [{one['interval'][0]:.2f}, {one['interval'][1]:.2f}]" if one["interval"] else ""  # of several runs
        print(f"{one['group']} {one['arm']} scores higher than {one['base_group']} {one['base']} with probability "
              f"{one['probability']:.2f}{between}")  # fmt: skip
    print(f"the page: {arguments.out}/first_sweep/sweep.html")


if __name__ == "__main__":
    main()
