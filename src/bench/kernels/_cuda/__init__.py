"""What the GPU kernels share: how they are compiled and loaded, and the stored copy of the genotypes."""
