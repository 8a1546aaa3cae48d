"""Shares of a study that are computed apart, and the study that they add up to."""

import shutil
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import sweep_support
from sweep_support import SQUEEZE, files_of, plan_with

from quantviz.specs import UsageError
from quantviz.store import TensorStore
from quantviz.study.folder import StudyFolder
from quantviz.study.sweep.merge import merge, parse_shard, share
from quantviz.study.sweep.run import sweep

asked, study = sweep_support.asked, sweep_support.study


def test_shares_are_even_and_rows_of_pieces_stay_whole(study):
    plan = plan_with(study, ("a", "b", "c"))
    for count in (1, 2, 4, 7, 40):
        shares = [share(plan, (number, count)) for number in range(1, count + 1)]
        numbers = [piece.number for pieces in shares for piece in pieces]
        assert sorted(numbers) == [piece.number for piece in plan.pieces]
        alone = [sum(piece.protocol == "calibrated" for piece in pieces) for pieces in shares]
        assert max(alone) - min(alone) <= 1
        for pieces in shares:
            rows = [piece for piece in pieces if piece.protocol == "paper"]
            assert all(len([other for other in rows if other.model == piece.model]) == 5 for piece in rows)


@pytest.mark.parametrize("text", ["", "1", "1/", "a/2", "-1/2", "1/2/3", "1.0/2", "0/2", "3/2", "0/0"])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="Shard"):
        parse_shard(text)
    assert parse_shard(" 2/3") == (2, 3)


@pytest.fixture(scope="module")
def shards(asked, cache, tmp_path_factory):
    """Return the folders of three shards, of which the first has the paper's protocol."""
    folder = tmp_path_factory.mktemp("shards")
    found = []
    with TensorStore(cache / "tensors") as store:
        for number in (1, 2, 3):
            out = folder / f"shard {number}"
            command = f"quantviz sweep pictures --models {SQUEEZE} --out '{out}' --shard {number}/3"
            swept = sweep(replace(asked, command=command), out, store, shard=(number, 3))
            assert swept.computed == swept.pieces == (7, 2, 1)[number - 1]
            found.append(out)
    return found


def test_merged_shards_are_the_study_of_one_sweep(study, shards, tmp_path):
    before = [files_of(shard) for shard in shards]
    assert all("results.parquet" not in files for files in before)
    again = tmp_path / "copy"
    shutil.copytree(shards[0], again)
    plan = merge([shards[2], shards[0], again, shards[1]], tmp_path / "merged")
    whole, merged = files_of(study), files_of(tmp_path / "merged")
    assert plan.command == f"quantviz sweep pictures --models {SQUEEZE} --out {tmp_path / 'merged'}"
    assert plan.shard is None
    assert StudyFolder(tmp_path / "merged").plan() == plan
    assert set(whole) == set(merged)
    assert [name for name in whole if whole[name] != merged[name]] == ["plan.json"]
    assert merge(shards, tmp_path / "merged").digest == plan.digest  # nothing to do
    assert [files_of(shard) for shard in shards] == before


def test_a_missing_shard_is_named_with_its_command(shards, tmp_path):
    with pytest.raises(UsageError, match=r"Shard 2/3 is missing.*\(2 pieces\).*--shard 2/3") as caught:
        merge([shards[0], shards[2]], tmp_path / "merged")
    assert "--out FOLDER" in str(caught.value)
    part = tmp_path / "part"
    shutil.copytree(shards[1], part)
    next(part.glob("pieces/*")).unlink()
    with pytest.raises(UsageError, match=r"Shard 2/3 is missing or not finished \(1 pieces\).*shard 2' --shard 2/3"):
        merge([shards[0], part, shards[2]], tmp_path / "merged")
    with pytest.raises(UsageError, match=r"Shards 1/3, 3/3 are missing"):
        merge([shards[1]], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_shards_that_do_not_belong_together_are_refused(study, asked, shards, cache, tmp_path):
    with TensorStore(cache / "tensors") as store:
        sweep(replace(asked, limit=3), tmp_path / "other", store, shard=(1, 3))
        with pytest.raises(UsageError, match=r"are of two studies: limit None, not 3"):
            merge([shards[0], tmp_path / "other"], tmp_path / "merged")
        with pytest.raises(UsageError, match=r"holds shard 1/3 of this study, not shard 2/3"):
            sweep(asked, shards[0], store, shard=(2, 3))
        with pytest.raises(UsageError, match=r"holds shard 1/3 of this study, not all"):
            sweep(asked, shards[0], store)
    with pytest.raises(UsageError, match=r"There is no shard at"):
        merge([tmp_path / "absent"], tmp_path / "merged")
    with pytest.raises(UsageError, match="holds another study or a shard"):
        merge(shards, tmp_path / "other")
    with pytest.raises(UsageError, match=r"is shard 2/3 of a study; put the shards together"):
        StudyFolder(shards[1]).results()


def test_two_shards_that_differ_are_refused(asked, shards, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(shards[1], other)
    folder = StudyFolder(other)
    plan = folder.plan()
    piece = share(plan, (2, 3))[0]
    file = other / "pieces" / f"{piece.number:06d}.parquet"
    table = pq.read_table(file)
    probability = table.schema.get_field_index("float_probability")
    changed = table.set_column(probability, table.schema.field(probability), [[0.5] * table.num_rows])
    pq.write_table(changed, file)
    with pytest.raises(UsageError, match=rf"differ in pictures {piece.start + 1} to {piece.stop} under {SQUEEZE}"):
        merge([*shards, other], tmp_path / "again")
    assert not (tmp_path / "again").exists()
