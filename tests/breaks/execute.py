"""Breaks of lab/execute/: what stands there, what is put in its place, which test must notice."""

from tests.breaks.row import of

CLUSTER = "tests/test_distributed.py"

CLI, NUMBERS = "tests/test_cli.py", "tests/test_own_numbers.py"
JOINING, MACHINE, MODEL = "tests/test_joining.py", "tests/faults/test_machine.py", "tests/test_own_model.py"
ROWS = [
    *of(
        "lab/execute/invocation.py",
        ('if self.settings.action != "tune":', "if True:", "tests/test_execute.py::test_what_is_timed_has"),
        (
            "return any(metric in experiment.timed",
            "return any(False",
            "tests/test_execute.py::test_a_sweep_for_the_fastest",
        ),
        ("tuned.get(group[0], {})", "{}", "tests/test_own_data.py::test_tuning_on_your_own"),
        ('"table", "tuned")', '"table")', "tests/test_own_data.py::test_runs_with_other_settings"),
        ("fits = 2 ** (images.bit_length() - 1)", "fits = 2 ** images.bit_length()", f"{CLI}::test_a_batch_that_is"),
        ("if (config.images or 0) > images:", "if False:", f"{CLI}::test_more_images_than"),
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
        ('args=(os, "_exit", leave)', 'args=(os, "_exit", os._exit)', "tests/test_execute.py::test_one_worker_after"),
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
        ("for alone in (False, True):", "for alone in (True, False):", "tests/test_execute.py::test_variants_apart"),
        ("return 1  # Times are", "return 2  # Times are", "tests/test_execute.py::test_what_measures_times_has"),
    ),
    *of(
        "lab/execute/own_images.py",
        ('if few and "images" in settings.fits:', "if few:", f"{NUMBERS}::test_a_recipe_of_a_thousand"),
        ("images // BATCHES", "images", f"{NUMBERS}::test_a_batch_size_that_fits"),
        (
            'if "batch_size" not in settings.fits or not usual:',
            "if not usual:",
            f"{NUMBERS}::test_a_batch_size_that_was_given",
        ),
        ("half <= FEW * counts", "half <= counts", f"{NUMBERS}::test_what_few_test_images"),
        ('.flip == "yes" for', '.flip != "yes" for', f"{NUMBERS}::test_what_to_do_about_mirrors"),
        ("[*data.remarks, *remarks]", "[*remarks]", f"{NUMBERS}::test_a_warning_is_printed"),
        ('.astype("<u2")', '.astype("<u4")', f"{NUMBERS}::test_a_warning_is_printed"),
    ),
    *of(
        "lab/execute/own_model.py",
        ("        del sys.modules[name]\n", "        pass\n", f"{MODEL}::test_a_helper_is_run_anew"),
        ("sys.path.append(", "sys.path.insert(0, ", f"{MODEL}::test_helpers_beside"),
        ("if _is_free(path) else", "if True else", f"{MODEL}::test_a_file_may_be_called"),
        ('"fit", fit)', '"feet", fit, create=True)', f"{MODEL}::test_a_model_that_is_refused[training"),
        ("except SystemExit as error:", "except KeyError as error:", f"{MODEL}::test_a_model_that_is_refused[flags_of"),
        ("is_folder or file in", "file in", f"{MODEL}::test_helpers_beside"),
        ('name.partition(".")[0] not in OURS and ', "", f"{MODEL}::test_of_the_checkout"),
        ("Path(file).read_bytes()", "bytes()", f"{MODEL}::test_helpers_beside"),
    ),
    *of(
        "lab/execute/model_check.py",
        ("(Exception, SystemExit)", "Exception", f"{MODEL}::test_a_model_that_is_refused[an_end"),
        ("if model is another:", "if False:", f"{MODEL}::test_a_model_that_is_refused[the_same_model"),
        ("if not model.trainable_variables:", "if False:", f"{MODEL}::test_a_model_that_is_refused[nothing_to"),
        ("if len(inputs) != 1:", "if False:", f"{MODEL}::test_a_model_that_is_refused[two_inputs"),
        ("if not output.dtype.is_floating:", "if False:", f"{MODEL}::test_a_model_that_is_refused[whole"),
        (
            "        model(images)  # Some",
            "        pass  # Some",
            f"{MODEL}::test_a_model_that_is_remarked_upon[not_scaled_s",
        ),
        (
            "training=True), autograph=False)(images)",
            "training=True))",
            f"{MODEL}::test_a_model_that_is_refused[no_graph",
        ),
        (
            "lambda batch: model(batch,",
            "lambda batch: model(images,",
            f"{MODEL}::test_a_model_that_is_refused[no_graph_but",
        ),
        ("if shared := {", "if shared := set() and {", f"{MODEL}::test_a_model_that_is_refused[layers_made"),
        ("set_seed(seed)", "set_seed(1)", f"{MODEL}::test_a_model_that_is_fine[plain"),
        (
            "not isinstance(call.layer, keras.layers.Normalization)",
            "True",
            f"{MODEL}::test_a_model_that_is_remarked_upon[not_ad",
        ),
        ("weighted[:2]", "weighted[:1]", f"{MODEL}::test_a_model_that_is_fine[batch_normalization_second"),
        ("weighted[:2]", "weighted", f"{MODEL}::test_a_model_that_is_remarked_upon[not_scaled_and"),
        (
            "(spread > LARGE and not normalizes)",
            "(spread > LARGE)",
            f"{MODEL}::test_a_model_that_is_fine[batch_normalization_first",
        ),
        ("spread < TWICE * of_pixels", "spread < 0.02", f"{MODEL}::test_dark_images"),
        (
            "or spread < TWICE",
            "or not normalizes and spread < TWICE",
            f"{MODEL}::test_a_model_that_is_remarked_upon[scaled_twice_before",
        ),
        ("(rows >= 0).all() and ", "", f"{MODEL}::test_a_model_that_is_fine[logits_that_add_up"),
        (
            '{"linear", "log_softmax", "softmax"}',
            '{"linear", "softmax"}',
            f"{MODEL}::test_a_model_that_is_fine[logarithms",
        ),
        ("if call.output is output]", "]", f"{MODEL}::test_a_model_that_is_fine[a_hidden_activation"),
        ("if output.dtype.size < 4:", "if False:", f"{MODEL}::test_a_model_that_is_remarked_upon[float16"),
        ("if now != usual[name]", "if False", f"{MODEL}::test_a_model_that_is_remarked_upon[eager"),
        (
            "sources.test_set(closed=True)",
            "sources.test_set(closed=False)",
            f"{MODEL}::test_a_model_that_is_refused[the_test",
        ),
    ),
    *of(
        "lab/execute/job.py",
        ("save, self.save = self.save, None", "save = self.save", f"{MODEL}::test_remarks_are_printed"),
        ("save.unlink(missing_ok=True)", "pass", f"{MODEL}::test_remarks_are_printed"),
        ("part.unlink(missing_ok=True)", "pass", f"{MODEL}::test_remarks_are_printed"),
        ("if job.model_digest and model_digest", "if False and model_digest", f"{MODEL}::test_a_helper_that_changes"),
    ),
    *of(
        "lab/execute/executor.py",
        (
            "except pebble.ProcessExpired as error:\n            raise UsageError",
            "except ZeroDivisionError as error:\n            raise UsageError",
            f"{MODEL}::test_what_a_file_does",
        ),
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
