"""The nodes around the residual: residual policy, recorder, learner."""
