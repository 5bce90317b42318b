"""Result documents with round figures: what a run would write, without running anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from bench.collect import collect
from bench.record import Document

PEAK = {"f8": 60e9, "f4": 120e9}  # multiply-adds per second and thread
READ = 40e9
SIZES = {"cattle": (4100, 20000), "pigs": (15000, 10000)}
# share of the FMA peak at k = 10; rates fall to a quarter at k = 1
SHARE = {
    ("dense_blas", "openblas"): 0.125,
    ("dense_blas", "mkl"): 0.15,
    ("decompress", "scalar"): 0.2,
    ("decompress", "avx512"): 0.6,
    ("five_codes", "scalar"): 0.4,
    ("five_codes", "avx2"): 0.75,
    ("numba_unpack", "numba"): 0.1,
}
LIMITS = {"scalar": 0.25, "avx2": 0.5, "avx512": 1.0}  # of the FMA peak, and of the other limits of avx512
LOOKUPS = {1: 4e9, 2: 4e9, 4: 4e9, 8: 3e9, 12: 2e9}  # per second and thread, in avx512
INT8 = 480e9
CACHED = {1 << 20: 160e9, 1 << 24: 80e9, 1 << 28: READ}  # bytes → bytes per second
WOBBLE = (1.0, 1.02, 0.98, 1.05, 0.99, 1.01, 1.0)  # median 1
PROVENANCE = {"commit": "c0ffee", "dirty": False, "protocol": 1, "version": 1, "host": "here", "cores": 2}


def work(kernel: str, k: int) -> dict[str, float]:
    """What a genotype takes of the machine."""
    if kernel == "five_codes":
        return {1: {"lookups1": 0.2}, 10: {"lookups12": 0.2}, 32: {"lookups8": 0.8}}[k] | {"bytes": 0.2}
    return {"fma": k, "bytes": 8 if kernel == "dense_blas" else 0.25}


def product_rate(kernel: str, target: str, dtype: str, threads: int, k: int) -> float:
    share = SHARE[kernel, target] * (0.25 if k == 1 else 1.0)
    return share * PEAK[dtype] * threads * (1.2 if kernel == "five_codes" and k == 32 else 1.0)


def products_document(
    dataset: str, kernel: str, target: str, dtype: str, threads: int, *, samples: int | None = None
) -> Document:
    n, m = SIZES[dataset]
    experiment = "scaling" if samples else "products"
    identity = {"experiment": experiment, "dataset": dataset, "n": samples or n, "m": m, "missing_rate": 0.0}
    identity |= {"samples": samples} if samples else {}
    doc = Document(
        identity | {"kernel": kernel, "target": target, "dtype": dtype, "threads": threads, "seed": 1},
        dict(PROVENANCE),
    )
    n = samples or n
    per_genotype = {"dense_blas": int(dtype[1:]), "five_codes": 0.4}.get(kernel, 0.25)
    doc.add("prepare_time", 0.5, "s", phase="prepare")
    doc.add("bytes_held", n * m * per_genotype, "B", phase="memory")
    doc.add("bytes_read", n * m * (per_genotype / 2 if kernel == "five_codes" else per_genotype), "B", phase="memory")
    doc.add("peak_rss", 1e9, "B", phase="memory")
    for k in (1, 10, 32):
        for direction, factor in (("matmul", 1.0), ("rmatmul", 1.1)):
            where = {"k": k, "direction": direction}
            doc.add("integer_mismatches", 0, "1", phase="verify", **where)
            doc.add("rel_error", 3e-15 if dtype == "f8" else 2e-6, "1", phase="verify", **where)
            for what, amount in work(kernel, k).items():
                doc.add(f"work_{what}", n * m * amount, "1", phase="work", **where)
            median = n * m * k / product_rate(kernel, target, dtype, threads, k) / factor
            for repeat, wobble in enumerate(WOBBLE):
                where |= {"phase": "product", "repeat": repeat}
                doc.add("product_time", median * wobble, "s", **where)
                doc.add("product_cpu", median * wobble * threads, "s", **where)
    for repeat in range(3):
        doc.add("fma_peak", PEAK[dtype] * threads, "1/s", phase="limits", repeat=repeat)
        doc.add("read_peak", READ, "B/s", phase="limits", repeat=repeat)
    return doc


def limits_document() -> Document:
    """Every limit in three tries, of which the best counts."""
    doc = Document({"experiment": "limits", "threads": 2}, dict(PROVENANCE))
    for target, share in LIMITS.items():
        for threads in (1, 2):
            for repeat, disturbed in enumerate((0.5, 1.0, 0.9)):
                where = {"phase": "limits", "target": target, "threads": threads, "repeat": repeat}
                factor = share * threads * disturbed
                for dtype, peak in PEAK.items():
                    doc.add("fma_peak", peak * factor, "1/s", dtype=dtype, **where)
                for columns, rate in LOOKUPS.items():
                    for tables, slower in ((1, 1.0), (8, 0.5)):
                        size = tables * columns * 1944
                        doc.add("lookup_peak", rate * factor * slower, "1/s", k=columns, size=size, **where)
                doc.add("int8_peak", INT8 * factor, "1/s", **where)
                for size, rate in CACHED.items():
                    doc.add("read_peak", rate * disturbed, "B/s", size=size, **where)
                doc.add("copy_peak", 30e9 * disturbed, "B/s", size=1 << 27, **where)
    return doc


def paired_document(ratio: float = 4.0) -> Document:
    """decompress against dense_blas in rounds whose drift, up to tenfold, hits both."""
    n, m = SIZES["pigs"]
    identity = {"experiment": "paired", "dataset": "pigs", "n": n, "m": m, "kernel": "decompress", "target": "avx512"}
    doc = Document(identity | {"against": "dense_blas/openblas", "dtype": "f8", "threads": 1}, dict(PROVENANCE))
    doc.add("fma_peak", PEAK["f8"], "1/s", phase="limits", repeat=0)
    for direction in ("matmul", "rmatmul"):
        for repeat, drift in enumerate((1, 10, 2, 5, 3)):
            where = {"phase": "product", "direction": direction, "k": 10, "repeat": repeat}
            time = n * m * 10 / (0.6 * PEAK["f8"]) * drift / 3
            doc.add("product_time", time, "s", **where, kernel="decompress", target="avx512")
            doc.add("product_time", ratio * time, "s", **where, kernel="dense_blas", target="openblas")
    return doc


def centred_document(costs: dict[str, float]) -> Document:
    """auto: raw products whose time drifts tenfold; another method takes `costs` times as long in the same round."""
    n, m = SIZES["pigs"]
    identity = {"experiment": "centred", "dataset": "pigs", "n": n, "m": m, "missing_rate": 0.01, "kernel": "auto"}
    doc = Document(identity | {"target": "avx512", "dtype": "f8", "threads": 1}, dict(PROVENANCE))
    for direction in ("matmul", "rmatmul"):
        for repeat, drift in enumerate((1, 10, 2, 5, 3)):
            for method, cost in ({"raw": 1.0} | costs).items():
                where = {"method": method, "direction": direction, "k": 10, "repeat": repeat}
                doc.add("product_time", 1e-3 * drift * cost, "s", phase="product", **where)
    return doc


def streamed_document() -> Document:
    """Products at 90 % of the lower of the disk's 2 GB/s and the kernel's rate, in rounds that drift tenfold."""
    n, m = SIZES["pigs"]
    identity = {"experiment": "streamed", "dataset": "pigs", "n": n, "m": m, "kernel": "auto", "target": "avx512"}
    doc = Document(identity | {"dtype": "f8", "threads": 2}, dict(PROVENANCE))
    for repeat, drift in enumerate((1, 10, 2, 5, 3)):
        doc.add("reading_time", 2.0 * drift, "s", phase="reading", repeat=repeat, size=4 * 10**9, note="dropped")
        for k, rate in ((1, 8e9), (32, 1e9)):
            for method, size, per_s in (("resident", 10**8, rate), ("streamed", 4 * 10**9, 0.9 * min(2e9, rate))):
                place = {"phase": "product", "method": method, "direction": "matmul", "k": k, "repeat": repeat}
                note = {"note": "dropped"} if method == "streamed" else {}
                doc.add("product_time", size / per_s * drift, "s", size=size, **place, **note)
    for name, value in (("memory_given", 8e8), ("bytes_held", 6e8), ("streamed_rss", 7e8), ("peak_rss", 9e8)):
        doc.add(name, value, "B", phase="memory")
    return doc


GRAM_SECONDS = {
    ("gram", "avx512"): 0.5,
    ("dsyrk", "scipy"): 8.0,
    ("float32", "numpy"): 6.0,
    ("plink2", "plink2"): 10.0,
}


def gram_document(dataset: str, method: str, target: str, threads: int = 1) -> Document:
    n, m = SIZES[dataset]
    identity = {"experiment": "gram", "dataset": dataset, "n": n, "m": m, "method": method, "target": target}
    doc = Document(identity | {"threads": threads}, dict(PROVENANCE))
    doc.add("bytes_needed", 2e9, "B", phase="memory")
    doc.add("peak_rss", 1e9, "B", phase="memory")
    for repeat, wobble in enumerate(WOBBLE):
        seconds = GRAM_SECONDS[method, target] * wobble / threads
        doc.add("gram_time", seconds, "s", phase="gram", repeat=repeat)
    return doc


def lanczos_reml_document(n: int, *, eigen: bool = False) -> Document:
    """11 products of 8 columns in twice the time that they take alone."""
    m = SIZES["cattle"][1]
    identity = {"experiment": "lanczos_reml", "dataset": "cattle", "n": n, "samples": n, "m": m, "trait": "h2=0.3"}
    doc = Document(
        identity | {"kernel": "auto", "target": "avx512vnni", "dtype": "f8", "threads": 2}, dict(PROVENANCE)
    )
    for direction, seconds in (("matmul", 1e-5 * n), ("rmatmul", 2e-5 * n)):
        for repeat, wobble in enumerate(WOBBLE):
            place = {"phase": "product", "direction": direction, "k": 8, "repeat": repeat}
            doc.add("product_time", seconds * wobble, "s", **place)
            doc.add("product_cpu", 3 * seconds * wobble, "s", **place)
    doc.add("prepare_time", 2.0, "s", phase="prepare")
    doc.add("coding_time", 1.0, "s", phase="prepare")
    numbers = {
        "reml_time": 2 * 11 * 3e-5 * n, "reml_cpu": 4 * 11 * 3e-5 * n, "products": 11, "passes": 22.25,
        "converged": 1, "variance_ratio": 2.0, "h2": 1 / 3, "log_variance_ratio_standard_error": 5 / n**0.5,
        "log_variance_ratio_monte_carlo_error": 1 / n**0.5, "variance_ratio_at_bound": float(not eigen),
    }  # fmt: skip
    for name, value in numbers.items():
        doc.add(name, value, "s" if name.startswith("reml_") else "1", phase="reml")
    doc.add("peak_rss", 1e5 * n, "B", phase="memory")
    if eigen:
        doc.add("truncation_error", 1e-5, "1", phase="reml")
        doc.add("variance_ratio", 2.0 * np.exp(0.01), "1", phase="eigen")
    return doc


def reference_document(dataset: str, trait: str, ability: float) -> Document:
    n, m = SIZES[dataset]
    identity = {"experiment": "gblup", "dataset": dataset, "n": n, "m": m, "trait": trait}
    doc = Document(
        identity | {"relationship": "vanraden1", "solver": "cholesky", "dtype": "f8", "threads": 2}, dict(PROVENANCE)
    )
    for metric, phase, seconds in (
        ("coding_time", "grm", 0.5),
        ("grm_time", "grm", 3.0),
        ("reml_time", "reml", 20.0),
        ("solve_time", "cholesky", 1.5),
    ):
        doc.add(metric, seconds, "s", phase=phase)
    notes = {"variance_ratio": "REML", "predictive_ability": "random folds"}
    for metric, phase, value in (
        ("n_records", "grm", n),
        ("variance_u", "reml", 0.4),
        ("variance_e", "reml", 0.6),
        ("h2", "reml", 0.4),
        ("variance_ratio", "reml", 1.5),
        ("predictive_ability", "cv", ability),
        ("reliability_mean", "reliability", 0.55),
        ("accuracy", "accuracy", ability + 0.3),
    ):
        doc.add(metric, value, "1", phase=phase, note=notes.get(metric))
    for fold, shift in enumerate((-0.02, 0.0, 0.02)):
        doc.add("predictive_ability_fold", ability + shift, "1", phase="cv", repeat=fold)
    if dataset == "pigs":
        reason = "15000 individuals are more than inverse_max_n = 6000: no inverse"
        doc.add("reliability_time", float("nan"), "s", phase="reliability", status="refused", reason=reason)
    return doc


def solve_document(dataset: str, trait: str, kernel: str, target: str) -> Document:
    n, m = SIZES[dataset]
    identity = {
        "experiment": "gblup",
        "dataset": dataset,
        "n": n,
        "m": m,
        "trait": trait,
        "relationship": "vanraden1",
    }
    identity |= {"kernel": kernel, "target": target, "dtype": "f8", "threads": 2, "solver": "pcg"}
    doc = Document(identity, dict(PROVENANCE))
    for step in range(60):
        doc.add("residual_norm", 10 ** (-step / 5), "1", phase="solve", step=step)
    doc.add("iterations", 59, "1", phase="solve")
    doc.add("ebv_error", 2e-11 * (1 + SHARE[kernel, target]), "1", phase="solve")
    doc.add("snp_effect_error", 3e-11, "1", phase="solve")
    doc.add("ebv_error", 5e-11, "1", phase="snp_blup")
    doc.add("peak_rss", 5e8, "B", phase="memory")
    for repeat, wobble in enumerate((1.0, 1.01, 0.99)):
        seconds = 60 * 2 * 2 * n * m / product_rate(kernel, target, "f8", 2, 10) * wobble
        doc.add("solve_time", seconds, "s", phase="solve", repeat=repeat)
    return doc


ROUNDS = {  # of a single-step solve to 1e-9, and whether it multiplies the genotypes in each round
    ("prior_pcg", "prior"): (40, True),
    ("sssnpblup", "second_level"): (400, True),
    ("sssnpblup", "jacobi"): (700, True),
    ("ss_h", "jacobi"): (160, False),
    ("ssgtablup", "jacobi"): (160, True),
}
HERD = {"dataset": "herd30", "animals": 30_000, "m": 3000, "polygenic": 0.05, "tuning": "none", "seed": 1}
PARTS = {"Zv": 0.2, "Ztu": 0.3, "A": 0.1, "A_inverse": 0.2, "S": 0.05, "matrix": 0.05, "preconditioner": 0.05,
         "rest": 0.05}  # fmt: skip


def single_step_document(
    variant: str,
    preconditioner: str,
    *,
    traits: str = "milk",
    n: int = 3000,
    kernel: str = "auto",
    warm: bool = False,
) -> Document:
    """A round takes n/1000 ms, through decompress twice that; the residual falls by 10 in a ninth of the rounds."""
    rounds, multiplies = ROUNDS[variant, preconditioner]
    rounds *= 1 + traits.count("+")
    identity = {"experiment": "single_step", "n": n, "variant": variant, "preconditioner": preconditioner}
    identity |= {"solver": "warm" if warm else "pcg", "kernel": kernel, "target": "avx512"}
    identity |= {"dtype": "f8", "threads": 2, "trait": traits}
    doc = Document(HERD | identity | ({"samples": n} if n < 3000 else {}), dict(PROVENANCE))
    doc.add("setup_time", (n / 1000) ** 3 if variant == "ss_h" else 0.5, "s", phase="setup")
    doc.add("setup_rss", 32.0 * n * n if variant == "ss_h" else 1e7, "B", phase="setup")
    doc.add("bytes_declared", 32.0 * n * n if variant == "ss_h" else 1e7, "B", phase="setup")
    doc.add("setup_passes", 0, "1", phase="setup")
    doc.add("peak_rss", 5e8, "B", phase="memory")
    second = n / 1e6 * (2 if kernel == "decompress" else 1)
    for phase, share in (("cold", 1.0), ("warm", 0.75)) if warm else (("solve", 1.0),):
        last = int(share * rounds)
        for step in range(0, last + 1, rounds // 10):
            error = 10 ** (2 - 9 * (step / rounds) - 3 * (1 - share))
            doc.add("residual_norm", 10 ** (-9 * (step + rounds - last) / rounds), "1", phase=phase, step=step)
            doc.add("ebv_error", error, "1", phase=phase, step=step)
            doc.add("passes", 2 * step * multiplies, "1", phase=phase, step=step)
            if step:
                doc.add(
                    "round_time", second * WOBBLE[step // (rounds // 10) % len(WOBBLE)], "s", phase=phase, step=step
                )
        for name, part in (("boerner_johnston", 0.95), ("freudenberg", 0.75), ("1e9", 1.0), ("ebv_1e2", 0.5)):
            doc.add(f"rounds_{name}", part * last, "1", phase=phase)
            doc.add(f"passes_{name}", 2 * part * last * multiplies, "1", phase=phase)
            doc.add(f"seconds_{name}", part * last * second, "s", phase=phase)
        doc.add("iterations", last, "1", phase=phase)
        doc.add("converged", 1, "1", phase=phase)
        doc.add("final_ebv_error", 1e-8, "1", phase=phase)
        doc.add("solve_time", last * second, "s", phase=phase)
        for name, part in PARTS.items():
            doc.add("part_time", last * second * part * (multiplies or name not in ("Zv", "Ztu")), "s", phase=phase,
                    part=name)  # fmt: skip
    return doc


def single_step_reference_document() -> Document:
    identity = {"experiment": "single_step", "n": 3000, "solver": "reference", "threads": 2, "trait": "milk"}
    doc = Document(HERD | identity, dict(PROVENANCE))
    for group in ("young", "young genotyped"):
        for method, accuracy in (("single-step", 0.6), ("pedigree", 0.4)):
            place = {"phase": group, "method": method, "trait": "milk"}
            doc.add("accuracy", accuracy, "1", **place)
            doc.add("slope", 0.9, "1", **place)
            for draw in range(40):
                doc.add("accuracy_draw", accuracy + (draw - 19.5) / 400, "1", repeat=draw, **place)
                doc.add("slope_draw", 0.9 + (draw - 19.5) / 100, "1", repeat=draw, **place)
    return doc


def single_step_documents() -> list[Document]:
    """Every view of a run: variants, kernels, numbers of genotyped, traits one by one and at once, warm starts."""
    docs = [single_step_document(*which, traits=t) for which in ROUNDS for t in ("milk", "milk+fat")]
    docs += [single_step_document("prior_pcg", "prior", traits="fat")]
    docs += [single_step_document(v, "jacobi", n=n) for v in ("ss_h", "ssgtablup") for n in (1000, 2000)]
    docs += [single_step_document("sssnpblup", "second_level", kernel="decompress")]
    docs += [single_step_document(*which, warm=True) for which in (("prior_pcg", "prior"), ("ss_h", "jacobi"))]
    return [*docs, single_step_reference_document()]


LEARNED = {"reml": 1.0, "loo": 0.95, "gcv": 0.9, "heldout": 0.8, "train": 1e-5}  # λ over REML's
GAINS = {"reml": 0.0, "loo": -0.01, "train": -0.2, "reml+w": 0.07, "loo+w": 0.06, "train+w": -0.2,
         "reml+w+ridge": 0.05, "loo+w+ridge": 0.04}  # fmt: skip


def dblup_document(study: str, dataset: str, trait: str, *, n: int = 600) -> Document:
    identity = {"experiment": "dblup", "variant": study, "dataset": dataset, "n": n, "m": 1200, "trait": trait}
    return Document(identity | {"dtype": "f8", "threads": 2, "seed": 1}, dict(PROVENANCE))


def dblup_learned_document(dataset: str, trait: str) -> Document:
    doc = dblup_document("learned", dataset, trait)
    doc.add("variance_ratio", 2.0, "1", phase="reference", method="eigen")
    for objective, ratio in LEARNED.items():
        place = {"phase": "learned", "method": objective}
        doc.add("variance_ratio", 2.0 * ratio, "1", **place)
        doc.add("lambda_difference", abs(ratio - 1), "1", **place)
        doc.add("ebv_error", abs(ratio - 1) / 10, "1", **place)
        doc.add("iterations", 12, "1", **place)
        doc.add("loo_mse", 0.7 + 0.01 * abs(np.log(ratio)), "1", **place)
        doc.add("cv_mse", 0.7 + 0.02 * abs(np.log(ratio)), "1", **place)
    for step, lam in enumerate((2.0, 0.2, 0.02, 1e-4)):
        place = {"phase": "path", "method": "train", "step": step}
        doc.add("variance_ratio", lam, "1", **place)
        doc.add("objective", lam / 4, "1", **place)
        doc.add("heldout_mse", 0.7 - 0.1 * np.log10(lam / 2), "1", **place)
    return doc


def dblup_prediction_document(study: str, dataset: str, trait: str) -> Document:
    """In every repeat each method's gain over REML is its own, but for a thousandth by turns."""
    doc = dblup_document(study, dataset, trait)
    metric = "predictive_ability_fold" if study == "folds" else "accuracy"
    for repeat in range(10):
        for method, gain in GAINS.items():
            wobble = 0.001 * (-1) ** repeat if method != "reml" else 0.0
            doc.add(metric, 0.5 + 0.03 * repeat + gain + wobble, "1", phase=study, method=method, repeat=repeat)
    return doc


def dblup_annotations_document() -> Document:
    doc = dblup_document("annotations", "pigs", "annotated")
    for repeat in range(5):
        for method, accuracy in {"reml": 0.6, "linear": 0.62, "network": 0.7, "truth": 0.75}.items():
            place = {"phase": "annotations", "method": method, "repeat": repeat}
            doc.add("accuracy", accuracy + 0.01 * repeat, "1", **place)
            if method in ("linear", "network"):
                doc.add("weight_correlation", 0.6, "1", **place)
    for step in range(20):
        place = {"phase": "training", "method": "network", "step": step, "repeat": 0}
        doc.add("objective", 500 - step, "1", **place)
        doc.add("heldout_mse", 0.8 - step / 100, "1", **place)
        for method in ("truth", "network"):
            place = {"phase": "weights", "method": method, "step": step}
            doc.add("log_weight", (step - 10) / (5 if method == "truth" else 8), "1", **place)
    return doc


def dblup_steps_document(backend: str, n: int, preconditioner: str = "none") -> Document:
    """Dense grows with the cube of n, matrix-free with n; they meet at n = 4000."""
    doc = dblup_document("steps", "deep", "milk", n=n)
    doc.identity |= {"method": backend, "preconditioner": preconditioner, "m": 50_000, "samples": n}
    second = (n / 4000) ** (3 if backend == "dense" else 1) * (0.6 if preconditioner != "none" else 1)
    for repeat, wobble in enumerate((1.0, 1.02, 0.98)):
        doc.add("step_time", second * wobble, "s", phase="step", repeat=repeat)
        doc.add("step_cpu", 2 * second * wobble, "s", phase="step", repeat=repeat)
    doc.add("setup_time", 0.5, "s", phase="setup")
    doc.add("step_rss", 24 * n**2 if backend == "dense" else 12.5e3 * n + 50e6, "B", phase="memory")
    doc.add("bytes_needed", 24 * n**2 if backend == "dense" else 12.5e3 * n + 64e6, "B", phase="memory")
    doc.add("peak_rss", 5e8, "B", phase="memory")
    if backend != "dense":
        for phase, share in (("step", 1.0), ("warm", 0.4)):
            doc.add("passes", 60 * share, "1", phase=phase)
            doc.add("iterations", round(28 * share), "1", phase=phase)
            doc.add("kernel_time", 0.8 * second * share, "s", phase=phase)
            doc.add("kernel_cpu", 1.6 * second * share, "s", phase=phase)
        doc.add("step_time", 0.4 * second, "s", phase="warm", repeat=0)
        doc.add("step_cpu", 0.8 * second, "s", phase="warm", repeat=0)
    return doc


def dblup_documents() -> list[Document]:
    docs = [dblup_learned_document("pigs", trait) for trait in ("gain", "fat")]
    docs += [dblup_prediction_document("folds", "pigs", trait) for trait in ("gain", "fat")]
    docs += [dblup_prediction_document("simulated", "pigs", trait) for trait in ("concentrated", "polygenic")]
    docs += [dblup_steps_document(way, n) for way in ("dense", "matrix_free") for n in (1000, 2000, 8000)]
    docs += [dblup_steps_document("matrix_free", n, "ritz") for n in (1000, 2000, 8000)]
    return [*docs, dblup_annotations_document()]


def refused_document(dataset: str, kernel: str, target: str, dtype: str = "f8", threads: int = 1) -> Document:
    identity = {"experiment": "products", "dataset": dataset, "kernel": kernel, "target": target}
    reason = "needs an NVIDIA GPU, this machine has none"
    return Document(identity | {"dtype": dtype, "threads": threads}, dict(PROVENANCE)).refuse(reason)


def wrong_document() -> Document:
    """As fast as light, and wrong: no table or figure of rates may show it."""
    n, m = SIZES["cattle"]
    identity = {"experiment": "products", "dataset": "cattle", "n": n, "m": m, "kernel": "five_codes"}
    doc = Document(identity | {"target": "avx512", "dtype": "f8", "threads": 1}, dict(PROVENANCE))
    doc.add("integer_mismatches", 7, "1", phase="verify", k=10, direction="matmul")
    doc.add("rel_error", 0.5, "1", phase="verify", k=10, direction="matmul")
    doc.add("product_time", 1e-9, "s", phase="product", k=10, direction="matmul", repeat=0)
    return doc.wrong("matmul with k = 10: 7 integer results differ")


def documents() -> dict[str, Document]:
    """{name: document} of a whole run on two data sets."""
    docs = [
        products_document(dataset, kernel, target, dtype, threads)
        for dataset in SIZES
        for kernel, target in SHARE
        for dtype in ("f8", "f4")
        for threads in (1, 2)
    ]
    docs += [
        products_document("pigs", kernel, target, "f8", 1, samples=samples)
        for kernel, target in SHARE
        for samples in (1000, 3000, 9000)
    ]
    docs += [refused_document(d, "gpu_2bit", t, dtype) for d in SIZES for t in ("sm_80", "sm_90") for dtype in PEAK]
    docs += [streamed_document()]
    docs += [wrong_document(), paired_document(), limits_document(), centred_document({"centred": 1.01})]
    docs += [gram_document(d, *which, threads) for d in SIZES for which in GRAM_SECONDS for threads in (1, 2)]
    docs += [lanczos_reml_document(1000, eigen=True), lanczos_reml_document(4000)]
    traits = (("cattle", "yield", 0.42), ("cattle", "fat", 0.35), ("pigs", "gain", 0.28))
    docs += [reference_document(*trait) for trait in traits]
    docs += [solve_document(d, trait, *kernel) for d, trait, _ in traits for kernel in SHARE]
    docs += single_step_documents()
    docs += dblup_documents()
    return {f"{doc.identity['experiment']}-{i}": doc for i, doc in enumerate(docs)}


def written(folder: Path, docs: dict[str, Document] | None = None) -> list[Path]:
    paths = []
    for name, doc in (documents() if docs is None else docs).items():
        doc.write(folder / f"{name}.json")
        paths.append(folder / f"{name}.json")
    return paths


def measurements(folder: Path, *docs: Document) -> pd.DataFrame:
    """The long table of `docs`, of a whole run by default."""
    return collect(written(folder, {f"case-{i}": doc for i, doc in enumerate(docs)} if docs else None))
