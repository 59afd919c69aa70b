"""A user's file of weights and the function that builds its network become a `Candidate`; nothing is run that was not trusted."""
