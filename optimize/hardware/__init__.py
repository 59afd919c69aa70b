"""Facts about this machine: its processor, its GPUs, the packages that are installed, and the settings of this process."""
