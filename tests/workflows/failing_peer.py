"""A peer that can be imported, and no more."""


def prepare(module, inner_lr, inner_steps):
    raise RuntimeError("there is no\nsuch operator")
