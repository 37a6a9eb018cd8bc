"""A user's folder of videos and images as moving pictures for the `video` distractor."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from task_suites.errors import SuiteError

SIZE = 96  # pixels, height and width of every frame
MAX_FRAMES = 200  # of one video
IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
VIDEOS = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
WORDS = ("", ".csv", ".db", ".ini", ".json", ".md", ".txt", ".xml", ".yaml", ".yml")  # left out

Clip = np.ndarray  # uint8 (frames, SIZE, SIZE, 3), read-only


def load(folder: str | Path) -> tuple[Clip, ...]:
    """Return the clips of `folder`, sorted by name: its videos, its images (one frame each), and what its
    subfolders hold: videos, and images as the frames of one clip. Read once per process and state of it.

    Hidden files and words beside the pictures do not count. Raises SuiteError if it is missing or empty, or
    naming the first file that cannot be read.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise SuiteError(f"video folder {str(folder)!r}: there is no such folder")
    sources = tuple(_sources(root, root))
    if not sources:
        raise SuiteError(
            f"video folder {str(folder)!r} is empty: expected videos ({', '.join(VIDEOS)}), images "
            f"({', '.join(IMAGES)}) or subfolders of them"
        )
    return _read(sources, tuple(_state(path) for files in sources for path in files))


def _sources(folder: Path, root: Path) -> Iterator[tuple[Path, ...]]:
    """The files of each clip of `folder` and its subfolders; only in `root` is each image a clip."""
    paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    paths = [path for path in paths if path.is_dir() or path.suffix.lower() not in WORDS]
    if not paths and folder != root:
        raise SuiteError(f"video folder: {str(folder)!r} holds no videos or images ({', '.join(IMAGES)})")
    images = tuple(path for path in paths if path.suffix.lower() in IMAGES)
    if images and folder != root:
        yield images[:MAX_FRAMES]
    for path in paths:
        kind = path.suffix.lower()
        if path.is_dir():
            yield from _sources(path, root)
        elif kind in VIDEOS or (kind in IMAGES and folder == root):
            yield (path,)
        elif kind not in IMAGES:
            raise SuiteError(f"video folder: {str(path)!r} is neither a video nor an image")


def _state(path: Path) -> tuple[int, int]:
    try:
        return path.stat().st_mtime_ns, path.stat().st_size
    except OSError as error:  # a link that leads nowhere
        raise SuiteError(f"video folder: {str(path)!r} cannot be read: {error.strerror}") from error


@functools.lru_cache(maxsize=4)
def _read(sources: tuple[tuple[Path, ...], ...], state: tuple) -> tuple[Clip, ...]:
    clips = []
    for files in sources:
        moving = files[0].suffix.lower() in VIDEOS
        clip = _video(files[0]) if moving else np.stack([_image(path) for path in files])
        clip.setflags(write=False)
        clips.append(clip)
    return tuple(clips)


def _image(path: Path) -> np.ndarray:
    from PIL import Image

    broken = OSError, SyntaxError, ValueError, Image.DecompressionBombError  # Pillow's readers raise them all
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            return np.asarray(image.convert("RGB").resize((SIZE, SIZE)))
    except broken as error:
        raise SuiteError(f"video folder: {str(path)!r} cannot be read as an image: {error}") from error


def _video(path: Path) -> np.ndarray:
    """The first frames, scaled by the decoder."""
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError as error:
        raise SuiteError("videos need imageio-ffmpeg: pip install imageio-ffmpeg") from error
    size = ["-frames:v", str(MAX_FRAMES), "-s", f"{SIZE}x{SIZE}"]
    command = [get_ffmpeg_exe(), "-v", "error", "-nostdin", "-i", f"file:{path}", *size]
    decoded = subprocess.run([*command, "-pix_fmt", "rgb24", "-f", "rawvideo", "-"], capture_output=True)
    said = decoded.stderr.decode(errors="replace").strip()
    if decoded.returncode or said:  # of a damaged file it decodes what it can, complains and calls it success
        reason = said.splitlines()[-1:] or [f"ffmpeg ended with {decoded.returncode}"]
        raise SuiteError(f"video folder: {str(path)!r} cannot be read as a video: {reason[0]}")
    frames = np.frombuffer(decoded.stdout, np.uint8).reshape(-1, SIZE, SIZE, 3)
    if not len(frames):
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
