# Products of genotypes that are larger than the memory given, read anew each time.
SESSIONS.append("streamed")
TARGETS += expand(f"{RESULTS}/raw/streamed/{{case}}.json", case=CASES["streamed"])
