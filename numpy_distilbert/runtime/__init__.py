"""Why the forward pass is fast: products, memory and threads. What is computed is in kernels.py and encoder.py.

Nearly all arithmetic is matrix products, and NumPy's BLAS is as fast at those as any library. What is left to do is to
feed it well and to keep everything else short:

* Features are rows, tokens are columns. A weight is used as it is stored, (out, in), and any slice of its rows gives
  a contiguous piece of the result.
* Inputs are side by side as columns, each with its own tokens only: no padding is computed.
* Inputs are divided into packs, and a thread takes one pack after another through all layers with a BLAS of one
  thread. If they cannot be divided evenly, as a single one cannot, the heads and the hidden units are: each thread
  takes its slice through product, bias and activation. With BLAS's own threads, everything between the products
  would be left to one core.
* A kernel that passes over its data many times does so block by block, each small enough to stay in the core's cache.
* Memory that a call has written to is kept for the next: fresh pages would have to be fetched from the system first.
* A long sum split into short ones rounds less but takes more passes. Sums are split where it matters, shortest where
  their rounding goes straight into the hidden states or the logits: errors stay as small as PyTorch's.
* BLAS copies both operands into its own order before it multiplies. For a short input most of the time goes into
  copying weights. OpenBLAS leaves that out for products of up to 10^6 multiplications, so weights are cut to that size.

products.py is what to change for another BLAS (the backward products of training do not use it), threads.py divides the
work, workspace.py holds the memory, and blas.py keeps BLAS to one thread meanwhile. None of them knows about models.
benchmarks/forward.py measures the whole.
"""
