"""How runs are carried out: invocations, the scheduler, worker processes, clusters."""
