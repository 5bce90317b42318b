"""Genotype operators in JAX against dense arithmetic: products, derivatives, batches, lifetimes, refusals."""

from __future__ import annotations

import ctypes as ct
import gc
import shutil
import subprocess
import sys
import threading
import weakref

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from bench import kernels
from bench.bridges import jax as bridge
from bench.build import installed, sources
from bench.errors import BenchError
from bench.kernels import GenotypeMatrix
from bench.machine import this_machine
from bench.relationships import genomic
from bench.relationships.missing import MissingCalls
from bench.solvers.operator import Dense

N, M = 23, 37
LIBRARY = installed("jax").library
FAILED = (ValueError, jax.errors.JaxRuntimeError)  # JAX raises either, by how it was called
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="g++ is needed for the bridge")


@pytest.fixture(autouse=True)
def double_precision():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def draw(n: int = N, m: int = M, missing: float = 0.1, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    dosages = rng.binomial(2, 0.4, (n, m))
    return np.where(rng.random((n, m)) < missing, -1, dosages)


def imputed(dosages: np.ndarray, relationship: str) -> np.ndarray:
    """W by numpy's own mean and sd."""
    called = np.where(dosages < 0, np.nan, dosages.astype(float))
    W = np.nan_to_num(called - np.nanmean(called, axis=0))
    return W / np.nanstd(called, axis=0, ddof=1) if relationship == "standardised" else W


@pytest.fixture(scope="module")
def dosages() -> np.ndarray:
    return draw()


@pytest.fixture(scope="module")
def raw(dosages) -> np.ndarray:
    return np.maximum(dosages, 0).astype(float)


@pytest.fixture(scope="module")
def Z(dosages) -> GenotypeMatrix:
    return GenotypeMatrix.from_dosages(dosages, threads=1)


class Counting:
    """An operator in Python that counts its products."""

    def __init__(self, array: np.ndarray):
        self.array, self.shape, self.calls = array, array.shape, 0

    def matmul(self, V: np.ndarray) -> np.ndarray:
        self.calls += 1
        return self.array @ V

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        self.calls += 1
        return self.array.T @ U


class InC(Counting):
    """An operator with one C function for both products."""

    Product = ct.CFUNCTYPE(ct.c_int, ct.c_void_p, ct.c_void_p, ct.c_size_t, ct.c_void_p)

    def __init__(self, product):
        super().__init__(np.zeros((N, M)))
        self._product, self.close = self.Product(product), lambda: None

    def addresses(self) -> tuple[int, int, int]:
        address = ct.cast(self._product, ct.c_void_p).value
        return 1, address, address

    def before_closing(self, call) -> None:
        self.close = call


def calls_in(function, *operands) -> int:
    """The native products of a compiled function; it must not call back."""
    text = jax.jit(function).lower(*operands).as_text()
    assert "callback" not in text
    return text.count(f"custom_call @{bridge.TARGET}")


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize("kernel", kernels.names())
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_every_kernel_that_runs_here_multiplies_and_transposes(dosages, raw, kernel, dtype):
    declared = kernels.load(kernel)
    try:
        Z = GenotypeMatrix.from_dosages(dosages, kernel=kernel, dtype=dtype, threads=1)
    except BenchError as refusal:
        pytest.skip(str(refusal))
    op, rtol = Z.jax(), {"f4": 1e-5, "f8": 1e-12}[dtype]
    forward = jax.jit(lambda V, U: (op.matmul(V), jax.linear_transpose(op.matmul, V)(U)[0]))
    V, U = normal(M, 3).astype(dtype), normal(N, 3).astype(dtype)
    ZV, ZtU = forward(V, U)
    assert ZV.dtype == ZtU.dtype == dtype
    np.testing.assert_allclose(ZV, raw @ V, rtol, 20 * rtol)
    np.testing.assert_allclose(ZtU, raw.T @ U, rtol, 20 * rtol)
    text = forward.lower(V, U).as_text()
    assert text.count(bridge.TARGET) == (2 if declared.native else 0)
    assert ("callback" in text) == (declared.native is None)


def test_jacobians_are_the_matrix(Z, raw):
    op = Z.jax()
    for mode in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(jax.jit(mode(op.matmul))(jnp.zeros(M)), raw, atol=1e-12)
        np.testing.assert_allclose(mode(op.rmatmul)(jnp.zeros(N)), raw.T, atol=1e-12)


@pytest.mark.parametrize("relationship", ["vanraden1", "standardised"])
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_centred_jacobians_are_the_imputed_matrix(relationship, missing):
    dosages = draw(missing=missing)
    W, dense = (
        GenotypeMatrix.from_dosages(dosages, threads=1).centred(relationship).jax(),
        imputed(dosages, relationship),
    )
    assert (W.missing is None) == (missing == 0)
    both = jax.jit(lambda V, U: (jax.jacfwd(W.matmul)(V), jax.jacrev(W.rmatmul)(U)))
    forward, backward = both(jnp.zeros(M), jnp.zeros(N))
    np.testing.assert_allclose(forward, dense, atol=1e-12)
    np.testing.assert_allclose(backward, dense.T, atol=1e-12)
    assert calls_in(lambda V: W.matmul(V), normal(M, 2)) == (2 if missing else 1)


def test_derivatives_to_second_order_in_every_argument(Z):
    W = Z.centred().jax()

    @jax.jit
    def relationship(V, weights, centre, scale):
        moved = bridge.Centred(W.dosages, centre, scale, W.missing)
        return bridge.Gram(moved, weights, 7.0).matmul(V)

    check_grads(relationship, (normal(N, 2), jnp.abs(normal(M)), W.centre, W.scale), order=2, modes=("fwd", "rev"))


def test_weighted_relationships_equal_dense_ones(Z, dosages):
    dense, weights = imputed(dosages, "vanraden1"), jnp.abs(normal(M))
    W, V = Z.centred().jax(), normal(N, 3)
    np.testing.assert_allclose(bridge.Gram(W, weights, 7.0).matmul(V), dense * weights @ dense.T @ V / 7, atol=1e-11)
    np.testing.assert_allclose(bridge.Gram(W, 1.0, 7.0).matmul(V[:, 0]), dense @ dense.T @ V[:, 0] / 7, atol=1e-11)
    assert bridge.Gram(W, 1.0, 7.0).shape == (N, N)


def test_a_batch_is_one_product(Z, raw):
    op, X = Z.jax(), normal(4, 5, M, 2)
    twice = jax.vmap(jax.vmap(op.matmul))
    assert calls_in(twice, X) == 1
    np.testing.assert_allclose(jax.jit(twice)(X), raw @ X, atol=1e-12)
    columns = jax.vmap(op.matmul, in_axes=1, out_axes=1)
    assert calls_in(columns, X[0, 0]) == 1
    np.testing.assert_allclose(columns(X[0, 0]), raw @ X[0, 0], atol=1e-12)
    assert calls_in(jax.jacrev(op.matmul), jnp.zeros(M)) == 1, "of the unit vectors; the product itself is not needed"
    gradients = jax.vmap(jax.grad(lambda v: (z := op.matmul(v)) @ z))
    assert calls_in(gradients, X[0, :, :, 0]) == 2
    np.testing.assert_allclose(gradients(X[0, :, :, 0]), 2 * X[0, :, :, 0] @ raw.T @ raw, atol=1e-11)
    counting = Counting(raw)
    np.testing.assert_allclose(jax.vmap(jax.vmap(bridge.operator(counting).matmul))(X), raw @ X, atol=1e-12)
    assert counting.calls == 1


def test_no_column_is_no_call(raw):
    op = bridge.operator(counting := Counting(raw))
    assert op.matmul(jnp.zeros((M, 0))).shape == (N, 0)
    assert jax.vmap(op.rmatmul)(jnp.zeros((0, N))).shape == (0, M)
    assert counting.calls == 0


def test_one_matrix_is_traced_once(Z, dosages):
    traces = []

    @jax.jit
    def product(op, V):
        traces.append(op.shape)
        return op.matmul(V)

    first, V = Z.jax(), normal(M)
    product(first, V)
    product(Z.jax(), V + 1)
    assert Z.jax() == first
    assert hash(Z.jax()) == hash(first)
    assert len(traces) == 1
    product(GenotypeMatrix.from_dosages(dosages[::-1], threads=1).jax(), V)
    assert len(traces) == 2

    centred = eqx.filter_jit(lambda W, V: traces.append("W") or W.matmul(V))
    for scale in (1.0, 2.0):  # centre and scale are arrays: another value is no other program
        W = Z.centred().jax()
        centred(eqx.tree_at(lambda W: W.scale, W, scale * W.scale), V)
    assert traces.count("W") == 2, "each call of `centred` lists the missing calls anew"


def test_two_matrices_in_one_function(Z, raw, tmp_path):
    other = draw(11, N, missing=0)
    library = shutil.copy(LIBRARY, tmp_path / "another.so")
    A, B = bridge.operator(GenotypeMatrix.from_dosages(other, threads=1).products, library), Z.jax()
    V = normal(M, 2)
    np.testing.assert_allclose(jax.jit(lambda V: A.matmul(B.matmul(V)))(V), other @ (raw @ V), atol=1e-11)


def test_loops_and_solves_and_their_derivatives(Z, dosages):
    dense, W, y = imputed(dosages, "vanraden1"), Z.centred().jax(), normal(N)
    G = dense @ dense.T / 7

    def losses(ratio, weights):
        gram = bridge.Gram(W, weights, 7.0)
        solved = jax.scipy.sparse.linalg.cg(lambda v: gram.matmul(v) + ratio * v, y, tol=1e-14, maxiter=200)[0]
        steps, _ = jax.lax.scan(lambda v, _: (gram.matmul(v) / 50, None), y, length=3)
        return solved @ solved, steps @ steps

    def expected(ratio, weights):
        Gw = (dense * weights) @ dense.T / 7
        x, steps = jnp.linalg.solve(Gw + ratio * jnp.eye(N), y), Gw @ Gw @ Gw @ y / 50**3
        return x @ x, steps @ steps

    def both(f):
        return lambda ratio, weights: (
            *f(ratio, weights),
            *jax.jacrev(f, 1)(ratio, weights),
            *jax.jacrev(f)(ratio, weights),
        )

    at = (jnp.asarray(1.5), jnp.ones(M))
    for found, wanted in zip(jax.jit(both(losses))(*at), jax.jit(both(expected))(*at), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-10)

    def until(v):
        return jax.lax.while_loop(lambda v: v @ v < 1e6, lambda v: bridge.Gram(W, 1.0, 7.0).matmul(v), v)

    v = np.asarray(y)
    while v @ v < 1e6:
        v = G @ v
    np.testing.assert_allclose(jax.jit(until)(y), v, rtol=1e-10)
    np.testing.assert_allclose(jax.jvp(until, (y,), (y,))[1], v, rtol=1e-10)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(1, 2), st.integers(0, 2**32 - 1))
def test_small_shapes_equal_dense_products(n, m, k, threads, seed):
    dosages = draw(n, m, missing=0.3, seed=seed)
    op = GenotypeMatrix.from_dosages(dosages, threads=min(threads, this_machine().cores)).jax()
    V, dense = normal(m, k, seed=seed), np.maximum(dosages, 0)
    value, pull = jax.jit(lambda V: (op.matmul(V), jax.vjp(op.matmul, V)[1](op.matmul(V))[0]))(V)
    np.testing.assert_allclose(value, dense @ V, atol=1e-12)
    np.testing.assert_allclose(pull, dense.T @ (dense @ V), atol=1e-11)


def test_nothing_is_copied():
    n, m, k = 2000, 3000, 4
    Z = GenotypeMatrix.from_dosages(draw(n, m), threads=1)
    op, W, V = Z.jax(), Z.centred().jax(), jax.ShapeDtypeStruct((m, k), "f8")
    product = jax.jit(op.matmul).lower(V).compile()
    assert product.memory_analysis().temp_size_in_bytes < 1000
    assert " copy(" not in product.as_text()
    gradient = jax.jit(jax.grad(lambda V, W: jnp.sum(bridge.Gram(W, 1.0, 1.0).matmul(W.matmul(V)) ** 2)))
    temporary = gradient.lower(V, W).compile().memory_analysis().temp_size_in_bytes
    assert temporary < 12 * 8 * k * (n + m), "some vectors, and nothing of the matrix's 6e6 genotypes"


def test_an_array_is_multiplied_by_jax_itself(raw):
    for given_as in (raw, Dense(raw)):
        op = bridge.operator(given_as)
        np.testing.assert_allclose(op.matmul(normal(M, 2)), raw @ normal(M, 2), atol=1e-12)
        np.testing.assert_allclose(op.rmatmul(normal(N)), raw.T @ normal(N), atol=1e-12)
        gradient = jax.grad(lambda op: op.matmul(jnp.ones(M)).sum())(op)
        np.testing.assert_array_equal(gradient.array, 1)


def test_operators_in_python_are_called_back(Z, raw, dosages):
    coding = genomic.vanraden1(Z.packed)
    W = bridge.operator(genomic.Centred(Counting(raw), coding, Z.centred().products.missing), LIBRARY)
    dense, V = imputed(dosages, "vanraden1"), normal(M, 2)
    text = jax.jit(lambda V: W.matmul(V)).lower(V).as_text()
    assert "callback" in text
    assert bridge.TARGET in text, "of the missing calls"
    np.testing.assert_allclose(jax.jit(lambda V: W.matmul(V))(V), dense @ V, atol=1e-11)
    without = bridge.operator(Z.centred().products)  # no compiled bridge
    assert bridge.TARGET not in jax.jit(lambda V: without.matmul(V)).lower(V).as_text()
    np.testing.assert_allclose(jax.jit(lambda V: without.matmul(V))(V), dense @ V, atol=1e-11)


def test_missing_calls_without_their_library_are_called_back(Z, dosages):
    calls = Z.centred().products.missing
    for missing in (calls, MissingCalls(calls.by_individual, calls.by_snp)):
        op = bridge.operator(missing, LIBRARY)
        np.testing.assert_allclose(jax.jit(op.matmul)(normal(M, 3)), (dosages < 0) @ normal(M, 3), atol=1e-12)
        np.testing.assert_allclose(op.rmatmul(normal(N)), (dosages < 0).T @ normal(N), atol=1e-12)


def test_no_kernel_pretends_to_run_on_a_gpu(Z):
    with pytest.raises(NotImplementedError, match="'genotype_product' not found for platform cuda"):
        jax.jit(Z.jax().matmul).trace(normal(M, 2)).lower(lowering_platforms=("cuda",))


def test_a_compiled_program_keeps_its_matrix(dosages, raw):
    Z = GenotypeMatrix.from_dosages(dosages, threads=1)
    held = weakref.ref(Z.products)
    compiled = jax.jit(Z.jax().matmul).lower(jnp.zeros(M)).compile()
    del Z
    jax.clear_caches()
    gc.collect()
    assert held() is not None
    np.testing.assert_allclose(compiled(jnp.ones(M)), raw.sum(1), atol=1e-12)
    del compiled
    jax.clear_caches()
    gc.collect()
    assert held() is None


def test_a_closed_matrix_is_an_error(dosages):
    Z = GenotypeMatrix.from_dosages(dosages, threads=1)
    op = Z.jax()
    program = jax.jit(op.matmul)
    program(jnp.ones(M))
    Z.close()
    for product in (program, op.matmul):
        with pytest.raises(FAILED, match="this genotype matrix is closed"):
            product(jnp.ones(M))
    never_used = GenotypeMatrix.from_dosages(dosages, threads=1)
    never_used.close()
    with pytest.raises(ValueError, match="this genotype matrix is closed"):
        never_used.jax()
    Python = GenotypeMatrix.from_dosages(dosages, kernel="dense_blas", threads=1)
    program = jax.jit(Python.jax().matmul)
    Python.close()
    with pytest.raises(FAILED, match="this genotype matrix is closed"):
        program(jnp.ones(M)).block_until_ready()


def test_closing_waits_for_the_product_that_runs():
    started, go = threading.Event(), threading.Event()
    operator = InC(lambda z, x, k, out: started.set() or int(not go.wait(20)))
    program = jax.jit(bridge.operator(operator, LIBRARY).matmul)
    results = []
    running = threading.Thread(target=lambda: results.append(program(jnp.ones(M)).block_until_ready()))
    running.start()
    assert started.wait(20)
    closing = threading.Thread(target=lambda: operator.close())
    closing.start()
    closing.join(0.1)
    assert closing.is_alive()
    go.set()
    running.join(20)
    closing.join(20)
    assert len(results) == 1
    with pytest.raises(FAILED, match="this genotype matrix is closed"):
        program(jnp.ones(M)).block_until_ready()


def test_no_memory_for_the_work_space_is_an_error():
    program = jax.jit(bridge.operator(InC(lambda *_: 1), LIBRARY).matmul)
    with pytest.raises(FAILED, match="RESOURCE_EXHAUSTED: no memory for the work space"):
        program(jnp.ones(M)).block_until_ready()


def test_a_program_for_another_matrix_s_shape_is_an_error():
    op = bridge.operator(InC(lambda *_: 0), LIBRARY)
    assert op.held.target is not None
    call = jax.ffi.ffi_call(op.held.target, jax.ShapeDtypeStruct((N, 1), "f8"))
    for operand in (jnp.ones((M + 1, 1)), jnp.ones((M, 1), "f4"), jnp.ones(M)):
        with pytest.raises(FAILED, match="not of this genotype matrix's shape and type"):
            call(operand, matrix=np.int64(op.held.number), transposed=np.bool_(False)).block_until_ready()


def test_what_cannot_be_multiplied_is_refused_with_a_sentence(Z, raw):
    W = Z.centred().jax()
    for product, rows in ((Z.jax().matmul, M), (W.matmul, M), (W.rmatmul, N), (bridge.operator(raw).matmul, M)):
        for shape in ((rows + 1,), (rows + 1, 2), (), (rows, 2, 2)):
            with pytest.raises(BenchError, match=rf"of shape \({rows},\) or \({rows}, k\) was needed, found"):
                product(jnp.ones(shape))
        for dtype in ("i4", "c16", "?"):
            with pytest.raises(BenchError, match=rf"floating-point numbers were needed, found {np.dtype(dtype)}"):
                product(jnp.ones(rows, dtype))
    with pytest.raises(
        BenchError, match="an array or an operator with shape, matmul and rmatmul was needed, found str"
    ):
        bridge.operator("herd")
    with pytest.raises(BenchError, match="raw dosages were needed"):
        bridge.operator(genomic.Centred(Z.centred().products, genomic.vanraden1(Z.packed)))
    wrong = Counting(raw)
    wrong.shape = (N + 1, M)
    with pytest.raises(
        BenchError, match=rf"Counting: a product of shape \({N + 1}, 1\) was needed, found \({N}, 1\)"
    ):
        bridge.operator(wrong).matmul(jnp.ones(M))


def test_single_precision_needs_no_double_precision(dosages, raw, Z):
    single = GenotypeMatrix.from_dosages(np.abs(dosages), dtype="f4", threads=1)
    assert single.jax().matmul(normal(M)).dtype == np.float32, "a float64 operand is rounded, as in numpy"
    with jax.enable_x64(False):
        V = jnp.ones(M)
        np.testing.assert_allclose(jax.jit(single.jax().matmul)(V), np.abs(dosages).sum(1), rtol=1e-6)
        assert single.centred().jax().matmul(V).dtype == np.float32
        for op in (Z.jax(), Z.centred().jax()):
            with pytest.raises(BenchError, match="float64, which JAX has switched off"):
                op.matmul(V)


def test_the_bridge_is_compiled_for_the_installed_jax():
    assert any(source.endswith("xla/ffi/api/ffi.h") for source in sources("jax"))
    assert jax.ffi.include_dir() not in installed("jax").flags


def test_the_package_imports_jax_only_where_it_is_used():
    code = "import sys, bench.__main__, bench.matrix; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
