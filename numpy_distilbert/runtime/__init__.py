"""Why the forward pass is fast: products, memory and threads. What is computed is in kernels.py and encoder.py.

Nearly all arithmetic is matrix products, and NumPy's BLAS does those as fast as anyone. What is left to do is to feed
it well and to keep everything else short:

* Features are rows, tokens are columns. A weight is used as it is stored, (out, in), and any slice of its rows gives
  a contiguous piece of the result.
* Inputs are side by side as columns, each with the tokens it has: no padding is computed.
* Inputs are divided into packs, and a thread takes one pack after another through all layers with a BLAS of one
  thread. Where they cannot be divided evenly, as a single one cannot, the heads and the hidden units are: each thread
  takes its slice through product, bias and activation. With BLAS's own threads, everything between the products
  would be left to one core.
* A kernel of many passes takes them over one block after another, each small enough to stay in the core's own cache.
* Memory that a call has written to is kept for the next: fresh pages would have to be fetched from the system first.
* A long sum made of short ones rounds less but takes more passes. It is done where it counts, shortest where what
  rounds goes straight into the hidden states or the logits: errors stay as small as those of PyTorch.
* BLAS copies both operands into its own order before it multiplies. For a short input most of the time goes into
  copying weights. OpenBLAS leaves that out for products of up to 10^6 multiplications, so weights are cut to that size.

products.py is the seam to another BLAS (the backward products of training do not go through it), threads.py divides
the work, workspace.py holds the memory, and blas.py keeps BLAS to one thread meanwhile. None of them knows of a model.
benchmarks/forward.py measures the whole.
"""
