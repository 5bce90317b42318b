"""One solve over several processes, on one node or many, by MPI: docs/mpi.md."""
