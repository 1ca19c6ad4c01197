"""Install resfit_base."""

from setuptools import find_packages, setup

PACKAGE = "resfit_base"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="The frozen base policy: its node and the command that trains it.",
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
            "base_policy = resfit_base.base_policy_node:main",
            "train_base = resfit_base.train_base:main",
        ],
    },
    zip_safe=True,
)
