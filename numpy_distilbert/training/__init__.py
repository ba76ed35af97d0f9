"""Training in NumPy: gradients by hand, the losses of distillation, AdamW, and a loop that can be interrupted."""
