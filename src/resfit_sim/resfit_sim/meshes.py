"""Light meshes out of the robot's heavy ones: for contact, for the robot's eyes, for films.

The vendor's .glb files show the robot as it looks, but are open patches with much inside; few
faces tear them. The .obj files are closed and smooth: they stay whole with very few.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import fast_simplification
import numpy as np
import trimesh

# The vendor colours boards and bolts in pure red, green and yellow; a twin looks better plain.
_PLAIN = (0.16, 0.16, 0.17, 1.0)
_WHITE = (0.86, 0.86, 0.85, 1.0)


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh in the frame of its link.

    Attributes:
        vertices: Shape (n, 3), float64 [m].
        faces: Shape (m, 3), int32.
        rgba: Colour, each in 0..1.
    """

    vertices: np.ndarray
    faces: np.ndarray
    rgba: tuple[float, float, float, float] = _WHITE


def _decimate(
    mesh: trimesh.Trimesh, faces: int, freedom: float = 5.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices and triangles; `freedom` bounds the error: 5 not at all, 2.5 to 1 cm."""
    mesh = mesh.copy()
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    vertices = np.asarray(mesh.vertices, np.float32)
    triangles = np.asarray(mesh.faces, np.int32)
    if len(triangles) > faces:
        vertices, triangles = fast_simplification.simplify(
            vertices, triangles, target_count=faces, agg=freedom
        )
    return np.asarray(vertices, np.float64), np.asarray(triangles, np.int32)


@cache  # left and right share most files
def hull(path: Path, faces: int = 600) -> Mesh:
    """Return the mesh of `path` with at most about `faces` faces, for convex contact."""
    vertices, triangles = _decimate(trimesh.load(path, force="mesh"), faces)
    return Mesh(vertices, triangles)


@cache
def bounds(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return centre and half size [m], each of shape (3,), of the axis-aligned box of a mesh."""
    low, high = trimesh.load(path, force="mesh").bounds
    return (low + high) / 2, (high - low) / 2


@cache
def shells(path: Path, faces: int) -> tuple[Mesh, ...]:
    """Return the coloured parts of a visual mesh, merged to light and dark, gently decimated.

    Args:
        path: A .glb file.
        faces: Faces to keep over all parts together, more where the shape would suffer.
    """
    tones = _tones(path)
    total = sum(len(whole.faces) for whole in tones.values())
    result = []
    for rgba, whole in sorted(tones.items()):
        share = max(60, round(faces * len(whole.faces) / total))
        vertices, triangles = _decimate(whole, share, freedom=2.5)
        if len(triangles) >= 4:
            result.append(Mesh(vertices, triangles, rgba))
    return tuple(result)


@cache
def solid(path: Path, faces: int, colour_of: Path) -> Mesh:
    """Return a closed mesh with few faces in one colour.

    Args:
        path: An .obj file, closed.
        faces: Faces to keep.
        colour_of: The .glb file of the same link; the tone of most of its surface is taken.
    """
    tones = _tones(colour_of)
    vertices, triangles = _decimate(trimesh.load(path, force="mesh"), faces)
    return Mesh(vertices, triangles, max(tones, key=lambda rgba: tones[rgba].area))


@lru_cache(maxsize=4)  # asked twice in a row; the whole robot would be large
def _tones(path: Path) -> dict[tuple[float, float, float, float], trimesh.Trimesh]:
    """Return the mesh of each tone of a .glb file."""
    groups: dict[tuple[float, float, float, float], list[trimesh.Trimesh]] = {}
    for part in trimesh.load(path).dump(concatenate=False):
        factor = getattr(getattr(part.visual, "material", None), "baseColorFactor", None)
        groups.setdefault(_tone(factor), []).append(
            trimesh.Trimesh(part.vertices, part.faces, process=False)
        )
    return {rgba: trimesh.util.concatenate(parts) for rgba, parts in groups.items()}


def _tone(factor: np.ndarray | None) -> tuple[float, float, float, float]:
    """Return white for light materials and dark grey for the rest."""
    if factor is None:
        return _PLAIN
    return _WHITE if np.min(np.asarray(factor, float)[:3]) > 150 else _PLAIN
