"""Install resfit_bringup: launch files, configuration and the `resfit` command."""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "resfit_bringup"


def shared(folder: str) -> list[tuple[str, list[str]]]:
    """List the files below `folder`, a symlink to the top level, for installation."""
    by_folder: dict[str, list[str]] = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            by_folder.setdefault(f"share/{PACKAGE}/{path.parent}", []).append(str(path))
    return sorted(by_folder.items())


setup(
    name=PACKAGE,
    version="0.1.0",
    description="Starts the graph: launch files, configuration and the `resfit` command.",
    license="Apache-2.0",
    maintainer="resfit maintainers",
    maintainer_email="maintainers@resfit.invalid",
    packages=find_packages(exclude=["test"]),
    python_requires=">=3.10",
    install_requires=["honcho", "pyyaml", "rich"],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        *shared("launch"),
        *shared("config"),
    ],
    # In bin/, not lib/: sourcing the workspace then puts `resfit` on the PATH.
    entry_points={"console_scripts": ["resfit = resfit_bringup.main:main"]},
    zip_safe=True,
)
