"""What a breeder runs: a model file in, breeding values and what belongs to them out."""
