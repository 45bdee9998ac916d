import pytest
import torch

from worldmodel.model.encoders import AttentionBlock, GruEncoder, TransformerEncoder
from worldmodel.model.world_model import ENCODERS

INPUTS, HISTORY, HIDDEN, CONTEXT = 3, 4, 16, 5


def encoder(name, history=HISTORY, inputs=INPUTS, hidden=HIDDEN):
    torch.manual_seed(0)
    return ENCODERS[name](inputs, history, hidden, CONTEXT).eval()


def frames(batch=6, history=HISTORY, seed=0):
    return torch.randn(batch, history, INPUTS, generator=torch.Generator().manual_seed(seed))


every_encoder = pytest.mark.parametrize("name", ENCODERS)


@every_encoder
def test_every_frame_of_the_history_counts_and_so_does_their_order(name):
    model, history = encoder(name), frames()
    for t in range(HISTORY):
        other = history.clone()
        other[:, t] += 1
        assert not torch.allclose(model(other), model(history), atol=1e-5)
    if name != "transformer":  # whose positions start equal and are learned
        assert not torch.allclose(model(history.flip(1)), model(history), atol=1e-5)


def test_the_gru_is_its_textbook_recurrence():
    model, history = encoder("gru"), frames()
    assert isinstance(model, GruEncoder)
    gru = model.gru
    hidden = torch.zeros(len(history), HIDDEN)
    for frame in history.unbind(1):
        from_frame = (frame @ gru.weight_ih_l0.T + gru.bias_ih_l0).chunk(3, dim=1)
        from_hidden = (hidden @ gru.weight_hh_l0.T + gru.bias_hh_l0).chunk(3, dim=1)
        reset, update = (torch.sigmoid(from_frame[i] + from_hidden[i]) for i in (0, 1))
        new = torch.tanh(from_frame[2] + reset * from_hidden[2])
        hidden = (1 - update) * new + update * hidden
    torch.testing.assert_close(model(history), hidden)


def test_learned_positions_tell_the_order():
    model, history = encoder("transformer"), frames()
    assert isinstance(model, TransformerEncoder)
    earlier_swapped = history[:, [1, 0, 2, 3]]
    torch.testing.assert_close(model(earlier_swapped), model(history))
    torch.nn.init.normal_(model.position)
    assert not torch.allclose(model(earlier_swapped), model(history), atol=1e-5)


@pytest.mark.parametrize(("hidden", "heads"), [(16, 1), (64, 1), (128, 2), (192, 3), (130, 2), (131, 1), (256, 4)])
def test_heads_divide_the_hidden_size(hidden, heads):
    assert AttentionBlock(hidden).heads == heads


def test_attention_is_softmax_of_scaled_products():
    torch.manual_seed(0)
    block, given = AttentionBlock(128), torch.randn(2, 5, 128)
    found = block._attend(given)
    for head in range(2):
        query, key, value = (part[..., head * 64 : (head + 1) * 64] for part in block.qkv(given).chunk(3, dim=-1))
        weight = torch.softmax(query @ key.transpose(1, 2) / 64**0.5, dim=-1)
        torch.testing.assert_close(found[..., head * 64 : (head + 1) * 64], weight @ value)
