"""Short videos that every browser plays: H.264, yuv420p, even sizes; small frames are enlarged, never
blurred.
"""

from __future__ import annotations

import math
import os
import subprocess
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from meta_latent.errors import RunError

SMALLEST_SIDE = 192  # pixels; below it a frame is enlarged by a whole factor
LABEL_HEIGHT = 18  # pixels


def enlarge(frames: np.ndarray, smallest_side: int = SMALLEST_SIDE) -> np.ndarray:
    """Repeat pixels by the smallest whole factor that makes both sides of (..., H, W, 3) at least
    ``smallest_side``.
    """
    factor = max(1, math.ceil(smallest_side / min(frames.shape[-3:-1])))
    return frames if factor == 1 else frames.repeat(factor, axis=-3).repeat(factor, axis=-2)


def _checked(frames: np.ndarray) -> np.ndarray:
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"frames: got {frames.dtype} {frames.shape}, expected uint8 (T, H, W, 3) with T, H, W >= 1")
    return frames


def write_mp4(path: str | Path, frames: np.ndarray, fps: float = 20.0, *, smallest_side: int = SMALLEST_SIDE) -> Path:
    """Write ``frames`` uint8 (T, H, W, 3) as an H.264 video at ``fps`` frames per second; returns ``path``.

    Odd sizes repeat their last row or column (yuv420p needs even ones). The file appears only when it is
    complete. Raises ValueError for other shapes or types, RunError naming ``path`` when the encoder fails (a
    full disk).
    """
    path, frames = Path(path), enlarge(_checked(frames), smallest_side)
    odd_height, odd_width = frames.shape[1] % 2, frames.shape[2] % 2
    frames = np.pad(frames, ((0, 0), (0, odd_height), (0, odd_width), (0, 0)), mode="edge")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.mp4")
    try:
        _encode(frames, fps, temporary)
        os.replace(temporary, path)
    except (OSError, subprocess.SubprocessError) as error:
        raise RunError(f"{path}: the video could not be written ({_reason(error)}); is the disk full?") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _encode(frames: np.ndarray, fps: float, path: Path) -> None:
    """Raises OSError, or CalledProcessError where the encoder ends early, as on a full disk."""
    import imageio_ffmpeg

    size = f"{frames.shape[2]}x{frames.shape[1]}"
    given = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", f"{fps:.2f}", "-i", "-"]
    made = ["-an", "-vcodec", "libx264", "-pix_fmt", "yuv420p", "-crf", "23", "-movflags", "+faststart"]
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *given, *made, str(path)],
        input=frames.reshape(-1).data,
        capture_output=True,
        check=True,
        start_new_session=True,  # a terminal's Ctrl-C is for the run, which saves first
    )


def _reason(error: Exception) -> str:
    said = getattr(error, "stderr", None) or b""
    return (said.decode(errors="replace").strip().splitlines() or [str(error)])[-1]


class Film:
    """Watches the first of several environments in lockstep (the `watch` of `data.collect.play`)."""

    def __init__(self):
        self.frames: list[np.ndarray | None] = []
        self.fps = 10.0

    def __call__(self, rows) -> None:
        """Take one picture."""
        self.frames.append(picture(rows))
        self.fps = rows.render_fps

    def write(self, path: str | Path) -> Path | None:
        """Write what was seen, at the environment's own speed; None, and no file, where nothing was drawn."""
        if not self.frames or any(frame is None for frame in self.frames):
            return None
        return write_mp4(path, np.stack(self.frames), self.fps)


def picture(rows) -> np.ndarray | None:
    """What the first of `rows` draws for a video, uint8 (H, W, 3), a copy; None if it draws nothing.

    An environment that cannot draw warns: what was learned is worth more than its film.
    """
    try:
        frame = rows.render(0)
    except NotImplementedError:
        return None
    except Exception as error:  # a user's own environment, which fails in its own way
        warnings.warn(f"no video: render() failed: {type(error).__name__}: {error}", stacklevel=2)
        return None
    drawn = isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.shape[2:] == (3,)
    return frame.copy() if drawn else None  # some return the same array each time


def draw_label(image: np.ndarray, text: str, *, height: int = LABEL_HEIGHT) -> np.ndarray:
    """``image`` uint8 (H, W, 3) with a dark band of ``height`` pixels above it that says ``text``."""
    from PIL import Image, ImageDraw, ImageFont

    band = Image.new("RGB", (image.shape[1], height), (24, 26, 30))
    font = ImageFont.load_default(size=max(8, height - 6))
    ImageDraw.Draw(band).text((4, height // 2), text, fill=(235, 235, 235), font=font, anchor="lm")
    return np.concatenate([np.asarray(band), image], axis=0)


def tile(clips: Sequence[np.ndarray], labels: Sequence[str] = (), columns: int | None = None) -> np.ndarray:
    """Clips uint8 (T_i, H_i, W_i, 3) side by side in one clip (max T, rows * H, columns * W, 3), labels above
    each.

    Shorter clips hold their last frame; smaller ones are enlarged by whole factors and padded with dark
    pixels. ``columns``: default about square. Raises ValueError for no clips or a wrong number of labels.
    """
    clips = [_checked(clip) for clip in clips]
    if not clips or (labels and len(labels) != len(clips)):
        raise ValueError(f"got {len(clips)} clips, {len(labels)} labels; expected clips, and labels for all or none")
    side = max(SMALLEST_SIDE // 2, *(min(clip.shape[1:3]) for clip in clips))
    clips = [enlarge(clip, side) for clip in clips]
    length, height, width = (max(clip.shape[axis] for clip in clips) for axis in (0, 1, 2))
    band = LABEL_HEIGHT if labels else 0
    columns = columns or math.ceil(math.sqrt(len(clips)))
    rows = math.ceil(len(clips) / columns)
    canvas = np.full((length, rows * (height + band), columns * width, 3), (24, 26, 30), dtype=np.uint8)
    for index, clip in enumerate(clips):
        top, left = index // columns * (height + band), index % columns * width
        clip = np.concatenate([clip, clip[-1:].repeat(length - len(clip), axis=0)])
        canvas[:, top + band : top + band + clip.shape[1], left : left + clip.shape[2]] = clip
        if labels:
            blank = np.zeros((0, width, 3), dtype=np.uint8)
            canvas[:, top : top + band, left : left + width] = draw_label(blank, labels[index])
    return canvas
