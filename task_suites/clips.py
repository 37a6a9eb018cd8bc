"""A user's folder of videos and images as moving pictures for the `video` distractor."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from task_suites.errors import SuiteError

SIZE = 96  # pixels, height and width of every frame
MAX_FRAMES = 200  # of one video
IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
VIDEOS = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")

Clip = np.ndarray  # uint8 (frames, SIZE, SIZE, 3), read-only


def load(folder: str | Path) -> tuple[Clip, ...]:
    """Return the clips of `folder`, sorted by name: its videos, its images (one frame each), and its
    subfolders of images (a frame each, as DAVIS has them). Read once per process and state of the folder.

    Raises SuiteError if it is missing or empty, or naming the first file that cannot be read.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise SuiteError(f"video folder {str(folder)!r}: there is no such folder")
    sources = tuple(_sources(root))
    if not sources:
        raise SuiteError(
            f"video folder {str(folder)!r} is empty: expected videos ({', '.join(VIDEOS)}), images "
            f"({', '.join(IMAGES)}) or subfolders of images"
        )
    state = tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for files in sources for path in files)
    return _read(sources, state)


def _sources(root: Path) -> Iterator[tuple[Path, ...]]:
    """The files of each clip; a file that is neither a picture nor hidden is wrong."""
    for path in sorted(root.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            frames = tuple(p for p in sorted(path.iterdir()) if p.suffix.lower() in IMAGES)[:MAX_FRAMES]
            if not frames:
                raise SuiteError(f"video folder: {str(path)!r} holds no images ({', '.join(IMAGES)})")
            yield frames
        elif path.suffix.lower() in (*IMAGES, *VIDEOS):
            yield (path,)
        else:
            raise SuiteError(f"video folder: {str(path)!r} is neither a video nor an image")


@functools.lru_cache(maxsize=4)
def _read(sources: tuple[tuple[Path, ...], ...], state: tuple) -> tuple[Clip, ...]:
    clips = []
    for files in sources:
        moving = files[0].suffix.lower() in VIDEOS
        clip = np.stack(_video(files[0]) if moving else [_image(path) for path in files])
        clip.setflags(write=False)
        clips.append(clip)
    return tuple(clips)


def _image(path: Path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB").resize((SIZE, SIZE)))
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's readers raise all three for broken files
        raise SuiteError(f"video folder: {str(path)!r} cannot be read as an image: {error}") from error


def _video(path: Path) -> list[np.ndarray]:
    """The first frames, scaled by the decoder."""
    try:
        import imageio.v2 as imageio
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError as error:
        raise SuiteError(f"videos need imageio and imageio-ffmpeg ({error}): pip install both") from error
    get_ffmpeg_exe()
    frames: list[np.ndarray] = []
    try:
        with imageio.get_reader(path, "ffmpeg", size=(SIZE, SIZE)) as reader:
            for frame in reader:
                frames.append(np.asarray(frame))
                if len(frames) == MAX_FRAMES:
                    break
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise SuiteError(f"video folder: {str(path)!r} cannot be read as a video: {reason[0]}") from error
    if not frames:
        raise SuiteError(f"video folder: {str(path)!r} holds no frames")
    return frames


class Playback:
    """One clip, played forth and back without a jump from a place that `rng` draws."""

    def __init__(self, clips: tuple[Clip, ...], rng: np.random.Generator) -> None:
        self._clip = clips[rng.integers(len(clips))]
        self._start = int(rng.integers(len(self._clip)))

    def frame(self, step: int) -> np.ndarray:
        """Return the picture (SIZE, SIZE, 3) uint8 at `step`, read-only."""
        last = len(self._clip) - 1
        place = (self._start + step) % max(2 * last, 1)
        return self._clip[min(place, 2 * last - place) if last else 0]
