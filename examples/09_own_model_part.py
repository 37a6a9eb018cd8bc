"""A part of the model of your own: an encoder that this package does not know, in pretraining, transfer and report.

It is all in my_encoder.py beside this file. The same from a command line, in this folder:
    meta-latent pretrain puck 'imports=[my_encoder]' model.encoder.kind=pixels 'model.encoder.channels=[64]'
    meta-latent config puck model.encoder.kind 'imports=[my_encoder]'
"""

import argparse

import meta_latent

CONFIG = {
    "name": "own_encoder",
    "imports": ["my_encoder"],
    "model": {"encoder": {"kind": "pixels", "channels": [64], "embedding": 8},
              "core": {"memory": 8, "hidden": 16}, "ensemble": {"heads": 2, "hidden": 32, "shared_layers": 1},
              "head_hidden": 32},
    "learner": {"batch_size": 8, "length": 6, "transition_batch_size": 64},
    "pretrain": {"sources": [{"suite": "toy/lqr"}], "env_steps": 4000, "joint_updates": 600,
                 "filter_updates": 200, "transition_updates": 600},
}  # fmt: skip
QUICK = ("pretrain.env_steps=500", "pretrain.joint_updates=5", "pretrain.filter_updates=5",
         "pretrain.transition_updates=5")  # fmt: skip


def main() -> None:
    """Pretrain with it, open what was saved, say how well positions can be read from it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds: only to see that it runs")
    parser.add_argument("--out", default="runs", help="folder of all runs")
    arguments = parser.parse_args()
    config = meta_latent.configure(CONFIG, f"out={arguments.out}", *(QUICK if arguments.quick else ()))
    folder = meta_latent.pretrain(config)
    model = meta_latent.load(folder)
    for camera, encoder in model.encoders.items():
        print(f"{camera}: {type(encoder).__name__}, {sum(p.numel() for p in encoder.parameters()):,} weights")
    print(f"saved in {folder}")


if __name__ == "__main__":
    main()
