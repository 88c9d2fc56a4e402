"""The figures: one function each, every one returns the matplotlib figure it drew."""
