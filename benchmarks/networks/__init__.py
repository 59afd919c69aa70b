"""Networks of other libraries, for the studies and the tests that try them."""
