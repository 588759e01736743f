"""Breaks of lab/execute/: what stands there, what is put in its place, which test must notice."""

from tests.breaks.row import of

CLUSTER = "tests/test_distributed.py"

MACHINE = "tests/faults/test_machine.py"
JOINING = "tests/test_joining.py"

ROWS = [
    *of(
        "lab/execute/invocation.py",
        ("code_hash.parts_on_disk(", "code_hash.parts(", "tests/test_execute.py::test_code_that_was_changed_at"),
    ),
    *of(
        "lab/execute/subprocesses.py",
        ("if code < 0 else", "if code > 0 else", "tests/test_distributed.py::test_a_process_that_fails"),
        (", signal.SIGKILL)", ", 0)", "tests/test_distributed.py::test_processes_end_with"),
    ),
    *of(
        "lab/execute/job.py",
        (
            "with known_state():",
            "if True:",
            "tests/test_execute.py::test_a_run_does_not_depend_on_the_one_before",
        ),
        (
            "if job.data_digest and sources",
            "if False and sources",
            "tests/test_execute.py::test_a_run_of_other_code_images_or_model",
        ),
    ),
    *of(
        "lab/execute/cluster.py",
        (
            "if not agree(strategy, json",
            "if False and agree(strategy, json",
            f"{CLUSTER}::test_workers_that_do_not_agree",
        ),
        (
            "            _let_a_child_go_on()\n",
            "            pass\n",
            "tests/test_distributed.py::test_a_worker_that_waits_for_the",
        ),
        ("leave(code if code >= 0", "leave(0 if code >= 0", "tests/test_distributed.py::test_usage_errors_of_a_worker"),
    ),
    *of(
        "lab/execute/executor.py",
        (
            "if error.errno == errno.ENOSPC and",
            "if False and",
            "tests/faults/test_machine.py::test_no_room_in_shared_memory",
        ),
        ("                begin(len(done))\n", "", "tests/test_execute.py::test_workers_can_be_spawned"),
    ),
    *of(
        "lab/execute/start.py",
        ('data.pop("init_main_from_path", None)', "pass", "tests/test_execute.py::test_a_script_that_measures"),
        ("signal.SIG_BLOCK, {signal.SIGINT}", "signal.SIG_BLOCK, set()", f"{MACHINE}::test_ctrl_c_reaches_all"),
        ("if name == WORKER:", "if True:", "tests/test_execute.py::test_processes_of_the_readers_own"),
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
        "lab/execute/scheduler.py",
        ("problem = _another_run(record, variant, job)", 'problem = ""', "tests/test_execute.py::test_a_record_that"),
        ("return 1  # Times are", "return 2  # Times are", "tests/test_execute.py::test_what_measures_times_has"),
    ),
    *of(
        "lab/execute/invocation.py",
        ("        lock.acquire()\n", "        pass\n", "tests/test_execute.py::test_a_folder_that_another_process"),
    ),
    *of(
        "lab/execute/invocation.py",
        (', "environment")', ")", "tests/test_evidence.py::test_runs_with_other_switches"),
    ),
    *of(
        "lab/execute/joining.py",
        ("if place != one.machine.kind:", "if True:", f"{JOINING}::test_seeds_are_put_together"),
        ("elsewhere = dict(one.elsewhere)", "elsewhere = {}", f"{JOINING}::test_seeds_are_put_together"),
        ("set(one.seeds) & set(other.seeds)", "set()", f"{JOINING}::test_what_does_not_belong"),
        ('if str(other.commit).endswith("+changes")', "if False", f"{JOINING}::test_what_does_not_belong"),
        ("{**one.winners, **other.winners}", "{**other.winners}", f"{JOINING}::test_the_variants_of_sweeps"),
    ),
]
