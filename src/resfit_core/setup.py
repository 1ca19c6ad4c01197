"""Install resfit_core, as an ament package and with pip alike."""

from setuptools import find_packages, setup

PACKAGE = "resfit_core"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Residual off-policy RL in plain Python, on robots and Gymnasium environments.",
    license="Apache-2.0",
    maintainer="resfit maintainers",
    maintainer_email="maintainers@resfit.invalid",
    packages=find_packages(exclude=["test"]),
    package_data={PACKAGE: ["templates/*"]},
    python_requires=">=3.10",
    install_requires=["numpy", "torch", "safetensors", "pyyaml", "gymnasium"],
    extras_require={
        "report": ["jinja2", "matplotlib", "tensorboard", "rich"],
        "robot": ["rosbags"],  # reading and writing recorded episodes
        "formats": ["pyarrow", "h5py", "imageio-ffmpeg", "pillow"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    zip_safe=False,  # jinja2 reads the report's template from the folder
)
