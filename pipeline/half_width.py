"""How many tasks a test needs for a confidence interval of a wanted half-width.

Stein's rule in two stages (Annals of Mathematical Statistics 16, 1945): the deviation s of a first sample of n tasks
gives the number of tasks in all,

    N = (t · s / d)²,

where d is the wanted half-width, and t the quantile of Student's distribution with n - 1 degrees of freedom that leaves
2.5 % above it. The mean accuracy has no part in the decision, so the interval covers the true one as often as it says;
a rule that looked at the interval after every task would stop too early too often. Where the deviation of all N tasks
turns out larger, the same rule asks for some more.
"""

from math import ceil

from fanfold.pipeline.results import Accuracy

FIRST = 100  # tasks of the first sample at least: too few may happen to be all alike
GROWTH = 1.02  # a further stage is no shorter than this times what there is


def tasks_needed(found: Accuracy, half_width: float) -> int:
    """The number of tasks in all for a half-width, as a share of 1, by those so far; theirs where they do."""
    from scipy.special import stdtrit  # only here: a command's help doesn't wait for it

    t = float(stdtrit(found.tasks - 1, 0.975))
    needed = ceil((t * found.deviation / half_width) ** 2)
    return found.tasks if needed <= found.tasks else max(needed, ceil(GROWTH * found.tasks))
