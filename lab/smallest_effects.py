"""The smallest effect that matters of each metric, δ, in the metric's own unit, with the reason for it.

Every claim about a metric has the metric's δ. A number in a claim's sentence ("ten points", "35 % less") is a threshold
and no δ: it is the claim's `at_least`.

Most rows were written on 26 and 27 November 2026, after the first evidence had been seen. They were chosen by what
would matter to a reader, yet nobody can show that they were chosen blindly: with the values that single claims had
before, five of the first verdicts read differently. From here on a row is committed before the evidence that it is
applied to, and one that is changed needs evidence from seeds that nobody has seen.
"""

import math

A_TWENTIETH = "a twentieth of the time: less is not worth a change of code"
ROUNDING = "far above what rounding leaves of float64, and far below what any mistake does"

SMALLEST: dict[str, tuple[float, str]] = {
    "test_accuracy": (0.01, "a point: another draw of as many test images moves a difference by up to half of that"),
    "strong_accuracy": (0.005, "half a point: a twentieth of the errors that are left at 90 %"),
    "new_accuracy": (0.02, "two points: another draw of as many test images moves a difference by up to that"),
    "known_accuracy": (0.01, "a point, as for test images"),
    "kept": (0.1, "a tenth of what pretraining gives"),
    "train_accuracy": (0.01, "a point, as for test images"),
    "running_accuracy": (0.01, "a point, as for test images"),
    "generalization_gap": (0.01, "a point, as for the accuracies that it is a difference of"),
    "epochs_to_target": (0.25, "a twentieth of the five epochs that a training may take"),
    "epochs_needed": (0.5, "a tenth of about five epochs, as of the time to an accuracy"),
    "epochs": (3.0, "a tenth of the thirty epochs that there are"),
    "good_decades": (0.25, "half a step of the grid of rates that it is read from"),
    "log_time": (0.05, A_TWENTIETH),
    "log_seconds": (0.1, "a tenth of the time to an accuracy: less is not worth one technique more to understand"),
    "log_inference": (math.log(1.2), "a fifth faster, as was asked for before the first measurement"),
    "step_log_ratio": (0.05, A_TWENTIETH),
    "log_feed_time": (0.05, A_TWENTIETH),
    "waiting": (0.05, A_TWENTIETH),
    "unseen": (0.05, A_TWENTIETH),
    "log_memory": (0.1, "a tenth of the memory: about what the next larger batch size needs more"),
    "log_first_gradient": (math.log(10) / 2, "half a decade: as much as a step of the grid of rates could make up for"),
    "log_passed": (0.1, "a tenth a layer, which after twelve layers is a factor of three"),
    "missed": (0.01, "a point, as for the accuracies that it is a difference of"),
    "diminished": (0.01, "a point, as for the accuracies that it is a difference of"),
    "log_crossing": (math.log(2), "a doubling: the numbers of images that are tried are about that far apart"),
    "leaky_accuracy": (0.01, "a point, as for test images"),
    "log_spread": (math.log(1.2), "a fifth of the spread: what half as many images again would take off"),
    "log_error": (math.log(1.2), "a fifth of the error: what half as many images again would take off"),
    "best_share": (0.05, "a twentieth of the images, about half of a step between the shares that are tried"),
    "relative_spread": (0.1, "a tenth of the spread, which as many more repetitions could not tell"),
    "optimism": (0.01, "a point, as for the accuracies that it is a difference of"),
    "rare_accuracy": (0.01, "a point, as for test images"),
    "memory_but_state": (0.2, "a fifth of the weights, and a tenth of what Adam holds"),
    "log_memory_held": (0.1, "a tenth of the memory, as of that of a step"),
    "memory_growth": (1.0, "a MiB a training, which fills a GiB after a thousand of them"),
    "agreement": (0.05, "a twentieth of the largest agreement that there is"),
    "log_rate": (0.25, "half a step of a grid of rates, as for the width of a good range"),
    "jump": (0.01, "a point, as for the accuracies that it is a difference of"),
    "explained_variance": (0.05, "a twentieth of the variance"),
    "table_accuracy": (0.01, "a point, as for test images"),
    "dead": (0.05, "a twentieth of the units"),
    "spread": (0.01, "a point, as for the accuracies that it is a difference of"),
    "log_step": (0.05, "a twentieth of the length: less than neighboring rates of a grid differ by"),
    "clipped": (0.05, "a twentieth of the steps"),
    "weight_norm": (2.0, "a tenth of the norm without a penalty"),
    "near_zero": (0.1, "a tenth of all weights"),
    "exactly_zero": (0.1, "a tenth of all weights"),
    "apart_float64": (1e-6, ROUNDING),
    "apart_none": (1e-6, ROUNDING),
    "apart_synchronized": (1e-6, ROUNDING),
    "apart_plain": (1e-3, "a thousand times what rounding leaves"),
    "auc": (0.03, "three pairs of images in a hundred put in the right order"),
    "chosen_accuracy": (0.01, "a point, as for test images"),
    "explained": (0.1, "a tenth of the variance"),
    "share_of_grid": (0.1, "a tenth of the trainings"),
    "log_luck": (math.log(2) / 2, "what doubles the number of seeds that a comparison needs"),
    "gain": (0.01, "a point, as for test images"),
    "wrong": (0.05, "one comparison in twenty"),
    "apart": (0.01, "a point, as for test images"),
    "lost": (0.01, "a point, as for test images"),
    "saved": (0.01, "a point, as for test images"),
    "saved_whole": (0.01, "a point, as for test images"),
    "gain_elsewhere": (0.01, "a point, as for test images"),
    "kinds_shown": (1.0, "one kind of curve or histogram"),
}
