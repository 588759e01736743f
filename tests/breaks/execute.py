"""Breaks of lab/execute/: what stands there, what is put in its place, which test must notice."""

from tests.breaks.row import of

ROWS = [
    *of(
        "lab/execute/subprocesses.py",
        ("    if code < 0:\n", "    if code > 0:\n", "tests/test_distributed.py::test_a_process_that_fails"),
        ("stdin=subprocess.PIPE", "stdin=subprocess.DEVNULL", "tests/test_distributed.py::test_processes_end_with"),
    ),
    *of(
        "lab/execute/job.py",
        (
            "set_random_seed(job.seed)",
            "set_random_seed(0)",
            "tests/test_measures.py::test_a_seed_fixes_the_initial_weights",
        ),
        (
            "with sources.test_set_closed():",
            "if True:",
            "tests/test_optimizers.py::test_a_recipe_that_reads_the_test_set_early",
        ),
        (
            "run.data = splits.with_split_seed(run.data, job.seed)",
            "pass",
            "tests/test_data.py::test_each_seed_has_a_split_of_its_own",
        ),
    ),
    *of(
        "lab/execute/cluster.py",
        ("and not all(_through", "and not any(_through", "tests/test_distributed.py::test_a_worker_stays_until"),
    ),
    *of(
        "lab/execute/executor.py",
        (
            "if error.errno == errno.ENOSPC and",
            "if False and",
            "tests/faults/test_machine.py::test_no_room_in_shared_memory",
        ),
        ("        begin(len(done))\n", "", "tests/test_execute.py::test_workers_can_be_spawned"),
    ),
    *of(
        "lab/execute/start.py",
        ('data.pop("init_main_from_path", None)', "pass", "tests/test_execute.py::test_a_script_that_measures"),
    ),
    *of(
        "lab/execute/ray.py",
        (
            "port.isdecimal() and int(port) < 65536",
            "port.isdecimal()",
            "tests/faults/test_machine.py::test_a_cluster_that_does_not",
        ),
    ),
    *of(
        "lab/execute/invocation.py",
        (
            "when = max([datetime.now(),",
            "when = min([datetime.now(),",
            "tests/faults/test_machine.py::test_a_clock_that_was_set_back",
        ),
    ),
    *of(
        "lab/execute/scheduler.py",
        ("or broken_seal", "", "tests/faults/test_formats.py::test_a_record_is_kept_as_it_was"),
    ),
]
