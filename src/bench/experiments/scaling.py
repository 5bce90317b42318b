"""Cost as n grows: the products on the first n individuals of a data set."""

from __future__ import annotations

from bench import config
from bench.experiments import products
from bench.plan import Case, expand, thread_counts, variants

VERSION = products.VERSION
run = products.run


class Stanza(config.Stanza):
    """Keys of the experiment in the configuration. samples: the numbers of individuals."""

    datasets: config.Names
    samples: config.Counts
    dtypes: config.Dtypes = ["f8"]
    threads: config.ThreadCounts = [1]
    k: config.Counts = [10]


def cases(stanza: Stanza, config: config.Config) -> dict[str, Case]:
    """A session per data set × samples × kernel × target × dtype × threads."""
    return expand(
        "scaling",
        {
            "dataset": stanza.datasets,
            "samples": stanza.samples,
            "kernel,target": variants(config.kernels, config.targets),
            "dtype": stanza.dtypes,
            "threads": thread_counts(stanza.threads),
        },
        k=sorted(set(stanza.k)),
    )
