"""Reference log-probabilities on disk: complete or not, resumable, checked."""

import pytest


@pytest.fixture
def make(training, tmp_path):
    def store(rows=4, **parts):
        return training.reference.ReferenceStore(
            tmp_path / "reference", {"model": "m", **parts}, rows
        )

    return store


def test_parts_add_up_in_any_order(make):
    store = make()
    assert not store.is_complete()
    assert store.known() == set()
    store.add([2, 0], [2.5, 0.5], [-2.0, -1.0])
    again = make()  # another process
    assert again.known() == {0, 2}
    assert not again.is_complete()
    again.add([1, 3], [1.5, 3.5], [-3.0, -4.0])
    again.finish()
    assert make().is_complete()
    assert make().table().to_pydict() == {
        "ref_chosen_logps": [0.5, 1.5, 2.5, 3.5],
        "ref_rejected_logps": [-1.0, -3.0, -2.0, -4.0],
    }


def test_another_model_or_other_rows_are_another_store(make):
    store = make()
    store.add(range(4), [0.0] * 4, [0.0] * 4)
    store.finish()
    assert not make(model="other").is_complete()
    assert make(model="other").known() == set()
    assert not make(data="x").is_complete()


def test_what_is_damaged_is_not_believed(make):
    store = make()
    store.add([0, 1, 2], [0.0] * 3, [0.0] * 3)
    with pytest.raises(RuntimeError, match="damaged\nhint: remove the folder"):
        store.finish()
    store.add([3], [float("nan")], [0.0])
    with pytest.raises(RuntimeError, match="damaged"):
        store.finish()
    (store.folder / "complete.json").write_text('{"rows": 4')
    assert not store.is_complete()
    (store.folder / "part-00001.arrow").unlink()
    (store.folder / "complete.json").write_text('{"rows": 4}')
    assert not store.is_complete()
