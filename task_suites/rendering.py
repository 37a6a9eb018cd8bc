"""Fast off-screen pictures of MuJoCo scenes, and the choice of a GL backend.

Importing this module chooses MUJOCO_GL, so import it before `mujoco`. Shadows, reflections and multisampling
are what makes software rendering slow (20 to 200 times); they are off. The skybox costs nothing and stays.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
import os
import platform
import threading
import time
import weakref
from collections.abc import Callable

import numpy as np

from task_suites.errors import SuiteError

_OFF = ("disable", "disabled", "off", "false", "0")
_ADVICE = (
    "install the system packages libegl1 and libgl1-mesa-dri (Debian, Ubuntu), or set MUJOCO_GL to a backend that works"
)


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def choose_backend() -> str:
    """Set MUJOCO_GL if the user has not, and return it: egl, else osmesa where there is only that (Linux)."""
    chosen = os.environ.get("MUJOCO_GL", "").lower().strip()
    if not chosen:
        if platform.system() != "Linux":
            return "native"
        only_osmesa = not _loads("libEGL.so.1") and any(_loads(f"libOSMesa.so.{version}") for version in (8, 6))
        chosen = "osmesa" if only_osmesa else "egl"
        # mujoco imports the backend with itself and fails there without libEGL: then physics must do without
        # one.
        usable = only_osmesa or _loads("libEGL.so.1")
        os.environ["MUJOCO_GL"] = chosen if usable else "disabled"
    return chosen


BACKEND = choose_backend()
# Handing a tiny picture to Mesa's worker threads costs more than drawing it (64x64: 0.37 against 0.23 ms).
os.environ.setdefault("LP_NUM_THREADS", "0")
try:
    import mujoco
except (ImportError, AttributeError, OSError, RuntimeError) as _error:
    if getattr(_error, "name", "") == "mujoco":
        raise SuiteError("MuJoCo is not installed: pip install mujoco") from _error
    # Else it is a backend that the user chose and that is missing, or a name that is none.
    raise SuiteError(f"mujoco cannot start with MUJOCO_GL={BACKEND}: {_error}; {_ADVICE}") from _error


def _make_context():
    """Return a GL context of our backend, whatever mujoco chose when somebody imported it before us."""
    if BACKEND in _OFF:
        raise SuiteError(f"no pictures: MUJOCO_GL={BACKEND} switches rendering off; unset it or set it to egl")
    module = f"mujoco.{BACKEND}" if BACKEND in ("egl", "osmesa") else "mujoco.gl_context"
    try:
        kind = importlib.import_module(module).GLContext
        if not hasattr(kind, "_context"):
            kind._context = None  # else its __del__ fails after its __init__ has, and that is what one reads
        return kind(64, 64)
    except Exception as error:  # each fails in its own way: ImportError, AttributeError, GLError, ...
        raise _cannot_start(error) from error


def _cannot_start(error: Exception) -> SuiteError:
    return SuiteError(f"no pictures: GL backend {BACKEND!r} cannot start ({error}); {_ADVICE}")


_SMALL_PIXELS = 96
# Pictures painted over geoms use texture and material numbers that no model reaches (MuJoCo uses 999 itself).
FIRST_PAINT, _LAST_PAINT = 900, 949
_TEXTURE_2D = int(mujoco.mjtTexture.mjTEXTURE_2D)
_ROLE_RGB = int(mujoco.mjtTextureRole.mjTEXROLE_RGB)

_OPEN: weakref.WeakSet[Renderer] = weakref.WeakSet()
_CONTEXTS: dict[int, _Context] = {}  # one GL context per thread
_EGL_DRAW, _EGL_READ = 0x3059, 0x305A


class _Context:
    """A GL context, current only inside `with`, for one thread at a time; then the one before is again.

    Others, Gymnasium's renderer among them, draw into whatever is current and never look whose it is.
    `dropped` holds what is no longer drawn, its MjrContext and textures: freed when this is current next, as
    garbage is collected in any thread, in the middle of anything.
    """

    def __init__(self) -> None:
        self.dropped: list[tuple[mujoco.MjrContext, list[int]]] = []
        self._lock, self._before = threading.RLock(), []
        self._egl = ctypes.CDLL("libEGL.so.1") if BACKEND == "egl" and _loads("libEGL.so.1") else None
        if self._egl is not None:  # asked itself: PyOpenGL takes as long as a third of a small picture
            self._egl.eglMakeCurrent.argtypes = [ctypes.c_void_p] * 4
            for name in ("Display", "Surface", "Context"):
                getattr(self._egl, f"eglGetCurrent{name}").restype = ctypes.c_void_p
        before = self._own = self._current()
        try:
            self._gl = _make_context()  # it releases what is current
            self._gl.make_current()
            self._own = self._current()
        finally:
            self._bind(before)

    def _current(self) -> tuple[int | None, ...]:
        """EGL's display, surfaces and context of this thread; of other backends we cannot tell."""
        if self._egl is None:
            return ()
        surface = self._egl.eglGetCurrentSurface
        display, context = self._egl.eglGetCurrentDisplay(), self._egl.eglGetCurrentContext()
        return display, surface(_EGL_DRAW), surface(_EGL_READ), context

    def _bind(self, current: tuple[int | None, ...]) -> None:
        if current:
            self._egl.eglMakeCurrent(current[0] or self._own[0], *current[1:])

    def __enter__(self) -> None:
        self._lock.acquire()
        self._before.append(self._current())
        if self._own:
            self._bind(self._own)
        else:
            self._gl.make_current()
        while self.dropped:
            context, textures = self.dropped.pop()
            if textures:
                from OpenGL import GL

                GL.glDeleteTextures(textures)
            context.free()

    def __exit__(self, *_: object) -> None:
        self._bind(self._before.pop())
        self._lock.release()

    def free(self) -> None:
        """Free it; nothing can be drawn in it any more."""
        with self:
            self._gl.free()


def _thread_context() -> _Context:
    """Return this thread's GL context, made when first needed and kept until exit.

    A fresh context compiles its shaders anew: 0.1 s with software GL, against 1 ms in one that has been used.
    """
    thread = threading.get_ident()
    if thread not in _CONTEXTS:
        _CONTEXTS[thread] = _Context()
        # mujoco shuts the display down at exit; registered after its first context, we close before that.
        atexit.unregister(_close_all)
        atexit.register(_close_all)
    return _CONTEXTS[thread]


def _close_all() -> None:
    for renderer in list(_OPEN):
        renderer.close()
    while _CONTEXTS:
        _CONTEXTS.popitem()[1].free()


class Renderer:
    """Draws one model at one size. Close it, or use it in a `with` statement; what is left is closed at exit.

    height, width: pixels. antialias: draw twice as large and average, two to three times as slow at 64x64;
    with software GL that is cheaper than multisampling, and patterns on the ground become smooth too. Round
    bodies have 12 sides, which small pictures hardly show; antialiased ones above 96 pixels are fully round.
    Its GL context is current only while it draws, so several live side by side, other libraries' too, and
    any thread may use and close it. Spawn, don't fork, processes after the first one is made.
    Raises SuiteError naming the system packages if no GL backend can start.
    """

    _context: mujoco.MjrContext | None = None  # of the class: what was not made is not freed

    def __init__(
        self,
        model: mujoco.MjModel,
        height: int,
        width: int,
        *,
        antialias: bool = False,
        max_geoms: int = 200,
    ) -> None:
        self._antialias, round_bodies = antialias, antialias and max(height, width) > _SMALL_PIXELS
        if antialias:
            height, width = 2 * height, 2 * width
        self.model = model
        self._gl = _thread_context()
        self._paint: dict[int, tuple[int, tuple]] = {}  # slot -> GL texture, its height and width
        # MjrContext reads these off the model once; restored, as the model belongs to the caller.
        quality, size = model.vis.quality, model.vis.global_
        fields = [(quality, name) for name in ("offsamples", "shadowsize", "numslices", "numstacks")]
        fields += [(size, "offwidth"), (size, "offheight")]
        before = [getattr(owner, name) for owner, name in fields]
        quality.offsamples, quality.shadowsize = 0, 0
        size.offwidth, size.offheight = width, height
        if not round_bodies:
            quality.numslices, quality.numstacks = min(quality.numslices, 12), min(quality.numstacks, 6)
        try:
            with self._gl:
                self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        except mujoco.FatalError as error:  # glfw notices only here that there is no display
            raise _cannot_start(error) from error
        finally:
            for (owner, name), value in zip(fields, before, strict=True):
                setattr(owner, name, value)
        self.scene = mujoco.MjvScene(model, maxgeom=model.ngeom + max_geoms)
        self.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        self.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self._option, self._camera = mujoco.MjvOption(), mujoco.MjvCamera()
        self._perturb = mujoco.MjvPerturb()
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._pixels = np.empty((height, width, 3), np.uint8)
        _OPEN.add(self)

    def render(
        self,
        data: mujoco.MjData,
        camera: int | mujoco.MjvCamera,
        decorate: Callable[[mujoco.MjvScene], None] | None = None,
    ) -> np.ndarray:
        """Return a new uint8 array (height, width, 3).

        camera: id of a camera of the model, or a free one. decorate: changes the scene, outside the physics.
        """
        if self._context is None:
            raise SuiteError("this renderer is closed: make a new one")
        if not isinstance(camera, mujoco.MjvCamera):
            self._camera.type, self._camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, camera
            camera = self._camera
        mujoco.mjv_updateScene(
            self.model,
            data,
            self._option,
            self._perturb,
            camera,
            mujoco.mjtCatBit.mjCAT_ALL,
            self.scene,
        )
        if decorate is not None:
            decorate(self.scene)
        with self._gl:
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
            mujoco.mjr_render(self._rect, self.scene, self._context)
            mujoco.mjr_readPixels(self._pixels, None, self._rect, self._context)
        pixels = self._pixels[::-1]  # GL counts rows from the bottom
        return _halved(pixels) if self._antialias else pixels.copy()

    @property
    def aspect(self) -> float:
        """Width over height of the pictures."""
        return self._rect.width / self._rect.height

    def paint(
        self,
        slot: int,
        picture: np.ndarray,
        repeat: tuple[float, float] = (1.0, 1.0),
        per_metre: bool = False,
        mipmaps: bool = True,
    ) -> int:
        """Keep `picture`, uint8 (H, W, 3), as a texture of this renderer alone; the model is not touched.

        slot: 0 to 49; a second picture replaces the first. repeat: how often it shows along the sides of a
        geom, or in a metre. mipmaps: for what is seen from afar; films do without, which is faster.
        Returns the number for `MjvGeom.matid`, to be set in `decorate`.
        """
        from OpenGL import GL
        from OpenGL.raw.GL.VERSION.GL_1_1 import glTexSubImage2D  # without PyOpenGL's slow array handling

        number, target = FIRST_PAINT + slot, GL.GL_TEXTURE_2D
        if not FIRST_PAINT <= number <= _LAST_PAINT:
            raise SuiteError(f"slot is {slot}: expected 0 to {_LAST_PAINT - FIRST_PAINT}")
        pixels, (height, width) = np.ascontiguousarray(picture), picture.shape[:2]
        layout = GL.GL_RGB, GL.GL_UNSIGNED_BYTE, ctypes.c_void_p(pixels.ctypes.data)
        with self._gl:
            if self._paint.get(slot, (0, ()))[1] != (height, width):
                self._allocate(slot, height, width, mipmaps)
            GL.glBindTexture(target, self._paint[slot][0])
            glTexSubImage2D(target, 0, 0, 0, width, height, *layout)
            if mipmaps:
                GL.glGenerateMipmap(target)
        self._context.mat_texuniform[number] = per_metre
        self._context.mat_texrepeat[2 * number : 2 * number + 2] = repeat
        return number

    def _allocate(self, slot: int, height: int, width: int, mipmaps: bool) -> None:
        from OpenGL import GL

        target, number, context = GL.GL_TEXTURE_2D, FIRST_PAINT + slot, self._context
        texture = self._paint[slot][0] if slot in self._paint else int(GL.glGenTextures(1))
        self._paint[slot] = texture, (height, width)
        GL.glBindTexture(target, texture)
        smaller = GL.GL_LINEAR_MIPMAP_LINEAR if mipmaps else GL.GL_LINEAR
        GL.glTexParameteri(target, GL.GL_TEXTURE_MIN_FILTER, smaller)
        GL.glTexParameteri(target, GL.GL_TEXTURE_MAG_FILTER, GL.GL_LINEAR)
        for axis in (GL.GL_S, GL.GL_T):  # as MuJoCo does, but only for models with textures of their own
            GL.glTexGeni(axis, GL.GL_TEXTURE_GEN_MODE, GL.GL_OBJECT_LINEAR)
        GL.glPixelStorei(GL.GL_UNPACK_ALIGNMENT, 1)
        GL.glTexImage2D(target, 0, GL.GL_RGB, width, height, 0, GL.GL_RGB, GL.GL_UNSIGNED_BYTE, None)
        context.texture[number], context.textureType[number] = texture, _TEXTURE_2D
        roles = len(context.mat_texid) // len(context.mat_texuniform)
        context.mat_texid[number * roles + _ROLE_RGB] = number

    def gl_name(self) -> str:
        """Return what the GL driver calls itself, e.g. "llvmpipe (...)"."""
        from OpenGL import GL

        with self._gl:
            return GL.glGetString(GL.GL_RENDERER).decode()

    def close(self) -> None:
        """Free the GL resources; more than once is allowed."""
        if self._context is not None:
            self.__del__()
            with self._gl:
                pass
        _OPEN.discard(self)

    def __del__(self) -> None:
        if self._context is not None:
            self._gl.dropped.append((self._context, [texture for texture, _ in self._paint.values()]))
            self._context = None

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _halved(pixels: np.ndarray) -> np.ndarray:
    """Return the mean over 2x2 squares; a channel at a time, as rows of three numbers are slow in numpy."""
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    rows = np.add(pixels[::2], pixels[1::2], dtype=np.uint16).reshape(height, width, 6)
    total = np.empty((height, width, 3), np.uint16)
    for channel in range(3):
        np.add(rows[..., channel], rows[..., channel + 3], out=total[..., channel])
    total += 2  # rounds
    total >>= 2
    return total.astype(np.uint8)


_PROBE = """<mujoco><visual><headlight ambient=".5 .5 .5"/></visual><worldbody>
<camera name="eye" pos="0 -1 1" xyaxes="1 0 0 0 .7 .7"/><geom type="plane" size="1 1 1"/>
<geom type="box" size=".1 .1 .1" rgba="1 0 0 1"/></worldbody></mujoco>"""


def probe(seconds: float = 0.3) -> dict[str, str | float]:
    """Draw a small scene and return {"backend", "gl_renderer", "frames_per_second"} (64x64, one thread).

    Raises SuiteError naming the system packages if no GL backend can start.
    """
    model = mujoco.MjModel.from_xml_string(_PROBE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with Renderer(model, 64, 64) as renderer:
        name = renderer.gl_name()
        if renderer.render(data, 0).std() == 0:
            raise SuiteError(f"GL backend {BACKEND!r} ({name}) draws an empty picture; {_ADVICE}")
        frames, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            renderer.render(data, 0)
            frames += 1
        elapsed = time.perf_counter() - start
    return {"backend": BACKEND, "gl_renderer": name, "frames_per_second": frames / elapsed}
