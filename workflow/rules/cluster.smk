# What a run on a cluster needs beside its profile.
# Small enough for the machine that starts the run.
localrules:
    all,
    refused,
    collect,
    table,
    figure,
