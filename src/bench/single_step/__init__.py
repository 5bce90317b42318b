"""Single-step BLUP: the equations of pedigree BLUP with the genotyped animals' genomic relationships built in."""
