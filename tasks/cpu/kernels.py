"""Which kernels the layers for several tasks at once compute with on a CPU."""

from tasks.cpu import first, grouped, norms
from tasks.wide.layers import Kernels

COMPILED = Kernels(grouped, norms, first, first.look, grouped.lay_out)
