"""Your own algorithms, from modules outside this package: pretrained model, transfer, evaluation, report.

They are my_planner.py, my_pathwise.py and, without a model, my_reinforce.py beside this file; docs/own_algorithm.md
explains them. From a command line, in this folder: `meta-latent algorithms pathwise 'imports=[my_pathwise]'`.
"""

import argparse
import json

import meta_latent

ARMS = ("planner/pretrained", "planner/scratch", "pathwise/pretrained", "pathwise/scratch", "reinforce/scratch")
POINT = {"suite": "toy/hidden_goal", "options": {"observation": "state", "reward": "dense"}}
CONFIG = {
    "name": "own_algorithm",
    "imports": ["my_planner", "my_pathwise", "my_reinforce"],
    "model": {"core": {"memory": 8, "hidden": 16}, "ensemble": {"heads": 3, "hidden": 64, "shared_layers": 1},
              "head_hidden": 32},
    "learner": {"filter_batch_size": 16, "filter_length": 16, "transition_batch_size": 60},
    "pretrain": {"sources": [{**POINT, "tasks": 4}], "env_steps": 3000, "joint_updates": 400, "filter_updates": 100,
                 "transition_updates": 1000},
    "transfer": {
        "targets": {"new_place": POINT}, "arms": list(ARMS), "thresholds": [0.7], "stop_at_threshold": False,
        "adaptation": {"scratch": {"joint": 0.5, "first_joint": 100, "first_transition": 300}},
        "budget_env_steps": {"default": 600, "reinforce/scratch": 6000},
        "evaluation": {"interval_env_steps": 60, "episodes": 10}},
}  # fmt: skip
QUICK = ("pretrain.env_steps=500", "pretrain.joint_updates=5", "pretrain.filter_updates=5",
         "pretrain.transition_updates=5", "transfer.budget_env_steps={default: 150, reinforce/scratch: 800}",
         "transfer.video=false", "transfer.evaluation.episodes=2", "algorithms.planner.first_updates=5",
         "algorithms.planner.candidates=8", "algorithms.pathwise.first_updates=5",
         "algorithms.pathwise.first_policy_updates=5")  # fmt: skip


def main() -> None:
    """Pretrain, learn with each arm, say how the scores rose."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds: only to see that it runs")
    parser.add_argument("--out", default="runs", help="folder of all runs")
    arguments = parser.parse_args()
    config = meta_latent.configure(CONFIG, f"out={arguments.out}", *(QUICK if arguments.quick else ()))
    meta_latent.pretrain(config)
    for arm in ARMS:
        run = meta_latent.transfer(config, "new_place", arm, seed=0)
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        scores = [f"{record['score']:.2f}" for record in records if record["kind"] == "evaluation"]
        print(f"{arm:20} scores {' '.join(scores)} (0: standing still or random actions, 1: the optimum)")
    meta_latent.report(config)


if __name__ == "__main__":
    main()
