"""Which kernels the layers for several tasks at once compute with on a CPU."""

from fanfold.tasks.derivatives.layers import Kernels
from fanfold.tasks.derivatives.numba_ops import first, norms
from fanfold.tasks.derivatives.numba_ops import products as grouped

COMPILED = Kernels(grouped, norms, first, first.look, grouped.lay_out)
