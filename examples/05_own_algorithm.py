"""Your own algorithm, from a module outside this package: pretrained model, transfer, evaluation, report.

It is all in my_planner.py beside this file. The same from a command line, in this folder:
    meta-latent pretrain toy
    meta-latent transfer toy 'imports=[my_planner]' 'transfer.arms=[planner/pretrained, planner/scratch]'
    meta-latent algorithms planner 'imports=[my_planner]'
"""

import argparse

import meta_latent

ARMS = ("planner/pretrained", "planner/scratch")
CONFIG = {
    "name": "own_algorithm",
    "imports": ["my_planner"],
    "model": {"core": {"memory": 8, "hidden": 16}, "encoder": {"keypoints": 3, "channels": [8, 8]},
              "ensemble": {"heads": 2, "hidden": 32, "shared_layers": 1}, "head_hidden": 32},
    "learner": {"batch_size": 4, "length": 4, "transition_batch_size": 64},
    "pretrain": {"sources": [{"suite": "toy/lqr"}], "env_steps": 3000, "joint_updates": 200,
                 "filter_updates": 100, "transition_updates": 600},
    "transfer": {
        "targets": {"new_goal": {"suite": "toy/lqr"}}, "arms": list(ARMS), "thresholds": [0.4],
        "adaptation": {"scratch": {"joint": 0.5, "first_joint": 100, "first_transition": 300}},
        "budget_env_steps": {"default": 400}, "evaluation": {"interval_env_steps": 200, "episodes": 10}},
    "algorithms": {"planner": {"candidates": 64}},
}  # fmt: skip
QUICK = ("pretrain.env_steps=500", "pretrain.joint_updates=5", "pretrain.filter_updates=5",
         "pretrain.transition_updates=5", "transfer.budget_env_steps.default=150", "transfer.video=false",
         "transfer.evaluation.episodes=2", "algorithms.planner.first_updates=5",
         "algorithms.planner.candidates=8", "algorithms.planner.updates_per_step=0.1")  # fmt: skip


def main() -> None:
    """Pretrain, learn with each arm, evaluate the saved agents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds: only to see that it runs")
    parser.add_argument("--out", default="runs", help="folder of all runs")
    arguments = parser.parse_args()
    config = meta_latent.configure(CONFIG, f"out={arguments.out}", *(QUICK if arguments.quick else ()))
    meta_latent.pretrain(config)
    print("score on 20 fixed episodes; random actions have about -5, doing nothing about -0.6, the optimum 1")
    for arm in ARMS:
        meta_latent.transfer(config, "new_goal", arm, seed=0)
        scores = meta_latent.evaluate(config, "new_goal", arm, episodes=20).scores
        print(f"{arm:20} score {scores.mean():.2f}")
    meta_latent.report(config)


if __name__ == "__main__":
    main()
