"""ResFiT on a job: the classes that drive the robot's learner."""

from __future__ import annotations

from resfit_core.learner import Learner
from resfit_core.residual import ResidualPolicy
from resfit_core.train.job import Job, Result
from resfit_core.train.off_policy import learn


def run(job: Job) -> Result:
    """Train a residual on the job's base."""
    hashes = job.contract_sha256, job.base_sha256
    learner = Learner(
        job.config,
        job.obs_dim,
        job.act_dim,
        job.scale,
        *hashes,
        job.view,
        image_shapes=job.image_shapes,
        sight=job.sight,
    )
    policy = ResidualPolicy(
        job.config, job.scale, *hashes, job.control_rate_hz, job.view, job.sight
    )
    return learn(job, learner, policy)
