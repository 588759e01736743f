"""Breaks of pipelines/: what stands there, what is put in its place, which test must notice."""

from tests.breaks.row import of

ROWS = [
    *of(
        "pipelines/batches.py",
        (
            "seed=tf.stack([seed, number]))",
            "seed=tf.stack([seed, 0 * number]))",
            "tests/test_feed.py::test_the_order_of_images_is_new",
        ),
        (
            "tf.stack([seed, number * steps + step])",
            "tf.stack([seed, step])",
            "tests/test_feed.py::test_augmentation_differs_between",
        ),
        (
            "split.images[:, :, ::-1]] if flip",
            "split.images] if flip",
            "tests/test_feed.py::test_augmentation_differs_between",
        ),
        (
            "tf.gather(its_labels, tf.concat(members, axis=0))",
            "tf.gather(its_labels, index)",
            "tests/test_feed.py::test_augmentation_keeps",
        ),
        (
            "slices.batch(batch_size).cache()",
            "slices.batch(batch_size, drop_remainder=True).cache()",
            "tests/test_feed.py::test_evaluation",
        ),
        (
            "(_read(split.images, index), labels)",
            "(_read(split.images, index - 1), labels)",
            "tests/test_feed.py::test_images_on_disk",
        ),
    ),
    *of(
        "pipelines/sources.py",
        (
            "            if _closed and _closed[-1]:\n",
            "            if False:\n",
            "tests/test_data.py::test_while_a_run_is_under_way",
        ),
        (
            "OTHER_SHARE, 0)",
            "OTHER_SHARE, split_seed)",
            "tests/test_data.py::test_the_test_part_of_ones_own_images_is_the_same",
        ),
    ),
    *of(
        "pipelines/splits.py",
        ("out = rank >= per_class", "out = rank < per_class", "tests/test_data.py::test_a_split_is_stratified"),
        (
            'f"{seed}/{name}".encode()',
            'f"{name}".encode()',
            "tests/test_data.py::test_the_split_is_the_same_on_every_machine",
        ),
        ("< images // classes", "<= images // classes", "tests/test_data.py::test_smaller_training_parts_nest"),
    ),
    *of(
        "pipelines/cifar10.py",
        (
            "hexdigest() != SUMS_DIGEST",
            'hexdigest() == ""',
            "tests/test_data.py::test_damaged_data_is_noticed_at_every_load",
        ),
        (
            "        if found != digest:",
            "        if not found:",
            "tests/test_data.py::test_damaged_data_is_noticed_at_every_load",
        ),
    ),
    *of(
        "pipelines/image_cache.py",
        ("_digest_of(arrays[name]) == digest", "digest", "tests/test_data.py::test_damage_to_what_is_kept"),
    ),
    *of(
        "pipelines/folders.py",
        ("if _bits(path) > 8:", "if False:", "tests/test_own_data.py::test_a_folder_that_will_not_do"),
        (
            "        _check_links(folder, files)\n",
            "        pass\n",
            "tests/faults/test_hostile.py::test_no_link_leads_out",
        ),
        (
            "if image.width * image.height > MOST_PIXELS:",
            "if False:",
            "tests/faults/test_hostile.py::test_a_small_file_with_a_large_image",
        ),
        (
            "Image.open(path, formats=FORMATS)",
            "Image.open(path)",
            "tests/faults/test_hostile.py::test_of_other_formats",
        ),
        ("if len(names) > MOST_FOLDERS:", "if False:", "tests/faults/test_hostile.py::test_a_folder_of_very_many"),
    ),
    *of(
        "pipelines/terminal.py",
        ('stream.reconfigure(errors="replace")', "pass", "tests/test_terminal.py::test_what_a_terminal_can_not_show"),
        (
            "error is None or error.errno == errno.EPIPE",
            "error is None",
            "tests/test_terminal.py::test_whoever_reads_a_pipe",
        ),
        ("os._exit(code)", "os._exit(1)", "tests/test_terminal.py::test_ctrl_c_during_the_start"),
        (
            "    raise Ended\n",
            "    raise KeyboardInterrupt\n",
            "tests/faults/test_machine.py::test_a_command_that_is_told_to_end",
        ),
        (
            '    os.environ["TMPDIR"] = str(folder)\n',
            "",
            "tests/faults/test_machine.py::test_a_command_has_a_temporary",
        ),
    ),
    *of(
        "pipelines/sources.py",
        (
            "        if isinstance(self.sealed, Split):\n",
            "        if False:\n",
            "tests/test_wiring.py::test_no_name_leads",
        ),
    ),
    *of(
        "pipelines/folders.py",
        (
            'whole = image.convert("RGB")',
            'whole = Image.merge("RGB", image.convert("RGB").split()[::-1])',
            "tests/test_wiring.py::test_a_red_image",
        ),
    ),
]
