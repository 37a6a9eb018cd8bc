"""The gallery in docs covers every registered family and is as its script makes it."""

from pathlib import Path

import docs_scripts
import numpy as np
import pytest
from PIL import Image

import task_suites
from task_suites import gallery

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.fixture(scope="module")
def script():
    return docs_scripts.load("make_gallery")


def test_the_page_is_what_the_script_writes(script):
    assert (DOCS / "gallery.md").read_text() == script.page(), "run: python docs/make_gallery.py"


def test_every_family_has_its_picture(script):
    for family in script.families():
        path = DOCS / "gallery" / f"{family}.png"
        assert path.exists(), f"run: python docs/make_gallery.py {family}"
        assert path.stat().st_size < 100_000


def test_every_body_and_arm_has_a_row(script):
    for names in script.families().values():
        rows = script.shown(names)
        assert set(rows) <= set(names) and len(rows) == min(len(names), script.MAX_TASKS)
        assert {task_suites.get(name).family for name in rows} == {task_suites.get(name).family for name in names}


def test_a_familys_picture_has_a_row_per_task(script, tmp_path, capsys):
    script.main(["toy", "--out", str(tmp_path)])
    image = Image.open(tmp_path / "gallery" / "toy.png")
    assert image.size == (6 * 100 + 4, 5 * 114 + 4)
    assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 20
    assert (tmp_path / "gallery.md").exists()
    with pytest.raises(SystemExit):
        script.main(["tyo"])
    assert "toy" in capsys.readouterr().err


def test_films_show_the_scripted_policy_until_it_is_done():
    suite = gallery.open_large("toy/lqr", 20)
    task = suite.sample("test", 1, seed=0)[0]
    film = gallery.film(suite, task)
    assert film[0].shape == (20, 20, 3) and 2 < len(film) <= suite.max_episode_steps
    assert not np.array_equal(film[0], film[-1])
    assert gallery.open_large("toy/lqr", 20, image_size=8, episode_steps=2).max_episode_steps == 2


def test_nothing_to_see_is_rendered_and_nothing_scripted_is_random(monkeypatch):
    suite = task_suites.get("tabletop/reach", cameras=(), episode_steps=2)
    film = gallery.film(suite, suite.sample("train", 1, 0)[0])
    assert len(film) == 3 and film[0].shape == (256, 256, 3)

    def unscripted(task):
        raise task_suites.SuiteError("no script")

    lqr = task_suites.get("toy/lqr", episode_steps=2)
    monkeypatch.setattr(lqr, "scripted", unscripted)
    assert len(gallery.film(lqr, lqr.sample("train", 1, 0)[0])) == 3
