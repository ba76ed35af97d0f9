"""Files of questions, answered in blocks on threads, processes or a cluster; every interruption can be resumed."""
