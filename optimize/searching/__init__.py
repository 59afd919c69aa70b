"""The search from the original to the boldest candidate that holds its guard-rails, and the strategies that choose its steps."""
