"""What a GPU does with the kernels: checked, timed, and held against the GPU's own limits (`bench gpu`, docs/gpu.md).

One run writes one result document, gpu.json, anew after every step, so that a lost GPU or the end of the time loses
nothing; tables and figures are drawn from it, there or elsewhere. Genotypes are generated on the GPU.
"""
