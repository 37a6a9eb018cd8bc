import resource
import sys

import imageio.v3 as iio
import numpy as np
import pytest

from meta_latent.errors import RunError
from meta_latent.experiment.learning.evaluation import Evaluation, evaluation_seed
from meta_latent.experiment.runs import video


def clip(length=6, height=20, width=31, value=0):
    frames = np.full((length, height, width, 3), value, dtype=np.uint8)
    frames[:, : height // 2, :, 0] = 220  # the upper half is red
    return frames


def test_written_video_plays_back_with_its_frames_and_an_even_enlarged_size(tmp_path):
    path = video.write_mp4(tmp_path / "deep" / "a.mp4", clip(), fps=10)
    frames = iio.imread(path, plugin="FFMPEG")
    assert frames.shape == (6, 200, 310, 3)
    assert frames[:, 20:80, 20:290, 0].mean() > 180 and frames[:, 120:180, 20:290, 0].mean() < 40
    assert [p.name for p in path.parent.iterdir()] == ["a.mp4"]  # nothing temporary is left


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_film_that_a_full_disk_cuts_short_is_none(tmp_path, share):
    noise = np.random.default_rng(0).integers(0, 256, (6, 192, 192, 3), dtype=np.uint8)
    size = video.write_mp4(tmp_path / "whole.mp4", noise).stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * size), before[1]))
    try:
        with pytest.raises(RunError, match="cut.mp4: the video could not be written"):
            video.write_mp4(tmp_path / "cut.mp4", noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["whole.mp4"]


def test_an_encoder_that_ends_early_says_why_and_is_none_of_ours_to_interrupt(tmp_path, monkeypatch):
    encoder = tmp_path / "encoder"
    said = "sys.exit(f'a word before\\nfull; of its own session: {os.getsid(0) == os.getpid()}')"
    encoder.write_text(f"#!{sys.executable} -S\nimport os, sys\n{said}\n")
    encoder.chmod(0o755)
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", lambda: str(encoder))
    with pytest.raises(RunError, match=r"could not be written \(full; of its own session: True\)"):
        video.write_mp4(tmp_path / "a.mp4", clip())
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


def test_odd_sizes_are_padded(tmp_path):
    path = video.write_mp4(tmp_path / "odd.mp4", clip(height=193, width=195))
    assert iio.imread(path, plugin="FFMPEG").shape[1:3] == (194, 196)


def test_codec_is_one_that_browsers_play(tmp_path):
    path = video.write_mp4(tmp_path / "a.mp4", clip(), fps=5)
    meta = iio.immeta(path, plugin="FFMPEG")
    assert meta["codec"] == "h264" and meta["fps"] == 5 and meta["pix_fmt"].startswith("yuv420p")
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # faststart: the index comes first


@pytest.mark.parametrize(
    "bad", [np.zeros((2, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8), np.zeros((0, 8, 8, 3), np.uint8)]
)
def test_other_shapes_and_types_are_refused(tmp_path, bad):
    with pytest.raises(ValueError, match="expected uint8"):
        video.write_mp4(tmp_path / "a.mp4", bad)
    assert list(tmp_path.iterdir()) == []


def test_enlarging_repeats_pixels():
    small = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(1, 2, 3, 3)
    big = video.enlarge(small, 4)
    assert big.shape == (1, 4, 6, 3)
    np.testing.assert_array_equal(big[:, ::2, ::2], small)
    np.testing.assert_array_equal(big[:, 1::2, 1::2], small)


def test_tile_holds_the_last_frame_and_labels_are_drawn():
    a, b = clip(length=2, height=100, width=100), clip(length=5, height=100, width=100, value=90)
    a[-1] = 200
    plain = video.tile([a, b], columns=2)
    assert plain.shape == (5, 100, 200, 3)
    np.testing.assert_array_equal(plain[4, :, :100], a[-1])
    np.testing.assert_array_equal(plain[:, :, 100:], b)
    labelled = video.tile([a, b], ["first", "second"], columns=2)
    assert labelled.shape == (5, 100 + video.LABEL_HEIGHT, 200, 3)
    band = labelled[0, : video.LABEL_HEIGHT]
    assert band[:, :100].max() > 200 and band[:, 100:].max() > 200 and (band[:, :100] != band[:, 100:]).any()
    with pytest.raises(ValueError):
        video.tile([a, b], ["one"])


def test_a_finished_run_films_one_trial_and_plays_no_other_for_it(toy, tmp_path, monkeypatch):
    filmed, real = [], Evaluation.play

    def play(self, agent, watch=None, keep=False):
        filmed.extend([(self.repeats, len(self.target.test_tasks), self.seed_of(0, 0))] * (watch is not None))
        return real(self, agent, watch, keep)

    monkeypatch.setattr(Evaluation, "play", play)
    folder = toy.transfer(tmp_path, "sac/scratch", "transfer.video=true")
    assert filmed == [(1, 1, evaluation_seed(0, 0))] and (folder / "videos/final.mp4").stat().st_size
