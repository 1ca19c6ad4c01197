"""Install resfit_reward."""

from setuptools import find_packages, setup

PACKAGE = "resfit_reward"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Operator button, panel and episode manager: who says how an episode ended.",
    license="Apache-2.0",
    maintainer="resfit maintainers",
    maintainer_email="maintainers@resfit.invalid",
    packages=find_packages(exclude=["test"]),
    package_data={"resfit_reward.panel": ["static/*"]},
    python_requires=">=3.10",
    install_requires=["setuptools", "numpy"],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    entry_points={
        "console_scripts": [
            "reward_button = resfit_reward.reward_button_node:main",
            "episode_manager = resfit_reward.episode_manager_node:main",
            "teleop = resfit_reward.teleop_node:main",
            "panel = resfit_reward.panel_node:main",
            "success_classifier = resfit_reward.success_classifier_node:main",
        ],
    },
    zip_safe=True,
)
