"""A user's folder of videos and images: read at construction, shown behind the scene, told when broken."""

import gymnasium
import imageio.v2 as imageio
import numpy as np
import pytest
from PIL import Image

import task_suites
from task_suites import Distractor, MujocoPixels, SuiteError, clips


def picture(colour, side=40):
    return np.full((side, side, 3), colour, np.uint8)


@pytest.fixture
def folder(tmp_path):
    """A video of growing brightness, an image, and a folder of frames."""
    frames = [picture((10 + 20 * i,) * 3, 64) for i in range(10)]
    imageio.mimsave(tmp_path / "a.mp4", frames, fps=10, macro_block_size=16)
    Image.fromarray(picture((250, 0, 0))).save(tmp_path / "b.png")
    (tmp_path / "c").mkdir()
    for i in range(3):
        Image.fromarray(picture((0, 80 * i, 0))).save(tmp_path / "c" / f"{i}.jpg")
    (tmp_path / ".hidden").write_text("not looked at")
    return tmp_path


def test_videos_images_and_folders_of_frames_are_read(folder):
    video, image, frames = clips.load(folder)
    assert video.shape == (10, clips.SIZE, clips.SIZE, 3) and video.dtype == np.uint8
    assert (np.diff(video.mean((1, 2, 3))) > 10).all()
    assert image.shape[0] == 1 and image[0, 0, 0].tolist() == [250, 0, 0]
    assert np.allclose(frames[:, 5, 5, 1], [0, 80, 160], atol=6)
    assert not video.flags.writeable
    assert clips.load(folder)[0] is video  # once per process


def test_a_clip_is_played_forth_and_back(folder):
    clip = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)
    played = clips.Playback((clip,), np.random.default_rng(0))
    shown = [int(played.frame(step).item()) for step in range(12)]
    assert set(shown) == {0, 1, 2, 3} and set(np.abs(np.diff(shown))) == {1}
    still = clips.Playback((clip[:1],), np.random.default_rng(0))
    assert [int(still.frame(step).item()) for step in range(3)] == [0, 0, 0]


def shown(folder, seed=0, **options):
    distractor = Distractor("video", 1.0, seed, folder=str(folder))
    env = MujocoPixels(gymnasium.make("HalfCheetah-v5"), image_size=32, distractors=[distractor], **options)
    found = [env.reset(seed=0)[0]["image_default"]]
    found += [env.step(np.zeros(6))[0]["image_default"] for _ in range(3)]
    env.close()
    return np.array(found)


def test_the_users_picture_is_what_is_behind(folder):
    (folder / "a.mp4").unlink()
    for path in (folder / "c").iterdir():
        path.unlink()
    (folder / "c").rmdir()
    sky = shown(folder)[:, :6]
    assert np.allclose(sky, (250, 0, 0), atol=2)


def test_a_video_moves_and_seeds_choose_among_clips(folder):
    (folder / "b.png").unlink()
    moving = shown(folder)
    assert all(np.abs(a[:6].astype(int) - b[:6]).mean() > 3 for a, b in zip(moving, moving[1:], strict=False))
    starts = {tuple(shown(folder, seed)[0, 0, 0]) for seed in range(8)}
    assert len(starts) > 2


def test_the_tabletop_shows_it_too_and_tasks_remember_the_folder(folder):
    suite = task_suites.get(
        "tabletop/reach", image_size=32, distractors=[{"name": "video", "folder": str(folder)}]
    )
    task = suite.sample("train", 1, 0)[0]
    assert task_suites.Task.from_json(task.to_json()) == task
    assert '"folder"' not in task.replace(distractors=(Distractor("video"),)).to_json()  # as it always was
    env = suite.make(task)
    assert env.reset(seed=0)[0]["image_fit"].std() > 0
    env.close()


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda folder: [path.unlink() for path in (folder / "c").iterdir()], "c'"),
        (lambda folder: (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:60]), "b.png"),
        (lambda folder: (folder / "c" / "1.jpg").write_bytes(b"no picture"), "1.jpg"),
        (lambda folder: (folder / "a.mp4").write_bytes(b"no video at all" * 50), "a.mp4"),
        (lambda folder: (folder / "a.mp4").write_bytes((folder / "a.mp4").read_bytes()[:40]), "a.mp4"),
        (lambda folder: (folder / "notes.txt").write_text("words"), "notes.txt"),
    ],
)
def test_broken_files_are_named_at_construction(folder, break_it, said):
    break_it(folder)
    distractors = [{"name": "video", "folder": str(folder)}]
    for construct in (
        lambda: task_suites.get("tabletop/reach", distractors=distractors),
        lambda: MujocoPixels(gymnasium.make("Reacher-v5"), distractors=distractors),
    ):
        with pytest.raises(SuiteError, match=said) as error:
            construct()
        assert "\n" not in str(error.value)


def test_an_empty_or_missing_folder_is_told(tmp_path):
    with pytest.raises(SuiteError, match="is empty"):
        clips.load(tmp_path)
    with pytest.raises(SuiteError, match="no such folder"):
        clips.load(tmp_path / "nowhere")
    task = task_suites.get("tabletop/reach").sample("train", 1, 0)[0]
    with pytest.raises(SuiteError, match="is empty"):
        suite = task_suites.get("tabletop/reach")
        suite.make(task.replace(distractors=(Distractor("video", folder=str(tmp_path)),)))


def test_only_videos_have_a_folder():
    with pytest.raises(SuiteError, match="folder"):
        Distractor("colours", folder="somewhere")
