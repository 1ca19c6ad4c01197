"""Install resfit_ros."""

from setuptools import find_packages, setup

PACKAGE = "resfit_ros"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="What every node shares: lifecycle base, parameters, QoS, message conversions.",
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
    zip_safe=True,
)
