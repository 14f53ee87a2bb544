"""Running plans: the plan, the worker that every engine shares, and the engines."""
