"""What is known of a run before it starts: what it would do, which limits its data can decide, how long it takes, how much it can gain."""
