"""D-BLUP: GBLUP whose variance ratio and SNP weights are learned by gradients (Dearden & Guhlin 2025), in JAX.

    model = GBLUP.of(operator, Link.of(1.0), "reml", divisor=d)
    fitted = fit(model, Data.of(phenotypes))
    fitted.model.breeding_values(Data.of(phenotypes))

With W (n, m) the centred genotypes, d their divisor and w the weights of the SNPs, V = W diag(w) W'/d + λI among the
individuals with a record, and P = V⁻¹ − V⁻¹X(X'V⁻¹X)⁻¹X'V⁻¹. link.py makes λ and w of unconstrained parameters,
objectives.py has what is minimised, dense.py and matrix_free.py are two ways to compute it, optimise.py minimises.
"""

import jax

# An objective is flat around its minimum: in float32 its gradient drowns in rounding before λ has three digits.
jax.config.update("jax_enable_x64", True)

from bench.bridges.jax import Dense as DenseOperator  # noqa: E402
from bench.dblup.data import Data  # noqa: E402
from bench.dblup.dense import Dense  # noqa: E402
from bench.dblup.link import AnnotationWeights, BlockWeights, EqualWeights, Link, SnpWeights  # noqa: E402
from bench.dblup.matrix_free import Deflation, MatrixFree, squared_lengths  # noqa: E402
from bench.dblup.model import GBLUP  # noqa: E402
from bench.dblup.objectives import OBJECTIVES  # noqa: E402
from bench.dblup.operator import Products  # noqa: E402
from bench.dblup.optimise import Fitted, Step, fit  # noqa: E402

__all__ = [
    "GBLUP",
    "OBJECTIVES",
    "AnnotationWeights",
    "BlockWeights",
    "Data",
    "Deflation",
    "Dense",
    "DenseOperator",
    "EqualWeights",
    "Fitted",
    "Link",
    "MatrixFree",
    "Products",
    "SnpWeights",
    "Step",
    "fit",
    "squared_lengths",
]
