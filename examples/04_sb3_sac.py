"""Stable-Baselines3's SAC on a task suite, unchanged: each task is a plain Gymnasium environment.

Needs the extra `baselines`: pip install meta-latent[baselines].
"""

import argparse
from pathlib import Path

import gymnasium
from gymnasium.wrappers import FilterObservation
from stable_baselines3 import SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

import task_suites


def score(model, env, suite, task):
    """Normalised: 0 is the better of chance and doing nothing, 1 the scripted policy or the optimum."""
    floor, reference = suite.references(task)
    mean_return, _ = evaluate_policy(model, env, n_eval_episodes=10)
    return (mean_return - floor) / (reference - floor)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds: only to see that it runs")
    parser.add_argument("--out", default="runs", help="folder of the policy")
    parser.add_argument("--task", default="toy/lqr", help="a name that `meta-latent tasks` lists")
    parser.add_argument("--pixels", action="store_true", help="learn from pictures too (slow without a GPU)")
    parser.add_argument("--steps", type=int, default=4000, help="environment steps")
    arguments = parser.parse_args()

    options = {"image_size": 64} if arguments.pixels else {}  # their convolutions need 36 pixels at least
    suite = task_suites.get(arguments.task, **options)
    task = suite.sample("test", 1, seed=0)[0]
    env = gymnasium.make(task_suites.gymnasium_id(suite.name), task=task, **options)
    if not arguments.pixels:
        env = FilterObservation(env, ["proprio"])
    env = Monitor(env)

    model = SAC("MultiInputPolicy", env, learning_starts=200, gamma=0.95, seed=0)
    print(f"{suite.name}, paid: {suite.describe(task)}")
    print(f"score before {score(model, env, suite, task):.2f}")
    model.learn(300 if arguments.quick else arguments.steps)
    print(f"score after {model.num_timesteps} steps {score(model, env, suite, task):.2f}")
    folder = Path(arguments.out, "sb3_sac")
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "policy")
