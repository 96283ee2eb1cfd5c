"""From a task to parameters, and what it will cost."""
