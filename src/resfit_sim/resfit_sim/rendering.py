"""Offscreen images of the twin; OpenGL is looked for at the first image, never before."""

from __future__ import annotations

import os

import mujoco
import numpy as np

from resfit_sim.errors import RenderingUnavailable, UnknownCamera
from resfit_sim.vega import FINE_GROUP, LIGHT_GROUP

_BACKENDS = ("egl", "osmesa", "glfw")


class OffscreenRenderer:
    """Renders a model's cameras to arrays, any size up to the model's offscreen buffer.

    Cameras on the robot are sensors: they see its light meshes and no shadows, because a shadow
    costs a software renderer ten times the image. Cameras in the room are for people and see all.

    Not thread-safe: an OpenGL context belongs to the thread that first rendered.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        """Open an OpenGL context.

        Args:
            model: Model whose textures and meshes are uploaded.

        Raises:
            RenderingUnavailable: If no OpenGL backend works.
        """
        self._model = model
        buffer = model.vis.global_
        self._limit = (int(buffer.offwidth), int(buffer.offheight))
        self._window = _open_window(*self._limit)
        self._window.make_current()
        self._context = mujoco.MjrContext(model, int(mujoco.mjtFontScale.mjFONTSCALE_100))
        mujoco.mjr_setBuffer(int(mujoco.mjtFramebuffer.mjFB_OFFSCREEN), self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=500)
        self._for_people, self._for_robot = _option(FINE_GROUP), _option(LIGHT_GROUP)
        self._camera = mujoco.MjvCamera()
        self._camera.type = int(mujoco.mjtCamera.mjCAMERA_FIXED)

    def render(self, data: mujoco.MjData, camera: str, width: int, height: int) -> np.ndarray:
        """Return one image.

        Returns:
            RGB, first row on top. Shape: (height, width, 3), uint8.

        Raises:
            UnknownCamera: If there is no such camera or the image is larger than the buffer.
        """
        index = mujoco.mj_name2id(self._model, int(mujoco.mjtObj.mjOBJ_CAMERA), camera)
        if index < 0:
            known = ", ".join(self._model.camera(i).name for i in range(self._model.ncam))
            raise UnknownCamera(f"camera '{camera}' is unknown; known: {known}")
        if not (0 < width <= self._limit[0] and 0 < height <= self._limit[1]):
            raise UnknownCamera(
                f"image {width} x {height} must be within {self._limit[0]} x {self._limit[1]}"
            )
        self._window.make_current()
        self._camera.fixedcamid = index
        for_people = int(self._model.cam_bodyid[index]) == 0
        mujoco.mjv_updateScene(
            self._model,
            data,
            self._for_people if for_people else self._for_robot,
            None,
            self._camera,
            int(mujoco.mjtCatBit.mjCAT_ALL),
            self._scene,
        )
        self._scene.flags[int(mujoco.mjtRndFlag.mjRND_SHADOW)] = for_people
        rect = mujoco.MjrRect(0, 0, width, height)
        image = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_render(rect, self._scene, self._context)
        mujoco.mjr_readPixels(image, None, rect, self._context)
        return np.ascontiguousarray(image[::-1])

    def close(self) -> None:
        """Free the context; further renders are an error."""
        self._context.free()
        self._window.free()


def _option(group: int) -> mujoco.MjvOption:
    """Return what to draw: room, objects, and the robot's meshes of one group."""
    option = mujoco.MjvOption()
    option.geomgroup[:] = 0
    option.geomgroup[0] = option.geomgroup[group] = 1
    return option


def _open_window(width: int, height: int) -> object:
    """Return the first OpenGL context that opens: `MUJOCO_GL` if set, else EGL, OSMesa, GLFW."""
    chosen = os.environ.get("MUJOCO_GL", "").lower().strip()
    reasons = []
    for backend in (chosen,) if chosen in _BACKENDS else _BACKENDS:
        try:
            return _backend(backend)(width, height)
        except Exception as error:  # PyOpenGL fails in its own ways
            reasons.append(f"{backend}: {type(error).__name__}: {error}".splitlines()[0][:160])
    raise RenderingUnavailable(
        "no OpenGL library can be used, so no images ("
        + "; ".join(reasons)
        + "); fix: install libegl1 and libgl1-mesa-dri (or libosmesa6 with MUJOCO_GL=osmesa)"
    )


def _backend(name: str) -> type:
    if name == "egl":
        os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
        from mujoco.egl import GLContext
    elif name == "osmesa":
        from mujoco.osmesa import GLContext
    else:
        from mujoco.glfw import GLContext
    return GLContext
