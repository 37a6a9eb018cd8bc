"""MELD infers a hidden goal from rewards: it explores in a trial's first episode and goes straight there in the second.

No observation shows the goal, half a circle of places where it may be. belief_0.png, belief_1.png and the film
belief_0.mp4: trials of goals that were never trained on, and where the belief expects to be paid before, during and
after the first episode. The same from a command line:
    meta-latent transfer meld_toy target=sparse arm=meld/scratch run_seed=0
    meta-latent adapt meld_toy target=sparse arm=meld/scratch run_seed=0
"""

import argparse

import meta_latent

TARGET, ARM = "sparse", "meld/scratch"
QUICK = ("transfer.budget_env_steps={default: 2400}", "transfer.warmup_episodes=20",
         "transfer.evaluation.interval_env_steps=2400", "algorithms.meld.batch_size=4",
         "transfer.adaptation.scratch.first_joint=5", "transfer.adaptation.scratch.first_filter=5")  # fmt: skip


def main() -> None:
    """Meta-train, play trials of goals that were never trained on, look at the belief."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds: only to see that it runs")
    parser.add_argument("--out", default="runs", help="folder of all runs")
    arguments = parser.parse_args()
    config = meta_latent.configure("meld_toy", f"out={arguments.out}", *(QUICK if arguments.quick else ()))
    meta_latent.transfer(config, TARGET, ARM, seed=0)
    result = meta_latent.adapt(config, TARGET, ARM, seed=0)
    first, second = (entry["mean"] for entry in result.numbers["lines"][0]["returns"])
    print(f"{result.numbers['test_tasks']} goals never trained on, steps at the goal of 20: "
          f"first episode {first:.1f}, second {second:.1f}")  # fmt: skip
    print(*(path for path in result.files if path.name.startswith("belief_")), sep="\n")


if __name__ == "__main__":
    main()
