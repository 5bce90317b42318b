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


def datasets_of(*kinds):
    """The names of these kinds, as a pattern for their rules' wildcard."""
    return pattern(
        name for name, entry in CONFIG.datasets.items() if entry.kind in kinds
    )


def own_files(dataset):
    """The files of a user's own data set, phenotypes and pedigree included."""
    entry = CONFIG.datasets[dataset]
    return [
        str(file) for file in (*entry.files(), entry.phenotypes, entry.pedigree) if file
    ]


def manifest(dataset):
    return f"{RESULTS}/data/{dataset}/dataset.json"


def built(kernel, target):
    """build.json of a native kernel, nothing for another."""
    return (
        f"{RESULTS}/build/{kernel}/{target}/build.json"
        if kernels.load(kernel).native
        else []
    )


def session(wildcards):
    """The case of a timed session."""
    return CASES[wildcards.experiment][wildcards.case]


def oracle_of(case):
    return f"{RESULTS}/oracle/{case['dataset']}.{case.get('samples') or 'all'}.k{max(case['k'])}.npz"


# Only a budget is passed on: the exact size of a memory differs from boot to boot, and would rerun everything.
MEMORY_OPTION = (
    f"--memory {plan.usable_memory(CONFIG)}" if CONFIG.budget.memory_gb else ""
)


def size_option(case):
    """n and m of a refused case, where the plan knows them."""
    if "dataset" not in case:
        return ""
    entry = CONFIG.datasets[case["dataset"]]
    return (
        f"--n {case.get('samples') or entry.n_samples} --m {entry.n_snps}"
        if entry.kind in ("simulated", "livestock")
        else ""
    )


def from_here(files):
    """Paths below the working directory as relative ones: a checkout that moves reruns nothing."""
    return [os.path.relpath(file) for file in files]


# {case: reason}: what cannot run here, known from sizes alone.
REFUSED = {
    name: reason
    for cases in CASES.values()
    for name, case in cases.items()
    if (reason := plan.refusal(case, CONFIG))
}


def pattern(names):
    """A wildcard's constraint to these names; an empty list matches nothing."""
    return "|".join(map(re.escape, names)) or "(?!)"


def runnable(cases):
    return pattern(name for name in cases if name not in REFUSED)


def option(flag):
    """`--flag PATH …` for the files of an input that is there, nothing for one that is not."""
    name = flag.strip("-").replace("-", "_")

    def written(wildcards, input):
        found = input.get(name) or []
        files = [found] if isinstance(found, str) else found
        return f"{flag} {shlex.join(map(str, files))}" if files else ""

    return written


def regression_kernels():
    """The kernels to compare, where the configuration names some."""
    named = CONFIG.regression.kernels
    return f"--kernels {shlex.quote(','.join(named))}" if named else ""
