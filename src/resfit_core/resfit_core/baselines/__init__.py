"""The paper's baselines, each behind one name of `resfit_core.train.job`. Imports nothing."""
