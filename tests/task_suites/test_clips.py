"""A user's folder of videos and images: read at construction, shown behind the scene, told when broken."""

import subprocess

import gymnasium
import imageio.v2 as imageio
import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
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
    (tmp_path / "notes.txt").write_text("nor these")
    return tmp_path


def test_videos_images_and_folders_of_frames_are_read(folder):
    video, image, frames = clips.load(folder)
    assert video.shape == (10, clips.SIZE, clips.SIZE, 3) and video.dtype == np.uint8
    assert (np.diff(video.mean((1, 2, 3))) > 10).all()
    assert image.shape[0] == 1 and image[0, 0, 0].tolist() == [250, 0, 0]
    assert np.allclose(frames[:, 5, 5, 1], [0, 80, 160], atol=6)
    assert not video.flags.writeable
    assert clips.load(folder)[0] is video  # once per process


@pytest.mark.parametrize("extension", clips.VIDEOS)
def test_every_kind_of_video_is_read_quietly_and_a_damaged_one_refused(tmp_path, extension, capfd):
    path = tmp_path / f"a{extension}"
    source = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=0.8"]
    subprocess.run([get_ffmpeg_exe(), "-v", "error", *source, str(path)], check=True)
    (clip,) = clips.load(tmp_path)
    assert clip.shape == (20, clips.SIZE, clips.SIZE, 3) and np.abs(clip[0] - 1.0 * clip[-1]).mean() > 1
    assert capfd.readouterr() == ("", "")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SuiteError, match=path.name):
        clips.load(tmp_path)


def test_the_folders_of_davis_are_read_from_the_top(tmp_path):
    for name in ("bear", "camel"):
        (tmp_path / "480p" / name).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(picture((i, i, i))).save(tmp_path / "480p" / name / f"{i}.jpg")
        (tmp_path / "480p" / name / ".DS_Store").write_text("hidden")
    (tmp_path / "480p" / "README.md").write_text("words")
    (tmp_path / "480p" / "camel" / "z.gif").write_bytes(b"")
    with pytest.raises(SuiteError, match="z.gif"):
        clips.load(tmp_path)
    (tmp_path / "480p" / "camel" / "z.gif").unlink()
    assert [len(clip) for clip in clips.load(tmp_path)] == [2, 2]


def test_pictures_of_16_bits_are_not_cut_off(tmp_path):
    Image.fromarray(np.full((8, 8), 100 * 256, np.uint16)).save(tmp_path / "a.png")
    assert clips.load(tmp_path)[0].mean() == 100


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
    suite = task_suites.get("tabletop/reach", image_size=32, distractors=[{"name": "video", "folder": str(folder)}])
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
        (lambda folder: (folder / "film.wmv").write_text("unknown"), "film.wmv"),
        (lambda folder: (folder / "link.png").symlink_to(folder / "nothing"), "link.png"),
        (lambda folder: (folder / "c" / "d").mkdir(), "c/d"),
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


def test_an_image_too_large_to_be_true_is_named(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)  # twice that is the limit
    with pytest.raises(SuiteError, match="b.png"):
        clips.load(folder)


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
