"""Install resfit_vega_driver."""

from setuptools import find_packages, setup

PACKAGE = "resfit_vega_driver"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Joint-position driver of Vega with safety filter and clients; ZED camera node.",
    license="Apache-2.0",
    maintainer="resfit maintainers",
    maintainer_email="maintainers@resfit.invalid",
    packages=find_packages(exclude=["test"]),
    python_requires=">=3.10",
    install_requires=["setuptools", "numpy"],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    entry_points={
        "console_scripts": [
            "vega_driver = resfit_vega_driver.vega_driver_node:main",
            "zed_camera = resfit_vega_driver.zed_camera_node:main",
        ],
    },
    zip_safe=True,
)
