"""Your own Gymnasium environment and reward: registered, pretrained on, then learned with another goal."""

import argparse

import gymnasium
import numpy as np

import meta_latent
import task_suites


class Cart(gymnasium.Env):
    """A cart on a rail of two metres, pushed left or right; where it is shows only in the picture."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)  # speed in m/s
    action_space = gymnasium.spaces.Box(-2, 2, (1,), np.float32)  # acceleration in m/s^2
    render_mode = "rgb_array"

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.speed = self.np_random.uniform(-0.8, 0.8), 0.0
        return np.array([self.speed], np.float32), {}

    def step(self, action):
        self.speed = float(np.clip(0.8 * self.speed + 0.1 * action[0], -1, 1))
        self.place = float(np.clip(self.place + 0.2 * self.speed, -1, 1))
        return np.array([self.speed], np.float32), 0.0, False, False, {}

    def render(self):
        picture = np.full((16, 16, 3), 30, np.uint8)
        picture[6:10, round(7 + 6 * self.place) : round(9 + 6 * self.place)] = (240, 160, 40)
        return picture


def reward(inputs, action, goal_metres):
    """At most 1 per step, at the goal. Written once for numpy and torch."""
    return 1.0 - abs(inputs[..., 0] - goal_metres) - 0.05 * action[..., 0] ** 2


task_suites.gymnasium_task(
    "mine/cart", Cart, reward=reward, reward_inputs=lambda env: [env.place, env.speed],
    reward_input_names=("place_metres", "speed_metres_per_second"), pixels="render", max_episode_steps=25,
    success=lambda inputs, goal_metres: abs(inputs[..., 0] - goal_metres) < 0.1,
    tasks={"train": [{"goal_metres": -0.6}, {"goal_metres": 0.6}], "test": [{"goal_metres": 0.3}]},
)  # fmt: skip

CONFIG = {
    "name": "own_task",
    "model": {"core": {"memory": 16}, "ensemble": {"heads": 3},
              # A small picture in which one thing moves.
              "encoder": {"keypoints": 3, "channels": [8, 8], "pictured": True}},
    "learner": {"batch_size": 8, "length": 4},
    "pretrain": {"sources": [{"suite": "mine/cart"}, {"suite": "mine/cart", "index": 1}], "env_steps": 4000,
                 "scripted": 0, "joint_updates": 300, "filter_updates": 150, "transition_updates": 600},
    "transfer": {"targets": {"goal": {"suite": "mine/cart"}}, "budget_env_steps": {"default": 600}},
}  # fmt: skip

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds: only to see that it runs")
    parser.add_argument("--out", default="runs", help="folder of all runs")
    arguments = parser.parse_args()
    quick = ["pretrain.env_steps=500", "pretrain.joint_updates=5", "pretrain.filter_updates=5",
             "pretrain.transition_updates=5", "transfer.budget_env_steps.default=150",
             "algorithms.ivg.first_updates=5",
             "algorithms.ivg.updates_per_step=0.1"]  # fmt: skip
    config = meta_latent.configure(CONFIG, f"out={arguments.out}", *(quick if arguments.quick else []))
    meta_latent.pretrain(config)
    meta_latent.transfer(config, "goal", "ivg/pretrained")
    print(meta_latent.evaluate(config, "goal", "ivg/pretrained", video=1).table())
