"""The table: file, what stands there, what is put in its place, and which test must notice."""

from typing import NamedTuple

RECIPES, MEASURES, FEED = "tests/test_recipes.py", "tests/test_measures.py", "tests/test_feed.py"
OPTIMIZERS, SEARCH, DATA = "tests/test_optimizers.py", "tests/test_search.py", "tests/test_data.py"
CLAIMS, TUNING, EVIDENCE = "tests/test_claims.py", "tests/test_tuning.py", "tests/test_evidence.py"
SEARCHING = "tests/test_searching.py"
MULTI, LOOP = "tests/test_multi_input.py", "tests/test_custom_loop.py"
ATTESTING, PRACTICE = "tests/test_attesting.py", "tests/test_practice.py"
CHAIN = "tests/test_chain.py"
GRADIENTS, LOOPS = "tests/test_gradients.py", "tests/test_loop.py"
PRECISION, DISTRIBUTED = "tests/test_mixed_precision.py", "tests/test_distributed.py"
SCHEDULES, REGULARIZATION = "tests/test_schedules.py", "tests/test_regularization.py"
TERMINAL = "tests/test_terminal.py"
FORMATS, FLAGS, KILLS = (f"tests/faults/test_{name}.py" for name in ("formats", "flags", "kills"))
MACHINE, HOSTILE = "tests/faults/test_machine.py", "tests/faults/test_hostile.py"
COMPARE, MONITORING = "tests/test_compare.py", "tests/test_monitoring.py"
PUBLISHED, OWN, BOARD = "tests/test_published.py", "tests/test_own_data.py", "tests/test_board.py"


class Break(NamedTuple):
    file: str
    stands: str
    instead: str
    noticed_by: str  # A file of tests and a name in it, or the beginning of one.


def of(file: str, *rows: tuple[str, str, str]) -> list[Break]:
    return [Break(file, *row) for row in rows]


SCHEDULE = f"{RECIPES}::test_the_schedule_warms_up_peaks_and_ends_at_zero"
CORNERS = f"{SCHEDULES}::test_a_schedule_at_its_corner_points"
PEAK = f"{SCHEDULES}::test_the_peak_of_a_variant_is_in_its_name_or_among_the_rates"
KIND = f"{OPTIMIZERS}::test_each_variant_is_the_optimizer_of_its_name"
LINEAR = f"{RECIPES}::test_the_linear_variants_are_linear_and_the_others_are_not"
COUNTED = f"{RECIPES}::test_parameters_are_counted_as_keras_counts_them"
SIGNAL = f"{RECIPES}::test_residual_networks_pass_the_signal_on_and_plain_ones_do_not"
DEPTH = f"{RECIPES}::test_depth_and_batchnorm_are_what_the_name_says"
ORDERS = f"{RECIPES}::test_orders_are_new_in_each_epoch_unless_they_are_frozen"
MIXED = f"{RECIPES}::test_how_far_each_order_mixes_classes"
RUNGS = f"{RECIPES}::test_all_rungs_yield_the_same_images_in_each_epoch"
DRAWN = f"{RECIPES}::test_an_image_is_mirrored_and_brightened_by_what_was_drawn"
GATES = f"{RECIPES}::test_a_gate_sends_as_many_images_deep_as_its_threshold_says"
REACHES = f"{SEARCH}::test_a_hyperparameter_reaches_the_model"
COUNTS = f"{SEARCH}::test_what_counts_is_what_the_other_seeds_say_of_the_best_that_was_affordable"
AGAIN = f"{MONITORING}::test_what_a_feed_does_again_in_each_epoch"
SCORES = f"{MEASURES}::test_scores_by_hand"

BREAKS = [
    *of(
        "recipes/optimizers.py",
        ("warm_up = steps // 5", "warm_up = steps // 2", SCHEDULE),
        ("0.0, steps - warm_up, warmup_target=peak", "0.0, (steps - warm_up) // 2, warmup_target=peak", SCHEDULE),
        ("0.0, steps - warm_up, warmup_target=peak", "0.0, 2 * steps, warmup_target=peak", SCHEDULE),
        ("optimizers.SGD(rate, momentum=0.9, nesterov=True)", "optimizers.SGD(rate)", KIND),
        ("optimizers.AdamW(rate, weight_decay=decay)", "optimizers.Adam(rate)", KIND),
        (
            "            return False\n",
            "            return True\n",
            f"{OPTIMIZERS}::test_muon_takes_a_kernel_as_a_matrix",
        ),
        (
            'until=config.target if kind == "race" else None',
            "until=None",
            f"{OPTIMIZERS}::test_a_race_ends_at_the_target_and_counts_its_epochs",
        ),
    ),
    *of(
        "recipes/schedules.py",
        ("decay_rate=0.01)", "decay_rate=0.1)", CORNERS),
        ("decay_rate=9)", "decay_rate=1)", CORNERS),
        ('ops.cast(step, "float32") / self.steps', 'ops.cast(step, "float32") / (2 * self.steps)', CORNERS),
        ("warmup_steps=up)", "warmup_steps=2 * up)", CORNERS),
        ("applied, *build_callbacks(shape)]", "applied]", f"{SCHEDULES}::test_only_the_plateau_has"),
        ("CosineDecay(0.0, steps - up,", "CosineDecay(0.0, steps,", CORNERS),
        ("floor=0.29", "floor=0.0", CORNERS),
        ("where(share < 0.3,", "where(share < 0.5,", CORNERS),
        ("(1 + ops.cos(math.pi * share)) / 2", "(1 - share)", CORNERS),
        ("config.epochs * len(feed)", "2 * config.epochs * len(feed)", PEAK),
        ("float(peak_in_name or rates[variant])", "rates.get(variant, 0.032)", PEAK),
        ("factor=1 / 3, patience=1", "factor=1 / 3, patience=5", f"{SCHEDULES}::test_a_plateau_lowers_the_rate"),
        (
            "self.values.append(float(self.model.optimizer.learning_rate))",
            "self.values.append(float(self.model.optimizer.iterations))",
            f"{SCHEDULES}::test_the_optimizer_applies_what_the_schedule_says",
        ),
    ),
    *of(
        "recipes/functional_multi_input.py",
        (
            "layers.Concatenate()(branches) if len(branches) > 1 else branches[0]",
            "branches[0]",
            f"{MULTI}::test_every_output_hears_of_every_input",
        ),
        ("np.std(np.concatenate(raw), axis=0)", "1.0", f"{MULTI}::test_numbers_are_standardized"),
        (
            "batches.evaluation(data.train)]",
            "batches.evaluation(data.validation)]",
            f"{MULTI}::test_numbers_are_standardized",
        ),
        ('variant == "both_shuffled"', 'variant == "both_mixed"', f"{MULTI}::test_shuffled_numbers_are_another"),
        ("ksize=2, strides=2", "ksize=1, strides=2", f"{MULTI}::test_a_thumbnail_is_gray"),
        (
            '{"class": 1.0, "kind": kind_weight}',
            '{"class": 1.0, "kind": 1.0}',
            f"{MULTI}::test_the_loss_is_the_weighted",
        ),
        ("int(name not in VEHICLES)", "int(name in VEHICLES)", f"{MULTI}::test_the_kind_is_the_classes_own"),
    ),
    *of(
        "recipes/custom_loop.py",
        ("a + share * b for", "a + b for", f"{LOOP}::test_parts_are_small"),
        ("a + share * b for", "a + b / parts for", f"{LOOP}::test_parts_are_small"),
        ("images[number::parts], labels[number::parts]", "images, labels", f"{LOOP}::test_parts_are_small"),
        (
            'if variant in ("by_hand", "compiled"):',
            'if variant == "compiled":',
            f"{LOOP}::test_what_is_compiled",
        ),
        ('tf.function(steps) if variant == "compiled" else steps', "steps", f"{LOOP}::test_what_is_compiled"),
        ("    model.compute_metrics(images, labels, logits)\n", "", f"{LOOP}::test_metrics_of_an_epoch"),
        ("        model.reset_metrics()  # `fit`", "        # `fit`", f"{LOOP}::test_every_variant_is_logged"),
        ("range(min(parts, len(images)))", "range(parts)", f"{LOOP}::test_parts_are_small"),
        ("loss, sample_weight=tf.shape(images)[0]", "loss", f"{LOOP}::test_metrics_of_an_epoch"),
        ('scores["step_ms"] = 1000 * blocks', 'scores["step_ms"] = blocks', f"{LOOP}::test_each_number_is"),
    ),
    *of(
        "lab/core/loop.py",
        (
            "                if self.model.stop_training:\n                    break\n",
            "",
            f"{LOOPS}::test_a_loop_ends_after",
        ),
        ("        self.callbacks.on_train_batch_end(0, dict(logs))\n", "", f"{LOOPS}::test_a_loop"),
    ),
    *of(
        "recipes/gradients.py",
        ("tf.minimum(1.0, self.clip / norm)", "tf.minimum(1.0, 1.0 / norm)", f"{GRADIENTS}::test_these_change_nothing"),
        ("tf.minimum(1.0, self.clip / norm)", "(self.clip / norm)", f"{GRADIENTS}::test_clipping_shortens"),
        ("NOISE[self.variant] * fading", "NOISE[self.variant]", f"{GRADIENTS}::test_noise_is_as_strong"),
        ("(self.seed * 1000 + i, step)", "(self.seed * 1000 + i, 0)", f"{GRADIENTS}::test_noise_is_as_strong"),
        ("0.7 ** (last - i // 2)", "0.7 ** (i // 2)", f"{GRADIENTS}::test_each_layer_has"),
        (
            "rate *= config.lower_share",
            "rate *= 1.0",
            f"{GRADIENTS}::test_the_lower_rate",
        ),
        ("rate = config.high_rate", "rate = rate", f"{GRADIENTS}::test_rates_are_the_variants_own"),
    ),
    *of(
        "recipes/mixed_precision.py",
        ("set_dtype_policy(chosen.policy)", 'set_dtype_policy("float32")', f"{PRECISION}::test_layers_compute"),
        ("    keras.config.set_dtype_policy(before)\n", "", f"{PRECISION}::test_layers_compute"),
        (', dtype="float32")(layers.Flatten', ")(layers.Flatten", f"{PRECISION}::test_layers_compute"),
        ("model.optimizer.scale_loss(loss)", "loss", f"{PRECISION}::test_gradients_that_overflow"),
        ("loss, sample_weight=tf.shape(images)[0]", "loss", f"{PRECISION}::test_the_loop_takes"),
        ("for some in traced:", "for some in ():", f"{PRECISION}::test_memory_has_no_tracing"),
        ("np.median(steps)", "np.mean(steps)", f"{PRECISION}::test_a_hiccup"),
        ("0.95 * pace", "pace", f"{PRECISION}::test_what_is_hardly_faster"),
        ('scores["step_ms"] = 1000 * blocks', 'scores["step_ms"] = blocks', f"{PRECISION}::test_a_variant_has_its_own"),
        ('RATES[variant.replace("_loop", "")]', 'RATES["float32_small"]', f"{PRECISION}::test_a_variant_trains_at"),
    ),
    *of(
        "recipes/distributed.py",
        ("1 / len(batch), keras", "1 / len(mine), keras", f"{DISTRIBUTED}::test_shares_are"),
        (
            "replica_id_in_sync_group :: context.num_replicas_in_sync",
            "num_replicas_in_sync :: context.num_replicas_in_sync",
            f"{DISTRIBUTED}::test_shares_are",
        ),
        ("batch[:1], np.zeros(1,", "batch[:1], np.ones(1,", f"{DISTRIBUTED}::test_a_replica_for"),
        ("default_rng([seed, epoch])", "default_rng([seed])", f"{DISTRIBUTED}::test_an_epoch_has"),
        ("tf.reduce_sum(weights * of_each)", "tf.reduce_mean(of_each)", f"{DISTRIBUTED}::test_a_share_moves"),
        ('synchronized=norm == "synchronized"', "synchronized=False", f"{DISTRIBUTED}::test_the_norm_of"),
        ("range(done, config.epochs)", "range(config.epochs)", f"{DISTRIBUTED}::test_a_training_in_two"),
        ("default_rng([seed, epoch])", "default_rng([seed, epoch - done])", f"{DISTRIBUTED}::test_a_training_in_two"),
    ),
    *of(
        "lab/execute/subprocesses.py",
        ("    if code < 0:\n", "    if code > 0:\n", f"{DISTRIBUTED}::test_a_process_that_fails"),
        ("stdin=subprocess.PIPE", "stdin=subprocess.DEVNULL", f"{DISTRIBUTED}::test_processes_end_with"),
    ),
    *of(
        "recipes/regularization.py",
        (
            'layers.Dropout(chosen.get("dropout", 0.0)))\n    model.add(layers.Dense(128',
            "layers.Dropout(0.0))\n    model.add(layers.Dense(128",
            f"{REGULARIZATION}::test_dropout_is_in",
        ),
        (
            'L1L2(chosen.get("l1", 0.0), chosen.get("l2", 0.0))',
            'L1L2(chosen.get("l1", 0.0), chosen.get("l1", 0.0))',
            f"{REGULARIZATION}::test_penalties_are_of_all_kernels",
        ),
        (
            'layers.Dense(128, "relu", **penalty)',
            'layers.Dense(128, "relu")',
            f"{REGULARIZATION}::test_penalties_are_of_all_kernels",
        ),
        (
            'weight_decay=chosen.get("weight_decay", 0.0)',
            "weight_decay=0.0",
            f"{REGULARIZATION}::test_what_each_variant_hands",
        ),
        (
            'loss=SmoothedCrossentropy(chosen.get("label_smoothing", 0.0))',
            "loss=SmoothedCrossentropy(0.0)",
            f"{REGULARIZATION}::test_what_each_variant_hands",
        ),
        ("self.smoothing / y_pred.shape[-1]", "0.0", f"{REGULARIZATION}::test_smoothed_labels"),
        (
            "rerandomize_each_iteration=True",
            "rerandomize_each_iteration=False",
            f"{REGULARIZATION}::test_each_epoch_cuts_elsewhere",
        ),
        ("- middles) < side / 2)", "- middles) < side)", f"{REGULARIZATION}::test_a_cut_is_a_gray_square"),
        ("augment=shift > 0", "augment=True", f"{REGULARIZATION}::test_only_augmentation_and_cutout"),
        (
            "restore_best_weights=True",
            "restore_best_weights=False",
            f"{REGULARIZATION}::test_which_epochs_weights_are_kept",
        ),
        (
            'config.patience if variant == "early_stopping"',
            'config.epochs if variant == "early_stopping"',
            f"{REGULARIZATION}::test_which_epochs_weights_are_kept",
        ),
    ),
    *of(
        "recipes/functional_skip.py",
        ("x = layers.Add()([x, before])", "x = layers.Add()([x, x])", SIGNAL),
        ("if chosen.skip:", "if not chosen.skip:", SIGNAL),
        ("range(1, chosen.depth, 2)", "range(1, chosen.depth - 2, 2)", DEPTH),
        ("    if begin.norm:\n", "    if not begin.norm:\n", DEPTH),
        ("float(np.log10(", "-float(np.log10(", f"{RECIPES}::test_a_norm_in_decades_by_hand"),
        (
            "variable.assign(value)",
            "variable.assign(0 * value)",
            f"{RECIPES}::test_looking_at_gradients_changes_nothing",
        ),
        ("float(tf.norm(gradient))", "float(tf.reduce_sum(gradient))", f"{RECIPES}::test_a_gradient_norm_is_that"),
        ("warm_up = steps // 5", "warm_up = steps // 20", SCHEDULE),
    ),
    *of(
        "recipes/sequential.py",
        ("model.add(layers.Dense(128))  #", 'model.add(layers.Dense(128, activation="relu"))  #', LINEAR),
        ("for _ in range(9):", "for _ in range(3):", f"{RECIPES}::test_the_ten_linear_layers_are_ten"),
        ('layers.Dense(65, activation="relu")', "layers.Dense(65)", LINEAR),
        ("(inputs + 1) * units", "inputs * units", COUNTED),
        ("* height * width", "* height", COUNTED),
        ('layers.Dense(64, activation="relu")', 'layers.Dense(65, activation="relu")', COUNTED),
    ),
    *of(
        "recipes/shuffling.py",
        (
            "return feed.shuffle(count, seed=seed)",
            "return feed.shuffle(count, seed=seed, reshuffle_each_iteration=False)",
            ORDERS,
        ),
        ("feed.shuffle(count // 10, seed=seed)", "feed.shuffle(count, seed=seed)", MIXED),
        ("feed.shuffle(count // 10, seed=seed)", "feed.shuffle(count // 2, seed=seed)", MIXED),
        ("reshuffle_each_iteration=False", "reshuffle_each_iteration=True", ORDERS),
        ('np.argsort(train.labels, kind="stable")', "np.arange(len(train))", MIXED),
    ),
    *of(
        "recipes/input_pipeline.py",
        ("images[..., ::-1, :]", "images[..., ::-1]", DRAWN),
        ("+ brighter", "- brighter", DRAWN),
        (
            "return feed.map(augment, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)",
            "return feed.map(augment, tf.data.AUTOTUNE).cache().prefetch(tf.data.AUTOTUNE)",
            RUNGS,
        ),
        (
            "numbers // 2 % 61 - 30",
            "numbers // 2 % 31",
            f"{RECIPES}::test_draws_are_of_both_sides_and_of_all_brightnesses",
        ),
        (
            "self.waited.append(time.perf_counter() - start)",
            "self.waited.append(0 * start)",
            f"{RECIPES}::test_waiting_is_the_time_until_the_batch",
        ),
        (
            "images, numbers = images.batch(batch_size), numbers.batch(batch_size)",
            "images, numbers = images.batch(batch_size), numbers.skip(1).batch(batch_size)",
            RUNGS,
        ),
    ),
    *of(
        "recipes/subclassed_routing.py",
        ("tf.where(score >= self.threshold)", "tf.where(score <= self.threshold)", GATES),
        (
            "return 1 - ops.max(ops.softmax(logits), axis=1)",
            "return ops.max(ops.softmax(logits), axis=1)",
            f"{RECIPES}::test_confidence_sends_the_images_deep_that_the_short_path_is_unsure_of",
        ),
        ("ops.var(features", "ops.mean(features", f"{RECIPES}::test_variance_is_that_of_the_stems_activations"),
        (
            "tf.tensor_scatter_nd_update(logits, rows, better)",
            "tf.concat([logits[tf.shape(rows)[0] :], better], 0)",
            f"{RECIPES}::test_images_keep_their_own_logits",
        ),
        ("ops.mean(score) < self.threshold", "ops.mean(score) > self.threshold", f"{RECIPES}::test_the_batch_gate"),
        ("np.median(scores)", "np.quantile(scores, 0.9)", f"{RECIPES}::test_a_gate_is_set_to_send_half"),
    ),
    *of(
        "recipes/search.py",
        ("layers.Dropout(dropout)", "layers.Dropout(0.0)", REACHES),
        ("optimizer=optimizers.Adam(rate)", "optimizer=optimizers.Adam(1e-3)", REACHES),
        ("layers.Conv2D(2 * width,", "layers.Conv2D(width,", REACHES),
        ("num_initial_points=3", "num_initial_points=9", f"{SEARCH}::test_live_bayesian_optimization_begins"),
        ('"seed": 1000 * seed + 1', '"seed": 7', f"{SEARCH}::test_every_live_tuner_tries_other_settings"),
        ("config.epochs // 30", "config.epochs // 5", f"{SEARCH}::test_live_hyperband_spends_no_more_epochs"),
    ),
    *of(
        "recipes/search_replayed.py",
        ("np.delete(curves, seen, axis=0)[:, -1].mean()", "curves[seen, -1]", COUNTS),
        ("epochs.cumsum() <= limit", "epochs.cumsum() < limit", COUNTS),
        ("- seen) / (seeds - 1)", "- seen) / seeds", f"{SEARCH}::test_what_random_search_reaches"),
        ("comb(settings - 1 - r, n - 1)", "comb(settings - r, n - 1)", f"{SEARCH}::test_what_random_search_reaches"),
        ("np.log2(needed).mean()", "np.log2(needed.mean())", f"{SEARCH}::test_doublings_count"),
        ('"seed": 1000 * seed + 1', '"seed": 7', f"{SEARCH}::test_a_search_repeats_with_its_seed_and_only_with_it"),
        ("math.ceil(TRIALS * EPOCHS / 30)", "math.ceil(TRIALS * EPOCHS / 10)", f"{SEARCH}::test_all_spend_as_many"),
        (
            "np.arange(count) * len(values) // count",
            "np.arange(count)",
            f"{SEARCH}::test_grids_are_complete_and_evenly",
        ),
    ),
    *of(
        "pipelines/batches.py",
        (
            "seed=tf.stack([seed, number]))",
            "seed=tf.stack([seed, 0 * number]))",
            f"{FEED}::test_the_order_of_images_is_new",
        ),
        (
            "tf.stack([seed, number * steps + step])",
            "tf.stack([seed, step])",
            f"{FEED}::test_augmentation_differs_between",
        ),
        ("split.images[:, :, ::-1]] if flip", "split.images] if flip", f"{FEED}::test_augmentation_differs_between"),
        (
            "tf.gather(its_labels, tf.concat(members, axis=0))",
            "tf.gather(its_labels, index)",
            f"{FEED}::test_augmentation_keeps",
        ),
        (
            "slices.batch(batch_size).cache()",
            "slices.batch(batch_size, drop_remainder=True).cache()",
            f"{FEED}::test_evaluation",
        ),
        (
            "(_read(split.images, index), labels)",
            "(_read(split.images, index - 1), labels)",
            f"{FEED}::test_images_on_disk",
        ),
    ),
    *of(
        "pipelines/sources.py",
        ("out = rank >= per_class", "out = rank < per_class", f"{DATA}::test_a_split_is_stratified"),
        ('f"{seed}/{name}".encode()', 'f"{name}".encode()', f"{DATA}::test_the_split_is_the_same_on_every_machine"),
        ("        if _closed:\n", "        if not _closed and False:\n", f"{DATA}::test_while_a_run_is_under_way"),
        ("_statistics(train.chunks())", '_statistics(parts["test"].chunks())', f"{DATA}::test_statistics_come_from"),
        ("< images // classes", "<= images // classes", f"{DATA}::test_smaller_training_parts_nest"),
        ("OTHER_SHARE, 0)", "OTHER_SHARE, split_seed)", f"{DATA}::test_the_test_part_of_ones_own_images_is_the_same"),
    ),
    *of(
        "pipelines/cifar10.py",
        ("hexdigest() != SUMS_DIGEST", 'hexdigest() == ""', f"{DATA}::test_damaged_data_is_noticed_at_every_load"),
        ("        if found != digest:", "        if not found:", f"{DATA}::test_damaged_data_is_noticed_at_every_load"),
    ),
    *of(
        "lab/search/kills.py",
        (
            "for name in oracle.start_order}",
            "for name in oracle.trials}",
            f"{SEARCH}::test_a_search_that_was_killed_while",
        ),
        ('Path(f"{path}.{os.getpid()}")', "Path(path)", f"{SEARCH}::test_a_search_that_was_killed_while"),
    ),
    *of(
        "pipelines/image_cache.py",
        ("_digest_of(arrays[name]) == digest", "digest", f"{DATA}::test_damage_to_what_is_kept"),
    ),
    *of(
        "lab/core/scoring.py",
        ("train_accuracy - test_accuracy", "test_accuracy - train_accuracy", SCORES),
        ("return float(-log_softmax(", "return float(log_softmax(", SCORES),
        ("(target - before) / (after - before)", "(after - target) / (after - before)", f"{MEASURES}::test_epochs_to"),
        (
            "np.linspace(0, len(data.train) - 1, min(",
            "np.linspace(0, len(test) - 1, min(",
            f"{MEASURES}::test_the_training_accuracy",
        ),
    ),
    *of(
        "lab/core/timing.py",
        (
            "np.log(self.seconds[variant]) - np.log(self.seconds[than])",
            "np.log(self.seconds[than]) - np.log(self.seconds[variant])",
            f"{MEASURES}::test_log_ratios_by_hand",
        ),
        (
            "for name in order.permutation(list(steps)):",
            "for name in list(steps):",
            f"{MEASURES}::test_log_ratios_by_hand",
        ),
        ("for _ in range(steps - left_out):", "for _ in range(steps):", f"{MEASURES}::test_log_ratios_by_hand"),
    ),
    *of(
        "lab/core/callbacks.py",
        (">= self.target", "< self.target", f"{OPTIMIZERS}::test_a_race_ends_at_the_target_and_counts_its_epochs"),
        (
            'self.add("tracing", self._first[1] - typical)',
            'self.add("tracing", typical)',
            f"{MEASURES}::test_a_stopwatch_tells",
        ),
    ),
    *of(
        "lab/execute/job.py",
        ("set_random_seed(job.seed)", "set_random_seed(0)", f"{MEASURES}::test_a_seed_fixes_the_initial_weights"),
        ("with sources.test_set_closed():", "if True:", f"{OPTIMIZERS}::test_a_recipe_that_reads_the_test_set_early"),
    ),
    *of(
        "lab/core/run.py",
        ("if self._test_was_read:", "if False:", f"{OPTIMIZERS}::test_nothing_is_trained_after_the_test_set_was_read"),
        (
            "None in losses or not found.finite",
            "None in losses and not found.finite",
            f"{MEASURES}::test_a_run_has_diverged",
        ),
    ),
    *of(
        "lab/claims.py",
        ("sign = -1.0 if claim.lower", "sign = 1.0 if claim.lower", f"{CLAIMS}::test_lower_is_the_mirror_image"),
        ("    elif low > by:\n", "    elif high > by:\n", f"{CLAIMS}::test_the_words_of_a_difference"),
        ("FAMILY_ERROR / len(looks) / claims", "FAMILY_ERROR / claims", f"{CLAIMS}::test_interval_and_effect"),
        ("if together := _all_hold(whole):", "if False:", f"{CLAIMS}::test_holding_together_costs_no_level"),
        ('if found.word != "open":\n            break', "pass", f"{CLAIMS}::test_a_comparison_keeps_the_word"),
        ("a[seed] - b[seed]", "b[seed] - a[seed]", f"{CLAIMS}::test_interval_and_effect"),
    ),
    *of(
        "lab/report/report.py",
        ("if look >= seeds", "if look > seeds", f"{CLAIMS}::test_what_it_takes_is_named_by_the_look"),
        ("(look for look in LOOKS", "(seeds for look in LOOKS", f"{CLAIMS}::test_what_it_takes_is_named_by_the_look"),
        (
            "levels_of(self.records, name, name in self.recipe.timed)",
            "levels_of(self.records, name, False)",
            f"{MEASURES}::test_seeds_that_one_variant_alone_has",
        ),
    ),
    *of(
        "lab/report/figure.py",
        ("metric, unit.timed)", "metric, False)", f"{MEASURES}::test_seeds_that_one_variant_alone_has"),
    ),
    *of(
        "lab/search/search.py",
        ("num_initial_points=RANDOM_FIRST", "num_initial_points=None", f"{SEARCHING}::test_each_tuner_is_the_one"),
        (
            'kt.Objective(OBJECTIVE, "max")',
            'kt.Objective(OBJECTIVE, "min")',
            f"{SEARCHING}::test_each_tuner_is_the_one",
        ),
        ("        order_again(oracle)\n", "        pass\n", f"{SEARCHING}::test_an_interrupted_search_goes_on"),
        ("-(trial[OBJECTIVE] or 0.0)", "trial[OBJECTIVE] or 0.0", f"{SEARCHING}::test_a_search_finds_the_best"),
    ),
    *of(
        "lab/execute/cluster.py",
        ("and not all(_through", "and not any(_through", f"{DISTRIBUTED}::test_a_worker_stays_until"),
    ),
    *of(
        "lab/tuning.py",
        (
            "(1 if self.lower else -1)",
            "(-1 if self.lower else 1)",
            f"{TUNING}::test_a_diverged_trial_never_wins",
        ),
        ("if edge == value != wider", "if edge == -value != wider", f"{TUNING}::test_a_winner_at_the_edge_is_widened"),
        ("return low <= value <= high", "return True", f"{TUNING}::test_nothing_is_tried_beyond"),
        ("SEED = 0\n", "SEED = 1\n", f"{TUNING}::test_a_winner_at_the_edge_is_widened"),
        (">= y.max() - GOOD", ">= y.max() - GOOD / 4", f"{TUNING}::test_good_decades_interpolates"),
    ),
    *of(
        "lab/evidence/records.py",
        (
            'record["status"] != "failed"]',
            'record["status"] == "finished"]',
            f"{EVIDENCE}::test_a_failed_run_has_no_value",
        ),
    ),
    *of(
        "lab/report/report.py",
        (
            "unit.show(statistics.mean(values)) + spread",
            "unit.show(max(values)) + spread",
            f"{MEASURES}::test_a_table_gives",
        ),
        ("statistics.stdev(values)", "statistics.pstdev(values)", f"{MEASURES}::test_a_table_gives"),
    ),
    *of(
        "lab/report/publish.py",
        (
            "mean - FLOOR_DEVIATIONS * deviation",
            "mean + FLOOR_DEVIATIONS * deviation",
            f"{PUBLISHED}::test_a_floor_is_five",
        ),
    ),
    *of(
        "lab/tensorboard/pictures.py",
        (
            "np.add.at(counts, (labels, predicted), 1)",
            "np.add.at(counts, (predicted, labels), 1)",
            f"{BOARD}::test_the_confusion_matrix_has",
        ),
        (
            "np.flatnonzero(predicted != test.labels)",
            "np.flatnonzero(predicted == test.labels)",
            f"{COMPARE}::test_misclassified_images_are",
        ),
    ),
    *of(
        "lab/tensorboard/callback.py",
        ("[constant] * (until - self._written - len(rates))", "[constant]", f"{BOARD}::test_a_constant_rate_is_there"),
    ),
    *of("pipelines/folders.py", ("if _bits(path) > 8:", "if False:", f"{OWN}::test_a_folder_that_will_not_do")),
    *of(
        "lab/evidence/code_hash.py",
        ("node.returns = None", "pass", f"{EVIDENCE}::test_what_train_reaches_counts"),
        ("return ast.Raise(kind)", "return node", f"{EVIDENCE}::test_what_train_reaches_counts"),
        ("return ast.arg(node.arg)", "return node", f"{EVIDENCE}::test_what_train_reaches_counts"),
        ("todo += _uses(node, place[0])", "pass", f"{EVIDENCE}::test_what_train_reaches_counts"),
        ('method[1].split(".")[1] in named', "False", f"{EVIDENCE}::test_what_train_reaches_counts"),
        (
            "(module, CALLS), *AROUND]",
            "(module, CALLS)]",
            f"{EVIDENCE}::test_the_feed_and_what_is_done",
        ),
    ),
    *of(
        "lab/evidence/carry_over.py",
        (
            '"curves", "correct", "weights", "settings")',
            '"curves", "correct", "settings")',
            f"{ATTESTING}::test_each_part_of_a_record",
        ),
        ("- set(timed)", "- {*a['metrics'], *timed}", f"{ATTESTING}::test_each_part_of_a_record"),
        ("new_runs, recipe.timed)", "new_runs, dropped)", f"{ATTESTING}::test_what_was_carried_once"),
        ("int(now, 16) % (len(of_all) - 1)", "0", f"{ATTESTING}::test_the_seeds_are_the_first_one"),
        ("in chosen or r[", "in chosen and r[", f"{ATTESTING}::test_what_diverged_is_run_again"),
        ('name.endswith("+changes")', "False", f"{ATTESTING}::test_a_cheat_is_refused"),
        ('!= found["code"]:', '== "":', f"{ATTESTING}::test_a_cheat_is_refused"),
        ("if claimed and claimed <= set(timed):", "if False:", f"{ATTESTING}::test_times_stay_behind"),
    ),
    *of(
        "lab/evidence/lineage.py",
        ('if name not in link["dropped"]', "if True", f"{ATTESTING}::test_links_are_followed"),
        ('if found.get("code") != link["from"]:', "if False:", f"{ATTESTING}::test_links_are_followed"),
    ),
    *of(
        "lab/report/advice.py",
        ("abs(Decimal(value) - digits)", "abs(abs(Decimal(value)) - digits)", f"{PRACTICE}::test_a_sign_that"),
        ("if not known[match.start()]:", "if False:", f"{PRACTICE}::test_a_number_that_nothing"),
        ('if "log" in metric else', 'if metric == "" else', f"{PRACTICE}::test_a_ratio_of_logarithms"),
    ),
    *of(
        "lab/core/timing.py",
        ("while calls[-1][1] > MOST_OTHERS and", "while False and", f"{MEASURES}::test_a_disturbed_block"),
        ("key=lambda call: call[1])", "key=lambda call: -call[1])", f"{MEASURES}::test_a_disturbed_block"),
        ("(busy - own) /", "busy /", f"{MEASURES}::test_a_disturbed_block"),
    ),
    *of(
        "lab/tuning.py",
        ("-entry[1] if lower else entry[1]", "entry[1]", f"{TUNING}::test_each_variant_may_have_an_objective"),
        ("worth(best) - best[2]", "worth(best)", f"{TUNING}::test_the_best_three_win_by_their_means"),
        (
            "if len(values) == 1 + len(self.final_seeds) and all(",
            "if all(",
            f"{TUNING}::test_what_diverged_at_one_seed",
        ),
    ),
    *of(
        "lab/execute/job.py",
        ("run.data = splits.of_seed(run.data, job.seed)", "pass", f"{DATA}::test_each_seed_has_a_split_of_its_own"),
    ),
    *of(
        "lab/report/report.py",
        ("sign = -1 if claim.lower or claim.falling else 1", "sign = 1", f"{CHAIN}::test_the_ledger_says"),
        (
            "unit.show(sign * comparison.mean, sign=True)",
            "unit.show(comparison.mean, sign=True)",
            f"{CHAIN}::test_the_ledger_says",
        ),
    ),
    *of(
        "lab/core/scoring.py",
        ("train_accuracy - test_accuracy", "test_accuracy - train_accuracy", f"{CHAIN}::test_the_ledger_says"),
    ),
    *of(
        "lab/report/forest.py",
        ("comparison.mean / by", "-comparison.mean / by", f"{CHAIN}::test_the_picture"),
    ),
    *of(
        "lab/tensorboard/comparison.py",
        ("else a - b for a, b", "else b - a for a, b", f"{COMPARE}::test_a_curve_is_the_mean"),
        ("lines = {tag: np.nanmean(shown, axis=0)}", "lines = {tag: shown[0]}", f"{COMPARE}::test_a_curve_is_the_mean"),
        ("    for old in before:\n        old.unlink()\n", "", f"{COMPARE}::test_what_is_written_anew"),
        ("when=0.0)\n    write_json", ")\n    write_json", f"{COMPARE}::test_reference_curves_are"),
    ),
    *of(
        "lab/tensorboard/callback.py",
        ("(self._written + int(place),", "(int(place),", f"{COMPARE}::test_a_run_leaves_the_rates"),
    ),
    *of(
        "lab/tensorboard/server.py",
        ("    return links\n", "    shutil.rmtree(links)\n    return links\n", f"{COMPARE}::test_a_board_shows_the"),
    ),
    *of(
        "lab/tensorboard/following.py",
        ("if any(job.alone for job in jobs) or", "if", f"{COMPARE}::test_the_log_is_written_anew_while"),
        ("    thread.start()\n", "    return\n", f"{COMPARE}::test_the_log_is_written_anew_while"),
    ),
    *of(
        "recipes/monitoring.py",
        ("step_num=batch, _r=1", "step_num=batch", f"{MONITORING}::test_the_profile_page_says_the_same"),
        ("Profiler(folder, before + 1,", "Profiler(folder, 1,", f"{MONITORING}::test_a_slow_feed_is_told"),
        ("files.map(decode).batch(batch_size).cache()", "files.map(decode).batch(batch_size)", AGAIN),
        (".take(1).cache().repeat()", ".cache().repeat()", AGAIN),
        (
            "feed.batch(batch_size).prefetch(tf.data.AUTOTUNE)",
            "feed.batch(batch_size)",
            f"{MONITORING}::test_only_overlapped_works_ahead",
        ),
        ("saved = 1 - ready / seconds", "saved = 1 - seconds / ready", f"{MONITORING}::test_metrics_by_hand"),
        ("saved - said.waiting", "said.waiting - saved", f"{MONITORING}::test_metrics_by_hand"),
    ),
    *of(
        "lab/tensorboard/profile.py",
        ("if any(start <= begin < start + of_step for", "if any(True for", f"{MONITORING}::test_a_profile_by_hand"),
        (', "IteratorGetNextAsOptionalOp::DoCompute")', ",)", f"{MONITORING}::test_a_profiled_run_says"),
    ),
    *of(
        "lab/report/figure.py",
        ("groups[-1] += last", "groups.append(last); break", f"{MEASURES}::test_names_beside_lines"),
    ),
    *of(
        "lab/measurement.py",
        ("feed(name, data, config)", 'feed("none", data, config)', f"{REGULARIZATION}::test_the_sample_that_is_shown"),
    ),
    *of(
        "pipelines/terminal.py",
        ('stream.reconfigure(errors="replace")', "pass", f"{TERMINAL}::test_what_a_terminal_can_not_show"),
        ("error is None or error.errno == errno.EPIPE", "error is None", f"{TERMINAL}::test_whoever_reads_a_pipe"),
        ("os._exit(code)", "os._exit(1)", f"{TERMINAL}::test_ctrl_c_during_the_start"),
        ("    raise Ended\n", "    raise KeyboardInterrupt\n", f"{MACHINE}::test_a_command_that_is_told_to_end"),
        ('    os.environ["TMPDIR"] = str(folder)\n', "", f"{MACHINE}::test_a_command_has_a_temporary"),
    ),
    *of(
        "lab/evidence/schemas.py",
        (
            "abs(counted - accuracy) < 1e-6",
            "abs(counted - accuracy) < 1",
            f"{EVIDENCE}::test_what_is_wrong_with_evidence",
        ),
        ("not 0 <= value <= 1", "not 0 <= value <= 100", f"{EVIDENCE}::test_what_is_wrong_with_evidence"),
        ("if found.get(SEAL) == _hash(record)", "if True", f"{FORMATS}::test_a_record_is_kept_as_it_was"),
        ("abs(value) < LARGEST", "True", f"{FORMATS}::test_each_field"),
        ('("curve", _list_of(_anything), "a list of records"),\n', "", f"{FORMATS}::test_each_field"),
        (
            '    ("drawn", _list_of(_with(_EFFECT)), "a list of effects"),\n',
            "",
            f"{FORMATS}::test_each_field",
        ),
        ("_by_name(_with(_FLOOR))", "_by_name(_anything)", f"{FORMATS}::test_each_field"),
        ('("epochs", _whole, "a whole number"),', "", f"{FORMATS}::test_any_progress"),
        ('    ("to", _text, "a hash"),\n', "", f"{FORMATS}::test_any_links"),
    ),
    *of(
        "lab/table.py",
        (" or self._complaint(record, records[0])", "", f"{FORMATS}::test_a_table_lacks"),
        ("tried != whole or ", "", f"{FORMATS}::test_a_table_lacks"),
    ),
    *of(
        "lab/cli/validate.py",
        ("not least <= value <= MOST", "value < least", f"{FLAGS}::test_bounds_and_names"),
        ("or max(seeds) > LARGEST_SEED", "", f"{FLAGS}::test_bounds_and_names"),
        ("if not path.isprintable():", "if False:", f"{FLAGS}::test_bounds_and_names"),
    ),
    *of(
        "lab/cli/exits.py",
        ("return USAGE, str(error)", "return FAILURE, str(error)", f"{FLAGS}::test_any_flag_value"),
    ),
    *of(
        "lab/execute/executor.py",
        ('.split()[0] in "Tt"', '.split()[0] in "X"', f"{MACHINE}::test_a_worker_that_stands_still"),
        ("NO_SHARED_MEMORY if no_semaphore", "NO_SHARED_MEMORY if False", f"{MACHINE}::test_no_room_in_shared_memory"),
        ("port.isdecimal() and int(port) < 65536", "port.isdecimal()", f"{MACHINE}::test_a_cluster_that_does_not"),
    ),
    *of(
        "lab/execute/invocation.py",
        ("when = max([datetime.now(),", "when = min([datetime.now(),", f"{MACHINE}::test_a_clock_that_was_set_back"),
    ),
    *of(
        "lab/report/in_place.py",
        (
            "if not place.exists():\n                old.rename",
            "if False:\n                old.rename",
            f"{MACHINE}::test_what_a_killed_publish",
        ),
    ),
    *of(
        "pipelines/download.py",
        ("if _sum(part) != sha256:", "if False:", f"{MACHINE}::test_a_download_that_fails"),
        ('{"Range": f"bytes={have}-"} if have else {}', "{}", f"{MACHINE}::test_a_download_that_fails"),
        ("timeout=(ANSWERS, SILENCE)", "timeout=None", f"{MACHINE}::test_a_download_that_fails"),
        (
            "                file.truncate(0)\n",
            "                pass\n",
            f"{MACHINE}::test_a_server_that_knows_no_ranges",
        ),
    ),
    *of(
        "pipelines/folders.py",
        ("        _check_links(folder, files)\n", "        pass\n", f"{HOSTILE}::test_no_link_leads_out"),
        (
            "if image.width * image.height > MOST_PIXELS:",
            "if False:",
            f"{HOSTILE}::test_a_small_file_with_a_large_image",
        ),
        ("Image.open(path, formats=FORMATS)", "Image.open(path)", f"{HOSTILE}::test_of_other_formats"),
        ("if len(names) > MOST_FOLDERS:", "if False:", f"{HOSTILE}::test_a_folder_of_very_many"),
    ),
    *of(
        "lab/search/kills.py",
        (
            "        oracle._retry_queue.remove(name)\n",
            "        continue\n",
            f"{SEARCH}::test_a_search_that_was_killed_while",
        ),
        ('    if "draws" in state:\n', "    if False:\n", f"{SEARCH}::test_a_search_that_was_stopped_goes_on"),
    ),
    *of(
        "recipes/search.py",
        ("        keras.utils.set_random_seed(self.seed)\n", "", f"{SEARCH}::test_each_trial_begins"),
    ),
    *of(
        "lab/execute/scheduler.py",
        ("or broken_seal", "", f"{FORMATS}::test_a_record_is_kept_as_it_was"),
    ),
]
