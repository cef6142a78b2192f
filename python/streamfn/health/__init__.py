"""The health of functions: states, lag, and the words that commands show. Pure."""
