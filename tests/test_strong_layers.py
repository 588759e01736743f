"""The arithmetic of the strong baseline's layers is counted as it is done."""

import pytest

from benchmarks import strong_layers
from recipes import strong_baseline


@pytest.fixture(scope="module")
def net():
    return strong_baseline.build_model((32, 32, 3), 10)


def test_gradients_that_training_does_not_need_are_not_counted(net):
    passes = strong_layers.passes_of(net)
    assert list(passes.values())[:5] == [1, 1, 1, 2, 3]  # Rescaling, whitening, activation, the first convolution.
    assert set(list(passes.values())[5:]) == {3}
    assert len(passes) == len(net.layers) - 1


def test_a_convolution_counts_two_flops_for_each_product_and_a_layer_without_weights_none(net):
    first = next(layer for layer in net.layers if layer.name.startswith("conv2d"))
    assert strong_layers.flops(first, 10, 2) == 2 * 2 * 10 * 31 * 31 * 3 * 3 * 24 * 32
    assert strong_layers.flops(net.get_layer("head"), 10, 3) == 3 * 2 * 10 * 128 * 10
    assert strong_layers.flops(net.layers[1], 10, 1) == 0


@pytest.mark.processes
def test_the_table_has_a_row_for_each_layer_and_the_whole_step():
    table = strong_layers.rows(0.125, 4, 1)
    names = [row[0] for row in table]
    assert names[0].startswith("rescaling")
    assert names[-4:-1] == ["optimizer", "all of these", "a whole step, with augmentation and loss"]
    assert len(names) == 29 + 4  # Of the whitening, three blocks and the head, and of all together.
    assert all(float(row[3]) > 0 for row in table[:-1])
