# Helpers of the rules. They only look things up; what has a formula is in the package.


wildcard_constraints:
    dataset=r"[A-Za-z0-9_]+",
    kernel=r"[a-z0-9_]+",
    target=r"[a-z0-9_]+",
    case=r"[A-Za-z0-9_.\-]+",
    number=r"\d+",


def spec(dataset):
    """A data set's entry, as the verbs take it."""
    return CONFIG.datasets[dataset].model_dump_json()


def datasets_of(kind):
    """The names of one kind, as a pattern for its rules' wildcard."""
    names = [name for name, entry in CONFIG.datasets.items() if entry.kind == kind]
    return "|".join(names) or "(?!)"


def manifest(dataset):
    return f"{RESULTS}/data/{dataset}/dataset.json"


def built(kernel, target):
    """build.json of a native kernel, nothing for another."""
    return f"{RESULTS}/build/{kernel}/{target}/build.json" if kernels.load(kernel).native else []


# {experiment: {case: reason}}: what cannot run here, known from sizes alone. Its jobs ask for no input
# and only write the reason.
REFUSED = {
    experiment: {name: reason for name, case in cases.items() if (reason := plan.refusal(case, CONFIG))}
    for experiment, cases in CASES.items()
}


def unless_refused(experiment, case, files):
    return [] if case in REFUSED[experiment] else files


def refusal_option(experiment, case):
    reason = REFUSED[experiment].get(case)
    return f"--refused {shlex.quote(reason)}" if reason else ""


def option(flag):
    """`--flag PATH` for an input that is there, nothing for one that is not."""
    name = flag.strip("-").replace("-", "_")
    return lambda wildcards, input: f"{flag} {shlex.quote(str(input[name]))}" if input.get(name) else ""
