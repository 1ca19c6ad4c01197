"""Install resfit_residual."""

from setuptools import find_packages, setup

PACKAGE = "resfit_residual"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Residual policy, episode recorder and learner: the nodes around the residual.",
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
            "residual_policy = resfit_residual.residual_policy_node:main",
            "recorder = resfit_residual.recorder_node:main",
            "player = resfit_residual.player_node:main",
            "learner = resfit_residual.learner_node:main",
        ],
    },
    zip_safe=True,
)
