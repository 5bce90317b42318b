"""Genotype operators in JAX: products under jit, with derivatives of any order and vmap.

One primitive, `genotype_product`, is Z V or Z'U of a matrix that is not traced: it is linear in V, its transpose is
the other direction, and a batch becomes more columns. On the CPU a native kernel (kernels/gmk.h) reads and writes
XLA's own buffers through the custom call of kernels/_jax/bridge.cc; an operator in Python is called back.
"""

from __future__ import annotations

import ctypes as ct
import hashlib
import weakref
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from bench.errors import BenchError
from bench.relationships import genomic
from bench.shared_library import INT, POINTER, SIZE, load
from bench.solvers import operator as solvers
from bench.solvers.operator import Operator

TARGET = "bench_genotype_product"  # by which XLA knows jax_product, with the library's name
SIGNATURES = {
    "jax_product": (POINTER, [POINTER]),
    "jax_open": (ct.c_int64, [POINTER, POINTER, POINTER, SIZE, SIZE, INT]),
    "jax_close": (None, [ct.c_int64]),
}


@runtime_checkable
class Native(Protocol):
    """An operator whose products are C functions (gmk.h)."""

    def addresses(self) -> tuple[int, int, int] | None:
        """The matrix, its matmul and its rmatmul."""
        ...

    def before_closing(self, call: Callable[[], object]) -> None: ...


class Held:
    """An operator as the constant of compiled programs, which keep it alive; there is one `Held` of each operator.

    target, number: the custom call, and by what it knows the matrix; target is None for an operator in Python.
    """

    def __init__(self, operator: Operator, library: Path | None):
        self.operator, self.shape = operator, (int(operator.shape[0]), int(operator.shape[1]))
        self.dtype = np.dtype(getattr(operator, "dtype", "f8"))
        self.target: str | None = None
        if library is not None and isinstance(operator, Native) and (addresses := operator.addresses()):
            lib, self.target = _bridge(library)
            self.number = number = lib.jax_open(*addresses, *self.shape, self.dtype.itemsize)
            operator.before_closing(lambda: lib.jax_close(number))

    def multiply(self, X: Any, transposed: bool) -> np.ndarray:
        """Outside of a compiled program, and for an operator in Python inside of one as well."""
        product = self.operator.rmatmul if transposed else self.operator.matmul
        # A copy, because JAX's own array is read-only: numba would compile its loops anew for it.
        out = np.asarray(product(np.array(X)), self.dtype, order="C")
        if out.shape != (wanted := (self.rows(transposed), X.shape[1])):
            name = type(self.operator).__name__
            raise BenchError(f"{name}: a product of shape {wanted} was needed, found {out.shape}")
        return out

    def rows(self, transposed: bool) -> int:
        """Of a product; those of its operand are rows(not transposed)."""
        return self.shape[transposed]


@cache
def _bridge(library: Path) -> tuple[ct.CDLL, str]:
    """The loaded library, and the name of its custom call: XLA takes each name once in a process."""
    lib = load(library, "JAX bridge", SIGNATURES, prefix="jax", build="bench build jax")
    target = f"{TARGET}_{hashlib.sha256(bytes(library)).hexdigest()[:8]}"
    jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(lib.jax_product), platform="cpu")
    return lib, target


_held: weakref.WeakValueDictionary[tuple[int, bool], Held] = weakref.WeakValueDictionary()


def hold(operator: Operator, library: Path | None) -> Held:
    """The same object for the same operator, so that nothing is traced twice. A `Held` keeps its operator's id."""
    key = id(operator), library is None
    if (found := _held.get(key)) is None:
        _held[key] = found = Held(operator, library)
    return found


product_p = Primitive("genotype_product")


def _product(X: jax.Array, held: Held, transposed: bool) -> jax.Array:
    """Z X or Z'X for X (rows, k)."""
    if not X.shape[1]:
        return jnp.zeros((held.rows(transposed), 0), held.dtype)
    return product_p.bind(X, held=held, transposed=transposed)


@product_p.def_impl
def _evaluate(X: jax.Array, *, held: Held, transposed: bool) -> jax.Array:
    return jnp.asarray(held.multiply(X, transposed))


@product_p.def_abstract_eval
def _abstract(X: Any, *, held: Held, transposed: bool) -> Any:
    return X.update(shape=(held.rows(transposed), X.shape[1]), dtype=held.dtype)


def _batched(operands: Any, dims: Any, *, held: Held, transposed: bool) -> tuple[jax.Array, int]:
    X = jnp.moveaxis(operands[0], dims[0], 1)  # (rows, batch, k)
    out = _product(X.reshape(X.shape[0], -1), held, transposed)
    return out.reshape(out.shape[0], *X.shape[1:]), 1


def _lower_callback(X: jax.Array, *, held: Held, transposed: bool) -> jax.Array:
    result = jax.ShapeDtypeStruct((held.rows(transposed), X.shape[1]), held.dtype)
    return jax.pure_callback(lambda x: held.multiply(x, transposed), result, X)


_called_back = mlir.lower_fun(_lower_callback, multiple_results=False)


def _lower(context: mlir.LoweringRuleContext, X: Any, *, held: Held, transposed: bool) -> Any:
    if held.target is None:
        return _called_back(context, X, held=held, transposed=transposed)
    context.module_context.add_keepalive(held)
    call = jax.ffi.ffi_lowering(held.target)
    return call(context, X, matrix=np.int64(held.number), transposed=np.bool_(transposed))


ad.deflinear2(product_p, lambda ct, X, *, held, transposed: [_product(ct, held, not transposed)])
batching.primitive_batchers[product_p] = _batched
# Another platform has no rule, which JAX says: all kernels are the CPU's. One of a GPU registers its own.
mlir.register_lowering(product_p, _lower, platform="cpu")


class Products(eqx.Module):
    """A genotype operator Z (n, m) in JAX: a pytree without leaves."""

    held: Held = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, int]:
        return self.held.shape

    @property
    def dtype(self) -> np.dtype:
        return self.held.dtype

    def matmul(self, V: jax.Array) -> jax.Array:
        """Z V, (m,) or (m, k) → (n,) or (n, k), of Z's dtype.

        BenchError: not of this shape, no floating-point numbers, or float64 where JAX has it switched off.
        """
        return self._columns(V, False)

    def rmatmul(self, U: jax.Array) -> jax.Array:
        """Z'U, (n,) or (n, k) → (m,) or (m, k), likewise."""
        return self._columns(U, True)

    def _columns(self, X: jax.Array, transposed: bool) -> jax.Array:
        X = _operand(X, self.held.rows(not transposed))
        if jax.dtypes.canonicalize_dtype(self.dtype) != self.dtype:
            raise BenchError(
                'a product is in float64, which JAX has switched off: jax.config.update("jax_enable_x64", True) '
                'switches it on (a matrix of dtype "f4" without missing calls does not need it)'
            )
        out = _product(X.astype(self.dtype).reshape(len(X), -1), self.held, transposed)
        return out.reshape(len(out), *X.shape[1:])


def _operand(X: Any, rows: int) -> jax.Array:
    X = jnp.asarray(X)
    if not jnp.issubdtype(X.dtype, jnp.floating):
        raise BenchError(f"floating-point numbers were needed, found {X.dtype}")
    if X.ndim not in (1, 2) or X.shape[0] != rows:
        raise BenchError(f"an operand of shape ({rows},) or ({rows}, k) was needed, found {X.shape}")
    return X


class Dense(eqx.Module):
    """An array (n, m) as an operator, with derivatives in its entries too."""

    array: jax.Array

    @property
    def shape(self) -> tuple[int, int]:
        return self.array.shape[0], self.array.shape[1]

    def matmul(self, V: jax.Array) -> jax.Array:
        """A V, (m,) or (m, k)."""
        return self.array @ _operand(V, self.shape[1])

    def rmatmul(self, U: jax.Array) -> jax.Array:
        """A'U, (n,) or (n, k)."""
        return self.array.T @ _operand(U, self.shape[0])


class Centred(eqx.Module):
    """W = (Z − 1c')∘called·diag(s) over raw products in which a missing call counts 0, as genomic.Centred.

    centre, scale: (m,), with derivatives in both. missing: Miss, None when every call is there.
    """

    dosages: Products | Dense
    centre: jax.Array
    scale: jax.Array
    missing: Products | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.dosages.shape

    def matmul(self, V: jax.Array) -> jax.Array:
        """W V = Z(sV) − 1c'(sV) + Miss(c∘sV), (m,) or (m, k)."""
        V = _operand(V, self.shape[1])
        scaled = _rows(self.scale, V) * V
        centred = _rows(self.centre, V) * scaled
        out = self.dosages.matmul(scaled) - centred.sum(axis=0)
        return out if self.missing is None else out + self.missing.matmul(centred)

    def rmatmul(self, U: jax.Array) -> jax.Array:
        """W'U = s∘(Z'U − c(1'U) + c∘(Miss'U)), (n,) or (n, k)."""
        U = _operand(U, self.shape[0])
        taken = U.sum(axis=0)
        if self.missing is not None:
            taken = taken - self.missing.rmatmul(U)
        return _rows(self.scale, U) * (self.dosages.rmatmul(U) - _rows(self.centre, U) * taken)


class Gram(eqx.Module):
    """G_w = W diag(w) W'/d, (n, n), never formed. weights: (m,) or a scalar, with derivatives in them."""

    centred: Products | Dense | Centred
    weights: jax.Array | float
    divisor: jax.Array | float

    @property
    def shape(self) -> tuple[int, int]:
        return self.centred.shape[0], self.centred.shape[0]

    def matmul(self, V: jax.Array) -> jax.Array:
        """G_w V = W(w∘(W'V))/d, (n,) or (n, k)."""
        effects = self.centred.rmatmul(V)
        return self.centred.matmul(_rows(jnp.asarray(self.weights), effects) * effects) / self.divisor


def _rows(factor: jax.Array, X: jax.Array) -> jax.Array:
    """`factor` (rows,) or a scalar, to multiply the rows of X (rows,) or (rows, k)."""
    return factor[:, None] if factor.ndim == 1 and X.ndim == 2 else factor


def operator(matrix: Any, library: Path | None = None) -> Products | Dense | Centred:
    """`matrix` in JAX: an array, a genomic.Centred, or any operator with shape, matmul and rmatmul.

    library: the compiled _jax/bridge.cc (`bench.build.installed("jax")`); without it native kernels are called
    back through Python. An operator that names no dtype multiplies float64.
    """
    if isinstance(matrix, solvers.Dense):
        matrix = matrix.array
    if isinstance(matrix, np.ndarray | jax.Array):
        return Dense(jnp.asarray(matrix))
    if isinstance(matrix, genomic.Centred):
        return centred(matrix, library)
    if not all(hasattr(matrix, name) for name in ("shape", "matmul", "rmatmul")):
        raise BenchError(
            f"an array or an operator with shape, matmul and rmatmul was needed, found {type(matrix).__name__}"
        )
    return Products(hold(matrix, library))


def centred(W: genomic.Centred, library: Path | None = None) -> Centred:
    """W in JAX; library as of `operator`. BenchError: its dosages are centred already."""
    dosages, missing = operator(W.dosages, library), None if W.missing is None else Products(hold(W.missing, library))
    if isinstance(dosages, Centred):
        raise BenchError("the raw dosages were needed below a centred operator, found another centred one")
    return Centred(dosages, jnp.asarray(W.coding.centre), jnp.asarray(W.coding.scale), missing)
