"""The off-screen renderer: same pictures side by side, quiet at exit, clear when GL is missing."""

import concurrent.futures
import gc
import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import task_suites
from task_suites import SuiteError, rendering
from task_suites.rendering import BACKEND, Renderer, mujoco, probe

XML = """<mujoco><visual><headlight ambient=".5 .5 .5"/></visual><worldbody>
<camera name="eye" pos="0 0 1"/><geom type="plane" size="1 1 1" rgba="{floor} 1"/>
<geom type="box" pos="0 .2 0" size=".1 .1 .1" rgba="1 0 0 1"/></worldbody></mujoco>"""


def scene(floor):
    model = mujoco.MjModel.from_xml_string(XML.format(floor=floor))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def test_pictures_are_upright_rgb_and_do_not_share_memory():
    model, data = scene(".1 .1 .9")
    with Renderer(model, 48, 64) as renderer:
        first, second = renderer.render(data, 0), renderer.render(data, 0)
    assert first.shape == (48, 64, 3) and first.dtype == np.uint8 and first.flags.c_contiguous
    assert np.array_equal(first, second) and not np.shares_memory(first, second)
    red = np.argwhere(first[..., 0] > 2 * first[..., 2].clip(1))
    assert len(red) > 10 and red[:, 0].mean() < 20  # the box lies towards +y: the upper half


def test_renderers_side_by_side_do_not_mix():
    scenes = [scene(".9 .9 .1"), scene(".1 .1 .9")]
    alone = []
    for model, data in scenes:
        with Renderer(model, 32, 32) as renderer:
            alone.append(renderer.render(data, 0))
    assert not np.array_equal(*alone)
    renderers = [Renderer(model, 32, 32) for model, _ in scenes]
    for _ in range(2):
        for renderer, (_, data), expected in zip(renderers, scenes, alone, strict=True):
            assert np.array_equal(renderer.render(data, 0), expected)
    renderers[0].close()
    assert np.array_equal(renderers[1].render(scenes[1][1], 0), alone[1])
    renderers[1].close()


@pytest.mark.skipif(BACKEND != "egl", reason="only EGL says what is current")
def test_gymnasiums_renderer_keeps_its_pictures():
    theirs = gymnasium.make("Reacher-v5", render_mode="rgb_array", width=32, height=32)
    theirs.reset(seed=0)
    before, (model, data) = theirs.render(), scene("1 1 1")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendering, "_CONTEXTS", {})  # makes its context while theirs is current
        ours = Renderer(model, 32, 32)
    uses = {
        "made": lambda: None,
        "drawn": lambda: ours.render(data, 0),
        "painted": lambda: ours.paint(0, np.zeros((8, 8, 3), np.uint8)),
        "named": ours.gl_name,
        "closed": ours.close,
        "context freed": ours._gl.free,
    }
    for use, call in uses.items():
        call()
        assert np.array_equal(theirs.render(), before), use
    theirs.close()


@pytest.mark.skipif(BACKEND != "egl", reason="only EGL says what is current")
def test_one_dropped_unclosed_leaves_gymnasiums_pictures_alone():
    theirs = gymnasium.make("HalfCheetah-v5", render_mode="rgb_array", width=48, height=48)
    theirs.reset(seed=0)
    before, (model, data) = theirs.render(), scene("1 1 1")
    ours = [Renderer(model, 32, 32) for _ in range(2)]
    drawn = [renderer.render(data, 0) for renderer in ours]
    ours[0].paint(0, np.zeros((8, 8, 3), np.uint8))
    del ours[0]
    gc.collect()
    assert np.array_equal(theirs.render(), before)
    assert np.array_equal(ours[0].render(data, 0), drawn[1]) and not ours[0]._gl.dropped
    assert np.array_equal(theirs.render(), before)
    with pytest.raises(TypeError):
        Renderer(model, 32, 32, smooth=True)  # half built, which its end must bear
    ours[0].close()
    theirs.close()


def test_any_thread_draws_and_closes():
    model, data = scene(".1 .1 .9")
    renderers, started = [], threading.Event()

    def work():
        renderers.extend(Renderer(model, 32, 32) for _ in range(2))
        expected = renderers[0].render(data, 0)
        started.set()
        assert all(np.array_equal(renderers[0].render(data, 0), expected) for _ in range(200))

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        drawn = pool.submit(work)
        assert started.wait(30)
        shown = [renderers[1].render(data, 0) for _ in range(50)]  # of the same context, at the same time
        renderers[1].close()
        drawn.result()
    assert np.array_equal(renderers[0].render(data, 0), shown[-1])  # its thread is gone
    renderers[0].close()


def test_antialias_smooths_edges_and_leaves_the_model_alone():
    model, data = scene(".1 .1 .9")
    before = model.vis.quality.offsamples, model.vis.global_.offwidth
    colours = []
    for antialias in (False, True):
        with Renderer(model, 32, 32, antialias=antialias) as renderer:
            colours.append(len(np.unique(renderer.render(data, 0).reshape(-1, 3), axis=0)))
    assert colours[1] > colours[0]
    assert (model.vis.quality.offsamples, model.vis.global_.offwidth) == before


def test_a_closed_renderer_says_so():
    model, data = scene("1 1 1")
    renderer = Renderer(model, 32, 32)
    renderer.close()
    renderer.close()
    with pytest.raises(SuiteError, match="closed"):
        renderer.render(data, 0)


def test_probe_says_what_draws_and_how_fast():
    found = probe(0.05)
    assert found["backend"] in ("egl", "osmesa", "native") and found["gl_renderer"]
    assert found["frames_per_second"] > 10


def run(code, **environment):
    clean = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    return subprocess.run(
        [sys.executable, "-c", code], env={**clean, **environment}, capture_output=True, text=True, timeout=60
    )


USE = """
import task_suites
suite = task_suites.get("tabletop/reach", image_size=32)
envs = [suite.make(suite.sample("train", 1, 0)[0]) for _ in range(2)]
pictures = [env.reset(seed=0)[0]["image_fit"] for env in envs]
movies = [env.render() for env in envs]
assert pictures[0].std() > 0
"""


@pytest.mark.parametrize("first", ["", "import mujoco\n"], ids=["alone", "mujoco imported before"])
def test_environments_left_open_make_no_noise_at_exit(first):
    result = run(first + USE)
    assert (result.returncode, result.stderr, result.stdout) == (0, "", "")


def test_the_users_backend_is_respected_and_its_absence_told_in_one_line():
    result = run(USE, MUJOCO_GL="disabled")
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("task_suites.errors.SuiteError: no pictures")


@pytest.mark.parametrize(("backend", "said"), [("nonsense", "mujoco cannot start"), ("glfw", "no pictures")])
@pytest.mark.parametrize("name", ["tabletop/reach", "meld/cheetah_velocity"])
def test_a_backend_that_is_none_or_lacks_a_display_is_told_in_one_line(name, backend, said):
    code = f"import task_suites; s = task_suites.get({name!r}); s.make(s.tasks('train')[0]).reset(seed=0)"
    result = run(code, MUJOCO_GL=backend, DISPLAY="", WAYLAND_DISPLAY="")
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"task_suites.errors.SuiteError: {said}") and backend in last
    assert "MUJOCO_GL to a backend that works" in last


def test_without_a_driver_the_reason_is_what_is_read_last():
    result = run(USE, MUJOCO_GL="egl", __EGL_VENDOR_LIBRARY_FILENAMES="/nowhere")
    assert result.stderr.strip().splitlines()[-1].startswith("task_suites.errors.SuiteError: no pictures")


def test_physics_without_pictures_needs_no_backend():
    code = (
        USE.replace("image_size=32", "cameras=()").split("pictures =")[0]
        + "envs[0].reset(seed=0); envs[0].step([0] * 5)"
    )
    assert run(code, MUJOCO_GL="disabled").returncode == 0


def test_a_missing_library_is_told_with_the_packages_to_install():
    code = (
        "import ctypes\nload = ctypes.CDLL.__init__\n"
        "def missing(self, name, *a, **k):\n"
        "    if name and ('EGL' in str(name) or 'OSMesa' in str(name)): raise OSError(f'no {name}')\n"
        "    return load(self, name, *a, **k)\n"
        "ctypes.CDLL.__init__ = missing\n"
    )
    result = run(code + USE)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("task_suites.errors.SuiteError") and "libegl1" in last and "libgl1-mesa-dri" in last


def test_without_mujoco_it_is_told_what_to_install():
    result = run("import sys\nsys.modules['mujoco'] = None\n" + USE)
    assert result.stderr.strip().splitlines()[-1].endswith("MuJoCo is not installed: pip install mujoco")


def test_antialias_averages_squares():
    model, data = scene(".1 .1 .9")
    with Renderer(model, 48, 64) as large, Renderer(model, 24, 32, antialias=True) as small:
        expected = large.render(data, 0).reshape(24, 2, 32, 2, 3).mean((1, 3))
        found = small.render(data, 0)
    assert found.dtype == np.uint8 and found.shape == (24, 32, 3)
    assert np.abs(found - expected).max() <= 0.5
    with Renderer(model, 24, 32) as plain:  # control: not the same as one sample per pixel
        assert np.abs(plain.render(data, 0) - expected).max() > 0.5


def test_the_benchmark_measured_every_family_that_draws(monkeypatch):
    root = Path(__file__).resolve().parents[2]
    spec = importlib.util.spec_from_file_location("benchmark", root / "benchmarks" / "rendering.py")
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "benchmark", script)  # its dataclass looks there
    spec.loader.exec_module(script)
    measured = json.loads((root / "docs" / "rendering.json").read_text())
    assert list(measured["pictures"]) == list(script.SCENES)
    assert list(measured["environment_steps"]) == list(script.STEPPERS)
    families = {name.split("/")[0] for name in task_suites.names("mujoco")}
    assert families <= {name.split("/")[0] for name in script.SCENES}
    assert families <= {name.split("/")[0] for name, _ in script.STEPPERS.values()}


def test_docs_say_what_the_benchmark_measured():
    docs = Path(__file__).resolve().parents[2] / "docs"
    shown = (docs / "suites" / "pictures.md").read_text()
    measured = json.loads((docs / "rendering.json").read_text())
    assert measured["command"] and measured["versions"]
    for name, (slow, smooth, fast) in ((n, rates.values()) for n, rates in measured["pictures"].items()):
        row = f"| {name} | {slow:.0f} | {smooth:.0f} | {smooth / slow:.1f} | {fast:.0f} | {fast / slow:.1f} |"
        assert row in shown
        if name.startswith("metaworld/"):
            assert smooth / slow >= 40 and fast / slow >= 70
