"""Prefill and steps of every part with a memory, held against the pass over the whole sequence."""

import pytest
import torch
from tiny_models import STEPPED, TINY, tiny_model

from genotok.errors import InputError
from genotok.kernels.ragged import Ragged
from genotok.models.chunkers.routing import Boundaries, RoutingChunker
from genotok.models.chunkers.upsampling import EMAUpsampler
from genotok.models.mixer_config import HyenaConfig, Mamba2Config
from genotok.models.mixers.attention import Attention
from genotok.models.mixers.hyena import Hyena
from genotok.models.mixers.key_values import AttentionCache, KeyValueStore
from genotok.models.mixers.mamba2 import Mamba2, Mamba2Cache

WIDTH = 16
PROMPTS = torch.tensor([1, 2, 9, 4, 3])
STEPS = 24
MIXERS = {
    "attention": lambda: Attention(WIDTH, 2, 4, -1, 10_000.0),
    "attention without rotation": lambda: Attention(WIDTH, 2, 0, -1, 10_000.0),
    "attention that sees itself": lambda: Attention(WIDTH, 2, 4, 0, 10_000.0),
    "window shorter than prompts": lambda: Attention(WIDTH, 2, 4, 2, 10_000.0),
    "window that fills later": lambda: Attention(WIDTH, 2, 4, 19, 10_000.0),
    "grouped queries": lambda: Attention(WIDTH, 4, 4, -1, 10_000.0, kv_heads=2),
    "one head of keys": lambda: Attention(WIDTH, 4, 2, 5, 10_000.0, bias=True, kv_heads=1),
    "hyena": lambda: Hyena(WIDTH, HyenaConfig(max_length=200, d_filter=8)),
    "hyena of order 4": lambda: Hyena(WIDTH, HyenaConfig(4, max_length=33, d_filter=8, frequency=1.0)),
    "hyena with one tap": lambda: Hyena(WIDTH, HyenaConfig(max_length=64, d_filter=8, d_conv=1)),
    "mamba2": lambda: Mamba2(WIDTH, Mamba2Config(8, 4, 2, 8, 4), 1e-5),
    "mamba2 with one tap": lambda: Mamba2(WIDTH, Mamba2Config(8, 1, 2, 8, 4), 1e-5),
}


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(params=MIXERS)
def mixer(request):
    torch.manual_seed(3)
    return MIXERS[request.param]()


def rows_of(lengths, seed=0):
    """(B, L, D) padded rows, and the first `lengths` of each packed."""
    padded = torch.randn(len(lengths), int(lengths.max()) + STEPS, WIDTH, generator=_seeded(seed))
    return padded, _packed(padded, lengths)


def _seeded(seed):
    return torch.Generator().manual_seed(seed)


def _packed(padded, lengths):
    return torch.cat([row[:length] for row, length in zip(padded, lengths, strict=True)])


def last_of(mixer, padded, lengths):
    """(B, D): what the pass over everything gives at each sequence's last row."""
    ragged = Ragged.from_lengths(lengths)
    return mixer(_packed(padded, lengths), ragged)[ragged.last_rows]


def test_prefill_is_the_forward_pass(mixer):
    _, packed = rows_of(PROMPTS)
    ragged = Ragged.from_lengths(PROMPTS)
    assert torch.equal(mixer.prefill(packed, ragged)[0], mixer(packed, ragged))


def test_steps_of_all_sequences(mixer):
    padded, packed = rows_of(PROMPTS)
    _, cache = mixer.prefill(packed, Ragged.from_lengths(PROMPTS))
    lengths = PROMPTS.clone()
    for _ in range(STEPS):
        found = mixer.step(padded[torch.arange(5), lengths], cache)
        lengths += 1
        torch.testing.assert_close(found, last_of(mixer, padded, lengths), atol=1e-5, rtol=1e-5)


def test_steps_of_some_sequences(mixer):
    """Each step takes other sequences of the batch, in an order of its own; the rest stay as they are."""
    padded, packed = rows_of(PROMPTS)
    _, cache = mixer.prefill(packed, Ragged.from_lengths(PROMPTS))
    lengths, random = PROMPTS.clone(), _seeded(1)
    for step in range(STEPS):
        rows = torch.randperm(5, generator=random)[: 1 + step % 5]
        part = cache.select(rows)
        found = mixer.step(padded[rows, lengths[rows]], part)
        cache.put(rows, part)
        lengths[rows] += 1
        torch.testing.assert_close(found, last_of(mixer, padded, lengths)[rows], atol=1e-5, rtol=1e-5)
    assert len(set((lengths - PROMPTS).tolist())) > 1


def test_a_selection_of_a_selection(mixer):
    padded, packed = rows_of(PROMPTS)
    _, cache = mixer.prefill(packed, Ragged.from_lengths(PROMPTS))
    outer, inner = torch.tensor([4, 2, 0]), torch.tensor([1, 0])
    part = cache.select(outer)
    smaller = part.select(inner)
    mixer.step(padded[outer[inner], PROMPTS[outer[inner]]], smaller)
    part.put(inner, smaller)
    cache.put(outer, part)
    lengths = PROMPTS + torch.tensor([0, 0, 1, 0, 1])
    found = mixer.step(padded[torch.arange(5), lengths], cache)
    torch.testing.assert_close(found, last_of(mixer, padded, lengths + 1), atol=1e-5, rtol=1e-5)


def test_a_window_bounds_the_memory():
    keys = torch.randn(40, 2, 8)
    store = KeyValueStore(keys, keys, Ragged.from_lengths(torch.tensor([30, 10])), window=6)
    cache = AttentionCache(store)
    before = cache.bytes
    assert before == 2 * 2 * 7 * 2 * 8 * 4
    for _ in range(20):
        seen, _, filled = cache.append(torch.randn(2, 2, 8), torch.randn(2, 2, 8))
        assert seen.shape[1] == 7
        assert filled.all()
    assert cache.bytes == before


def test_memory_without_a_window_grows_by_need():
    """Steps of single sequences do not make the memory longer than the longest sequence asks for."""
    keys = torch.randn(16, 1, 2)
    store = KeyValueStore(keys, keys, Ragged.from_lengths(torch.tensor([8, 8])), window=-1)
    for step in range(40):
        AttentionCache(store, torch.tensor([step % 2])).append(torch.randn(1, 1, 2), torch.randn(1, 1, 2))
    assert store.lengths.tolist() == [28, 28]
    assert store.capacity == 32


@pytest.mark.parametrize(("shared", "window"), [(1, -1), (2, 3)])
def test_shared_keys_are_equal_heads(shared, window):
    """As many heads of keys, each a copy of the shared one: the same numbers from a larger memory."""
    torch.manual_seed(2)
    grouped, plain = (Attention(WIDTH, 4, 4, window, 10_000.0, kv_heads=heads) for heads in (shared, None))
    q, keys = grouped.qkv.weight.split([WIDTH, 2 * shared * 4])
    copies = keys.view(2, shared, 4, WIDTH).repeat_interleave(4 // shared, 1).flatten(0, 2)
    plain.load_state_dict({"qkv.weight": torch.cat([q, copies]), "out.weight": grouped.out.weight})
    _, packed = rows_of(PROMPTS)
    ragged, caches = Ragged.from_lengths(PROMPTS), []
    for mixer in (grouped, plain):
        y, cache = mixer.prefill(packed, ragged)
        caches.append((y, cache, mixer.step(rows_of(PROMPTS, seed=9)[1][:5], cache)))
    (y, cache, step), (wanted, whole, wanted_step) = caches
    torch.testing.assert_close((y, step), (wanted, wanted_step), atol=1e-6, rtol=1e-5)
    assert cache.bytes * 4 == whole.bytes * shared


def test_the_cache_of_a_state_space_does_not_grow():
    mixer = MIXERS["mamba2"]()
    _, packed = rows_of(PROMPTS)
    _, cache = mixer.prefill(packed, Ragged.from_lengths(PROMPTS))
    assert isinstance(cache, Mamba2Cache)
    assert cache.bytes == 4 * 5 * (3 * (32 + 2 * 8) + 4 * 8 * 8)
    before = cache.bytes
    mixer.step(torch.randn(5, WIDTH), cache)
    assert cache.bytes == before


@pytest.mark.parametrize("kind", ["mamba2", "mamba2 with one tap"])
def test_rows_that_follow_on_a_cache(kind):
    """Ragged sequences in three parts, each from the states that the one before it left, and a step behind them."""
    torch.manual_seed(3)
    mixer = MIXERS[kind]()
    padded, _ = rows_of(PROMPTS)
    parts = [PROMPTS, torch.tensor([1, 7, 2, 1, 9]), torch.tensor([5, 1, 1, 12, 2])]
    done, cache = torch.zeros(5, dtype=torch.long), None
    for lengths in parts:
        rows = torch.cat(
            [row[start : start + n] for row, start, n in zip(padded, done, lengths, strict=True)]
        )
        ragged = Ragged.from_lengths(lengths)
        found, cache = mixer.prefill(rows, ragged, cache)
        done = done + lengths
        wanted = last_of(mixer, padded, done)
        torch.testing.assert_close(found[ragged.last_rows], wanted, atol=1e-5, rtol=1e-5)
    found = mixer.step(padded[torch.arange(5), done], cache)
    torch.testing.assert_close(found, last_of(mixer, padded, done + 1), atol=1e-5, rtol=1e-5)


def test_router():
    torch.manual_seed(0)
    router = RoutingChunker(WIDTH)
    padded, packed = rows_of(PROMPTS)
    ragged = Ragged.from_lengths(PROMPTS)
    found, cache = router.prefill(packed, ragged)
    assert torch.equal(found.prob, router(packed, ragged).prob)
    lengths, decisions = PROMPTS.clone(), []
    for _ in range(STEPS):
        step = router.step(padded[torch.arange(5), lengths], cache)
        lengths += 1
        ragged = Ragged.from_lengths(lengths)
        whole = router(_packed(padded, lengths), ragged)
        torch.testing.assert_close(step.prob, whole.prob[ragged.last_rows])
        assert torch.equal(step.mask, whole.mask[ragged.last_rows])
        decisions.append(step.mask)
    assert 0.2 < torch.cat(decisions).float().mean() < 0.8


def random_boundaries(probability, lengths):
    prob = _packed(probability, lengths)
    return Boundaries(prob, prob > 0.5, Ragged.from_lengths(lengths))


def test_upsampler():
    probability = torch.rand(5, 40, generator=_seeded(2))
    probability[:, 0] = 1.0
    states = torch.randn(5, 40, WIDTH, generator=_seeded(3))  # the chunk that begins at each place

    def whole(lengths):
        boundaries = random_boundaries(probability, lengths)
        return _packed(states, lengths)[boundaries.mask], boundaries, boundaries.chunk_layout()

    ema, arguments = EMAUpsampler(), (*whole(PROMPTS), None)
    upsampled, cache = ema.prefill(*arguments)
    assert torch.equal(upsampled, ema(*arguments))
    lengths, everyone = PROMPTS.clone(), torch.arange(5)
    for _ in range(STEPS):
        prob = probability[everyone, lengths]
        step = Boundaries(prob, prob > 0.5, Ragged.uniform(5, 1))
        begins = step.mask.nonzero()[:, 0]
        found = ema.step(states[begins, lengths[begins]], step, begins, None, cache)
        lengths += 1
        chunks, boundaries, layout = whole(lengths)
        wanted = ema(chunks, boundaries, layout, None)[boundaries.ragged.last_rows]
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", STEPPED)
def test_a_model_step_by_step(kind):
    """Ragged prompts of lengths 1, 2, ..., with chunks that begin at different steps in each sequence."""
    model = tiny_model(kind)
    ids = torch.randint(0, 4, (5, 33), generator=_seeded(4))
    whole = model(ids)
    prefilled = model(ids[:, :9], lengths=PROMPTS, use_cache=True)
    assert torch.equal(prefilled.logits, model(ids[:, :9], lengths=PROMPTS).logits)
    rows, lengths, begun = torch.arange(5), PROMPTS.clone(), []
    for _ in range(STEPS):
        found = model.step(ids[rows, lengths], prefilled.cache)
        torch.testing.assert_close(found, whole.logits[rows, lengths], atol=2e-5, rtol=1e-4)
        begun += [int(stage.mask[rows, lengths].sum()) for stage in whole.boundaries[:1]]
        lengths += 1
    assert not begun or any(0 < count < 5 for count in begun)


@pytest.mark.parametrize("kind", STEPPED)
def test_a_model_in_steps_of_fixed_shapes(kind, monkeypatch):
    """The same logits as plain steps give, without asking where chunks begin; sequences stay apart."""
    model, ids = tiny_model(kind), torch.randint(0, 4, (5, 33), generator=_seeded(4))
    caches = [model(ids[:, :9], lengths=PROMPTS, use_cache=True).cache for _ in range(2)]
    rows, lengths = torch.arange(5), PROMPTS.clone()
    for place in range(STEPS):
        if place % 10 == 0:
            caches[1].reserve(10)
        wanted = model.step(ids[rows, lengths], caches[0])
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "nonzero", None)
            patch.setattr(torch.Tensor, "__int__", None)
            found = model.fixed_step(ids[rows, lengths], caches[1])
        torch.testing.assert_close(found, wanted, atol=2e-6, rtol=1e-5)
        lengths += 1


def test_models_without_steps_say_so():
    model, given = tiny_model("one stage", chunkers={"kind": "given"}), torch.tensor([[True, False]])
    with pytest.raises(InputError, match="a model with GivenChunker cannot be run step by step"):
        model(torch.tensor([[1, 2]]), boundary_inputs=given, use_cache=True)


EXTENDED = [kind for kind in TINY if tiny_model(kind).can_extend]


def test_which_models_read_on_at_once():
    assert {"one stage", "two stages that widen", "transformer", "mamba", "static chunks"} <= set(EXTENDED)
    assert not {"hyena", "means of chunks", "positions"} & set(EXTENDED)


@pytest.mark.parametrize("kind", EXTENDED)
@pytest.mark.parametrize("further", [(1, 1, 1, 1, 1, 1, 1), (3, 1, 20, 7, 2, 24, 9)])
def test_continuations_of_prompts(kind, further):
    """Several of one prompt, in any order, some shorter than the next chunk's beginning."""
    model = tiny_model(kind)
    ids = torch.randint(0, 4, (7, 33), generator=_seeded(6))
    of_prompt, further = torch.tensor([4, 0, 2, 2, 1, 3, 0]), torch.tensor(further)
    prompts = torch.randint(0, 4, (5, 9), generator=_seeded(7))
    logits, cache = model.prefill(prompts, PROMPTS)
    before = cache.bytes
    for _ in range(2):  # the cache stays as it is
        found = model.extend(ids[:, : int(further.max())], cache, further, of_prompt)
        for row, (prompt, length) in enumerate(zip(of_prompt, further, strict=True)):
            read = torch.cat([prompts[prompt, : PROMPTS[prompt]], ids[row, :length]])
            whole = model(read[None]).logits[0]
            torch.testing.assert_close(found[row, :length], whole[-length:], atol=2e-5, rtol=1e-4)
            torch.testing.assert_close(logits[prompt], whole[-length - 1], atol=2e-5, rtol=1e-4)
            assert (found[row, length:] == 0).all()
    assert cache.bytes == before


def test_models_that_cannot_read_on_say_so():
    model = tiny_model("hyena")
    _, cache = model.prefill(torch.tensor([[1, 2]]))
    with pytest.raises(InputError, match="cannot read many tokens behind a cache at once"):
        model.extend(torch.tensor([[1]]), cache)


def test_no_cache_unless_asked():
    assert tiny_model("one stage")(torch.tensor([[1, 2]])).cache is None


def test_repeated_chunk_states():
    model = tiny_model("two stages that widen", upsamplers=["repeat", "ema"])
    ids = torch.randint(0, 4, (3, 30), generator=_seeded(4))
    whole, cache = model(ids).logits, model(ids[:, :5], use_cache=True).cache
    for place in range(5, 30):
        torch.testing.assert_close(model.step(ids[:, place], cache), whole[:, place], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["transformer", "mamba", "hyena", "grouped queries"])
def test_bfloat16(kind):
    """Under autocast a step stays near the whole pass."""
    model = tiny_model(kind)
    ids = torch.randint(0, 4, (3, 20), generator=_seeded(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cache = model(ids[:, :10], use_cache=True).cache
        for place in range(10, 20):
            found = model.step(ids[:, place], cache)
    wanted = model(ids).logits[:, -1]
    assert (found - wanted).norm() < 0.02 * wanted.norm()
    if kind == "mamba":
        assert cache.encoder.blocks[0].state.dtype == torch.float32
        assert cache.encoder.blocks[0].conv.dtype == torch.bfloat16
