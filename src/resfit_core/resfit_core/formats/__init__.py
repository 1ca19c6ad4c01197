"""Episodes from and to other people's formats: LeRobotDataset v3, robomimic HDF5."""
