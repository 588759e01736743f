"""Breaks of pipelines/: what stands there, what is put in its place, which test must notice."""

from tests.breaks.row import of

FOLDERS = "tests/test_folders.py"
READING = "tests/test_reading.py"
MACHINE = "tests/faults/test_machine.py"
NUMBERS = "tests/test_own_numbers.py"

ROWS = [
    *of(
        "pipelines/batches.py",
        (
            "seed=tf.stack([seed, number]))",
            "seed=tf.stack([seed, 0 * number]))",
            "tests/test_feed.py::test_the_order_of_images_is_new",
        ),
        (
            "number * steps + tf.range(",
            "tf.range(",
            "tests/test_feed.py::test_augmentation_differs_between",
        ),
        (
            "        inside[:, 1] = split.images[:, :, ::-1]\n",
            "        inside[:, 1] = split.images\n",
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
            "        if _closed and _closed[-1]:\n",
            "        if False:\n",
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
            "_checked(folder / SUMS_NAME, SUMS_DIGEST)",
            "folder / SUMS_NAME",
            "tests/test_data.py::test_damaged_data_is_noticed_at_every_load",
        ),
        (
            "whole.get(str(path)) != changed",
            "str(path) not in whole",
            "tests/test_data.py::test_damaged_data_is_noticed_at_every_load",
        ),
    ),
    *of(
        "pipelines/image_cache.py",
        ("_sum(array) == sums[name]", "array", "tests/test_data.py::test_damage_to_what_is_kept"),
    ),
    *of(
        "pipelines/walking.py",
        (
            "if not leads.is_relative_to(self.home):",
            "if False:",
            "tests/faults/test_hostile.py::test_no_link_leads_out",
        ),
        ("            if leads in above:\n", "            if False:\n", f"{FOLDERS}::test_loops_of_links_end"),
        ("self.links += stat.S_ISDIR(mode)", "pass", f"{FOLDERS}::test_links_that_multiply"),
        ("self.counts[kind] += count", "self.counts[kind] = count", f"{FOLDERS}::test_the_report_accounts"),
        ("os.walk(folder))", "[(0, 0, os.listdir(folder))])", f"{FOLDERS}::test_the_report_accounts"),
        ("path.suffix.lower() in ENDINGS", "path.suffix in ENDINGS", f"{FOLDERS}::test_endings"),
        ("for inside in self.folders for", "for inside in () for", f"{FOLDERS}::test_the_report_accounts"),
        ('"@recycle", ', "", f"{READING}::test_what_a_server"),
        ("(set|data|images|imgs)", "(set)", f"{FOLDERS}::test_a_layout_is_read_and_said"),
        ('"valid", "dev")', '"dev")', f"{FOLDERS}::test_a_layout_is_read"),
    ),
    *of(
        "pipelines/names.py",
        ('unicodedata.normalize("NFC", ', "str(", f"{FOLDERS}::test_a_layout_is_read_and_said"),
        ("return int(word) if", "return word if", f"{FOLDERS}::test_a_layout_is_read_and_said"),
        ("name.casefold(), name)", "name, name)", f"{FOLDERS}::test_a_folder_that_will_not_do"),
    ),
    *of(
        "pipelines/folders.py",
        (
            "            passed.add(OUTSIDE, path)\n        return",
            "            pass\n        return",
            f"{FOLDERS}::test_the_report",
        ),
        ("    if lost := [", "    if False and [", f"{FOLDERS}::test_a_folder_that_will_not_do"),
        ("folder.name.casefold()) ==", "folder.name) ==", f"{FOLDERS}::test_a_layout_is_read_and_said"),
        ("named[part] or [", "[", f"{FOLDERS}::test_a_layout_is_read_and_said"),
        ("if alike and len(", "if False and len(", f"{FOLDERS}::test_a_folder_that_will_not_do"),
        ("alike = len(", "alike = True or len(", f"{FOLDERS}::test_a_layout_is_read_and_said"),
        ("_unwrapped(folder) for", "folder for", f"{FOLDERS}::test_a_layout_is_read_and_said"),
        ("\n    if only and sum(", "\n    if False and sum(", f"{FOLDERS}::test_a_layout_is_read_and_said"),
        ("if all(FOLDS.match(one.name) for", "if False and all(one for", f"{FOLDERS}::test_a_folder_that_will_not_do"),
        ("if all(FOLDS.match(one.name) for", "if all(one for", f"{READING}::test_classes_with_the_same"),
    ),
    *of(
        "pipelines/listed.py",
        ("dtype=np.int32)[good]", "dtype=np.int32)[: len(good)]", f"{FOLDERS}::test_all_bad_files"),
        (
            "for number, part in enumerate(found.parts)",
            "for number, part in enumerate(sorted(found.parts))",
            f"{FOLDERS}::test_a_layout",
        ),
        (" {status.st_ctime_ns}", "", f"{READING}::test_a_file_that_was_replaced"),
    ),
    *of(
        "pipelines/decoding.py",
        (
            "if image.width * image.height > MOST_PIXELS:",
            "if False:",
            "tests/faults/test_hostile.py::test_a_small_file_with_a_large_image",
        ),
        (
            "else file, formats=FORMATS)",
            "else file)",
            "tests/faults/test_hostile.py::test_of_other_formats",
        ),
        (
            '    return image.convert("RGB")',
            '    return Image.merge("RGB", image.convert("RGB").split()[::-1])',
            "tests/test_wiring.py::test_a_red_image",
        ),
        ("if lost := np.setdiff1d", "if lost := 0 * np.setdiff1d", f"{FOLDERS}::test_a_class_of_bad_files"),
        ("    if not len(labels):", "    if False:", f"{READING}::test_skipping_is_not"),
        ("brightest < DARK:", "False:", f"{READING}::test_sixteen_bits"),
        ("    if not head:", "    if False:", f"{FOLDERS}::test_all_bad_files"),
        ("image.draft(None, ", "(None, ", f"{FOLDERS}::test_a_large_jpeg"),
        ("ImageOps.exif_transpose(image, in_place=True)", "pass", f"{FOLDERS}::test_pictures_are_turned"),
        ("    for to, place in enumerate(places):\n", "    for to, place in ():\n", f"{FOLDERS}::test_all_bad_files"),
        (">> 8)", ">> 7)", f"{FOLDERS}::test_sixteen_bits"),
        ("!= (255, 255):", "is None:", f"{FOLDERS}::test_opaque_alpha"),
        ("if not skip_bad:", "if False:", f"{FOLDERS}::test_all_bad_files"),
        ("disable=not (", "disable=bool(", f"{FOLDERS}::test_a_terminal_shows"),
        ('";16" in', '"never" in', f"{FOLDERS}::test_sixteen_bits"),
    ),
    *of(
        "pipelines/tables.py",
        ("if there and not real.is_relative_to(home):", "if False:", f"{FOLDERS}::test_a_table_that_will_not_do"),
        ('"utf-8-sig"', '"utf-8"', f"{FOLDERS}::test_a_table_is_read"),
        ("            again += label in of_file\n", "", f"{FOLDERS}::test_a_row_that_is_there_twice"),
        ('named.replace("\\\\", "/")', "named", f"{READING}::test_backslashes"),
        ("    if lost:\n", "    if False:\n", f"{READING}::test_a_class_whose_files"),
        ("rows_of[real] += 1", "rows_of[real] = 1", f"{READING}::test_rows_that_are_left_out"),
        ("if len(of_file) > 1 or several:", "if several:", f"{FOLDERS}::test_a_row_that_will_not_do"),
    ),
    *of(
        "pipelines/source_names.py",
        ("address.lower().startswith(ADDRESSES)", "False", f"{FOLDERS}::test_a_source_that_is_none"),
        ("(community := re", "(community := 0 and re", "tests/test_tfds.py::test_a_set_of_a_community"),
        ("or zipfile.is_zipfile(path)", "", f"{FOLDERS}::test_a_source_that_is_none"),
    ),
    *of(
        "pipelines/accounts.py",
        (
            "for of in counts.values())\n            for",
            "for of in [*counts.values()][::-1])\n            for",
            f"{FOLDERS}::test_the_report",
        ),
    ),
    *of(
        "pipelines/sources.py",
        (
            "@functools.cache\ndef say_once",
            "@functools.lru_cache(maxsize=0)\ndef say_once",
            "tests/test_tfds.py::test_a_class_without_an_image",
        ),
    ),
    *of(
        "pipelines/tfds_source.py",
        ("split.casefold() == name", "split == name", "tests/test_tfds.py::test_a_set_is_read"),
        ("np.searchsorted(used, found)", "found", "tests/test_tfds.py::test_a_class_without_an_image"),
        ("if without := int(np.sum(classes < 0)):", "if False:", "tests/test_tfds.py::test_splits_that_are_not_used"),
        ("if image.np_dtype != np.uint8:", "if False:", "tests/test_tfds.py::test_a_set_that_will_not_do"),
        ("hexdigest()}", "digest_size}", "tests/test_tfds.py::test_a_set_that_was_written_again"),
        (
            "        _check_reachable(name, missing, by_hand)\n",
            "        pass\n",
            "tests/test_tfds.py::test_without_a_network",
        ),
        ('(by_hand / (info.filename or "-")).exists()', "False", "tests/test_tfds.py::test_a_file_that_was_put"),
        ("urls[:MOST_URLS]", "urls[:3]", "tests/test_tfds.py::test_without_a_network"),
        ("classes[good]", "classes[: len(good)]", "tests/test_tfds.py::test_bad_images"),
    ),
    *of(
        "pipelines/no_exit_hooks.py",
        ("atexit.register(os._exit, 0)", "pass", "tests/test_terminal.py::test_a_home_that_cannot"),
    ),
    *of(
        "pipelines/tf_import.py",
        ("del os.environ[LEGACY]", "pass", "tests/test_terminal.py::test_keras_2_is_not_used"),
    ),
    *of(
        "pipelines/terminal.py",
        ("        Path.cwd()\n", "        pass\n", "tests/test_terminal.py::test_a_working_folder"),
        ("        if _told:", "        if False:", f"{MACHINE}::test_an_interruption_that_a_library"),
        (
            "    if _told:\n        raise",
            "    if False:\n        raise",
            f"{MACHINE}::test_an_interruption_that_a_library",
        ),
        ('reconfigure(errors="replace")', "reconfigure()", "tests/test_terminal.py::test_what_a_terminal_can_not_show"),
        ("os._exit(code)", "os._exit(1)", "tests/test_terminal.py::test_ctrl_c_where_nothing_waits"),
        (
            "if number == signal.SIGINT else Ended)",
            "if True else Ended)",
            "tests/faults/test_machine.py::test_a_command_that_is_told_to_end",
        ),
        (
            'os.environ["TMPDIR"] = tempfile.tempdir = folder',
            "tempfile.tempdir = None",
            "tests/faults/test_machine.py::test_a_command_has_a_temporary",
        ),
        ("        os.environ[name] = ", "        _ = ", "tests/test_terminal.py::test_a_proxy_does_not_touch"),
        ('or os.environ.get("NO_PROXY")', "", "tests/test_terminal.py::test_what_a_user_has_exempted"),
        ('if hosts != ["*"]:', "if True:", "tests/test_terminal.py::test_what_a_user_has_exempted"),
    ),
    *of(
        "pipelines/sources.py",
        (
            "        _closed.pop()\n",
            "        _closed.clear()\n",
            "tests/test_wiring.py::test_no_name_leads",
        ),
    ),
    *of(
        "pipelines/remarks.py",
        ("(part_of[first] < number)", "(part_of[first] <= number)", f"{NUMBERS}::test_copies_among_training"),
        ("labels != labels[first]", "labels != labels", f"{NUMBERS}::test_two_copies"),
        ("image.tobytes(), digest", "image.tobytes()[:1], digest", f"{NUMBERS}::test_nothing_is_said"),
        ("others[:, :, ::-1]", "others[:, ::-1]", f"{NUMBERS}::test_arrows_mirror"),
        ("self.means.T - self.offset", "self.means.T", f"{NUMBERS}::test_the_nearest_mean"),
        ("pairs * _sign_test(more, less) < ERROR", "True", f"{NUMBERS}::test_noise_and_classes"),
        ("share >= SHARE and ", "", f"{NUMBERS}::test_a_few_images_that"),
        ("small[half == own]", "small[half != own]", f"{NUMBERS}::test_noise_and_classes"),
    ),
]
