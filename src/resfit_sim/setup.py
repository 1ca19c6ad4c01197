"""Install resfit_sim, as an ament package and with pip alike."""

from setuptools import find_packages, setup

PACKAGE = "resfit_sim"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="MuJoCo twin of Vega: model, tasks, scripted experts and Gymnasium environment.",
    license="Apache-2.0",
    maintainer="resfit maintainers",
    maintainer_email="maintainers@resfit.invalid",
    packages=find_packages(exclude=["test"]),
    package_data={PACKAGE: ["models/*.xml"]},
    python_requires=">=3.10",
    install_requires=[
        "numpy",
        "scipy",
        "mujoco>=4.0",
        "dexmate-urdf>=0.8.4",
        "trimesh",
        "fast_simplification",
        "gymnasium",
        "imageio",
        "imageio-ffmpeg",
    ],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    entry_points={
        "console_scripts": [
            "twin = resfit_sim.twin_node:main",
            "expert_teleop = resfit_sim.expert_teleop_node:main",
        ]
    },
    zip_safe=True,
)
