"""What leaves the house: bundles with their runner, site acceptance, and gates in CI."""
