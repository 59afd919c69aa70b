"""The founding study's two strategies, `Stepwise` and `Local`, and the rules they follow: floors, study rails, stopping rules."""
