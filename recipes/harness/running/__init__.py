"""How runs are carried out: one `Run`, the process it is in, and the invocation that it belongs to."""
