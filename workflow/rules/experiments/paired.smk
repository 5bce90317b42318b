# Two kernels in turn in one process: ratios free of drift.
SESSIONS.append("paired")
TARGETS += expand(f"{RESULTS}/raw/paired/{{case}}.json", case=CASES["paired"])
