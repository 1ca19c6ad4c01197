"""The frozen base policy: protocol, loaders, training, relabelling. Imports nothing."""
