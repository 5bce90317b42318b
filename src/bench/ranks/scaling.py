"""How long a step of GBLUP takes on many nodes, and in what memory, from pieces that are measured or known.

A step is one product with W' and one with W, the messages of both, the sums of PCG, and its work on vectors. Nothing
overlaps. Layouts as in worker.py: "rows" cuts the vectors like the individuals, the others keep them whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

VECTORS_IN_MEMORY = 12  # of PCG and GBLUP: right-hand sides, X, R, P, Q, Z, temporaries
SCALARS = 3  # sums that PCG asks for in a step


@dataclass(frozen=True)
class Pieces:
    """product: genotypes times columns that a core multiplies in a second. memory: bytes that a node reads in a
    second. vectors: numbers of an n-vector that PCG works through in a second, all its operations of a step together.
    latency: seconds of a message; bandwidth: bytes that a node sends in a second. held: bytes a genotype."""

    product: float
    memory: float
    vectors: float
    latency: float
    bandwidth: float
    held: float = 0.25


@dataclass(frozen=True)
class Job:
    """k columns solved for together, on nodes of equal ranks of equal cores."""

    n: int
    m: int
    k: int
    nodes: int
    ranks_a_node: int
    cores_a_rank: int

    @property
    def ranks(self) -> int:
        return self.nodes * self.ranks_a_node


@dataclass(frozen=True)
class Step:
    """Seconds of a step in its parts, and bytes of a rank."""

    products: float
    messages: float
    vectors: float
    memory: float

    @property
    def seconds(self) -> float:
        return self.products + self.messages + self.vectors


def step(pieces: Pieces, job: Job, layout: str) -> Step:
    """What a step takes on the slowest rank."""
    ranks, genotypes = job.ranks, job.n * job.m
    arithmetic = 2 * genotypes * job.k / (pieces.product * ranks * job.cores_a_rank)
    reading = 2 * pieces.held * genotypes / (pieces.memory * job.nodes)
    rows = job.n / ranks if layout == "rows" else job.n
    vectors = 8 * job.k * (VECTORS_IN_MEMORY * rows + 4 * job.m)
    return Step(
        products=max(arithmetic, reading),
        messages=_messages(pieces, job, layout),
        vectors=rows * job.k / pieces.vectors,
        memory=pieces.held * genotypes / ranks + vectors,
    )


def sum_seconds(pieces: Pieces, ranks: int, numbers: float) -> float:
    """A sum over ranks (communicator.Ranks.sum): each sends its pieces to all, then the finished piece to all."""
    return 2 * join_seconds(pieces, ranks, numbers)


def join_seconds(pieces: Pieces, ranks: int, numbers: float) -> float:
    """Every rank gets all parts of a vector."""
    return (ranks - 1) * (pieces.latency + 8 * numbers / ranks / pieces.bandwidth)


def _messages(pieces: Pieces, job: Job, layout: str) -> float:
    n, m = job.n * job.k, job.m * job.k
    pieces = replace(pieces, bandwidth=pieces.bandwidth / job.ranks_a_node)  # its ranks send at once
    if layout == "snps":
        own = sum_seconds(pieces, job.ranks, n) + join_seconds(pieces, job.ranks, m)
    else:
        own = sum_seconds(pieces, job.ranks, m)
        own += join_seconds(pieces, job.ranks, n) if layout == "individuals" else 0.0
    return own + SCALARS * sum_seconds(pieces, job.ranks, job.k)


# A core's products, PCG's vector work and the latency with mpi4py are measured on two cores (AMD Zen 4, 2026-11-22);
# the memory's and the network's rate (25 Gbit/s) are those of a usual node of 64 cores.
USUAL = Pieces(product=1.2e10, memory=2e11, vectors=2e7, latency=1e-5, bandwidth=3e9, held=0.256)


def paper_table(n: int = 10_000_000, m: int = 50_000, nodes: int = 16) -> str:
    """Markdown: a step of GBLUP for two columns on nodes of 64 cores, in one or eight ranks each."""
    lines = [
        "| ranks a node | shared, vectors | products | messages | vectors | a step, s | memory of a node, GB |",
        "|---|---|---|---|---|---|---|",
    ]
    named = {"rows": "individuals, cut", "individuals": "individuals, whole", "snps": "SNPs, whole"}
    for ranks, cores in ((1, 64), (8, 8)):
        for layout, name in named.items():
            made = step(USUAL, Job(n, m, 2, nodes, ranks, cores), layout)
            parts = f"{made.products:.3f} | {made.messages:.3f} | {made.vectors:.3f} | {made.seconds:.3f}"
            lines.append(f"| {ranks} | {name} | {parts} | {ranks * made.memory / 1e9:.1f} |")
    return "\n".join(lines)
