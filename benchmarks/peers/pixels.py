"""PICTURES drawn of one state of a scene: our renderer, MuJoCo's own, and Gymnasium's path."""

from __future__ import annotations

from collections.abc import Callable

from scripts import script

from task_suites.rendering import Renderer, mujoco

SIZE, PICTURES = 64, 8
SCENES = ("tabletop/gather", "metaworld/reach", "HalfCheetah-v5")


def drawers(name: str) -> dict[str, Callable[[], object]]:
    """What draws it; ours as environments do by default, averaged from twice the size."""
    from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer  # imports mujoco: after `task_suites.rendering`

    scene = script("rendering").SCENES[name]()
    camera = scene.camera if isinstance(scene.camera, int) else scene.model.camera(scene.camera).id
    plain = mujoco.Renderer(scene.model, SIZE, SIZE)
    gymnasium = MujocoRenderer(scene.model, scene.data, width=SIZE, height=SIZE, camera_id=camera)

    def ours(renderer: Renderer):
        mujoco.mj_camlight(scene.visual, scene.data)
        return renderer.render(scene.data, camera)

    def theirs():
        plain.update_scene(scene.data, camera)
        return plain.render()

    smooth, fast = Renderer(scene.visual, SIZE, SIZE, antialias=True), Renderer(scene.visual, SIZE, SIZE)
    draws = {"ours": lambda: ours(smooth), "ours, antialias=false": lambda: ours(fast), "mujoco.Renderer": theirs,
             "Gymnasium's MujocoRenderer": lambda: gymnasium.render("rgb_array")}  # fmt: skip
    return {label: lambda draw=draw: [draw() for _ in range(PICTURES)] for label, draw in draws.items()}
