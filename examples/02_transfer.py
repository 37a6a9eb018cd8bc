"""Pretrain once, then learn a new goal with and without the pretrained model: how much faster is it?

A point mass in the plane; the goal is in no observation, only in the reward.
"""

import argparse

import meta_latent

ARMS = ("ivg/pretrained", "ivg/scratch")
CONFIG = {
    "name": "first_transfer",
    "model": {"core": {"memory": 8, "hidden": 16}, "encoder": {"keypoints": 3, "channels": [8, 8]},
              "ensemble": {"heads": 2, "hidden": 32, "shared_layers": 1}, "head_hidden": 32},
    "learner": {"batch_size": 4, "length": 4, "transition_batch_size": 64},
    "pretrain": {"sources": [{"suite": "toy/lqr"}], "env_steps": 3000, "joint_updates": 200,
                 "filter_updates": 100, "transition_updates": 600},
    "algorithms": {"ivg": {"first_updates": 300, "updates_per_step": 2.0, "hidden": 64}},
    "transfer": {
        "targets": {"new_goal": {"suite": "toy/lqr"}}, "arms": list(ARMS), "thresholds": [0.4],
        "adaptation": {"scratch": {"joint": 0.5, "first_joint": 100, "first_transition": 300}},
        "budget_env_steps": {"default": 500}, "evaluation": {"interval_env_steps": 50, "episodes": 10}},
}  # fmt: skip
NOTHING = "{joint: 0.02, transition: 0.02, first_joint: 1, first_transition: 1}"
QUICK = ("pretrain.env_steps=500", "pretrain.joint_updates=5", "pretrain.filter_updates=5",
         "pretrain.transition_updates=5", "transfer.budget_env_steps.default=200",
         "algorithms.ivg.first_updates=5",
         "algorithms.ivg.updates_per_step=0.1", f"transfer.adaptation.scratch={NOTHING}")  # fmt: skip


def describe(arm: str, result: dict) -> str:
    """One line: environment steps until the threshold and the last score."""
    reached = [steps for steps in result["env_steps_to_threshold"] if steps is not None]
    steps = f"{reached[0]} steps" if reached else f"more than {result['budget_env_steps']} steps"
    return f"{arm:16} {steps:24} final score {result['final_score'][0]:.2f}"


def main() -> None:
    """Pretrain, learn with each arm, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds: only to see that it runs")
    parser.add_argument("--out", default="runs", help="folder of all runs")
    arguments = parser.parse_args()
    config = meta_latent.configure(CONFIG, f"out={arguments.out}", *(QUICK if arguments.quick else ()))
    meta_latent.pretrain(config)
    for arm in ARMS:
        meta_latent.transfer(config, "new_goal", arm, seed=0)
    report = meta_latent.report(config)
    target = report["targets"]["new_goal"]
    print(f"normalised score {target['threshold']} was reached after")
    for arm in ARMS:
        print(describe(arm, target["arms"][arm]))
    print(f"pretraining took {report['pretraining']['env_steps']} steps, and serves every further goal")
    print("one seed says little: `meta-latent transfer` runs several, the report tells chance from effect")


if __name__ == "__main__":
    main()
